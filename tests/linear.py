# SPDX-License-Identifier: Apache-2.0
"""The linear reference over many requests at once: rule after rule, whole columns each.

It shares nothing with compiler, walk or kernel, and little with the reference in
control/evaluate.py: a column holds each request's place among the values of its field
in order, so that a range of values, of addresses too, is two comparisons of small
numbers. What is unknown stands at place -1, in no range.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sockrules.control.condition import (
    And,
    Any,
    Comparison,
    Condition,
    Not,
    Or,
    path_matches,
    value_of,
)
from sockrules.control.model import Field, Request, Rule
from sockrules.control.services import service_matches

Flags = npt.NDArray[np.bool_]
_NAMES = {Field.PROGRAM: path_matches, Field.SERVICE: service_matches}


class Linear:
    """Requests as columns."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self._servers = np.array([request.server for request in requests])
        self._values: dict[Field, list[int | str]] = {}
        self._places: dict[Field, npt.NDArray[np.int32]] = {}
        self._named: dict[tuple[Field, str], Flags] = {}
        self._lists: dict[tuple[Field, int], Flags] = {}
        for field in Field:
            column = [value_of(request, field) for request in requests]
            known = sorted({value for value in column if value is not None})  # type: ignore[type-var]
            rank = {value: place for place, value in enumerate(known)}
            self._values[field] = known
            self._places[field] = np.array(
                [-1 if value is None else rank[value] for value in column], np.int32
            )

    def deciding(self, rules: Sequence[Rule]) -> npt.NDArray[np.int64]:
        """For each request the place of the first rule that matches, -1 for the default."""
        decided = np.full(len(self._servers), -1)
        left = {server: np.flatnonzero(self._servers == server) for server in set(self._servers)}
        for index, rule in enumerate(rules):
            rows = left.get(rule.server)
            if rows is None or not len(rows):
                continue
            found = self._holds(rule.when, rows)
            if found.any():
                decided[rows[found]] = index
                left[rule.server] = rows[~found]
        return decided

    def _holds(self, condition: Condition, rows: npt.NDArray[np.int64]) -> Flags:
        match condition:
            case Comparison():
                return self._compared(condition, rows) ^ condition.negated
            case And(parts):
                return np.logical_and.reduce([self._holds(part, rows) for part in parts])
            case Or(parts):
                return np.logical_or.reduce([self._holds(part, rows) for part in parts])
            case Not(part):
                return ~self._holds(part, rows)
            case Any():
                return np.ones(len(rows), bool)
            case _:
                raise ValueError("the time is no column")

    def _compared(self, asked: Comparison, rows: npt.NDArray[np.int64]) -> Flags:
        places = self._places[asked.field][rows]
        if asked.field in _NAMES:
            members = (*asked.paths, *asked.services)
            return np.logical_or.reduce([self._name(asked.field, one)[places] for one in members])
        if len(asked.ranges) > 8:
            return self._listed(asked)[places]
        found = np.zeros(len(rows), bool)
        for start, end in self._bounds(asked):
            found |= (places >= start) & (places < end)
        return found

    def _bounds(self, asked: Comparison) -> list[tuple[int, int]]:
        values: list[int] = self._values[asked.field]  # type: ignore[assignment]
        return [(bisect_left(values, a), bisect_right(values, b)) for a, b in asked.ranges]

    def _listed(self, asked: Comparison) -> Flags:
        """Whether each value of the field is in a long list; the last, unknown, is not."""
        key = asked.field, id(asked.ranges)  # the rules keep them alive
        if key not in self._lists:
            among = np.zeros(len(self._values[asked.field]) + 1, bool)
            for start, end in self._bounds(asked):
                among[start:end] = True
            self._lists[key] = among
        return self._lists[key]

    def _name(self, field: Field, member: str) -> Flags:
        """Whether each value of the field is what the member means; the last, unknown, is not."""
        key = field, member
        if key not in self._named:
            self._named[key] = np.array(
                [*(_NAMES[field](member, str(value)) for value in self._values[field]), False]
            )
        return self._named[key]
