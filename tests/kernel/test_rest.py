# SPDX-License-Identifier: Apache-2.0
"""An agent that has nothing to do sleeps, and hears the next event."""

from __future__ import annotations

import os
import select
import time
from pathlib import Path

import pytest

from sockrules.agent import libbpf
from sockrules.agent.features import kernel_macros
from sockrules.agent.hooks import CONNECT4
from sockrules.agent.kernel import Kernel
from sockrules.agent.loader import Capacity, load
from sockrules.control.compile import compile_table
from sockrules.control.model import Mode, Server
from sockrules.control.names import FixedNames
from sockrules.control.rules_file import parse_rules

from .sandbox import Sandbox

pytestmark = pytest.mark.kernel

SMALL = Capacity(
    steps=96, entries=64, rests=64, slots=64, bounds=64, rules=64, known=64, listeners=64
)
REFUSED = '[[rule]]\nname = "x"\nserver = "connect"\nauthority = "no"\nwhen = "remote.port == 7"\n'


def is_readable(fd: int, seconds: float) -> bool:
    return bool(select.select([fd], [], [], seconds)[0])


def test_whoever_asked_to_be_woken_hears_the_next_event_and_no_other(fresh: Sandbox) -> None:
    loaded = load(SMALL, kernel_macros(), (CONNECT4,))
    kernel = Kernel(loaded, SMALL)
    ruleset = parse_rules(REFUSED, file="rules.toml", names=FixedNames()).ruleset
    kernel.install(compile_table(ruleset, ruleset.rules), ())
    kernel.set_mode(Server.CONNECT, Mode.ENFORCE)
    taken: list[bytes] = []
    rings = loaded.open_events(lambda _, data: taken.append(data), 8)
    cgroup = os.open(fresh.cgroup, os.O_RDONLY)
    link = libbpf.link_create(loaded.programs["connect4"], cgroup, CONNECT4.attach_type)

    def refused() -> None:
        assert fresh.client("connect", "plain", "127.0.0.1", 7) == "EPERM"

    try:
        bell = rings.sleep()
        assert bell is not None
        assert not is_readable(bell, 0.2)
        refused()
        assert is_readable(bell, 10)
        rings.wake()
        assert rings.consume() == 1
        refused()
        assert not is_readable(bell, 0.2), "nobody has asked again"
        assert rings.sleep() == bell
        assert rings.consume() == 1, "what came before does not ring, and is not lost"
        refused()
        assert is_readable(bell, 10)
    finally:
        os.close(link)
        os.close(cgroup)
        loaded.close()
    assert rings.sleep() is None
    assert len(taken) == 2


def test_an_agent_at_rest_wakes_seldom_and_tells_an_event_soon(fresh: Sandbox) -> None:
    fresh.configure(connect="enforce")
    fresh.start(REFUSED)
    assert fresh.agent
    tasks = Path(f"/proc/{fresh.agent.pid}/task")

    def awakenings() -> int:
        lines = [line for at in tasks.iterdir() for line in (at / "status").open()]
        return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary"))

    def in_two_seconds() -> int:
        before = awakenings()
        time.sleep(2)
        return awakenings() - before

    fresh.wait_until(lambda: in_two_seconds() < 30, 30)
    assert fresh.client("connect", "plain", "127.0.0.1", 7) == "EPERM"
    assert fresh.audit(server="connect")[0]["rule"]["name"] == "x"
