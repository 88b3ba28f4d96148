# SPDX-License-Identifier: Apache-2.0
"""Decisions that interrupt each other on one CPU do not touch each other.

A decision may be preempted by another task's, and interrupted by a softirq that
decides an accept. Nothing that one writes may be seen by another: no scratch of
the CPU's own. So everybody asks at once on one CPU, under rules in which port,
address and user decide together, and checks every answer.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sockrules.control.evaluate import decide
from sockrules.control.names import FixedNames
from sockrules.control.requests import request_from_json
from sockrules.control.rules_file import parse_rules

from . import crowd
from .processes import PYTHON
from .sandbox import Sandbox

pytestmark = pytest.mark.kernel

SECONDS = 3
CROWD = Path(crowd.__file__)


@contextlib.contextmanager
def pinned(cpu: int) -> Iterator[None]:
    """Processes that start meanwhile stay on one CPU."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def steer_packets(box: Sandbox, cpu: int) -> None:
    """Have the softirqs of all packets on one CPU, where they interrupt what runs there."""
    setting = f"echo {1 << cpu:x} > /sys/class/net/lo/queues/rx-0/rps_cpus"
    subprocess.run(["ip", "netns", "exec", box.name, "sh", "-c", setting], check=False)


def test_every_verdict_is_right_whoever_interrupts_whom(fresh: Sandbox) -> None:
    text = crowd.rules()
    fresh.configure(
        events="buffer_pages = 1024", listen="enforce", accept="enforce", connect="enforce"
    )
    fresh.start(text)
    cpu, *others = sorted(os.sched_getaffinity(0))
    steer_packets(fresh, cpu)
    with contextlib.ExitStack() as stack:
        with pinned(cpu):
            for port in crowd.PORTS["accept"]:
                listener = fresh.listener("plain", "0.0.0.0", port, user=crowd.owner(port))
                assert stack.enter_context(listener) == str(port)
            before = {server: fresh.totals(server)["decisions"] for server in crowd.PORTS}
            people = [ask(fresh, server, user) for server, user in everybody("connect", "listen")]
        with pinned(others[0] if others else cpu):  # peers: their SYNs arrive on the one CPU
            people += [ask(fresh, server, user) for server, user in everybody("accept")]
        attempts = dict.fromkeys(crowd.PORTS, 0)
        for server, process in people:
            out, errors = process.communicate(timeout=60)
            assert process.returncode == 0, errors
            answer = json.loads(out)
            assert answer["wrong"] == [], server
            attempts[server] += answer["attempts"]
        after = {server: fresh.totals(server)["decisions"] for server in crowd.PORTS}
    assert all(count > 100 for count in attempts.values()), attempts
    assert after["listen"] - before["listen"] == attempts["listen"]
    assert after["connect"] - before["connect"] == attempts["connect"] + attempts["accept"]
    assert after["accept"] - before["accept"] >= attempts["accept"]  # SYNs may be sent again
    status = fresh.call("status")
    assert all(state["exhausted"] == 0 for state in status["servers"].values())
    fresh.wait_until(lambda: all_told_or_lost(fresh), 20)
    fresh.stop()
    assert_told_as_decided(fresh, text)


def everybody(*servers: str) -> list[tuple[str, int]]:
    return [(server, user) for server in servers for user in crowd.USERS]


def ask(box: Sandbox, server: str, user: int) -> tuple[str, subprocess.Popen[str]]:
    command = [PYTHON, "-I", "-S", str(CROWD), server, str(SECONDS)]
    return server, box.popen(command, user)


def all_told_or_lost(box: Sandbox) -> bool:
    status = box.call("status")
    decisions = sum(state["decisions"] for state in status["servers"].values())
    events = status["events"]
    return bool(events["received"] + events["lost_total"] == decisions)


def assert_told_as_decided(box: Sandbox, text: str) -> None:
    """Every audit line is what the reference says of its request."""
    names = FixedNames()
    ruleset = parse_rules(text, file="rules.toml", names=names).ruleset
    verdicts: dict[tuple[object, ...], tuple[str, str]] = {}
    for line in box.audit(0):
        told = line["sockrules"]
        source = line.get("source", {}).get("ip")  # its port is the kernel's choice
        key = (told["server"], source, *line["destination"].values(), line["user"]["id"])
        if key not in verdicts:
            doc = {"server": told["server"], "user": int(line["user"]["id"])}
            doc |= {side: told[side] for side in ("local", "remote") if side in told}
            verdict = decide(ruleset, ruleset.active(), request_from_json(doc, names))
            verdicts[key] = (verdict.rule, "yes" if verdict.authority else "no")
        assert (line["rule"]["name"], told["authority"]) == verdicts[key], line
    assert {key[0] for key in verdicts} == set(crowd.PORTS)
