# SPDX-License-Identifier: Apache-2.0
"""Capture, replay and suggest with a real kernel: learn what a host does, then deny the rest."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from sockrules.control import capture_source
from sockrules.control.captured import Captured, Filter
from sockrules.control.model import Server
from sockrules.control.names import SystemNames
from sockrules.control.suggest import suggest

from .processes import PYTHON
from .sandbox import Sandbox

pytestmark = pytest.mark.kernel

LEARN = (
    "".join(
        f'[[rule]]\nname = "learn-{server}"\nserver = "{server}"\nauthority = "yes"\n'
        f'capture = "{capture}"\nwhen = "any"\n\n'
        for server, capture in (("listen", "yes"), ("accept", "yes"), ("connect", "inherit"))
    )
    + '[default.connect]\ncapture = "yes"\n'
)


def found(box: Sandbox, server: Server, **chosen: Any) -> list[Captured]:
    return list(capture_source.captures(box.paths, Filter(server=server, **chosen)).transactions)


@pytest.fixture
def learning(fresh: Sandbox) -> Sandbox:
    fresh.configure(product="", listen="simulate", accept="simulate", connect="simulate")
    fresh.start(LEARN)
    return fresh


def test_conversations_become_transactions(learning: Sandbox) -> None:
    box = learning
    with box.listener("plain", "0.0.0.0", 6000, user=2000):
        for _ in range(3):
            assert box.client("connect", "plain", "127.0.0.1", 6000, user=2001) == "ok"
        assert box.client("connect", "plain", "127.0.0.1", 6000, "127.0.0.2", 700) == "ok"
        assert box.client("connect", "plain", "127.0.0.1", 6000, "127.0.0.3") == "ok"
        box.settle()

    python = os.path.realpath(PYTHON)
    [listen] = [one for one in found(box, Server.LISTEN) if one.request.local_port == 6000]
    assert (listen.request.user, listen.request.program, listen.count) == (2000, python, 1)
    assert listen.rule == "learn-listen"

    accepts = {one.request.remote_address: one for one in found(box, Server.ACCEPT)}
    plain, bound, half = (accepts[0xFFFF7F000000 + at] for at in (1, 2, 3))
    assert [one.count for one in (plain, bound, half)] == [3, 1, 1]
    assert {one.request.remote_port for one in accepts.values()} == {None}
    assert {one.request.user for one in accepts.values()} == {2000}
    assert bound.folded == (700, 700)
    assert plain.folded is not None
    assert plain.folded[0] >= 1024

    connects = found(box, Server.CONNECT)
    by_port = {one.request.local_port: one for one in connects if one.request.user == 0}
    assert by_port[700].folded is None
    assert by_port[None].folded is not None  # bound to an address only: the kernel chose the port
    [plain_connect] = [one for one in connects if one.request.user == 2001]
    assert (plain_connect.count, plain_connect.folded) == (3, None)
    assert plain_connect.rule == "learn-connect"


def test_at_full_rate_every_request_is_counted_once(learning: Sandbox) -> None:
    box = learning
    with box.listener("plain", "127.0.0.1", 6000):
        before = box.totals("accept")["decisions"]
        assert box.client("connect", "many", "127.0.0.1", 6000) == "ok"
        decisions = box.totals("accept")["decisions"] - before
        box.settle()
    status = box.call("status")
    assert status["events"]["lost_total"] == 0
    [one] = found(box, Server.ACCEPT)
    assert one.count == decisions >= 300


def test_captures_outlive_the_agent_and_are_cleared_by_one(learning: Sandbox) -> None:
    box = learning
    with box.listener("plain", "127.0.0.1", 6000):
        assert box.client("connect", "plain", "127.0.0.1", 6000) == "ok"
    box.stop()  # at once: what is in memory is written at the end
    [one] = found(box, Server.CONNECT)
    box.start()
    assert found(box, Server.CONNECT) == [one]
    assert box.call("captures-clear", filter={"server": "connect"}) == {"cleared": 1}
    assert found(box, Server.CONNECT) == []
    assert len(found(box, Server.ACCEPT)) == 1


def test_rules_that_do_not_capture_leave_nothing(fresh: Sandbox) -> None:
    fresh.configure(accept="enforce", connect="enforce")  # everything is audited
    fresh.start()
    with fresh.listener("plain", "127.0.0.1", 6000):
        fresh.mark()
        assert fresh.client("connect", "plain", "127.0.0.1", 6000) == "ok"
        fresh.audit(2)
    assert capture_source.captures(fresh.paths).transactions == ()


def test_from_learning_to_enforcing(learning: Sandbox) -> None:
    """The way an administrator goes: capture, suggest, replay, apply, enforce."""
    box = learning
    serve = [PYTHON, "-m", "http.server", "--bind", "127.0.0.1", "6000"]
    fetch = ["curl", "-sS", "-o", "/dev/null", "http://127.0.0.1:6000/"]
    with box.background(serve, user=2000):
        box.wait_until(lambda: box.inside(fetch, 2001).returncode == 0, 10)
        box.settle()
        seen = capture_source.captures(box.paths).transactions
        names = SystemNames(box.paths.lists)
        made = suggest(seen, LEARN, names, deny_rest=True)
        written = {one.name: one.when for one in made.proposals}
        python = os.path.realpath(PYTHON)
        name = python.rpartition("/")[2]
        assert written == {
            f"{name}-listen": f"program == {python} and user == 2000 and local.port == 6000"
            " and local.address == 127.0.0.1",
            f"{name}-accept": f"program == {python} and user == 2000 and local.port == 6000"
            " and remote.address == 127.0.0.1",
            "curl-connect": "program == /usr/bin/curl and user == 2001 and remote.port == 6000"
            " and remote.address == 127.0.0.1",
        }

        box.paths.rules.write_text(made.text)
        line = [sys.executable, "-c", _COMMAND, "--root", str(box.paths.root), "replay"]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "would change its verdict" in done.stdout

        box.apply(made.text)
        box.activate("enforce")
        assert box.inside(fetch, 2001).returncode == 0
        assert box.inside(fetch, 2002).returncode == 7
        assert box.client("connect", "plain", "127.0.0.1", 6000, user=2001) == "EPERM"
    with box.listener("plain", "127.0.0.1", 6000, user=2000) as outcome:
        assert outcome == "6000"
    with box.listener("plain", "0.0.0.0", 6000, user=2000) as outcome:
        assert outcome == "EPERM"


_COMMAND = """
from sockrules.control.cli import COMMANDS, main
COMMANDS.setdefault("replay", "replay")
main()
"""
