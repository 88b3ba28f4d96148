# SPDX-License-Identifier: Apache-2.0
"""A cube as boxes: products of intervals in the words of abi.h.

Theory. A field's set is either a membership bit, found by the interval search,
or spelled out as intervals; a cube becomes the product of what is spelled out.
An interval of 128-bit addresses becomes at most three products of a high-half
and a low-half interval: the rest of the first high half, the whole ones
between, and the beginning of the last.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np

from . import abi
from .cubes import FIELDS, Cube, Part
from .model import Field
from .ranges import Ranges
from .sets import DOMAINS, ValueSet, explicit, intersect, width

FULL = (1 << 64) - 1

BITS_OF: dict[Field, int] = {
    Field.LOCAL_ADDRESS: abi.C["SR_BIT_LOCAL_KNOWN"],
    Field.REMOTE_ADDRESS: abi.C["SR_BIT_REMOTE_KNOWN"],
}
SERVER_BITS = 3

Bits = dict[tuple[Field, Ranges], int]
"""Which mask in SR_W_BITS says that a field's value lies in these ranges."""


class Piece(NamedTuple):
    """One interval of one field: a condition on SR_W_BITS, and members of a box."""

    mask: int
    value: int
    members: tuple[int, ...]


FREE_PIECES: dict[Field, Piece] = {
    name: Piece(0, 0, (0, FULL, 0, FULL) if name in BITS_OF else (0, DOMAINS[name].last))
    for name in FIELDS
}

COLUMNS_OF: dict[Field, tuple[str, ...]] = {
    Field.LOCAL_PORT: ("local_port_lo", "local_port_hi"),
    Field.REMOTE_PORT: ("remote_port_lo", "remote_port_hi"),
    Field.USER: ("uid_lo", "uid_hi"),
    Field.GROUP: ("gid_lo", "gid_hi"),
    Field.PROGRAM: ("program_lo", "program_hi"),
    Field.SERVICE: ("service_lo", "service_hi"),
    Field.LOCAL_ADDRESS: ("local_hi", "local_hi_span", "local_lo", "local_lo_span"),
    Field.REMOTE_ADDRESS: ("remote_hi", "remote_hi_span", "remote_lo", "remote_lo_span"),
}
"""The members of a box that a piece of each field fills."""

_COLUMNS = tuple(column for name in FIELDS for column in COLUMNS_OF[name])

FREE: dict[str, int] = dict(
    zip(_COLUMNS, (n for name in FIELDS for n in FREE_PIECES[name].members), strict=True)
)
"""What each of them is where a box asks nothing of it."""


def any_asks(boxes: np.ndarray, name: Field) -> bool:
    """Whether a box asks for a field by its piece; its sets are in the bits."""
    return any(bool((boxes[column] != FREE[column]).any()) for column in COLUMNS_OF[name])


def _type_of(column: str) -> str:
    if column.startswith(("local_port", "remote_port")):
        return "=u2"
    return "=u8" if column.startswith(("local", "remote")) else "=u4"


BOX = np.dtype(
    [("bits_mask", "=u8"), ("bits_value", "=u8"), ("rule", "=u4")]
    + [(column, _type_of(column)) for column in _COLUMNS]
)
"""A box while it is compiled; control/pack.py makes `sr_entry` of it."""

Row = tuple[int, ...]
"""bits_mask, bits_value, rule word, then `_COLUMNS`."""


def pieces(name: Field, values: ValueSet) -> list[Piece]:
    """A set spelled out as intervals of one field."""
    ranges = explicit(values, DOMAINS[name])
    known = BITS_OF.get(name)
    if known is None:
        return [Piece(0, 0, one) for one in ranges]
    found: list[Piece] = []
    for first, last in ranges:
        if first < 0:
            found.append(Piece(known, 0, FREE_PIECES[name].members))
        found.extend(Piece(known, known, halves) for halves in split(max(first, 0), last))
    return found


def split(first: int, last: int) -> list[tuple[int, int, int, int]]:
    """Addresses first..last as boxes (hi, hi span, lo, lo span); none if last < first."""
    if last < first:
        return []
    hi, lo = first >> 64, first & FULL
    hi_last, lo_last = last >> 64, last & FULL
    if hi == hi_last:
        return [(hi, 0, lo, lo_last - lo)]
    found = []
    if lo:
        found.append((hi, 0, lo, FULL - lo))
        hi += 1
    tail = lo_last != FULL
    if hi <= hi_last - tail:
        found.append((hi, hi_last - tail - hi, 0, FULL))
    if tail:
        found.append((hi_last, 0, 0, lo_last))
    return found


def spelled_out(name: Field, part: Part, bits: Bits) -> ValueSet | None:
    """What is left of a part besides its membership bits; None when nothing is."""
    rest: ValueSet | None = None
    for values in part:
        if (name, values.ranges) not in bits:
            rest = values if rest is None else intersect(rest, values)
    return rest


def count(cube: Cube, bits: Bits) -> int:
    """About how many boxes the cube becomes, an address range counting as one.

    Sets that are yet to be intersected count in full: no work is done here.
    """
    total = 1
    for name, part in zip(FIELDS, cube.parts, strict=True):
        if part:
            rest = sum(
                width(values, DOMAINS[name]) for values in part if (name, values.ranges) not in bits
            )
            total *= max(1, rest)
    return total


def rows(cube: Cube, server: int, word: int, bits: Bits) -> Iterator[Row]:
    """The cube's boxes; `word` is the rule word. Places start at SR_FIRST_SET_BIT."""
    shift = abi.C["SR_FIRST_SET_BIT"]
    mask = SERVER_BITS | (cube.within | cube.without) << shift
    value = server | cube.within << shift
    choices: list[list[Piece]] = []
    for name, part in zip(FIELDS, cube.parts, strict=True):
        if not part:
            choices.append([FREE_PIECES[name]])
            continue
        for values in part:
            bit = bits.get((name, values.ranges), 0)
            mask |= bit
            value |= bit if values.inside else 0
        rest = spelled_out(name, part, bits)
        choices.append([FREE_PIECES[name]] if rest is None else pieces(name, rest))
    for lport, rport, uid, gid, program, service, local, remote in product(*choices):
        yield (
            mask | local.mask | remote.mask,
            value | local.value | remote.value,
            word,
            *lport.members,
            *rport.members,
            *uid.members,
            *gid.members,
            *program.members,
            *service.members,
            *local.members,
            *remote.members,
        )


def entries_of(boxes: list[Row]) -> np.ndarray:
    """The rows as an array of `BOX`, in the same order."""
    return np.array(boxes, BOX)
