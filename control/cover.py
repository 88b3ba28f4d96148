# SPDX-License-Identifier: Apache-2.0
"""Whether areas cover an area, exactly: a point that they leave out, or the proof of none.

Rules. Every area that is looked at is paid from a budget, and `TooComplex` is
raised when that is spent. An answer is never a guess.

Theory. First a point is looked for greedily: field by field a value that few of
the covers hold. Where that fails the first cover is cut out, and what is left of
the area, in disjoint pieces, is searched with the covers that reach into it.
A piece that none reaches is left out; when there are no pieces there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .areas import NUMERIC, Area, contains, has, meet, only, overlaps, without
from .cubes import Budget, TooComplex
from .ranges import Ranges
from .sets import DOMAINS, ValueSet, explicit
from .unique import unique_values

_GREEDY = 12  # with more covers than this a point is looked for before cutting
_LONG = 32  # what a set costs at most to be looked at: it is searched by bisection
_SWEPT = 8192  # ranges up to which all values are weighed
_LOOKED_AT = 12  # covers among which the one that cuts into fewest pieces is chosen


Numbers = npt.NDArray[np.int64]


class Owned(NamedTuple):
    """An area, the number of the rule it belongs to, and what it costs to look at it."""

    rule: int
    area: Area
    cost: int


def owned(rule: int, area: Area) -> Owned:
    """An area of a rule."""
    lengths = (len(values.ranges) for values in area.sets if values)
    return Owned(rule, area, 1 + sum(min(length // 2, _LONG) for length in lengths))


def uncovered(
    area: Area, covers: Sequence[Owned], budget: Budget, used: set[int] | None = None
) -> Area | None:
    """An area inside `area` that no cover reaches; None when they cover it all.

    `used` collects the rules whose areas the proof of None needed.
    """
    used = set() if used is None else used
    stack: list[tuple[Area, Sequence[Owned]]] = [(area, covers)]
    while stack:
        piece, near = stack.pop()
        budget.spend(1 + sum(cover.cost for cover in near))
        near = [cover for cover in near if overlaps(cover.area, piece)]
        if not near:
            return piece
        long = _length(piece) > _LONG or any(cover.cost > _LONG for cover in near)
        if (long or len(near) > _GREEDY) and (point := free_point(piece, near, budget)):
            return point
        whole = next((cover for cover in near if contains(cover.area, piece)), None)
        if whole is not None:
            used.add(whole.rule)
            continue
        chosen = min(near[:_LOOKED_AT], key=lambda cover: _cuts(piece, cover.area))
        used.add(chosen.rule)
        work = (_length(chosen.area) + _length(piece)) // 4
        if work > budget.work:
            raise TooComplex  # before it is done, so that it costs other rules nothing
        budget.spend(work)
        rest = [cover for cover in near if cover is not chosen]
        stack.extend((left, rest) for left in without(piece, chosen.area))
    return None


def _length(area: Area) -> int:
    return sum(len(values.ranges) for values in area.sets if values)


def free_point(area: Area, covers: Sequence[Owned], budget: Budget) -> Area | None:
    """A part of the area that no cover reaches, if one is found field by field."""
    left = list(covers)
    places = sorted(
        range(len(NUMERIC)), key=lambda at: -sum(c.area.sets[at] is not None for c in covers)
    )
    sets = list(area.sets)
    classes = list(area.classes)
    for kind, members in enumerate(area.classes):
        chosen = _rarest(members, [cover.area.classes[kind] for cover in left])
        left = [cover for cover in left if cover.area.classes[kind] & chosen]
        classes[kind] = chosen
    for place in places:
        cutting = [c.area.sets[place] for c in left if c.area.sets[place] is not None]
        if not left or not cutting:
            continue
        budget.spend(len(left))
        value = _value(sets[place], cutting, place, budget)
        sets[place] = value
        left = [cover for cover in left if meet(cover.area.sets[place], value)]
    programs, services, times = classes
    return None if left else Area(tuple(sets), (programs, services, times))


def _rarest(members: int, masks: list[int]) -> int:
    """Some of the members, as few of the masks as is easily found having any of them."""
    for mask in masks:
        if members & ~mask:
            members &= ~mask
    return members & -members


def _value(
    inside: ValueSet | None, cutting: list[ValueSet | None], place: int, budget: Budget
) -> ValueSet:
    """The set of one value that lies inside and in the fewest of the cutting sets."""
    domain = DOMAINS[NUMERIC[place]]
    own = explicit(inside, domain) if inside else ((domain.first, domain.last),)
    if sum(len(values.ranges) for values in cutting if values) > _SWEPT:
        return only(_sampled(inside, own, cutting, budget), domain)
    far = len(cutting) + 1
    events = [event for a, b in own for event in ((a, -far), (b + 1, far))]
    for values in cutting:
        if values is not None:
            for first, last in explicit(values, domain):
                events.append((first, 1))
                events.append((last + 1, -1))
    budget.spend(len(events) // 4)
    events.sort()
    best, level, chosen = 0, 0, own[0][0]
    for at, (value, change) in enumerate(events):
        level += change
        if level < best and (at + 1 == len(events) or events[at + 1][0] != value):
            best, chosen = level, value
    return only(chosen, domain)


def _sampled(
    inside: ValueSet | None, own: Ranges, cutting: list[ValueSet | None], budget: Budget
) -> int:
    """As `_value`, of some values that lie just past the beginnings of the long sets' ranges."""
    values = [value for first, last in own[:8] for value in (first, last)]
    for cut in cutting[:16]:
        if cut is not None:
            values += [end + 1 for _, end in cut.ranges[:4]]
    tried = [value for value in dict.fromkeys(values) if inside is None or has(inside, value)]
    budget.spend(len(tried) * len(cutting) // 2)
    return min(tried, key=lambda value: sum(cut is None or has(cut, value) for cut in cutting))


def _cuts(area: Area, cover: Area) -> int:
    """In about how many pieces the area falls when the cover is cut out."""
    kinds = zip(area.classes, cover.classes, strict=True)
    count = sum(bool(members & ~cut) for members, cut in kinds)
    for old, cut in zip(area.sets, cover.sets, strict=True):
        count += cut is not None and cut is not old
    return count


class Index:
    """Finds the areas that may overlap one, by the ranks of their bounds.

    Areas are known by their numbers; those that are `added` are live. `lasting` says
    of each whether its rule never expires.
    """

    def __init__(self, areas: Sequence[Area], lasting: Sequence[bool], whole: Area) -> None:
        self._low = np.zeros((len(NUMERIC) + len(whole.classes), len(areas)), np.int64)
        self._high = np.zeros_like(self._low)
        for kind in range(len(whole.classes)):
            at, masks = len(NUMERIC) + kind, [area.classes[kind] for area in areas]
            self._low[at] = [(mask & -mask).bit_length() for mask in masks]
            self._high[at] = [mask.bit_length() for mask in masks]
        for at in range(len(NUMERIC)):
            hull = [_hull(area.sets[at], at) for area in areas]
            ranks = {v: rank for rank, v in enumerate(sorted({v for pair in hull for v in pair}))}
            self._low[at] = [ranks[low] for low, _ in hull]
            self._high[at] = [ranks[high] for _, high in hull]
        self._plain = np.array(
            [last and _plain(area, whole) for area, last in zip(areas, lasting, strict=True)], bool
        )
        spread = [len(unique_values(low)) for low in self._low]
        self._order = sorted(range(len(spread)), key=lambda at: -spread[at])
        self._live = np.zeros(len(areas), np.int64)
        self._live_low, self._live_high = np.zeros_like(self._low), np.zeros_like(self._high)
        self._count = 0

    def add(self, numbers: Sequence[int]) -> None:
        """Make areas live; their numbers are larger than those added before."""
        end = self._count + len(numbers)
        self._live[self._count : end] = numbers
        self._live_low[:, self._count : end] = self._low[:, numbers]
        self._live_high[:, self._count : end] = self._high[:, numbers]
        self._count = end

    def live_near(self, number: int) -> Numbers:
        """The live areas whose hulls meet this one's, in order."""
        found = self._meeting(
            number, self._live_low[:, : self._count], self._live_high[:, : self._count]
        )
        return self._live[found]

    def later_near(self, number: int, start: int) -> Numbers:
        """All areas from `start` on, live or not, whose hulls meet this one's."""
        return start + self._meeting(number, self._low[:, start:], self._high[:, start:])

    def holder(self, number: int, near: Numbers) -> int | None:
        """The first of some areas that is seen at once to contain this one."""
        inside: npt.NDArray[np.bool_] = self._plain[near]
        for at in self._order:
            inside = inside & (self._low[at][near] <= self._low[at, number])
            inside &= self._high[at][near] >= self._high[at, number]
        first = np.flatnonzero(inside)[:1]
        return int(near[first[0]]) if len(first) else None

    def _meeting(self, number: int, low: Numbers, high: Numbers) -> Numbers:
        found: Numbers | None = None
        for at in self._order:
            first, last = self._low[at, number], self._high[at, number]
            if found is None:
                found = np.flatnonzero((low[at] <= last) & (high[at] >= first))
            else:
                found = found[(low[at][found] <= last) & (high[at][found] >= first)]
        assert found is not None
        return found


def _plain(area: Area, whole: Area) -> bool:
    """Whether the area is what its hull says: no gaps, no classes left out."""
    ranges = (each is None or (each.inside and len(each.ranges) == 1) for each in area.sets)
    return area.classes == whole.classes and all(ranges)


def _hull(values: ValueSet | None, place: int) -> tuple[int, int]:
    if values is not None and values.inside:
        return values.ranges[0][0], values.ranges[-1][1]
    domain = DOMAINS[NUMERIC[place]]
    return domain.first, domain.last
