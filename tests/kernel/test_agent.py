# SPDX-License-Identifier: Apache-2.0
"""Agents come and go, tables are swapped and grow; what is in force stays in force."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from sockrules.control import abi
from sockrules.control.model import Server

from .processes import Outcomes
from .sandbox import Sandbox

pytestmark = pytest.mark.kernel

ALL = {"listen": "enforce", "accept": "enforce", "connect": "enforce"}

RULES = """
[[rule]]
name = "no-connect-7001"
server = "connect"
authority = "no"
when = "remote.port == 7001"

[[rule]]
name = "no-listen-7002"
server = "listen"
authority = "no"
when = "local.port == 7002"

[[rule]]
name = "no-accept-7003"
server = "accept"
authority = "no"
when = "local.port == 7003"
"""

TARGETS = ("connect:7000", "connect:7001", "listen:7002", "connect:7003")
EXPECTED = {
    "connect:7000": "ok",
    "connect:7001": "EPERM",
    "listen:7002": "EPERM",
    "connect:7003": "ECONNREFUSED",
}


@contextlib.contextmanager
def listeners(box: Sandbox) -> Iterator[None]:
    """Somebody listens wherever a connect must not fail for want of it."""
    with contextlib.ExitStack() as stack:
        for port in (7000, 7001, 7003):
            stack.enter_context(box.listener("plain", "127.0.0.1", port))
        yield


def assert_enforced(outcomes: Outcomes) -> None:
    """Every single attempt met what the rules say."""
    assert {target: list(met) for target, met in outcomes.items()} == {
        target: [expected] for target, expected in EXPECTED.items()
    }, outcomes


@pytest.fixture
def running(fresh: Sandbox) -> Iterator[Sandbox]:
    """An agent that enforces RULES."""
    fresh.configure(**ALL)
    fresh.start(RULES)
    with listeners(fresh):
        yield fresh


def decisions(box: Sandbox) -> int:
    return sum(box.totals(server)["decisions"] for server in ALL)


def lost_lines(box: Sandbox) -> list[int]:
    """What each line about lost events says, since the last mark."""
    lines = box.audit(0, kind="state")
    return [line["sockrules"]["lost"] for line in lines if line["event"]["action"] == "events-lost"]


def test_two_agents_on_different_roots_do_not_disturb_each_other(
    running: Sandbox, tmp_path: Path
) -> None:
    other = Sandbox(tmp_path / "elsewhere")
    other.name, other.cgroup = running.name, running.cgroup  # the same place, another root
    other.paths.rules.parent.mkdir(parents=True)
    other.configure(**ALL)
    try:
        with running.listener("plain", "127.0.0.1", 7101):
            other.start(RULES.replace("700", "710"))
            for box in (running, other):
                servers = box.call("status")["servers"]
                assert all(servers[server]["proof"]["ok"] for server in ALL)
            assert running.client("connect", "plain", "127.0.0.1", 7101) == "EPERM"
            assert_enforced(running.hammered(5, *TARGETS))
            assert {line["rule"]["name"] for line in other.audit(authority="no")} == {
                "no-connect-7101"
            }
            other.call("stop", detach=True)
            assert other.agent and other.agent.wait(20) == 0
            assert running.client("connect", "plain", "127.0.0.1", 7101) == "ok"
            assert_enforced(running.hammered(5, *TARGETS))
    finally:
        if other.agent and other.agent.poll() is None:
            other.agent.kill()
            other.agent.wait()
        shutil.rmtree(other.paths.pins, ignore_errors=True)


def test_a_second_agent_on_the_same_root_is_refused(running: Sandbox) -> None:
    first = running.agent
    assert first
    running.start(wait=False)
    second, running.agent = running.agent, first
    assert second
    _, errors = second.communicate(timeout=20)
    assert second.returncode == 1
    assert f"an agent (process {first.pid}) already runs on root" in errors
    assert "Traceback" not in errors
    assert running.call("status")["agent"]["pid"] == first.pid
    assert_enforced(running.hammered(2, *TARGETS))


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_enforcement_outlives_the_agent_and_the_next_one_tells_what_it_missed(
    running: Sandbox, how: signal.Signals
) -> None:
    before, revision = decisions(running), running.call("status")["ruleset"]["revision"]
    running.mark()
    assert running.stop(how) == (0 if how == signal.SIGTERM else -how)
    assert_enforced(running.hammered(20, *TARGETS))
    with running.listener("plain", "127.0.0.9", 7003):  # began to listen with no agent there
        assert running.client("connect", "plain", "127.0.0.9", 7003) == "ECONNREFUSED"
    running.start()
    missed = decisions(running) - before
    # connect and accept on 7000 and 7003, connect on 7001, listen on 7002; then the other listener
    assert missed == 20 * 6 + 3
    running.settle()
    status = running.call("status")
    lost = status["events"]["lost_total"]
    assert lost + status["events"]["received"] == missed, "the last few are told by the next one"
    assert lost >= missed - (abi.C["SR_BATCH"] - 1) * (os.cpu_count() or 1)
    running.wait_until(lambda: lost_lines(running) == [lost], 5, "a line about the lost events")
    assert status["ruleset"]["revision"] == revision
    assert status["enforcing"]
    assert_enforced(running.hammered(2, *TARGETS))
    running.stop()
    running.start()
    running.settle()
    assert lost_lines(running) == [lost], "told once, not by every agent anew"


def test_one_agent_takes_over_from_another_without_a_gap(running: Sandbox) -> None:
    with (
        running.hammer(*TARGETS) as hammer,
        running.hammer("connect:7001") as connects,
        running.hammer("listen:7002") as listens,
    ):
        for how in (signal.SIGTERM, signal.SIGKILL):
            running.stop(how)
            running.start()
        assert list(connects.stop()["connect:7001"]) == ["EPERM"]
        assert list(listens.stop()["listen:7002"]) == ["EPERM"]
        assert_enforced(hammer.stop())


def test_detach_leaves_nothing_behind(fresh: Sandbox) -> None:
    fresh.configure(**ALL)
    fresh.start(RULES, "--detach")
    with listeners(fresh):
        assert_enforced(fresh.hammered(1, *TARGETS))
        assert fresh.stop() == 0
        assert not fresh.paths.pins.exists()
        assert not fresh.paths.socket.exists()
        outcomes = fresh.hammered(1, *TARGETS)
    assert all(met == {"ok": 1} for met in outcomes.values()), outcomes


def test_off_detaches(running: Sandbox) -> None:
    links = running.paths.pins / "links"
    left = {hook for each in (Server.LISTEN, Server.ACCEPT) for hook in running.way(each).hooks}
    for server in ("connect", "accept"):
        running.activate("off", server)
    assert running.links() == {hook.name for hook in left}
    running.activate("off", "listen")
    assert list(links.iterdir()) == []
    outcomes = running.hammered(1, *TARGETS)
    assert all(met == {"ok": 1} for met in outcomes.values()), outcomes
    running.stop()
    running.start()
    assert list(links.iterdir()) == [], "off is remembered"


def rule_set(name: str, allowed: int, denied: int) -> str:
    return f"""
[[rule]]
name = "{name}1"
server = "connect"
authority = "{"yes" if allowed == 7001 else "no"}"
when = "remote.port == 7001"

[[rule]]
name = "{name}2"
server = "connect"
authority = "{"yes" if allowed == 7002 else "no"}"
when = "remote.port == 7002"

[default.connect]
authority = "{"yes" if denied == 7002 else "no"}"
"""


SWAPS = 50


def test_a_swap_under_load_is_never_seen_half_done(fresh: Sandbox) -> None:
    sets = {"a": rule_set("a", 7001, 7002), "b": rule_set("b", 7002, 7001)}
    fresh.configure(connect="enforce")
    fresh.start(sets["a"])
    of_revision = {fresh.call("status")["ruleset"]["revision"]: "a"}
    with (
        fresh.listener("plain", "127.0.0.1", 7001),
        fresh.listener("plain", "127.0.0.1", 7002),
        fresh.hammer("connect:7001", "connect:7002", "connect:7003") as hammer,
    ):
        for number in range(SWAPS):
            name = "ba"[number % 2]
            of_revision[fresh.apply(sets[name])["revision"]] = name
        outcomes = hammer.stop()
    assert set(outcomes["connect:7001"]) == set(outcomes["connect:7002"]) == {"ok", "EPERM"}
    # nobody listens on 7003: the default of A lets the attempt through
    assert set(outcomes["connect:7003"]) == {"ECONNREFUSED", "EPERM"}
    assert len(of_revision) == SWAPS + 1
    lost = fresh.call("status")["events"]["lost_total"]
    fresh.stop()  # writes what is still folded

    told: Outcomes = {target: {"ok": 0, "EPERM": 0} for target in outcomes}
    for line in fresh.audit(0):
        name = of_revision[line["sockrules"]["revision"]]
        port, authority = line["destination"]["port"], line["sockrules"]["authority"]
        expected = {
            7001: (f"{name}1", "yes" if name == "a" else "no"),
            7002: (f"{name}2", "yes" if name == "b" else "no"),
            7003: ("default-connect", "yes" if name == "a" else "no"),
        }
        assert (line["rule"]["name"], authority) == expected[port]
        outcome = "ok" if authority == "yes" else "EPERM"
        told[f"connect:{port}"][outcome] += line["sockrules"]["count"]
    met = {
        target: {
            "ok": counts.get("ok", 0) + counts.get("ECONNREFUSED", 0),
            "EPERM": counts["EPERM"],
        }
        for target, counts in outcomes.items()
    }
    assert sum(map(total, told.values())) + lost == sum(map(total, met.values()))
    if not lost:
        assert told == met


def total(counts: dict[str, int]) -> int:
    return sum(counts.values())


def many_rules(count: int) -> str:
    """RULES, after `count` rules that match nothing here."""
    rules = (
        f'[[rule]]\nname = "far-{n}"\nserver = "connect"\nauthority = "no"\n'
        f'when = "remote.address == 10.{n >> 8}.{n & 255}.1 and remote.port == {n + 1}"\n'
        for n in range(count)
    )
    return "".join(rules) + RULES


def test_a_rule_set_may_outgrow_the_programs_and_shrink_again_without_a_gap(
    running: Sandbox,
) -> None:
    small = running.call("status")["table"]
    before = running.totals("listen")["decisions"]
    with running.hammer(*TARGETS) as hammer:
        running.apply(many_rules(6000))
        large = running.call("status")["table"]
        running.apply(RULES + "# again\n")
        outcomes = hammer.stop()
    assert_enforced(outcomes)
    assert large["entries"] >= 6000 > small["entries"]
    rounds = total(outcomes["connect:7000"])
    assert running.totals("connect")["decisions"] == 3 * rounds
    assert running.totals("listen")["decisions"] - before == rounds
    assert running.totals("accept")["decisions"] >= 2 * rounds  # a SYN may be sent again
    running.settle()
    hits = running.call("hits")["rules"]
    assert hits["no-connect-7001"]["hits"] == total(outcomes["connect:7001"])
    assert hits["no-listen-7002"]["hits"] == total(outcomes["listen:7002"])
    assert hits["no-accept-7003"]["hits"] == total(outcomes["connect:7003"])
    assert running.call("status")["events"]["lost_total"] == 0


CURL = "/usr/bin/curl"


def test_a_program_that_comes_later_or_is_replaced_is_known_by_its_path(
    fresh: Sandbox, tmp_path: Path
) -> None:
    place = tmp_path / "opt"
    place.mkdir()
    program, package = place / "tool", place / "tool.new"
    fresh.configure(connect="enforce")
    fresh.start(
        f"""
[[rule]]
name = "tool-may-not"
server = "connect"
authority = "no"
when = "program == {program}"

[[rule]]
name = "the-rest-below-may"
server = "connect"
authority = "yes"
when = "program == {place}/"

[default.connect]
authority = "no"
"""
    )

    def refused(what: Path) -> bool:
        done = fresh.inside([str(what), "-sS", "-m", "5", "-o", "/dev/null", "http://127.0.0.1:1/"])
        line = fresh.audit()[-1]
        assert line["process"]["executable"] == str(what)
        assert done.returncode == 7  # nobody listens there, or not permitted: the audit tells
        return bool(line["rule"]["name"] == "tool-may-not")

    for _ in range(2):  # it is made, then replaced by rename as packages do
        shutil.copy(CURL, package)
        package.rename(program)
        fresh.wait_until(lambda: refused(program), 10, "the rule to know the new file")
    fresh.mark()
    assert fresh.inside([CURL, "-sS", "http://127.0.0.1:1/"]).returncode == 7
    [line] = fresh.audit()
    assert line["rule"]["name"] == "default-connect"
