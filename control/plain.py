# SPDX-License-Identifier: Apache-2.0
"""Rules that are one box, read straight into columns: most of an access list.

Rules. A condition is plain when it is one comparison, or `and` between some, each of
another field, none negated, each with one range, one program or one service. It becomes
the very box that cubes.py and boxes.py would make of it, in a tenth of the time;
everything else is left to them.
"""

from __future__ import annotations

import numpy as np

from . import abi
from .boxes import BITS_OF, BOX, COLUMNS_OF, FREE, FULL, SERVER_BITS, Bits
from .condition import And, Comparison, Condition
from .cubes import FIELDS
from .model import Field
from .normal import Vocabulary
from .ranges import halves
from .services import place_of
from .sets import DOMAINS, ValueSet, explicit, positive, width

_PLACE = {name: place for place, name in enumerate(FIELDS)}
_KNOWN = {name: DOMAINS[name].known for name in FIELDS}
_LOCAL, _REMOTE = _PLACE[Field.LOCAL_ADDRESS], _PLACE[Field.REMOTE_ADDRESS]
_MARKS = tuple((place, BITS_OF[FIELDS[place]]) for place in (_LOCAL, _REMOTE))


class PlainBoxes:
    """The boxes of plain rules, in rule order; `rules` are their indices.

    `within` is for each the mask of the places that it lies within, as in a cube.
    """

    def __init__(self) -> None:
        self.rules: list[int] = []
        self.within: list[int] = []
        self._servers: list[int] = []
        self._rows: list[list[int]] = [[] for _ in FIELDS]
        self._first: list[list[int]] = [[] for _ in FIELDS]
        self._last: list[list[int]] = [[] for _ in FIELDS]

    def __len__(self) -> int:
        return len(self.rules)

    def take(self, index: int, server: int, condition: Condition, words: Vocabulary) -> bool:
        """Add the box of a rule, if its condition is plain."""
        kind = type(condition)
        if kind is Comparison:
            parts: tuple[Condition, ...] = (condition,)
        elif kind is And and isinstance(condition, And):
            parts = condition.parts
        else:
            return False
        if not _plain(parts):
            return False
        row, within = len(self.rules), 0
        for part in parts:
            assert isinstance(part, Comparison)
            if part.ranges:
                ((first, last),) = part.ranges
            else:
                number, mask = _named(part, words)
                within |= mask
                if not number:
                    continue
                first = last = number
            place = _PLACE[part.field]
            self._rows[place].append(row)
            self._first[place].append(first)
            self._last[place].append(last)
        self.rules.append(index)
        self.within.append(within)
        self._servers.append(server)
        return True

    def entries(self, words: list[int], bits: Bits) -> np.ndarray:
        """The boxes as an array of `BOX`; `words` are all rules' words.

        A range that has a membership bit, because other rules exclude it, is left to the bit.
        """
        table = np.zeros(len(self.rules), BOX)
        rules = np.array(self.rules, np.int64)
        table["rule"] = np.array(words, np.uint32)[rules]
        within = np.array(self.within, np.uint64) << np.uint64(abi.C["SR_FIRST_SET_BIT"])
        table["bits_mask"] = within | np.uint64(SERVER_BITS)
        table["bits_value"] = within | np.array(self._servers, np.uint64)
        for column, free in FREE.items():
            table[column] = free
        for place, name in enumerate(FIELDS):
            rows = np.array(self._rows[place], np.int64)
            first, last = halves(self._first[place]), halves(self._last[place])
            if len(COLUMNS_OF[name]) == 2:
                values = [first[1], last[1]]
            else:
                values = [first[0], last[0] - first[0], first[1], last[1] - first[1]]
            for column, value in zip(COLUMNS_OF[name], values, strict=True):
                table[column][rows] = value
        for place, known in _MARKS:
            rows = np.array(self._rows[place], np.int64)
            table["bits_mask"][rows] |= np.uint64(known)
            table["bits_value"][rows] |= np.uint64(known)
        for (name, ranges), bit in bits.items():
            for inside in (True, False):
                self._leave_to_bit(table, name, ValueSet(ranges, inside), bit)
        return table

    def _leave_to_bit(self, table: np.ndarray, name: Field, values: ValueSet, bit: int) -> None:
        domain = DOMAINS[name]
        if width(values, domain) != 1:
            return
        spelled = explicit(values, domain)
        if len(spelled) != 1 or positive(spelled, domain) != values:
            return
        place = _PLACE[name]
        pairs = zip(self._rows[place], self._first[place], self._last[place], strict=True)
        rows = [row for row, *ends in pairs if tuple(ends) == spelled[0]]
        for column in COLUMNS_OF[name]:
            table[column][rows] = FREE[column]
        known = BITS_OF.get(name, 0)
        table["bits_mask"][rows] = table["bits_mask"][rows] & ~np.uint64(known) | np.uint64(bit)
        table["bits_value"][rows] &= ~np.uint64(known)
        if values.inside:
            table["bits_value"][rows] |= np.uint64(bit)


def _plain(parts: tuple[Condition, ...]) -> bool:
    seen = 0
    for part in parts:
        if type(part) is not Comparison or part.negated:
            return False
        place = _PLACE[part.field]
        if seen >> place & 1:
            return False
        seen |= 1 << place
        ranges = part.ranges
        if len(ranges) != 1:
            if ranges or len(part.paths) + len(part.services) != 1:
                return False
            continue
        first, last = ranges[0]
        low, high = _KNOWN[part.field]
        if not low <= first <= last <= high:
            return False
        if last > FULL and first >> 64 != last >> 64 and (first & FULL or ~last & FULL):
            return False  # more than one box
    return seen > 0


def _named(asked: Comparison, words: Vocabulary) -> tuple[int, int]:
    """The number of the program or unit that is asked for, or the mask of the place."""
    if asked.paths:
        (path,) = asked.paths
        return (0, 1 << words.directory(path)) if path.endswith("/") else (words.program(path), 0)
    (service,) = asked.services
    place = place_of(service)
    return (words.unit(service), 0) if place is None else (0, 1 << words.cgroup(place))
