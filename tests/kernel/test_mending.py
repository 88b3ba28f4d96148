# SPDX-License-Identifier: Apache-2.0
"""Whoever takes a hook away, takes it away for seconds, and it is told."""

from __future__ import annotations

import subprocess

import pytest

from .sandbox import Sandbox

pytestmark = pytest.mark.kernel

RULES = """
[[rule]]
name = "nothing-goes-there"
server = "connect"
authority = "no"
when = "remote.port == 4071"
"""


@pytest.fixture
def enforced(sandbox: Sandbox) -> Sandbox:
    sandbox.apply(RULES)
    sandbox.activate("enforce", "connect")
    sandbox.mark()
    return sandbox


def rejected(sandbox: Sandbox) -> bool:
    return sandbox.client("connect", "plain", "127.0.0.1", 4071) == "EPERM"


def test_a_pin_that_is_removed_detaches_nothing_and_comes_back(enforced: Sandbox) -> None:
    pin = enforced.paths.pins / "links" / "connect4"
    pin.unlink()
    assert rejected(enforced), "the agent holds the link"
    enforced.wait_until(pin.exists, 10, "the pin is back")
    told = [line for line in enforced.audit(1, kind="state") if "put back" in line["message"]]
    assert "connect4" in told[0]["message"]
    assert rejected(enforced)


def test_a_hook_that_is_detached_comes_back(enforced: Sandbox) -> None:
    from sockrules.agent import libbpf

    link = libbpf.get_pinned(str(enforced.paths.pins / "links" / "connect4"))
    assert link is not None
    libbpf.link_detach(link)
    assert not rejected(enforced), "or this test proves nothing"
    enforced.wait_until(lambda: rejected(enforced), 10, "connects are rejected again")
    assert enforced.totals("connect")["proof"]["ok"]


def test_pins_that_others_could_write_to_are_not_used(fresh: Sandbox) -> None:
    fresh.paths.pins.mkdir(parents=True)
    fresh.paths.pins.chmod(0o777)
    try:
        fresh.start(RULES, wait=False)
        assert fresh.agent and fresh.agent.stderr
        assert fresh.agent.wait(20) == 1
        assert "only root may write to" in fresh.agent.stderr.read()
    finally:
        subprocess.run(["rmdir", str(fresh.paths.pins)], check=True)
