# SPDX-License-Identifier: Apache-2.0
"""Cubes: for every field a set that its value must lie in.

Theory. Cubes that differ in one field are joined and covered ones dropped;
that is all the simplifying there is, and every look at a cube is paid from a
budget. Sets of more than `SMALL` ranges are carried side by side, not
combined: they are meant to become membership bits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from .condition import Range, merge_ranges
from .model import Field
from .sets import (
    EMPTY,
    SMALL,
    ValueSet,
    complement,
    covers,
    intersect,
    unite,
)

FIELDS: tuple[Field, ...] = (
    Field.LOCAL_PORT,
    Field.REMOTE_PORT,
    Field.USER,
    Field.GROUP,
    Field.PROGRAM,
    Field.SERVICE,
    Field.LOCAL_ADDRESS,
    Field.REMOTE_ADDRESS,
)
"""The order of a cube's parts."""

_COMPARE_COVERING = 64  # cube lists longer than this are not searched for covered cubes

Part = tuple[ValueSet, ...]


class Cube(NamedTuple):
    """Where all parts hold: a part is the sets its field's value must all lie in.

    An empty part leaves its field free, unknown included. `within` and `without`
    are masks of numbered places: directories that the program must (not) lie
    below, and cgroups that the process must (not) be in.
    """

    parts: tuple[Part, ...]
    within: int = 0
    without: int = 0


FREE = Cube(((),) * len(FIELDS))


class TooComplex(Exception):
    """The condition needs more cubes, or more work, than a rule may cost."""


@dataclass(slots=True)
class Budget:
    """What one rule may cost: cubes at any one time, and work (cubes looked at) in all."""

    cubes: int = 4096
    work: int = 200_000

    def spend(self, work: int) -> None:
        self.work -= work
        if self.work < 0:
            raise TooComplex

    def hold(self, cubes: list[Cube]) -> list[Cube]:
        if len(cubes) > self.cubes:
            raise TooComplex
        return cubes


def all_of(cubes: Iterable[Cube]) -> Cube | None:
    """Where all of the cubes hold; None if that is nowhere."""
    parts: list[Part] = [()] * len(FIELDS)
    within = without = 0
    for cube in cubes:
        within |= cube.within
        without |= cube.without
        for place, part in enumerate(cube.parts):
            if not part:
                continue
            old = parts[place]
            both = _conjunction(old, part) if old else part
            if both is None:
                return None
            parts[place] = both
    return None if within & without else Cube(tuple(parts), within, without)


def _conjunction(x: Part, y: Part) -> Part | None:
    """Sets combined as far as they are small; None when nothing lies in all of them."""
    small: ValueSet | None = None
    large: dict[ValueSet, None] = {}
    for values in (*x, *y):
        if len(values.ranges) > SMALL:
            large[values] = None
        else:
            small = values if small is None else intersect(small, values)
    if small == EMPTY or any(complement(values) in large for values in large):
        return None
    if small is not None and len(small.ranges) > SMALL:
        large[small] = None
        small = None
    return (*large,) if small is None else (small, *large)


def simplify(cubes: list[Cube], budget: Budget) -> list[Cube]:
    """The same union with fewer cubes: neighbours joined, covered ones dropped."""
    cubes = list(dict.fromkeys(cubes))
    if FREE in cubes:
        return [FREE]
    before = 0
    while before != len(cubes) and len(cubes) > 1:
        before = len(cubes)
        for place in range(len(FIELDS)):
            budget.spend(len(cubes))
            cubes = _join(cubes, place)
    if len(cubes) <= _COMPARE_COVERING:
        budget.spend(len(cubes) * len(cubes))
        cubes = _uncovered(cubes)
    return cubes


def _join(cubes: list[Cube], place: int) -> list[Cube]:
    """Cubes that are equal but for one field become one."""
    groups: dict[object, list[Cube]] = {}
    for cube in cubes:
        rest = (cube.parts[:place], cube.parts[place + 1 :], cube.within, cube.without)
        groups.setdefault(rest, []).append(cube)
    if len(groups) == len(cubes):
        return cubes
    joined: list[Cube] = []
    for group in groups.values():
        plain = [cube for cube in group if _plain(cube.parts[place])]
        if len(plain) < 2:
            joined.extend(group)
            continue
        joined.extend(cube for cube in group if not _plain(cube.parts[place]))
        first = plain[0]
        part = _unite(cube.parts[place] for cube in plain)
        parts = (*first.parts[:place], part, *first.parts[place + 1 :])
        joined.append(Cube(parts, first.within, first.without))
    return joined


def _plain(part: Part) -> bool:
    return not part or (len(part) == 1 and len(part[0].ranges) <= SMALL)


def _unite(parts: Iterable[Part]) -> Part:
    whole = EMPTY
    inside: list[Range] = []
    for part in parts:
        if not part:
            return ()
        if part[0].inside:
            inside.extend(part[0].ranges)
        else:
            whole = unite(whole, part[0])
    whole = unite(whole, ValueSet(merge_ranges(inside), True))
    return () if whole.everything else (whole,)


def _uncovered(cubes: list[Cube]) -> list[Cube]:
    kept: list[Cube] = []
    for cube in cubes:
        if any(_covers(other, cube) for other in kept):
            continue
        kept = [other for other in kept if not _covers(cube, other)]
        kept.append(cube)
    return kept


def _covers(a: Cube, b: Cube) -> bool:
    if a.within & ~b.within or a.without & ~b.without:
        return False
    for x, y in zip(a.parts, b.parts, strict=True):
        if not x or x == y:
            continue
        if len(x) != 1 or len(y) != 1 or not (_plain(x) and _plain(y)):
            return False
        if not covers(x[0], y[0]):
            return False
    return True
