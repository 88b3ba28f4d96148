# SPDX-License-Identifier: Apache-2.0
"""What a rule can match, as areas: exact, with programs, services and times as classes.

Theory. Two programs that the same patterns of the rules match are one class, so
are two services, and two minutes of the week in which the same comparisons of
the time hold. There are finitely many, each is shown by a member (classes.py), and
sets of them are bits of an integer. So an area is a product of nine sets whose
members all exist: a point of an area is a request that somebody can make.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

from .classes import Programs, Services
from .condition import Time
from .cubes import FIELDS, Budget, Cube
from .evaluate import questions
from .model import Field, Request, Rule, Server
from .normal import Vocabulary, cubes_of
from .ranges import Ranges
from .schedule import condition_at
from .sets import DOMAINS, Domain, ValueSet, complement, intersect
from .week import WEEK

NUMERIC = tuple(field for field in FIELDS if field not in (Field.PROGRAM, Field.SERVICE))
"""The fields of an area's sets, in their order."""

_DOMAINS = tuple(DOMAINS[field] for field in NUMERIC)
_PLACES = tuple(FIELDS.index(field) for field in NUMERIC)
_MONDAY = datetime(2400, 1, 3, tzinfo=UTC)  # later than any rule is likely to expire

Sets = tuple[ValueSet | None, ...]
Classes = tuple[int, int, int]

_PAST_ALL = 1 << 129


class Area(NamedTuple):
    """A product of sets: one a numeric field (None: all values), then sets of classes.

    `classes` are those of programs, of services and of times.
    """

    sets: Sets
    classes: Classes


class Space:
    """The classes that a list of rules can tell apart."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        paths: set[str] = set()
        services: set[str] = set()
        periods: set[Ranges] = set()
        for rule in rules:
            for asked in questions(rule.when):
                if isinstance(asked, Time):
                    periods.add(asked.minutes)
                else:
                    paths.update(asked.paths)
                    services.update(asked.services)
        self._words = Vocabulary()
        self._programs = Programs(paths, self._words)
        self._services = Services(services, self._words)
        self._set_times(periods)
        every = self._programs.all, self._services.all, self._all_times
        self.everything = Area((None,) * len(NUMERIC), every)

    def _set_times(self, periods: Iterable[Ranges]) -> None:
        edges = {0, *(e % WEEK for p in periods for a, b in p for e in (a, b + 1))}
        self.minutes = sorted(edges)
        self._all_times = (1 << len(edges)) - 1

    def _times_by_truth(self, times: list[Time]) -> dict[tuple[bool, ...], tuple[int, int]]:
        """For every combination of answers to these questions a minute, and its classes."""
        own = {0, *(e % WEEK for time in times for a, b in time.minutes for e in (a, b + 1))}
        edges = [*sorted(own), WEEK]
        found: dict[tuple[bool, ...], tuple[int, int]] = {}
        for edge, after in pairwise(edges):
            truth = tuple(time.holds_in(edge) for time in times)
            first, last = bisect_left(self.minutes, edge), bisect_left(self.minutes, after)
            minute, mask = found.get(truth, (edge, 0))
            found[truth] = minute, mask | ((1 << (last - first)) - 1) << first
        return found

    def areas_of(self, rule: Rule, budget: Budget) -> list[Area]:
        """Where the rule's condition holds; raises TooComplex when that costs too much."""
        times = [asked for asked in questions(rule.when) if isinstance(asked, Time)]
        found: dict[tuple[Sets, int, int], int] = {}
        for minute, mask in self._times_by_truth(times).values():
            when = condition_at(rule.when, moment_at(minute)) if times else rule.when
            for cube in cubes_of(when, self._words, budget):
                key = self._sets(cube, budget)
                if key is not None:
                    found[key] = found.get(key, 0) | mask
        return [Area(sets, (a, b, mask)) for (sets, a, b), mask in found.items()]

    def _sets(self, cube: Cube, budget: Budget) -> tuple[Sets, int, int] | None:
        sets: list[ValueSet | None] = []
        for place in _PLACES:
            values: ValueSet | None = None
            for each in cube.parts[place]:
                if values is not None:
                    budget.spend((len(values.ranges) + len(each.ranges)) // 8)
                values = each if values is None else intersect(values, each)
            if values is not None and values.empty:
                return None
            sets.append(values)
        programs, services = self._programs.of(cube), self._services.of(cube)
        return (tuple(sets), programs, services) if programs and services else None

    def request_at(self, area: Area, server: Server) -> tuple[Request, datetime]:
        """A request in the area and a moment at which it is."""
        values: dict[str, Any] = {}
        for field, chosen in zip(NUMERIC, area.sets, strict=True):
            domain = DOMAINS[field]
            value = _member(chosen, domain) if chosen else None
            known = value is not None and domain.known[0] <= value <= domain.known[1]
            values[field.value.replace(".", "_")] = value if known else None
        programs, services, times = area.classes
        values["program"] = self._programs.member(programs)
        values["service"] = self._services.member(services)
        minute = self.minutes[(times & -times).bit_length() - 1]
        return Request(server, **values), moment_at(minute)


def moment_at(minute: int) -> datetime:
    """A moment whose clock shows that minute of the week."""
    return _MONDAY + timedelta(minutes=minute)


def _member(values: ValueSet, domain: Domain) -> int:
    return values.ranges[0][0] if values.inside else domain.first


def meet(a: ValueSet | None, b: ValueSet | None) -> bool:
    """Whether two sets have a member in common. Cheap also when one of them is long."""
    if a is None or b is None or a is b:
        return True
    if a.inside and b.inside:
        return _touch(a.ranges, b.ranges)
    if a.inside:
        return not _held(a.ranges, b.ranges)
    if b.inside:
        return not _held(b.ranges, a.ranges)
    return True  # both hold the first value of the domain


def within(a: ValueSet, b: ValueSet) -> bool:
    """Whether every member of a is one of b."""
    if a.inside:
        return _held(a.ranges, b.ranges) if b.inside else not _touch(a.ranges, b.ranges)
    return not b.inside and _held(b.ranges, a.ranges)


def _touch(a: Ranges, b: Ranges) -> bool:
    """Whether some value lies in both."""
    if len(a) > len(b):
        a, b = b, a
    for first, last in a:
        at = bisect_right(b, (last, _PAST_ALL)) - 1
        if at >= 0 and b[at][1] >= first:
            return True
    return False


def _held(a: Ranges, b: Ranges) -> bool:
    """Whether all of a lies in b; ranges are not adjacent, so each lies in one range of b."""
    if len(a) > 2 * len(b):
        inside = 0
        for first, last in b:
            start, end = bisect_left(a, (first, -1)), bisect_right(a, (last, _PAST_ALL))
            inside += end - start - (end > start and a[end - 1][1] > last)
        return inside == len(a)
    for first, last in a:
        at = bisect_right(b, (first, _PAST_ALL)) - 1
        if at < 0 or b[at][1] < last:
            return False
    return True


def point_of(area: Area) -> Area:
    """One point of the area."""
    sets = tuple(
        only(_member(values, domain) if values else domain.first, domain)
        for values, domain in zip(area.sets, _DOMAINS, strict=True)
    )
    programs, services, times = area.classes
    return Area(sets, (programs & -programs, services & -services, times & -times))


def only(value: int, domain: Domain) -> ValueSet:
    """The set of one value."""
    if value == domain.first:  # sets do not name the first value, see sets.py
        return ValueSet(((domain.first + 1, domain.last),), False)
    return ValueSet(((value, value),), True)


def has(values: ValueSet, value: int) -> bool:
    """Whether a value lies in a set."""
    at = bisect_right(values.ranges, (value, _PAST_ALL)) - 1
    return (at >= 0 and value <= values.ranges[at][1]) is values.inside


def overlap(a: Area, b: Area) -> Area | None:
    """What lies in both areas."""
    both_classes = _common(a, b)
    if not all(both_classes):
        return None
    sets: list[ValueSet | None] = []
    for x, y in zip(a.sets, b.sets, strict=True):
        both = y if x is None or x is y else x if y is None else intersect(x, y)
        if both is not None and both.empty:
            return None
        sets.append(both)
    return Area(tuple(sets), both_classes)


def overlaps(a: Area, b: Area) -> bool:
    """Whether two areas have a point in common."""
    return all(_common(a, b)) and all(map(meet, a.sets, b.sets))


def contains(a: Area, b: Area) -> bool:
    """Whether all of b lies in a."""
    if any(own & ~held for own, held in zip(b.classes, a.classes, strict=True)):
        return False
    for x, y in zip(a.sets, b.sets, strict=True):
        if x is None or x is y:
            continue
        if y is None or not within(y, x):
            return False
    return True


def without(area: Area, cover: Area) -> list[Area]:
    """The area less the cover, as areas that have no point in common."""
    pieces: list[Area] = []
    sets = list(area.sets)
    for place, cut in enumerate(cover.sets):
        old = sets[place]
        if cut is None or cut is old:
            continue
        rest = complement(cut) if old is None else intersect(old, complement(cut))
        if rest.empty:
            continue
        inner = cut if old is None else intersect(old, cut)
        sets[place] = rest
        pieces.append(Area(tuple(sets), area.classes))
        sets[place] = inner
    (programs, services, times), held = area.classes, cover.classes
    if other := programs & ~held[0]:
        pieces.append(Area(tuple(sets), (other, services, times)))
    programs &= held[0]
    if other := services & ~held[1]:
        pieces.append(Area(tuple(sets), (programs, other, times)))
    services &= held[1]
    if other := times & ~held[2]:
        pieces.append(Area(tuple(sets), (programs, services, other)))
    return pieces


def _common(a: Area, b: Area) -> Classes:
    (p, s, t), (q, u, v) = a.classes, b.classes
    return p & q, s & u, t & v
