# SPDX-License-Identifier: Apache-2.0
"""Rules at a moment, and when they will next be other ones.

Rules. `moment` is aware, and its zone is the host's: the clock of that zone is
what conditions on the time are about. `at` changes no rule's place: an expired
rule stays in the list and matches nothing, so that the number of a rule means
the same rule before and after every boundary.

Theory. Truth changes only where the clock reaches the edge of a period, where
the zone changes its offset (the clock jumps, perhaps across an edge), and
where a rule expires. All such instants of a week are collected and tried in
order. An edge that a jump skips in one week occurs in the next, so that after
three weeks without a change there is none to come.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo

from .condition import (
    ALWAYS,
    NEVER,
    And,
    Any,
    Comparison,
    Condition,
    Not,
    Or,
    Range,
    Time,
)
from .model import Rule, RuleSet
from .week import DAY, WEEK, minute_of_week

_HORIZON = 22  # days
_HOUR = timedelta(hours=1)


def at(ruleset: RuleSet, moment: datetime) -> RuleSet:
    """The set as it stands at a moment: nothing in it asks for the time any more."""
    return replace(ruleset, rules=rules_at(ruleset.rules, moment))


def rules_at(rules: tuple[Rule, ...], moment: datetime) -> tuple[Rule, ...]:
    """The rules at a moment, every one in its place; those it does not touch are the same."""
    return tuple(rule_at(rule, moment) for rule in rules)


def timed(rules: Iterable[Rule]) -> bool:
    """Whether the moment matters to any of these rules."""
    return any(rule.expires is not None or bool(_times(rule.when)) for rule in rules)


def condition_at(condition: Condition, moment: datetime) -> Condition:
    """The condition with ALWAYS or NEVER in the place of every question about the time."""
    return _replaced(condition, minute_of_week(moment))


def next_boundary(ruleset: RuleSet, moment: datetime) -> datetime | None:
    """The next instant after `moment` at which `at` gives something else; None if never.

    In the zone of `moment`, which must know of its future offsets (zoneinfo).
    """
    live = [rule for rule in ruleset.rules if not rule.expired(moment)]
    ends = [rule.expires for rule in live if rule.expires is not None]
    end = min((end.astimezone(UTC) for end in ends), default=None)
    sets = list({time.minutes for rule in live for time in _times(rule.when)})
    change = _next_change(sets, moment) if sets else None
    first = min((instant for instant in (end, change) if instant is not None), default=None)
    return None if first is None else first.astimezone(moment.tzinfo)


def rule_at(rule: Rule, moment: datetime) -> Rule:
    """The rule at a moment; itself where the time does not matter to it."""
    if rule.expired(moment):
        return replace(rule, when=NEVER, expires=None)
    if rule.expires is None and not _times(rule.when):
        return rule
    return replace(rule, when=condition_at(rule.when, moment), expires=None)


def _times(condition: Condition) -> list[Time]:
    """The questions about the time in a condition, in any order, however deep it is."""
    found: list[Time] = []
    todo = list(condition.parts) if type(condition) is And else [condition]
    while todo:
        asked = todo.pop()
        if type(asked) is Comparison:  # as nearly all are
            continue
        match asked:
            case Time():
                found.append(asked)
            case And(parts) | Or(parts):
                todo.extend(parts)
            case Not(part):
                todo.append(part)
    return found


def _replaced(condition: Condition, minute: int) -> Condition:
    match condition:
        case Time():
            return ALWAYS if condition.holds_in(minute) else NEVER
        case And(parts):
            return And(tuple(_replaced(part, minute) for part in parts))
        case Or(parts):
            return Or(tuple(_replaced(part, minute) for part in parts))
        case Not(part):
            return Not(_replaced(part, minute))
        case Any() | Comparison():
            return condition


def _next_change(sets: list[tuple[Range, ...]], moment: datetime) -> datetime | None:
    """The first instant, in UTC, at which the clock's minute moves into or out of a set."""
    zone = moment.tzinfo
    assert zone is not None, "a moment is aware of its zone"
    starts = [[first for first, _ in ranges] for ranges in sets]

    def state(instant: datetime) -> list[bool]:
        minute = minute_of_week(instant.astimezone(zone))
        found = []
        for ranges, firsts in zip(sets, starts, strict=True):
            place = bisect_right(firsts, minute) - 1
            found.append(place >= 0 and minute <= ranges[place][1])
        return found

    now = moment.astimezone(UTC)
    before = state(now)
    edges = sorted(
        {edge % WEEK for ranges in sets for first, last in ranges for edge in (first, last + 1)}
    )
    for day in range(_HORIZON):
        start, end = now + timedelta(days=day), now + timedelta(days=day + 1)
        instants = {*_edges(edges, start, zone), *_jumps(start, zone)}
        for instant in sorted(instants):
            if start < instant <= end and state(instant) != before:
                return instant
    return None


def _edges(edges: list[int], start: datetime, zone: tzinfo) -> Iterator[datetime]:
    """When the clock reaches an edge in the 24 hours from `start`, and some times around.

    In UTC; twice where the clock is set back across it. One that the clock skips yields
    instants that are none: they are tried and found to change nothing.
    """
    local = start.astimezone(zone).date()
    for date in (local + timedelta(days=after) for after in (-1, 0, 1, 2)):
        for edge in edges:
            if edge // DAY == date.weekday():
                naive = datetime(date.year, date.month, date.day, edge % DAY // 60, edge % 60)
                for fold in (0, 1):
                    yield naive.replace(tzinfo=zone, fold=fold).astimezone(UTC)


def _jumps(start: datetime, zone: tzinfo) -> Iterator[datetime]:
    """When the zone changes its offset in the 24 hours from `start`, in UTC."""
    for hour in range(24):
        low, high = start + hour * _HOUR, start + (hour + 1) * _HOUR
        if _offset(low, zone) == _offset(high, zone):
            continue
        while high - low > timedelta(microseconds=1):
            middle = low + (high - low) / 2
            if _offset(middle, zone) == _offset(low, zone):
                low = middle
            else:
                high = middle
        yield high


def _offset(instant: datetime, zone: tzinfo) -> timedelta | None:
    return instant.astimezone(zone).utcoffset()
