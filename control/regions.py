# SPDX-License-Identifier: Apache-2.0
"""Long and negated sets as membership bits: which get one, and the interval search for them.

Theory. All sets of a field that have a bit are laid over each other: between
two neighbouring bounds the memberships are constant, so one binary search
yields them all. A bound toggles the bits of the sets that begin or end there;
the running exclusive-or over the sorted bounds is the mask of each interval.
Every field has a region of its own, since a search is bounded by its loop.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from . import abi
from .boxes import FULL, Bits
from .cubes import FIELDS, Cube
from .model import Field
from .ranges import PackedRanges, Ranges, packed
from .sets import DOMAINS, width

NUMBERS: dict[Field, int] = {
    Field.LOCAL_ADDRESS: abi.C["SR_F_LOCAL_ADDRESS"],
    Field.REMOTE_ADDRESS: abi.C["SR_F_REMOTE_ADDRESS"],
    Field.LOCAL_PORT: abi.C["SR_F_LOCAL_PORT"],
    Field.REMOTE_PORT: abi.C["SR_F_REMOTE_PORT"],
    Field.USER: abi.C["SR_F_UID"],
    Field.GROUP: abi.C["SR_F_GID"],
}
ROOM = 64 - abi.C["SR_FIRST_SET_BIT"]
"""Directories, cgroups and sets that fit the word of bits together."""

MOST_BOUNDS = 1 << abi.C["SR_MAX_SEARCH"]
"""Bounds that one search can tell apart."""

WORTH = 256
"""A bit costs every request a search: a set must save this much to earn one."""

BROAD = 128
"""What a box is worth that hashing cannot tell apart, as those of a complement are."""


def choose_bits(cubes: Iterable[Cube], places: int, *, most_boxes: int, worth: int = WORTH) -> Bits:
    """Hand out the free bits of SR_W_BITS to the sets that save most boxes.

    A set that its rule cannot do without (more than `most_boxes`) goes first.
    """
    saved: dict[tuple[Field, Ranges], int] = {}
    for cube in cubes:
        widths: list[tuple[Field, Ranges, int, int]] = []
        boxes = 1
        for place, part in enumerate(cube.parts):
            if not part:
                continue
            name = FIELDS[place]
            if name not in NUMBERS:
                boxes *= max(1, len(part[0].ranges))
                continue
            for values in part:
                spread = len(values.ranges)
                if not values.inside:
                    known = DOMAINS[name]
                    # the unknown address, and a high half cut in two
                    spread = width(values, known) + (2 if known.first < 0 else 0)
                if spread > 1:
                    boxes *= spread
                    widths.append((name, values.ranges, spread, 1 if values.inside else BROAD))
        for name, ranges, spread, weight in widths:
            gain = (boxes - boxes // spread) * weight
            if boxes > most_boxes:
                gain = max(gain, 1 << 40) + spread
            saved[name, ranges] = saved.get((name, ranges), 0) + gain
    worthy = sorted((key for key in saved if saved[key] >= worth), key=lambda key: -saved[key])
    first = abi.C["SR_FIRST_SET_BIT"] + places
    return {key: 1 << bit for key, bit in zip(worthy, range(first, 64), strict=False)}


def build(bits: Bits) -> tuple[np.ndarray, np.ndarray]:
    """The `sr_region` of every SR_F_* and all `sr_bound`; nobody asks for them yet.

    `base` counts from the first bound. A count may exceed `MOST_BOUNDS`: the caller checks.
    """
    regions = np.zeros(abi.C["SR_MAX_REGIONS"], abi.dtype("sr_region"))
    parts: list[np.ndarray] = []
    base = 0
    for name in sorted({name for name, _ in bits}, key=NUMBERS.__getitem__):
        sets = [(ranges, bit) for (field, ranges), bit in bits.items() if field is name]
        part = _bounds(sets, DOMAINS[name].last)
        regions["base"][NUMBERS[name]] = base
        regions["count"][NUMBERS[name]] = len(part)
        parts.append(part)
        base += len(part)
    return regions, np.concatenate(parts) if parts else np.zeros(0, abi.dtype("sr_bound"))


def ask_for(regions: np.ndarray, bits: Bits, asked: list[int]) -> None:
    """Say for which servers a region is searched: `asked` are the bits that each one needs."""
    for (name, _), bit in bits.items():
        for one, mask in enumerate(asked):
            if mask & bit:
                regions["servers"][NUMBERS[name]] |= 1 << one


def any_searched(regions: np.ndarray, name: Field) -> bool:
    """Whether a set of a field is asked for (`ask_for`)."""
    return bool(regions["servers"][NUMBERS[name]])


def _bounds(sets: list[tuple[Ranges, int]], last: int) -> np.ndarray:
    """The bounds of one field, ascending from zero, neighbours with different masks."""
    hi, lo, toggles = [np.zeros(1, np.uint64)], [np.zeros(1, np.uint64)], [np.zeros(1, np.uint64)]
    for ranges, bit in sets:
        own = ranges if isinstance(ranges, PackedRanges) else packed(ranges)
        after = own.last_lo + np.uint64(1)
        inner = (own.last_lo != last & FULL) | (own.last_hi != last >> 64)
        hi += [own.first_hi, (own.last_hi + (after == 0))[inner]]
        lo += [own.first_lo, after[inner]]
        toggles.append(np.full(len(own) + int(inner.sum()), bit, np.uint64))
    every_hi, every_lo = np.concatenate(hi), np.concatenate(lo)
    order = np.lexsort((every_lo, every_hi))
    every_hi, every_lo = every_hi[order], every_lo[order]
    masks = np.bitwise_xor.accumulate(np.concatenate(toggles)[order])
    final = np.ones(len(order), bool)  # of equal bounds the last has toggled them all
    final[:-1] = (every_hi[1:] != every_hi[:-1]) | (every_lo[1:] != every_lo[:-1])
    every_hi, every_lo, masks = every_hi[final], every_lo[final], masks[final]
    changes = np.ones(len(masks), bool)
    changes[1:] = masks[1:] != masks[:-1]
    bounds = np.zeros(int(changes.sum()), abi.dtype("sr_bound"))
    bounds["hi"], bounds["lo"], bounds["mask"] = (
        every_hi[changes],
        every_lo[changes],
        masks[changes],
    )
    return bounds
