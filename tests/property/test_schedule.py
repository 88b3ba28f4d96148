# SPDX-License-Identifier: Apache-2.0
"""Rules at a moment agree with the reference, and change at the boundaries foretold, no other time.

The foretold boundaries are checked against a clock that is stepped minute by
minute across the days on which three zones change their clocks: by an hour,
by half an hour (Lord Howe), forwards and back.
"""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

import rulegen
from judging import judge
from sockrules.control import evaluate, schedule
from sockrules.control.compile import compile_table
from sockrules.control.condition import And, Condition, Not, Or, Time
from sockrules.control.model import Request, Rule, RuleSet, Server
from sockrules.control.week import DAYS, minutes_of

MINUTE = timedelta(minutes=1)
JUMPS = [
    ("Europe/Berlin", "2026-03-29T01:00"),
    ("Europe/Berlin", "2026-10-25T01:00"),
    ("America/New_York", "2026-03-08T07:00"),
    ("America/New_York", "2026-11-01T06:00"),
    ("Australia/Lord_Howe", "2026-04-04T15:00"),
    ("Australia/Lord_Howe", "2026-10-03T15:30"),
]
PERIODS = [
    "22:00-06:00",
    "01:30-02:30",
    "02:00-03:00",
    "02:15-02:45",
    "00:00-24:00",
    "sun",
    "sat-sun 02:00-02:30",
    "sun 01:45-02:01",
    "mon-fri 08:00-18:00",
    "fri-mon 23:30-01:59",
]


def time(text: str, negated: bool = False) -> Time:
    return Time(minutes_of(text), negated, f"time in {text}")


def period(rng: random.Random) -> str:
    if rng.random() < 0.6:
        return rng.choice(PERIODS)
    hour, minute = rng.choice((0, 1, 2, 3, 23)), rng.choice((0, 1, 15, 30, 59))
    length = rng.choice((1, 2, 29, 30, 60, 90, 600))
    end = (hour * 60 + minute + length) % 1440
    hours = f"{hour:02}:{minute:02}-{end // 60:02}:{end % 60:02}"
    return f"{rng.choice(DAYS)} {hours}" if rng.random() < 0.4 else hours


def timed_rules(rng: random.Random, count: int, moment: datetime) -> RuleSet:
    source = rulegen.Source(rng.random())  # type: ignore[arg-type]
    rules: list[Rule] = []
    for index in range(count):
        rule = source.rule(index, depth=2)
        asked: Condition = time(period(rng), rng.random() < 0.3)
        if rng.random() < 0.3:
            asked = Not(asked) if rng.random() < 0.5 else Or((asked, time(period(rng))))
        kind = rng.random()
        when = And((rule.when, asked)) if kind < 0.6 else Or((asked, rule.when))
        if kind > 0.9:
            when = rule.when
        expires = None
        if rng.random() < 0.2:
            expires = moment + rng.randint(-600, 600) * MINUTE
        rules.append(replace(rule, when=when, expires=expires))
    return RuleSet(tuple(rules))


@pytest.mark.parametrize(("zone_name", "jump"), JUMPS)
@pytest.mark.parametrize("seed", range(4))
def test_boundaries_minute_by_minute(zone_name: str, jump: str, seed: int) -> None:
    zone = ZoneInfo(zone_name)
    middle = datetime.fromisoformat(jump).replace(tzinfo=UTC)
    assert (middle - MINUTE).astimezone(zone).utcoffset() != middle.astimezone(zone).utcoffset()
    ruleset = timed_rules(random.Random(f"{zone_name}{jump}{seed}"), 1 + seed, middle)
    instant, end = middle - 900 * MINUTE, middle + 900 * MINUTE
    boundary = schedule.next_boundary(ruleset, instant.astimezone(zone))
    before = schedule.at(ruleset, instant.astimezone(zone))
    while instant < end:
        instant += MINUTE
        now = instant.astimezone(zone)
        after = schedule.at(ruleset, now)
        due = boundary is not None and instant >= boundary.astimezone(UTC)
        assert due is (after != before), (now, boundary)
        if due:
            assert boundary is not None and boundary.astimezone(UTC) == instant
            boundary, before = schedule.next_boundary(ruleset, now), after


@pytest.mark.parametrize("seed", range(40))
def test_the_table_of_a_moment_decides_as_the_reference(seed: int) -> None:
    rng = random.Random(seed)
    zone_name, jump = rng.choice(JUMPS)
    middle = datetime.fromisoformat(jump).replace(tzinfo=UTC)
    ruleset = timed_rules(rng, 12, middle)
    for _ in range(4):
        moment = (middle + rng.randint(-10080, 10080) * MINUTE).astimezone(ZoneInfo(zone_name))
        still = schedule.at(ruleset, moment)
        table = compile_table(ruleset, ruleset.rules, moment=moment)
        assert table.rules[:12] == ruleset.rules  # whatever the hour, rule 5 is rule 5
        requests = rulegen.Source(seed).requests(ruleset.rules, 40)
        judge(still, compile_table(still, still.rules), requests)
        for request in requests:
            decided = evaluate.deciding_rule(ruleset, ruleset.rules, request, moment)
            same = evaluate.deciding_rule(still, still.rules, request, moment)
            assert decided.name == same.name


def one(when: Condition, expires: datetime | None = None) -> RuleSet:
    return RuleSet((Rule("r", Server.CONNECT, False, when, 10, expires=expires),))


BERLIN = ZoneInfo("Europe/Berlin")


def boundaries(ruleset: RuleSet, start: str, count: int) -> list[str]:
    moment = datetime.fromisoformat(start).replace(tzinfo=BERLIN)
    found: list[str] = []
    while len(found) < count:
        boundary = schedule.next_boundary(ruleset, moment)
        if boundary is None:
            return [*found, "never"]
        found.append(boundary.isoformat(timespec="minutes"))
        moment = boundary
    return found


def test_a_skipped_hour_does_not_occur() -> None:
    assert boundaries(one(time("sun 02:10-02:50")), "2026-03-28T12:00", 2) == [
        "2026-04-05T02:10+02:00",
        "2026-04-05T02:50+02:00",
    ]


def test_a_period_around_a_skipped_hour_is_shorter() -> None:
    assert boundaries(one(time("01:30-03:30")), "2026-03-29T00:00", 2) == [
        "2026-03-29T01:30+01:00",
        "2026-03-29T03:30+02:00",
    ]
    assert boundaries(one(time("02:30-04:00")), "2026-03-29T00:00", 2) == [
        "2026-03-29T03:00+02:00",  # the clock jumps into the period
        "2026-03-29T04:00+02:00",
    ]


def test_a_repeated_hour_holds_twice() -> None:
    assert boundaries(one(time("02:10-02:50")), "2026-10-25T00:00", 4) == [
        "2026-10-25T02:10+02:00",
        "2026-10-25T02:50+02:00",
        "2026-10-25T02:10+01:00",
        "2026-10-25T02:50+01:00",
    ]


def test_what_always_holds_has_no_boundary() -> None:
    assert boundaries(one(time("mon-sun")), "2026-10-25T00:00", 1) == ["never"]
    assert boundaries(RuleSet(), "2026-10-25T00:00", 1) == ["never"]


def test_expiry_is_a_boundary_and_the_rule_stays_in_its_place() -> None:
    ends = datetime(2026, 12, 31, tzinfo=UTC)
    ruleset = one(time("00:00-24:00"), ends)
    assert boundaries(ruleset, "2026-10-25T00:00", 2) == ["2026-12-31T01:00+01:00", "never"]
    request = Request(Server.CONNECT)
    before, after = ends - timedelta(microseconds=1), ends
    for moment, name in ((before, "r"), (after, "default-connect")):
        local = moment.astimezone(BERLIN)
        assert evaluate.decide(ruleset, ruleset.rules, request, local).rule == name
        still = schedule.at(ruleset, local)
        assert [rule.name for rule in still.rules] == ["r"]
        assert evaluate.decide(still, still.rules, request, local).rule == name
