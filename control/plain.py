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
from .boxes import (
    BITS_OF,
    COLUMNS_OF,
    FREE,
    FULL,
    SERVER_BITS,
    Bits,
    Columns,
    asking_for,
)
from .condition import And, Comparison, Condition
from .cubes import FIELDS
from .model import Field
from .normal import Vocabulary
from .services import place_of
from .sets import DOMAINS, ValueSet, explicit, positive, width


class PlainBoxes:
    """The boxes of plain rules, in rule order; `rules` are their indices.

    `within` is for each the mask of the places that it lies within, as in a cube.
    """

    def __init__(self) -> None:
        self.rules: list[int] = []
        self.within: list[int] = []
        self._servers: list[int] = []
        self._columns = Columns()
        columns = zip(
            FIELDS, self._columns.firsts, self._columns.lasts, self._columns.highs, strict=True
        )
        self._fields = {
            name: (1 << place, *DOMAINS[name].known, firsts, lasts, highs)
            for place, (name, firsts, lasts, highs) in enumerate(columns)
        }

    def __len__(self) -> int:
        return len(self.rules)

    def take(self, index: int, server: int, condition: Condition, words: Vocabulary) -> bool:
        """Add the box of a rule, if its condition is plain."""
        if type(condition) is Comparison:
            parts: tuple[Condition, ...] = (condition,)
        elif type(condition) is And:
            parts = condition.parts
        else:
            return False
        seen = asked = within = 0
        for part in parts:
            if type(part) is not Comparison or part.negated:
                break
            bit, low, high, firsts, lasts, highs = self._fields[part.field]
            if seen & bit:
                break
            seen |= bit
            ranges = part.ranges
            if len(ranges) == 1:
                first, last = ranges[0]
                if not low <= first <= last <= high:
                    break
                if last > FULL:
                    if first >> 64 != last >> 64 and (first & FULL or ~last & FULL):
                        break  # more than one box
                    highs.append((len(firsts), first >> 64, last >> 64))
                    first &= FULL
                    last &= FULL
            elif ranges or len(part.paths) + len(part.services) != 1:
                break
            else:
                first, mask = _named(part, words)
                within |= mask
                if mask:
                    continue
                last = first
            asked |= bit
            firsts.append(first)
            lasts.append(last)
        else:
            if seen:
                self.rules.append(index)
                self.within.append(within)
                self._servers.append(server)
                self._columns.asked.append(asked)
                return True
        self._forget(asked)
        return False

    def _forget(self, asked: int) -> None:
        """Take back what a rule that is not plain has asked for."""
        for bit, _, _, firsts, lasts, highs in self._fields.values():
            if asked & bit:
                del firsts[-1], lasts[-1]
                if highs and highs[-1][0] == len(firsts):
                    del highs[-1]

    def entries(self, words: list[int], bits: Bits) -> np.ndarray:
        """The boxes as an array of `BOX`; `words` are all rules' words.

        A range that has a membership bit, because other rules exclude it, is left to the bit.
        """
        table = self._columns.table()
        table["rule"] = np.array(words, np.uint32)[np.array(self.rules, np.int64)]
        within = np.array(self.within, np.uint64) << np.uint64(abi.C["SR_FIRST_SET_BIT"])
        table["bits_mask"] |= within | np.uint64(SERVER_BITS)
        table["bits_value"] |= within | np.array(self._servers, np.uint64)
        for (name, ranges), bit in bits.items():
            for inside in (True, False):
                self._leave_to_bit(table, name, ValueSet(ranges, inside), bit)
        return table

    @staticmethod
    def _leave_to_bit(table: np.ndarray, name: Field, values: ValueSet, bit: int) -> None:
        domain = DOMAINS[name]
        if width(values, domain) != 1:
            return
        spelled = explicit(values, domain)
        if len(spelled) != 1 or positive(spelled, domain) != values:
            return
        rows = asking_for(table, name, spelled[0])
        for column in COLUMNS_OF[name]:
            table[column][rows] = FREE[column]
        known = BITS_OF.get(name, 0)
        table["bits_mask"][rows] = table["bits_mask"][rows] & ~np.uint64(known) | np.uint64(bit)
        table["bits_value"][rows] &= ~np.uint64(known)
        if values.inside:
            table["bits_value"][rows] |= np.uint64(bit)


def _named(asked: Comparison, words: Vocabulary) -> tuple[int, int]:
    """The number of the program or unit that is asked for, or the mask of the place."""
    if asked.paths:
        (path,) = asked.paths
        return (0, 1 << words.directory(path)) if path.endswith("/") else (words.program(path), 0)
    (service,) = asked.services
    place = place_of(service)
    return (words.unit(service), 0) if place is None else (0, 1 << words.cgroup(place))
