# SPDX-License-Identifier: Apache-2.0
"""Captures: events become distinct transactions, and what does not is counted."""

from __future__ import annotations

import asyncio
import dataclasses
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sockrules.agent.captures import Captures
from sockrules.agent.events import Event, ProgramId
from sockrules.control import abi, capture_store
from sockrules.control.addresses import parse_address, parse_prefix
from sockrules.control.agent_file import AgentConfig, parse_agent_config
from sockrules.control.captured import Captured, Filter, captured_from_json
from sockrules.control.model import Mode, Request, Server
from sockrules.control.problems import InputError

CAPTURE, REJECT = abi.C["SR_CAPTURE"], abi.C["SR_REJECT"]
PEER = parse_address("192.0.2.7")
HERE = parse_address("10.0.0.5")
NGINX = ProgramId(17, 1, 0)


def event(server: Server, **values: Any) -> Event:
    """An event of rule 0 of revision 1, captured."""
    fields: dict[str, Any] = {
        "mode": Mode.ENFORCE, "hook": "sk_lookup", "flags": CAPTURE,
        "monotonic": time.monotonic_ns(), "revision": 1, "local_address": HERE, "local_port": 443,
        "remote_address": PEER, "remote_port": 40000, "rule": 0, "netns": 1, "user": 33,
        "group": 33, "pid": 4711, "program": NGINX, "comm": "nginx",
    }  # fmt: skip
    return Event(server, **(fields | values))


class Box:
    """Captures on a database of their own, and what they said."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = AgentConfig()
        self.said: list[tuple[str, str, dict[str, Any]]] = []
        self.captures = self.open()

    def open(self, most: int = 100) -> Captures:
        return Captures(
            self.path,
            lambda: self.config,
            lambda revision, rule: f"rule-{revision}-{rule}",
            lambda program: "/usr/sbin/nginx" if program == NGINX else None,
            lambda cgroup: f"/system.slice/{cgroup}.service" if cgroup else None,
            lambda action, message, **facts: self.said.append((action, message, facts)),
            most,
        )

    def take(self, *events: Event) -> None:
        for each in events:
            self.captures.take(each)

    def flush(self) -> None:
        asyncio.run(self.captures.flush())

    def stored(self, chosen: Filter = capture_store.EVERYTHING) -> list[Captured]:
        self.flush()
        with sqlite3.connect(self.path) as db:
            return capture_store.select(db, chosen)

    def losses(self) -> dict[str, int]:
        with sqlite3.connect(self.path) as db:
            return capture_store.losses(db)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path / "state.db")
    yield box
    box.captures.close()


def test_only_what_a_rule_captures_is_stored(box: Box) -> None:
    box.take(event(Server.ACCEPT, flags=0), event(Server.ACCEPT, flags=REJECT))
    assert box.stored() == []
    box.take(event(Server.ACCEPT), event(Server.ACCEPT, flags=CAPTURE | REJECT))
    assert [one.authority for one in box.stored()] == [True, False]


def test_a_peers_port_is_folded_away_and_its_range_kept(box: Box) -> None:
    box.take(*(event(Server.ACCEPT, remote_port=port) for port in (40000, 700, 60999)))
    [one] = box.stored()
    assert one.request == Request(
        Server.ACCEPT, HERE, 443, PEER, None, 33, 33, "/usr/sbin/nginx", None
    )
    assert (one.count, one.folded, one.rule) == (3, (700, 60999), "rule-1-0")


def test_a_clients_own_port_is_kept_only_when_it_was_chosen(box: Box) -> None:
    connect = event(Server.CONNECT, remote_port=443, local_address=None)
    for local_port in (None, 700, 40000, 40001):
        box.take(dataclasses.replace(connect, local_port=local_port))
    found = [(one.request.local_port, one.folded, one.count) for one in box.stored()]
    assert found == [(None, None, 1), (700, None, 1), (None, (40000, 40001), 2)]


def test_a_listeners_port_is_folded_only_when_the_kernel_chose_it(box: Box) -> None:
    listen = event(Server.LISTEN, remote_address=None, remote_port=None, local_port=40000)
    box.take(dataclasses.replace(listen, hook="post_bind4"))
    box.take(dataclasses.replace(listen, hook="tcp_listen"))
    box.take(dataclasses.replace(listen, hook="tcp_listen", local_port=443))
    found = [(one.request.local_port, one.folded) for one in box.stored()]
    assert found == [(40000, None), (None, (40000, 40000)), (443, None)]


@pytest.mark.parametrize(
    "other",
    [
        {"user": None}, {"user": 34}, {"group": None}, {"program": None}, {"local_port": 444},
        {"remote_address": None}, {"remote_address": PEER + 1}, {"local_address": None},
        {"rule": 1}, {"flags": CAPTURE | REJECT},
    ],
)  # fmt: skip
def test_what_differs_is_another_transaction(box: Box, other: dict[str, Any]) -> None:
    box.take(event(Server.ACCEPT), event(Server.ACCEPT, **other), event(Server.ACCEPT))
    assert [one.count for one in box.stored()] == [2, 1]


def test_counts_and_times_add_up_over_flushes_and_restarts(box: Box) -> None:
    second = 1_000_000_000
    now = time.monotonic_ns()
    box.take(event(Server.ACCEPT, monotonic=now - 100 * second, remote_port=50000))
    [before] = box.stored()
    box.captures.close()
    box.captures = box.open()
    box.take(event(Server.ACCEPT, monotonic=now, remote_port=40000))
    [after] = box.stored()
    assert (after.count, after.first, after.folded) == (2, before.first, (40000, 50000))
    assert after.last > before.last
    assert after.number == before.number


def test_closing_writes_what_is_in_memory(box: Box) -> None:
    box.take(event(Server.ACCEPT))
    box.captures.close()
    box.captures = box.open()
    assert len(box.stored()) == 1


def test_memory_is_bounded_and_what_does_not_fit_is_counted_and_said(box: Box) -> None:
    box.captures.close()
    box.captures = box.open(most=3)
    box.take(*(event(Server.ACCEPT, remote_address=PEER + at) for at in range(5)))
    box.take(event(Server.ACCEPT))  # known: counted all the same
    assert sorted(one.count for one in box.stored()) == [1, 1, 2]
    assert box.losses() == {"overflow": 2}
    [(action, message, facts)] = box.said
    assert action == "captures-lost"
    assert facts == {"lost": 2, "why": "overflow"}
    assert message.startswith("captures: 2 requests")


def test_a_disk_that_refuses_loses_nothing(box: Box) -> None:
    box.take(event(Server.ACCEPT))
    box.flush()
    box.captures._db.execute("PRAGMA query_only=1")
    for port in (50000, 30000):
        box.take(event(Server.ACCEPT, remote_port=port), event(Server.ACCEPT, user=1))
        with pytest.raises(sqlite3.Error):
            box.flush()
    assert [action for action, _, _ in box.said] == ["captures-unwritten"]
    box.captures._db.execute("PRAGMA query_only=0")
    assert [(one.count, one.folded) for one in box.stored()] == [
        (3, (30000, 50000)),
        (2, (40000, 40000)),
    ]


def test_a_flush_that_is_cancelled_loses_nothing(box: Box) -> None:
    async def cancel(turns: int) -> None:
        task = asyncio.ensure_future(box.captures.flush())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    box.captures.close()
    box.captures = box.open(most=2000)
    for turns in range(6):
        box.take(*(event(Server.ACCEPT, remote_address=PEER + at) for at in range(1100)))
        asyncio.run(cancel(turns))
    box.captures.close()
    box.captures = box.open()
    assert {one.count for one in box.stored()} == {6}
    assert box.losses() == {}


def test_the_oldest_go_when_there_are_too_many(box: Box) -> None:
    box.config = AgentConfig(captures_keep_rows=2)
    now = time.monotonic_ns()
    for at in range(4):
        moment = now - (10 - at) * 1_000_000_000
        box.take(event(Server.ACCEPT, remote_address=PEER + at, monotonic=moment))
    assert [one.request.remote_address for one in box.stored()] == [PEER + 2, PEER + 3]
    assert box.losses() == {"crowded": 2}
    assert box.said[0][2] == {"lost": 2, "why": "crowded"}


def test_what_was_not_seen_for_too_long_goes(box: Box) -> None:
    box.config = AgentConfig(captures_keep_days=1)
    days = 86400 * 1_000_000_000
    now = time.monotonic_ns()
    box.take(event(Server.ACCEPT, user=1, monotonic=now - 2 * days), event(Server.ACCEPT))
    assert [one.request.user for one in box.stored()] == [33]
    assert box.losses() == {"aged": 1}
    assert box.said == []  # as it was asked to


def test_filters_choose(box: Box) -> None:
    box.take(
        event(Server.ACCEPT),
        event(Server.ACCEPT, user=0, program=None, remote_address=parse_address("2001:db8::1")),
        event(Server.LISTEN, remote_address=None, remote_port=None),
    )
    everything = box.stored()
    chosen = [
        Filter(server=Server.ACCEPT), Filter(user=0), Filter(program="/usr/sbin/nginx"),
        Filter(program="/usr/sbin/"), Filter(program="/usr/sbin"),
        Filter(remote=parse_prefix("192.0.2.0/24")), Filter(remote=parse_prefix("::/0")),
        Filter(since="2999-01-01T00:00:00Z"), Filter(since="2001-01-01T00:00:00Z"),
        Filter(number=everything[1].number),
    ]  # fmt: skip
    found = [box.stored(one) for one in chosen]
    assert [len(each) for each in found] == [2, 1, 2, 2, 0, 1, 2, 0, 3, 1]
    assert found == [[one for one in everything if each.holds(one)] for each in chosen]


def test_the_agent_answers_page_by_page(box: Box) -> None:
    box.take(*(event(Server.ACCEPT, remote_address=PEER + at) for at in range(5)))

    async def ask() -> list[Captured]:
        found: list[Captured] = []
        while True:
            after = found[-1].number if found else 0
            answer = await box.captures.answer(after=after, most=2)
            found += map(captured_from_json, answer["captures"])
            if not answer["more"]:
                return found

    assert asyncio.run(ask()) == box.stored()


def test_clearing_takes_out_what_is_in_memory_too(box: Box) -> None:
    box.take(event(Server.ACCEPT), event(Server.CONNECT, local_port=None))
    answer = asyncio.run(box.captures.clear("root", {"server": "accept"}))
    assert answer == {"cleared": 1}
    assert [one.request.server for one in box.stored()] == [Server.CONNECT]
    assert box.said[-1][0] == "captures-cleared"


@pytest.mark.parametrize(
    "doc", [{"server": "acept"}, {"colour": 1}, {"user": "root"}, {"since": "soon"}, {"remote": 7}]
)
def test_a_filter_that_is_none_is_refused(box: Box, doc: dict[str, Any]) -> None:
    box.take(event(Server.ACCEPT))
    with pytest.raises(ValueError, match="use|no key|not a"):
        asyncio.run(box.captures.clear("root", doc))
    assert len(box.stored()) == 1


def test_retention_is_configured() -> None:
    config = parse_agent_config("[captures]\nkeep_days = 7\nkeep_rows = 10\n", file="agent.toml")
    assert (config.captures_keep_days, config.captures_keep_rows) == (7, 10)
    with pytest.raises(InputError) as caught:
        parse_agent_config("[captures]\nkeep_days = 0\n", file="agent.toml")
    assert str(caught.value) == "agent.toml:2:13: keep_days 0 is out of range; use 1-3650"


def test_a_database_without_captures_is_read_as_none(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "old.db") as db:
        db.execute("CREATE TABLE hits (rule TEXT)")
    db = capture_store.open_to_read(tmp_path / "old.db")
    assert capture_store.select(db) == []
    assert capture_store.losses(db) == {}
    db.close()
    (tmp_path / "none.db").write_bytes(b"not a database, by far" * 100)
    with pytest.raises(OSError, match="cannot be read"):
        capture_store.open_to_read(tmp_path / "none.db")
