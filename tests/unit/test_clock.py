# SPDX-License-Identifier: Apache-2.0
"""When the agent takes another table: at boundaries, after steps of the clock, in another zone."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

pytest.importorskip("sockrules.agent.policy", exc_type=ImportError)

from sockrules.agent.clock import Clock, Timekeeper
from sockrules.agent.policy import Policy, read_policy
from sockrules.control.model import Product, Request, Server
from sockrules.control.names import FixedNames
from sockrules.control.problems import InputError
from sockrules.control.walk import decide
from sockrules.control.zone import host_zone, parse_moment

BERLIN = ZoneInfo("Europe/Berlin")
RULES = """
[[rule]]
name = "nights"
server = "listen"
authority = "no"
when = "time in 22:00-06:00"
[[rule]]
name = "this-year"
server = "listen"
authority = "no"
when = "local.port == 1"
expires = 2027-01-01T00:00:00Z
"""


class FakeAgent:
    """As much of an agent as a timekeeper needs; `said` is what it did."""

    def __init__(self, moment: str, rules: str = RULES, zone: ZoneInfo = BERLIN) -> None:
        self.zone = zone
        self.set(moment)
        self.clock = self
        self.changing = asyncio.Lock()
        self.record = self  # it says what it did to itself
        self.said: list[list[str]] = []
        self.problems: list[str] = []
        self.policy = read_policy(
            rules,
            file="rules.toml",
            user="",
            number=7,
            names=FixedNames(),
            product=Product(),
            moment=self.moment,
        )
        self.timekeeper = Timekeeper(self)  # type: ignore[arg-type]

    def set(self, moment: str) -> None:
        self.moment = datetime.fromisoformat(moment).astimezone(self.zone)

    def now(self) -> datetime:
        return self.moment

    async def in_worker(self, work: Any, *arguments: Any) -> Any:
        return work(*arguments)

    async def put_in_force(self, policy: Policy) -> None:
        self.policy = policy

    def say(self, action: str, message: str, rules: list[str]) -> None:
        self.said.append(rules)

    def problem(self, text: str) -> None:
        self.problems.append(text)

    def at(self, moment: str) -> str:
        """The rule that decides a listen on port 1 after a tick at this moment."""
        self.set(moment)
        asyncio.run(self.timekeeper.tick())
        return decide(self.policy.table, Request(Server.LISTEN, local_port=1)).rule


def test_boundaries_steps_and_expiry() -> None:
    agent = FakeAgent("2026-03-02T12:00+01:00")
    assert agent.at("2026-03-02T21:59:59+01:00") == "this-year"
    assert not agent.said
    assert agent.timekeeper.next_change() == "2026-03-02T21:00:00Z"
    assert agent.at("2026-03-02T22:00+01:00") == "nights"
    assert agent.at("2026-03-02T21:30+01:00") == "this-year"  # set back over the boundary
    assert agent.at("2026-03-05T23:00+01:00") == "nights"  # days ahead
    assert agent.said == [["nights"]] * 3
    assert agent.at("2027-01-01T12:00+01:00") == "default-listen"
    assert agent.said[-1] == ["nights", "this-year"]
    assert agent.policy.table.revision == 7
    assert agent.policy.table.moment == agent.moment
    assert [rule.name for rule in agent.policy.table.rules[:2]] == ["nights", "this-year"]


def test_a_new_zone_is_another_clock() -> None:
    agent = FakeAgent("2026-03-02T12:00+01:00")
    agent.zone = ZoneInfo("Asia/Tokyo")
    assert agent.at("2026-03-02T14:00+01:00") == "nights"  # 22:00 there
    agent.zone = ZoneInfo("America/New_York")
    assert agent.at("2026-03-02T14:00+01:00") == "this-year"  # 08:00 there


def test_the_hour_that_comes_twice() -> None:
    rules = RULES.replace("22:00-06:00", "02:15-02:30")
    agent = FakeAgent("2026-10-25T02:14+02:00", rules)
    assert agent.at("2026-10-25T02:15+02:00") == "nights"
    assert agent.at("2026-10-25T02:30+02:00") == "this-year"
    assert agent.at("2026-10-25T02:15+01:00") == "nights"
    assert agent.at("2026-10-25T02:30+01:00") == "this-year"


def test_rules_without_time_are_left_alone() -> None:
    rules = RULES.replace("time in 22:00-06:00", "any").replace("expires", "# expires")
    agent = FakeAgent("2026-03-02T12:00+01:00", rules)
    before = agent.policy.table
    assert agent.at("1999-03-02T12:00+01:00") == "nights"
    assert agent.policy.table is before
    assert agent.timekeeper.next_change() is None


def test_an_applied_file_is_looked_at_anew() -> None:
    agent = FakeAgent("2026-03-02T12:00+01:00")
    agent.at("2026-03-02T12:00+01:00")
    agent.policy = FakeAgent("2026-03-02T12:00+01:00", RULES.replace("22:00", "13:00")).policy
    assert agent.at("2026-03-02T13:00+01:00") == "nights"


def test_what_cannot_be_compiled_leaves_the_table_and_is_not_tried_at_every_tick(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    agent = FakeAgent("2026-03-02T12:00+01:00")
    before, tried = agent.policy.table, []

    def refuse(_policy: Policy, moment: datetime, _same: object) -> None:
        tried.append(moment)
        raise InputError([])

    monkeypatch.setattr("sockrules.agent.clock.compiled_again", refuse)
    for second in range(3):
        assert agent.at(f"2026-03-02T22:00:0{second}+01:00") == "this-year"
    assert agent.policy.table is before
    assert len(tried) == len(agent.problems) == 1
    assert "mon 22:00" in agent.problems[0]


def test_the_zone_is_read_again_when_its_file_changes(tmp_path: Path) -> None:
    link = tmp_path / "localtime"
    clock = Clock(link)
    assert clock.now().tzinfo is UTC  # there is none
    for name, hours in (("Asia/Tokyo", 9), ("Asia/Kolkata", 5.5)):
        new = tmp_path / "new"
        new.symlink_to(f"/usr/share/zoneinfo/{name}")
        if not new.exists():
            pytest.skip("this host has no time-zone files")
        new.replace(link)
        assert clock.now().utcoffset() == timedelta(hours=hours)
        assert str(clock.now().tzinfo) == name
    assert clock.now().tzinfo is clock.now().tzinfo
    (tmp_path / "bad").write_text("no zone")
    assert host_zone(tmp_path / "bad") is UTC


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("18:00", "2026-03-04T18:00:00+01:00"),
        ("fri 8:05", "2026-03-06T08:05:00+01:00"),
        ("wed 08:05", "2026-03-04T08:05:00+01:00"),
        ("tue 00:00", "2026-03-10T00:00:00+01:00"),
        ("2026-07-01 18:00", "2026-07-01T18:00:00+02:00"),
        ("2026-07-01T18:00Z", "2026-07-01T20:00:00+02:00"),
    ],
)
def test_moments_as_people_write_them(text: str, moment: str) -> None:
    present = datetime.fromisoformat("2026-03-04T12:00+01:00").astimezone(BERLIN)
    assert parse_moment(text, present).isoformat() == moment


@pytest.mark.parametrize("text", ["25:00", "noon", "fri", "", "2026-13-01"])
def test_other_texts_are_no_moments(text: str) -> None:
    with pytest.raises(ValueError, match="not"):
        parse_moment(text, datetime(2026, 3, 4, 12, tzinfo=BERLIN))
