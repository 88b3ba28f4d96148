# SPDX-License-Identifier: Apache-2.0
"""A grid over boxes that overlap too much to be told apart by prefixes.

Rules. A box stands in every cell that it meets, unless an earlier box of the same
server covers the whole cell: then nothing behind that one can decide there. So a
request finds in its cell all that may decide it, and a full check of each does.

Theory. A few fields are cut where the boxes begin and end, so that each stretch sees
as many ends as the others. A stretch's number is written in binary, and each digit is
a set of values: the interval search finds it as it finds the memberships of long sets
(regions.py), and the tuple hash takes it from SR_W_BITS. Nothing in the kernel knows
of grids.

All cells are made together: pairs of a cell and a box, split along one field after the
other, each time without the boxes that do not meet the half and without those behind
one that covers it. Pairs are bounded; a grid that needs more is not laid.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from . import abi
from .boxes import BITS_OF, FREE, FULL, SERVER_BITS, Bits
from .layout import steps_of
from .model import Field, Server
from .sets import DOMAINS
from .shapes import Boxes, firsts_of
from .tuples import Tuple, without
from .unique import unique_values

_CROWDS = (12, 48, 160)  # buckets larger than this go into the grid; each is tried
_AS_MANY = 0.9  # a crowd with more of the boxes that were tried before is not tried as well
_DIGITS = (12, 9, 6)  # of a grid; fewer where there would be too many pairs
_AXIS_DIGITS = 8
_AXES = 3  # each costs a request a search
_SEARCH = 5  # what that is in entries checked, about
_PAIRS = 1 << 19  # pairs of a cell and a box at any time: 32 MB of entries
_SAMPLE = 2000  # boxes at which requests are aimed to see whether a grid is worth it
_FEW_PAIRS = 1 << 16  # where the grid is a matter of speed: these, or half as many as boxes
_FREE_ROOM = 1 << 15  # boxes of the tables whose room, 2 MB, is not counted
_WORTH = 0.97  # cutting a field once more must leave fewer boxes a cell than this share

_SCALARS = {
    Field.LOCAL_PORT: "local_port",
    Field.REMOTE_PORT: "remote_port",
    Field.USER: "uid",
    Field.GROUP: "gid",
}
_ADDRESSES = {Field.LOCAL_ADDRESS: "local", Field.REMOTE_ADDRESS: "remote"}

Indices = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(slots=True)
class _Axis:
    """A field's values in the order of the boxes' ends: `points` are these, and each box
    reaches from point number `starts` to before point number `ends`."""

    field: Field
    points: list[int]
    starts: Indices
    ends: Indices
    unknown: Bools | None
    """Which boxes hold the unknown address, which lies in the first stretch."""
    digits: int = 0
    _order: Indices | None = None
    _shares: dict[int, float] = dataclass_field(default_factory=dict)

    def cuts(self, digits: int) -> Indices:
        """Point numbers where stretches begin and end, at most 2**digits of them."""
        if self._order is None:
            self._order = np.sort(np.concatenate((self.starts, self.ends)))
        order = self._order
        wanted = len(order) * np.arange(1, 1 << digits) // (1 << digits)
        inner = unique_values(order[wanted])
        last = len(self.points) - 1
        inner = inner[(inner > 0) & (inner < last)]
        return np.concatenate(([0], inner, [last]))

    def mean_share(self, digits: int) -> float:
        """What share of the stretches a box meets, on average; 1 where no more can be made."""
        if digits not in self._shares:
            cuts = self.cuts(digits)
            first, last = self.met(cuts)
            stretches = len(cuts) - 1
            more = stretches > 1 << (digits - 1)
            self._shares[digits] = float((last - first + 1).mean()) / stretches if more else 1.0
        return self._shares[digits]

    def met(self, cuts: Indices) -> tuple[Indices, Indices]:
        """The first and the last stretch that each box meets."""
        first = np.searchsorted(cuts[1:], self.starts, side="right")
        last = np.searchsorted(cuts[:-1], self.ends, side="left") - 1
        if self.unknown is not None:
            first = np.where(self.unknown, 0, first)
            last = np.where(self.ends <= self.starts, 0, last)
        return first, last

    def covered(self, cuts: Indices) -> tuple[Indices, Indices]:
        """The first and the last stretch that each box covers; none where last < first."""
        first = np.searchsorted(cuts[:-1], self.starts, side="left")
        last = np.searchsorted(cuts[1:], self.ends, side="right") - 1
        if self.unknown is not None:
            first = np.where(self.unknown, first, np.maximum(first, 1))
        return first, last

    def sets(self, cuts: Indices) -> Iterator[tuple[tuple[int, int], ...]]:
        """For each digit, the lowest first, the values in whose stretch's number it is one."""
        edges = [self.points[cut] for cut in cuts.tolist()]
        for digit in range(self.digits):
            ranges: list[tuple[int, int]] = []
            for number, (low, high) in enumerate(pairwise(edges)):
                if not number >> digit & 1:
                    continue
                if ranges and ranges[-1][1] == low - 1:
                    ranges[-1] = (ranges[-1][0], high - 1)
                else:
                    ranges.append((low, high - 1))
            yield tuple(ranges)


@dataclass(frozen=True, slots=True)
class Laid:
    """Tables with a grid among them, and the sets of its digits."""

    tables: list[Tuple]
    digits: Bits
    cost: float
    """Entries that a request checks in crowds and in the grid, its searches included."""

    @property
    def price(self) -> float:
        """Time and room in one: `cost` times all boxes of the tables."""
        return self.cost * max(sum(len(one.boxes) for one in self.tables), _FREE_ROOM)


def lay(boxes: np.ndarray, tuples: list[Tuple], bit: int, *, steps: int) -> Laid | None:
    """Put what crowds in the tables into a grid.

    `bit` is the first free one of SR_W_BITS. None where no grid can be laid, or where the
    tables are within `steps` without one, and it would not be worth its room.
    """
    needed = steps_of(tuples) > steps
    before = _walked(boxes, tuples, _CROWDS[0])
    if not needed and before < 1 + _SEARCH:
        return None
    most = _PAIRS if needed else min(_PAIRS, max(_FEW_PAIRS, len(boxes) // 2))
    found: list[Laid] = []
    tried = 0
    for crowd in _CROWDS:
        crowds = [bucket for one in tuples for bucket in _crowds(one, crowd)]
        members = unique_values(np.concatenate(crowds)) if crowds else np.zeros(0, np.int64)
        if not members.size or (tried and len(members) > tried * _AS_MANY):
            continue
        tried = len(members)
        axes = list(_axes(boxes[members]))
        for digits in _DIGITS:
            laid = _laid(boxes, tuples, members, axes, min(digits, 64 - bit), bit, most)
            if laid:
                found.append(laid)
                break
    fit = [one for one in found if steps_of(one.tables) <= steps]
    if needed and not fit:
        return min(found, key=lambda one: steps_of(one.tables), default=None)
    best = min(fit, key=lambda one: one.price, default=None)
    worth = needed or (best and best.price < before * max(len(boxes), _FREE_ROOM))
    return best if worth else None


def _laid(
    boxes: np.ndarray,
    tuples: list[Tuple],
    members: Indices,
    axes: list[_Axis],
    digits: int,
    bit: int,
    most: int,
) -> Laid | None:
    """A grid of so many digits for the members, in at most so many pairs."""
    axes = _cut(axes, digits)
    pairs = _cells(boxes[members], axes, most) if axes else None
    if pairs is None:
        return None
    sets: Bits = {}
    mask, places = 0, []
    for axis in axes:
        places.append(bit)
        for ranges in axis.sets(axis.cuts(axis.digits)):
            sets[axis.field, ranges] = 1 << bit
            mask |= 1 << bit
            bit += 1
    grid = _table(boxes, members, pairs, places, mask)
    gone = np.zeros(len(boxes), bool)
    gone[members] = True
    rest = without(tuples, gone, boxes)
    if len(rest) >= abi.C["SR_NO_TABLE"]:
        return None
    sizes = grid.sizes[grid.sizes > 0]
    cost = _walked(boxes, rest, _CROWDS[0]) + float(sizes.mean()) / 2 + 1 + _SEARCH * len(axes)
    return Laid([*rest, grid], sets, cost)


def _crowds(one: Tuple, crowd: int) -> list[Indices]:
    """The boxes of each bucket that is larger."""
    sizes = one.sizes
    return [
        one.boxes[int(one.ends[slot] - sizes[slot]) : int(one.ends[slot])]
        for slot in np.flatnonzero(sizes > crowd).tolist()
    ]


def _walked(boxes: np.ndarray, tuples: list[Tuple], crowd: int) -> float:
    """Entries of crowds that a request aimed at a box checks, on average: half of each it meets."""
    sample = Boxes(boxes[:: 1 + len(boxes) // _SAMPLE])
    every = np.arange(len(sample.rules))
    total = 0.0
    for one in tuples:
        met = one.sizes[(sample.hashes(every, one.mask) >> np.uint64(one.shift)).astype(np.int64)]
        total += float(met[met > crowd].sum()) / 2
    return total / len(every)


def _cut(axes: list[_Axis], digits: int) -> list[_Axis]:
    """The fields to cut, and how often: each digit goes where it leaves fewest boxes a cell."""
    for axis in axes:
        axis.digits = 0
    share = [1.0] * len(axes)
    for _ in range(digits):
        best, at, left = _WORTH, -1, 1.0
        used = sum(axis.digits > 0 for axis in axes)
        for number, axis in enumerate(axes):
            if axis.digits == _AXIS_DIGITS or (not axis.digits and used == _AXES):
                continue
            mean = axis.mean_share(axis.digits + 1)
            if mean / share[number] < best:
                best, at, left = mean / share[number], number, mean
        if at < 0:
            break
        axes[at].digits += 1
        share[at] = left
    return [axis for axis in axes if axis.digits]


def _axes(boxes: np.ndarray) -> Iterator[_Axis]:
    """The fields in which some box has an end."""
    e: Any = boxes
    count = len(boxes)
    for field, name in _SCALARS.items():
        starts = e[f"{name}_lo"].astype(np.int64)
        ends = e[f"{name}_hi"].astype(np.int64) + 1
        domain = DOMAINS[field]
        points, numbers = np.unique(
            np.concatenate((starts, ends, [domain.first, domain.last + 1])), return_inverse=True
        )
        if len(points) > 2:
            yield _Axis(field, points.tolist(), numbers[:count], numbers[count : 2 * count], None)
    for field, name in _ADDRESSES.items():
        if (e[f"{name}_hi_span"] != FULL).any() or (e[f"{name}_lo_span"] != FULL).any():
            yield _address_axis(field, name, boxes)


def _address_axis(field: Field, name: str, boxes: np.ndarray) -> _Axis:
    e: Any = boxes
    known = np.uint64(BITS_OF[field])
    hi, lo = e[f"{name}_hi"], e[f"{name}_lo"]
    after_lo = lo + e[f"{name}_lo_span"] + np.uint64(1)
    after_hi = hi + e[f"{name}_hi_span"] + (after_lo == 0)
    zero = np.zeros(1, np.uint64)
    all_hi, all_lo = np.concatenate((hi, after_hi, zero)), np.concatenate((lo, after_lo, zero))
    order = np.lexsort((all_lo, all_hi))
    sorted_hi, sorted_lo = all_hi[order], all_lo[order]
    new = np.ones(len(order), bool)
    new[1:] = (sorted_hi[1:] != sorted_hi[:-1]) | (sorted_lo[1:] != sorted_lo[:-1])
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.cumsum(new) - 1
    halves = zip(sorted_hi[new].tolist(), sorted_lo[new].tolist(), strict=True)
    points = [high << 64 | low for high, low in halves] + [1 << 128]
    begins = numbers[: len(boxes)]
    stops = np.where((after_hi | after_lo) == 0, len(points) - 1, numbers[len(boxes) : -1])
    asked = (e["bits_mask"] & known) != 0
    nowhere = asked & ((e["bits_value"] & known) == 0)  # the unknown address alone
    return _Axis(field, points, begins, np.where(nowhere, begins, stops), ~asked | nowhere)


def _cells(
    boxes: np.ndarray, axes: list[_Axis], most: int
) -> tuple[Indices, Indices, list[Indices]] | None:
    """Pairs of a cell and a box, by cell and then by rule, and each pair's stretches.

    None where there would be more than `most` at any time.
    """
    e: Any = boxes
    cuts = [axis.cuts(axis.digits) for axis in axes]
    met = [axis.met(cut) for axis, cut in zip(axes, cuts, strict=True)]
    covered = [axis.covered(cut) for axis, cut in zip(axes, cuts, strict=True)]
    plain = _asks_nothing_else(boxes, [axis.field for axis in axes])
    box: Indices = np.arange(len(boxes), dtype=np.int64)
    server = (e["bits_value"] & np.uint64(SERVER_BITS)).astype(np.int64)
    cell: Indices = server
    order = np.argsort(cell, kind="stable")
    cell, box = cell[order], box[order]
    low = [np.zeros(len(Server), np.int64) for _ in axes]
    high = [np.full(len(Server), (1 << axis.digits) - 1, np.int64) for axis in axes]
    left = [axis.digits for axis in axes]
    while any(left):
        at = left.index(max(left))
        left[at] -= 1
        middle = (low[at] + high[at]) // 2
        low = [np.repeat(each, 2) for each in low]
        high = [np.repeat(each, 2) for each in high]
        high[at][0::2] = middle
        low[at][1::2] = middle + 1
        halves = np.concatenate((2 * cell, 2 * cell + 1))
        both = np.concatenate((box, box))
        first, last = met[at]
        meets = (first[both] <= high[at][halves]) & (last[both] >= low[at][halves])
        cell, box = halves[meets], both[meets]
        order = np.argsort(cell, kind="stable")
        cell, box = cell[order], box[order]
        covers = plain[box].copy()
        for (begin, end), lows, highs in zip(covered, low, high, strict=True):
            covers &= (begin[box] <= lows[cell]) & (end[box] >= highs[cell])
        cell, box = _without_what_is_behind(cell, box, covers, len(low[0]))
        if len(cell) > most:
            return None
    return cell, box, [lows[cell] for lows in low]


def _asks_nothing_else(boxes: np.ndarray, fields: list[Field]) -> Bools:
    """Which boxes ask for nothing besides their server and these fields."""
    e: Any = boxes
    allowed = SERVER_BITS
    own: list[str] = []
    for field in fields:
        allowed |= BITS_OF.get(field, 0)
        own.append(_SCALARS.get(field) or _ADDRESSES[field] + "_")
    asks = (e["bits_mask"] & np.uint64(FULL ^ allowed)) != 0
    for name, free in FREE.items():
        is_port = name.startswith(("local_port", "remote_port"))
        if not any(name.startswith(each) and (is_port is each.endswith("port")) for each in own):
            asks |= e[name] != free
    found: Bools = ~asks
    return found


def _without_what_is_behind(
    cell: Indices, box: Indices, covers: Bools, cells: int
) -> tuple[Indices, Indices]:
    """The pairs up to the first in each cell that covers it."""
    at = np.flatnonzero(covers)
    owners, first = np.unique(cell[at], return_index=True)
    limit = np.full(cells, len(cell), np.int64)
    limit[owners] = at[first]
    kept = np.arange(len(cell)) <= limit[cell]
    return cell[kept], box[kept]


def _table(
    boxes: np.ndarray,
    members: Indices,
    pairs: tuple[Indices, Indices, list[Indices]],
    places: list[int],
    mask: int,
) -> Tuple:
    """The grid as a table: pairs in slot order, a box once in each slot."""
    e: Any = boxes
    _, box, stretches = pairs
    chosen = members[box]
    word = np.zeros(len(chosen), np.uint64)
    for place, stretch in zip(places, stretches, strict=True):
        word |= stretch.astype(np.uint64) << np.uint64(place)
    server = (e["bits_value"][chosen] & np.uint64(SERVER_BITS)) << np.uint64(32)
    hashes = word * np.uint64(abi.C["SR_ODD_0"]) + server * np.uint64(abi.C["SR_ODD_1"])
    distinct = len(unique_values(hashes))
    narrow = max(4, (2 * distinct - 1).bit_length())
    found: list[tuple[int, int, Indices, Indices]] = []
    for width in range(narrow, narrow + 3):
        slot = (hashes >> np.uint64(64 - width)).astype(np.int64)
        # by slot, then by rule: boxes are in its order
        together = unique_values(slot << 32 | chosen)
        counts = np.bincount(together >> 32, minlength=1 << width)
        found.append((int(counts.max()), width, together & 0xFFFFFFFF, np.cumsum(counts)))
    largest, width, order, ends = min(found, key=lambda one: one[:2])
    return Tuple(
        mask=(SERVER_BITS << 32, 0, 0, 0, 0, 0, 0),
        bits=mask,
        shift=64 - width,
        firsts=firsts_of(boxes[unique_values(chosen)]),
        boxes=order,
        ends=ends,
        worst=(largest, largest, largest),
    )
