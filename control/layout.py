# SPDX-License-Identifier: Apache-2.0
"""The header and the slots of a generation, as arrays of abi.h's structs."""

from __future__ import annotations

import numpy as np

from . import abi
from .model import Server
from .pack import CLASSES, server_of
from .tuples import Tuple

_NO_TABLE = abi.C["SR_NO_TABLE"]
_NEVER = 0xFFFFFFFF  # no rule has this index
_NO_SERVER = 0xFFFFFFFF  # SR_EXHAUSTED
_MASKS = ("ports", "ids", "program", "local_hi", "local_lo", "remote_hi", "remote_lo")
_WIDE = ("program", "local_hi", "local_lo", "remote_hi")


def slots_of(tuples: list[Tuple]) -> np.ndarray:
    """The `sr_slot` of all tables, one table after the other."""
    parts = []
    base = 0
    for one in tuples:
        part = np.zeros(one.slots, abi.dtype("sr_slot"))
        part["end"] = base + one.ends
        part["start"][0] = base
        part["start"][1:] = part["end"][:-1]
        parts.append(part)
        base += len(one.boxes)
    return np.concatenate(parts) if parts else np.zeros(0, abi.dtype("sr_slot"))


def chains_of(tuples: list[Tuple]) -> list[list[int]]:
    """By class, the tables that hold something for it, in the order of their first rules."""
    found = []
    for kind in range(CLASSES):
        firsts = ((one.firsts[kind], number) for number, one in enumerate(tuples))
        found.append([number for _, number in sorted((f, n) for f, n in firsts if f is not None)])
    return found


def steps_of(tuples: list[Tuple]) -> int:
    """Iterations of sr_decide's loop in the worst case: every table of a chain opened, every
    bucket the largest that a request of the server can find, no match, and the one that returns."""
    return 1 + max(
        sum(1 + tuples[number].worst[server_of(kind)] for number in chain)
        for kind, chain in enumerate(chains_of(tuples))
    )


def asked_by(boxes: np.ndarray, tuples: list[Tuple]) -> list[int]:
    """By server, the bits of SR_W_BITS that its boxes ask for or that are hashed for it."""
    server = boxes["bits_value"] & np.uint64(3)
    found = [int(np.bitwise_or.reduce(boxes["bits_mask"][server == one])) for one in Server]
    for one in tuples:
        for kind, first in enumerate(one.firsts):
            if first is not None:
                found[server_of(kind)] |= one.bits
    return found


def header_of(
    revision: int,
    needs: int,
    defaults: list[int],
    rules: int,
    regions: np.ndarray,
    tuples: list[Tuple],
) -> np.ndarray:
    """One `sr_header`; `defaults` are rule words by server, `rules` counts them without those."""
    header = np.zeros(1, abi.dtype("sr_header"))
    one = header[0]
    one["revision"] = revision
    one["tables"] = len(tuples)
    one["regions"] = np.count_nonzero(regions["count"])
    one["needs"] = needs
    one["rules"] = rules
    one["defaults"] = (*defaults, _NO_SERVER)
    one["region"] = regions
    one["start"] = _NO_TABLE
    one["table"]["next"] = _NO_TABLE
    one["table"]["first"] = _NEVER
    base = 0
    for row, item in zip(one["table"], tuples, strict=False):
        row["base"], row["shift"] = base, item.shift
        for name, mask in zip(_MASKS, item.mask, strict=True):
            row[name] = mask
        row["bits"] = item.bits
        row["wide"] = item.bits != 0 or any(item.mask[_MASKS.index(name)] for name in _WIDE)
        row["first"] = [_NEVER if rule is None else rule for rule in item.firsts]
        base += item.slots
    for kind, chain in enumerate(chains_of(tuples)):
        for number, following in zip(chain, [*chain[1:], _NO_TABLE], strict=False):
            one["table"][number]["next"][kind] = following
        one["start"][kind] = chain[0] if chain else _NO_TABLE
    return header
