# SPDX-License-Identifier: Apache-2.0
"""accept on the fallback hook: rejected peers get a reset, closed ports make no noise."""

from __future__ import annotations

import os

import pytest

from .sandbox import Sandbox

pytestmark = pytest.mark.kernel

RULES = """
[[rule]]
name = "not-from-127.66"
server = "accept"
authority = "no"
when = "local.port == 6001 and remote.address in 127.66.0.0/16"

[[rule]]
name = "no-peers-for-2000"
server = "accept"
authority = "no"
when = "user == 2000"

[[rule]]
name = "no-peers-for-nc"
server = "accept"
authority = "no"
when = "local.port == 6003 and program in {/usr/bin/nc.openbsd, /opt/nowhere/}"

[[rule]]
name = "nobody-on-6004"
server = "accept"
authority = "no"
when = "local.port == 6004"

[[rule]]
name = "python-serves-no-6005"
server = "accept"
authority = "no"
when = "local.port == 6005 and program == /usr/bin/"
"""


@pytest.fixture(scope="module", autouse=True)
def _rules(sandbox: Sandbox) -> None:
    sandbox.apply(RULES)
    sandbox.activate("enforce", "accept")


def test_peers_are_told_apart_by_address(sandbox: Sandbox) -> None:
    with sandbox.listener("plain", "0.0.0.0", 6001):
        sandbox.mark()
        assert sandbox.client("connect", "plain", "127.0.0.1", 6001) == "ok"
        assert sandbox.client("connect", "plain", "127.0.0.1", 6001, "127.66.1.2") == "ECONNREFUSED"
        [line] = sandbox.audit(server="accept", authority="no")
        assert line["source"]["ip"] == "127.66.1.2"
        assert line["destination"] == {"ip": "127.0.0.1", "port": 6001}
        assert line["rule"]["name"] == "not-from-127.66"
        [line] = sandbox.audit(server="accept", authority="yes")
        assert line["process"]["executable"].startswith("/usr/bin/python3")


@pytest.mark.parametrize(
    ("kind", "bound", "address"),
    [
        ("plain", "127.0.0.1", "127.0.0.1"),
        ("plain", "0.0.0.0", "127.0.0.1"),
        ("plain", "::1", "::1"),
        ("plain", "::", "::1"),
        ("dual", "::", "127.0.0.1"),
        ("dual", "::ffff:127.0.0.1", "127.0.0.1"),
        ("mptcp", "127.0.0.1", "127.0.0.1"),
        ("mptcp", "::", "::1"),
    ],
)
@pytest.mark.parametrize("client", ["plain", "mptcp", "fastopen-connect"])
def test_every_kind_of_listener_is_guarded(
    sandbox: Sandbox, kind: str, bound: str, address: str, client: str
) -> None:
    with sandbox.listener(kind, bound, 6004) as outcome:
        assert outcome == "6004"
        assert sandbox.client("connect", client, address, 6004) in (
            "ECONNREFUSED",
            "EPIPE",
            "ECONNRESET",
        )
    with sandbox.listener(kind, bound, 6000):
        assert sandbox.client("connect", client, address, 6000) == "ok"


def test_rules_see_the_listeners_user_not_the_peers(sandbox: Sandbox) -> None:
    with sandbox.listener("plain", "127.0.0.1", 6002, user=2000):
        assert sandbox.client("connect", "plain", "127.0.0.1", 6002) == "ECONNREFUSED"
    with sandbox.listener("plain", "127.0.0.1", 6002, user=2001):
        assert sandbox.client("connect", "plain", "127.0.0.1", 6002, user=2000) == "ok"


def test_who_listened_before_is_not_remembered(sandbox: Sandbox) -> None:
    for _ in range(3):
        for user, outcome in ((2000, "ECONNREFUSED"), (2001, "ok")):
            with sandbox.listener("plain", "127.0.0.1", 6002, user=user):
                for _ in range(2 * (os.cpu_count() or 1)):
                    assert sandbox.client("connect", "plain", "127.0.0.1", 6002) == outcome


def test_rules_see_the_listeners_program(sandbox: Sandbox) -> None:
    with sandbox.background(["nc", "-lk", "127.0.0.1", "6003"]):
        sandbox.mark()
        sandbox.wait_until(
            lambda: (
                sandbox.client("connect", "plain", "127.0.0.1", 6003) == "ECONNREFUSED"
                and bool(sandbox.audit(0, server="accept", authority="no"))
            ),
            10,
        )
    with sandbox.listener("plain", "127.0.0.1", 6003):
        assert sandbox.client("connect", "plain", "127.0.0.1", 6003) == "ok"
    with sandbox.listener("plain", "127.0.0.1", 6005):
        assert sandbox.client("connect", "plain", "127.0.0.1", 6005) == "ECONNREFUSED"


def test_closed_ports_make_no_noise(sandbox: Sandbox) -> None:
    with sandbox.listener("plain", "127.0.0.1", 6000):
        assert sandbox.client("connect", "plain", "127.0.0.1", 6000) == "ok"
    before = sandbox.totals("accept")["decisions"]
    assert sandbox.client("connect", "many", "127.0.0.1", 6000) == "ok"  # nobody listens any more
    assert sandbox.client("connect", "many", "127.0.0.1", 6999) == "ok"
    assert sandbox.totals("accept")["decisions"] == before


def test_a_listener_older_than_the_agent_is_guarded(fresh: Sandbox) -> None:
    with fresh.listener("plain", "127.0.0.1", 6004), fresh.listener("plain", "::", 6002, user=2000):
        fresh.configure(accept="enforce")
        fresh.start(RULES)
        assert fresh.client("connect", "plain", "127.0.0.1", 6004) == "ECONNREFUSED"
        assert fresh.client("connect", "plain", "::1", 6002) == "ECONNREFUSED"
        line = fresh.audit(2, server="accept", authority="no")[1]
        assert line["user"]["id"] == "2000"
        assert line["process"]["executable"].startswith("/usr/bin/python3")


def test_simulate_rejects_nothing(sandbox: Sandbox) -> None:
    sandbox.activate("simulate", "accept")
    try:
        with sandbox.listener("plain", "127.0.0.1", 6004):
            sandbox.mark()
            assert sandbox.client("connect", "plain", "127.0.0.1", 6004) == "ok"
            [line] = sandbox.audit(server="accept", authority="no")
            assert line["sockrules"]["enforced"] is False
    finally:
        sandbox.activate("enforce", "accept")


def test_real_clients(sandbox: Sandbox) -> None:
    serve = ["/usr/bin/python3", "-m", "http.server", "--bind", "127.0.0.1"]
    with sandbox.background([*serve, "6004"]), sandbox.background([*serve, "6000"]):
        sandbox.wait_until(
            lambda: sandbox.client("connect", "plain", "127.0.0.1", 6000) == "ok", 10
        )
        assert (
            sandbox.inside(["curl", "-sS", "-o", "/dev/null", "http://127.0.0.1:6000/"]).returncode
            == 0
        )
        assert (
            sandbox.inside(["curl", "-sS", "-o", "/dev/null", "http://127.0.0.1:6004/"]).returncode
            == 7
        )
        assert sandbox.inside(["nc", "-z", "127.0.0.1", "6004"]).returncode == 1
