# SPDX-License-Identifier: Apache-2.0
"""A cube as boxes: products of intervals in the words of abi.h.

Theory. A field's set is either a membership bit, found by the interval search,
or spelled out as intervals; a cube becomes the product of what is spelled out.
An interval of 128-bit addresses becomes at most three products of a high-half
and a low-half interval: the rest of the first high half, the whole ones
between, and the beginning of the last.
"""

from __future__ import annotations

from array import array

import numpy as np

from . import abi
from .condition import Range
from .cubes import FIELDS, Cube
from .model import Field
from .ranges import Ranges
from .sets import DOMAINS, ValueSet, explicit, intersect, width

FULL = (1 << 64) - 1

BITS_OF: dict[Field, int] = {
    Field.LOCAL_ADDRESS: abi.C["SR_BIT_LOCAL_KNOWN"],
    Field.REMOTE_ADDRESS: abi.C["SR_BIT_REMOTE_KNOWN"],
}
SERVER_BITS = 3
UNKNOWN = (-1, -1)
"""The unknown address among intervals: a bit alone."""

Bits = dict[tuple[Field, Ranges], int]
"""Which mask in SR_W_BITS says that a field's value lies in these ranges."""


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
"""The members of a box that say which values of each field it holds."""

FREE: dict[str, int] = {
    column: free
    for name in FIELDS
    for column, free in zip(
        COLUMNS_OF[name],
        (0, FULL, 0, FULL) if name in BITS_OF else (0, DOMAINS[name].last),
        strict=True,
    )
}
"""What each of them is where a box asks nothing of it."""


def asking_for(boxes: np.ndarray, name: Field, values: Range) -> np.ndarray:
    """The rows of the boxes whose members of a field are just this interval."""
    first, last = values
    members = [first, last]
    if name in BITS_OF:
        members = [first >> 64, (last >> 64) - (first >> 64), first & FULL, (last - first) & FULL]
    known = np.uint64(BITS_OF.get(name, 0))
    found = boxes["bits_value"] & known == known
    for column, value in zip(COLUMNS_OF[name], members, strict=True):
        found &= boxes[column] == np.uint64(value)
    return np.flatnonzero(found)


def any_asks(boxes: np.ndarray, name: Field) -> bool:
    """Whether a box asks for a field by its members; its sets are in the bits."""
    return any(bool((boxes[column] != FREE[column]).any()) for column in COLUMNS_OF[name])


def _type_of(column: str) -> str:
    if column.startswith(("local_port", "remote_port")):
        return "=u2"
    return "=u8" if column.startswith(("local", "remote")) else "=u4"


BOX = np.dtype(
    [("bits_mask", "=u8"), ("bits_value", "=u8"), ("rule", "=u4")]
    + [(column, _type_of(column)) for column in FREE]
)
"""A box while it is compiled; control/pack.py makes `sr_entry` of it."""


class Columns:
    """What boxes ask for, in columns by field (in the order of `FIELDS`).

    `asked` is a byte a box, with the bit of each field (`1 << place`) that it asks for;
    `firsts` and `lasts` are the ends of these boxes' values, of addresses the low halves.
    `highs` holds high halves that are not zero: which value, and those of its ends. Addresses
    do not straddle (`split`).
    """

    def __init__(self) -> None:
        self.asked = bytearray()
        self.firsts = [array("Q") for _ in FIELDS]
        self.lasts = [array("Q") for _ in FIELDS]
        self.highs: list[list[tuple[int, int, int]]] = [[] for _ in FIELDS]

    def put(self, place: int, ranges: list[Range]) -> None:
        """Values of the boxes that ask for a field, in their order."""
        firsts, lasts = self.firsts[place], self.lasts[place]
        for first, last in ranges:
            if last > FULL:
                self.highs[place].append((len(firsts), first >> 64, last >> 64))
            firsts.append(first & FULL)
            lasts.append(last & FULL)

    def table(self) -> np.ndarray:
        """The boxes as an array of `BOX`, without their rules and bits of other things."""
        table = np.zeros(len(self.asked), BOX)
        for column, free in FREE.items():
            if free:
                table[column] = free
        asked = np.frombuffer(bytes(self.asked), np.uint8)
        for place, name in enumerate(FIELDS):
            rows = np.flatnonzero(asked & (1 << place))
            if not len(rows):
                continue
            first = np.array(self.firsts[place], np.uint64)
            last = np.array(self.lasts[place], np.uint64)
            members = [first, last]
            if name in BITS_OF:
                high, span = np.zeros((2, len(rows)), np.uint64)
                for at, first_high, last_high in self.highs[place]:
                    high[at], span[at] = first_high, last_high - first_high
                members = [high, span, first, last - first]
                for column in ("bits_mask", "bits_value"):
                    table[column][rows] |= np.uint64(BITS_OF[name])
            for column, values in zip(COLUMNS_OF[name], members, strict=True):
                table[column][rows] = values
        return table


class CubeBoxes:
    """The boxes of cubes; `rules` are the indices of their rules."""

    def __init__(self) -> None:
        self.rules: list[int] = []
        self._masks: list[int] = []
        self._values: list[int] = []
        self._columns = Columns()

    def __len__(self) -> int:
        return len(self.rules)

    def add(self, cube: Cube, index: int, server: int, bits: Bits) -> None:
        """The boxes of a cube of rule `index`. Places start at SR_FIRST_SET_BIT."""
        shift = abi.C["SR_FIRST_SET_BIT"]
        mask = SERVER_BITS | (cube.within | cube.without) << shift
        value = server | cube.within << shift
        choices: list[tuple[int, list[Range]]] = []
        made, asked = 1, 0
        for place, part in enumerate(cube.parts):
            if not part:
                continue
            name, rest = FIELDS[place], None
            for values in part:
                bit = bits.get((name, values.ranges))
                if bit is None:
                    rest = values if rest is None else intersect(rest, values)
                else:
                    mask |= bit
                    value |= bit if values.inside else 0
            if rest is not None:
                ranges = intervals(name, rest)
                choices.append((place, ranges))
                made *= len(ranges)
                asked |= 1 << place
        if not made:  # long sets that were not combined, and have nothing in common
            return
        start, each = len(self.rules), made
        self.rules += [index] * made
        self._masks += [mask] * made
        self._values += [value] * made
        self._columns.asked += bytes((asked,)) * made
        for place, ranges in choices:
            each //= len(ranges)
            turn = ranges if each == 1 else [one for one in ranges for _ in range(each)]
            self._ask(place, start, turn * (made // len(turn)))

    def _ask(self, place: int, start: int, ranges: list[Range]) -> None:
        """That the boxes from `start` on ask for these values, one each."""
        if ranges and ranges[0] == UNKNOWN:
            for row, one in enumerate(ranges, start):
                if one == UNKNOWN:
                    self._masks[row] |= BITS_OF[FIELDS[place]]
                    self._columns.asked[row] ^= 1 << place
            ranges = [one for one in ranges if one != UNKNOWN]
        self._columns.put(place, ranges)

    def entries(self, words: list[int]) -> np.ndarray:
        """The boxes as an array of `BOX`, in the same order; `words` are all rules' words."""
        table = self._columns.table()
        table["rule"] = np.array(words, np.uint32)[np.array(self.rules, np.int64)]
        table["bits_mask"] |= np.array(self._masks, np.uint64)
        table["bits_value"] |= np.array(self._values, np.uint64)
        return table


def intervals(name: Field, values: ValueSet) -> list[Range]:
    """A set spelled out as intervals of one field that a box can hold, `UNKNOWN` first."""
    ranges = explicit(values, DOMAINS[name])
    if name not in BITS_OF:
        return list(ranges)
    found: list[Range] = []
    for first, last in ranges:
        if first < 0:
            found.append(UNKNOWN)
        found += split(max(first, 0), last)
    return found


def split(first: int, last: int) -> list[Range]:
    """Addresses first..last in parts whose high halves are equal, or low halves all there are."""
    if last < first:
        return []
    if first >> 64 == last >> 64:
        return [(first, last)]
    found: list[Range] = []
    if first & FULL:
        found.append((first, first | FULL))
        first = (first | FULL) + 1
    whole = (last + 1) >> 64 << 64  # the first address that is in no whole high half
    if first < whole:
        found.append((first, whole - 1))
    if whole <= last:
        found.append((whole, last))
    return found


def count(cube: Cube, bits: Bits) -> int:
    """About how many boxes the cube becomes, an address range counting as one.

    Sets that are yet to be intersected count in full: no work is done here.
    """
    total = 1
    for place, part in enumerate(cube.parts):
        rest = 0
        for values in part:
            if values.inside and len(values.ranges) == 1:
                rest += 1
            elif (FIELDS[place], values.ranges) not in bits:
                rest += width(values, DOMAINS[FIELDS[place]])
        total *= rest or 1
    return total
