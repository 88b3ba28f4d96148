# SPDX-License-Identifier: Apache-2.0
"""What was decided is told or counted as lost, and never changes a verdict."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sockrules.agent.features import kernel_macros
from sockrules.control import abi
from sockrules.control.client import AgentRefused

from .sandbox import Sandbox

pytestmark = pytest.mark.kernel

RULES = """
[[rule]]
name = "no-7201"
server = "connect"
authority = "no"
when = "remote.port == 7201"
"""

AUDITED = "".join(
    f'''
[[rule]]
name = "{server}"
server = "{server}"
authority = "yes"
audit = "yes"
when = "{side}.port == 7200"
'''
    for server, side in (("connect", "remote"), ("accept", "local"))
)


def test_a_full_buffer_changes_no_verdict_and_every_lost_event_is_counted(fresh: Sandbox) -> None:
    fresh.configure(events="buffer_pages = 4", connect="enforce")
    fresh.start(RULES)
    assert fresh.agent
    with fresh.listener("plain", "127.0.0.1", 7200):
        fresh.agent.send_signal(signal.SIGSTOP)
        try:
            outcomes = fresh.hammered(1500, "connect:7200", "connect:7201")
        finally:
            fresh.agent.send_signal(signal.SIGCONT)
        assert outcomes == {"connect:7200": {"ok": 1500}, "connect:7201": {"EPERM": 1500}}
        fresh.settle()
        events = fresh.call("status")["events"]
        assert fresh.totals("connect")["decisions"] == 3000
        assert fresh.totals("connect")["rejections"] == 1500
        assert events["received"] + events["lost_total"] == 3000
        assert events["received"] > 0
        assert events["lost_total"] > 2000, "four pages hold some hundred events"
        assert sum(events["lost"].values()) == events["lost_total"]
        lines = fresh.audit(kind="state", lost=events["lost_total"])
        assert lines[0]["event"]["action"] == "events-lost"
        assert lines[0]["sockrules"]["lost_by_cpu"] == events["lost"]

        fresh.stop(signal.SIGKILL)  # and now nobody reads
        outcomes = fresh.hammered(100, "connect:7200", "connect:7201")
        assert outcomes == {"connect:7200": {"ok": 100}, "connect:7201": {"EPERM": 100}}
        least = 200 - (abi.C["SR_BATCH"] - 1) * (os.cpu_count() or 1)
        fresh.start()
        fresh.settle()
        events, before = fresh.call("status")["events"], events
        lost = events["lost_total"] - before["lost_total"]
        assert lost >= least, "a processor keeps a few, for whoever reads next"
        assert lost + events["received"] == 200
        assert fresh.audit(kind="state", lost=lost)


def test_what_a_processor_has_gathered_is_told_by_the_next_agent(fresh: Sandbox) -> None:
    fresh.configure(connect="enforce")
    fresh.start(RULES)
    assert fresh.agent
    fresh.agent.send_signal(signal.SIGSTOP)
    assert fresh.hammered(1, "connect:7201") == {"connect:7201": {"EPERM": 1}}
    fresh.stop(signal.SIGKILL)
    fresh.start()
    fresh.settle()
    events = fresh.call("status")["events"]
    gathers = kernel_macros()["SR_HAS_FETCH"]
    assert (events["received"], events["lost_total"]) == ((1, 0) if gathers else (0, 1))
    if gathers:
        (line,) = fresh.audit(server="connect")
        assert line["rule"]["name"] == "no-7201"
        assert line["process"]["executable"] == os.path.realpath("/usr/bin/python3")


def test_hooks_that_interrupt_each_other_tell_each_their_own(fresh: Sandbox) -> None:
    """A connect on loopback is an accept in a softirq on the same processor."""
    fresh.configure(connect="enforce", accept="enforce")
    fresh.start(AUDITED)
    with fresh.listener("plain", "127.0.0.1", 7200), fresh.hammer("connect:7200") as beside:
        fresh.hammered(3000, "connect:7200")
        beside.stop()
    fresh.settle()
    events = fresh.call("status")["events"]
    decided = sum(fresh.totals(server)["decisions"] for server in ("connect", "accept"))
    fresh.stop()  # what is folded is written
    told = {"connect": 0, "accept": 0}
    for line in fresh.audit(kind="event"):
        side = "remote" if line["sockrules"]["server"] == "connect" else "local"
        assert line["sockrules"][side] == "127.0.0.1:7200"
        assert line["rule"]["name"] == line["sockrules"]["server"]
        told[line["sockrules"]["server"]] += line["sockrules"]["count"]
    assert events["malformed"] == 0
    assert sum(told.values()) == events["received"]
    assert events["received"] + events["lost_total"] == decided > 6000


def test_events_under_way_when_the_agent_stops_are_told_or_counted(fresh: Sandbox) -> None:
    fresh.configure(connect="enforce")
    fresh.start(RULES)
    with fresh.hammer("connect:7201") as hammer:
        fresh.stop()
        fresh.start()
        outcomes = hammer.stop()
    fresh.stop()
    fresh.start()
    told = sum(line["sockrules"]["count"] for line in fresh.audit(0))
    lost = fresh.call("status")["events"]["lost_total"]
    assert lost > 0
    assert told + lost == sum(sum(met.values()) for met in outcomes.values())


def test_lines_tell_what_happened_in_the_order_in_which_it_did(fresh: Sandbox) -> None:
    fresh.configure(connect="enforce")
    fresh.start(RULES)
    for _ in range(10):
        fresh.hammered(1, "connect:7201", "connect:7202")
    fresh.stop()
    lines = fresh.audit(20)
    times = [line["sockrules"]["monotonic_ns"] for line in lines]
    assert times == sorted(times)
    assert [line["destination"]["port"] for line in lines] == [7201, 7202] * 10


def test_a_full_disk_below_the_database_keeps_nothing_attached(fresh: Sandbox) -> None:
    place = fresh.paths.state_dir
    with disk(place, "1m"):
        fresh.configure(connect="enforce")
        fresh.start(RULES, "--detach")
        with (
            (place / "filler").open("wb", buffering=0) as filler,
            pytest.raises(OSError, match="No space"),
        ):
            while True:
                filler.write(bytes(4096))
        outcomes = fresh.hammered(20, "connect:7201")
        assert outcomes == {"connect:7201": {"EPERM": 20}}
        with pytest.raises(AgentRefused) as refused:
            fresh.apply(RULES.replace("7201", "7202") + "# " + "x" * 500_000)
        assert refused.value.kind == "state"
        assert fresh.client("connect", "plain", "127.0.0.1", 7201) == "EPERM"
        assert fresh.call("status")["enforcing"]
        assert fresh.stop() == 0
        assert not fresh.paths.pins.exists()


@contextlib.contextmanager
def disk(place: Path, size: str) -> Iterator[None]:
    """A file system of its own at `place`."""
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


@pytest.fixture
def tiny_disk(fresh: Sandbox) -> Iterator[Sandbox]:
    """A sandbox whose audit log has a file system of 64 KiB to itself."""
    with disk(fresh.paths.log_dir, "64k"):
        yield fresh
        fresh.stop()


def test_a_full_disk_stops_neither_enforcement_nor_the_drain(tiny_disk: Sandbox) -> None:
    box, place = tiny_disk, tiny_disk.paths.log_dir
    box.configure(connect="enforce", accept="enforce")
    box.start(RULES)
    with box.listener("plain", "127.0.0.1", 7200):
        # each accept has another peer's port, so that no two lines are folded
        assert box.hammered(300, "connect:7200") == {"connect:7200": {"ok": 300}}
        events: dict[str, int] = {}

        def drained() -> bool:
            events.update(box.call("status")["events"])
            return events["received"] >= 600  # a SYN may be sent again

        box.wait_until(drained, 10)
        assert events["lost_total"] == 0
        assert events["unwritten"] > 0
        assert box.hammered(10, "connect:7201") == {"connect:7201": {"EPERM": 10}}
    subprocess.run(["mount", "-o", "remount,size=16m", place], check=True)
    box.settle()
    lines = [json.loads(line) for line in box.paths.audit_log.read_text().splitlines()]
    reports = [line for line in lines if line["event"].get("action") == "lines-unwritten"]
    events = box.call("status")["events"]
    assert sum(line["sockrules"]["lines"] for line in reports) == events["unwritten"]
    accepted = sum(line["event"].get("action") == "accept" for line in lines)
    assert 300 > accepted > 0
    assert accepted + events["unwritten"] >= 300
    assert events["written"] == len(lines)
