# SPDX-License-Identifier: Apache-2.0
"""connect: what every way of connecting meets, allowed and rejected."""

from __future__ import annotations

import pytest

from .sandbox import Sandbox

pytestmark = pytest.mark.kernel

RULES = """
[[rule]]
name = "no-4001"
server = "connect"
authority = "no"
when = "remote.port == 4001 and remote.address in {127.0.0.0/8, ::1}"

[[rule]]
name = "no-4002-for-2000"
server = "connect"
authority = "no"
when = "remote.port == 4002 and user == 2000"

[[rule]]
name = "no-4003-for-group-2001"
server = "connect"
authority = "no"
when = "remote.port == 4003 and group == 2001"

[[rule]]
name = "no-4004-from-127.0.0.9"
server = "connect"
authority = "no"
when = "remote.port == 4004 and local.address == 127.0.0.9"

[[rule]]
name = "no-4005-unless-bound"
server = "connect"
authority = "no"
when = "remote.port == 4005 and not local.address in 127.0.0.0/8"
"""

KINDS = ["plain", "nonblocking", "fastopen-sendto", "fastopen-connect", "mptcp"]
ADDRESSES = ["127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::"]


@pytest.fixture(scope="module", autouse=True)
def _rules(sandbox: Sandbox) -> None:
    sandbox.apply(RULES)
    sandbox.activate("enforce", "connect")


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_way_to_connect_is_rejected_with_eperm_or_let_through(
    sandbox: Sandbox, kind: str, address: str
) -> None:
    with sandbox.listener("dual", "::", 4001), sandbox.listener("dual", "::", 4000):
        assert sandbox.client("connect", kind, address, 4000) == "ok"
        sandbox.mark()
        assert sandbox.client("connect", kind, address, 4001) == "EPERM"
        [line] = sandbox.audit(authority="no")
    assert line["rule"]["name"] == "no-4001"
    assert line["event"]["outcome"] == "failure"
    assert line["process"]["executable"].startswith("/usr/bin/python3")
    loopback = "::1" if address in ("::", "::1") else "127.0.0.1"
    assert line["destination"] == {"ip": loopback, "port": 4001}


def test_a_rejected_connect_never_reaches_the_peer(sandbox: Sandbox) -> None:
    with sandbox.listener("plain", "127.0.0.1", 4001):
        assert sandbox.client("connect", "many", "127.0.0.1", 4001) == "ok"
        sandbox.activate("enforce", "accept")
        before = sandbox.totals("accept")["decisions"]
        assert sandbox.client("connect", "plain", "127.0.0.1", 4001) == "EPERM"
        assert sandbox.totals("accept")["decisions"] == before
    sandbox.activate("off", "accept")


def test_udp_is_untouched(sandbox: Sandbox) -> None:
    before = sandbox.totals("connect")["decisions"]
    with sandbox.listener("udp", "127.0.0.1", 4001):
        assert sandbox.client("connect", "udp", "127.0.0.1", 4001) == "ok"
        assert sandbox.client("connect", "udp", "::ffff:127.0.0.1", 4001) == "ok"
    assert sandbox.totals("connect")["decisions"] == before


def test_users_and_groups_are_told_apart(sandbox: Sandbox) -> None:
    with sandbox.listener("plain", "127.0.0.1", 4002), sandbox.listener("plain", "127.0.0.1", 4003):
        assert sandbox.client("connect", "plain", "127.0.0.1", 4002, user=2000) == "EPERM"
        assert sandbox.client("connect", "plain", "127.0.0.1", 4002, user=2001) == "ok"
        assert sandbox.client("connect", "plain", "127.0.0.1", 4003, user=2001) == "EPERM"
        assert sandbox.client("connect", "plain", "127.0.0.1", 4003) == "ok"


def test_the_local_side_counts_only_when_bound(sandbox: Sandbox) -> None:
    with sandbox.listener("plain", "127.0.0.1", 4004), sandbox.listener("plain", "127.0.0.1", 4005):
        assert sandbox.client("connect", "plain", "127.0.0.1", 4004, "127.0.0.9") == "EPERM"
        assert sandbox.client("connect", "plain", "127.0.0.1", 4004, "127.0.0.8") == "ok"
        assert sandbox.client("connect", "plain", "127.0.0.1", 4004) == "ok"
        assert sandbox.client("connect", "plain", "127.0.0.1", 4005) == "EPERM"
        assert sandbox.client("connect", "plain", "127.0.0.1", 4005, "127.0.0.8") == "ok"


def test_connecting_to_0_0_0_0_from_a_bound_socket_is_judged_by_where_it_goes(
    sandbox: Sandbox,
) -> None:
    """The kernel takes the bound address for the peer's (net/ipv4/route.c)."""
    sandbox.apply(RULES.replace("127.0.0.0/8, ::1", "127.0.0.9"))
    with sandbox.listener("plain", "0.0.0.0", 4001):
        assert sandbox.client("connect", "plain", "0.0.0.0", 4001, "127.0.0.9") == "EPERM"
        assert sandbox.client("connect", "plain", "0.0.0.0", 4001, "127.0.0.8") == "ok"
        assert sandbox.client("connect", "plain", "0.0.0.0", 4001) == "ok"
    sandbox.apply(RULES)


def test_programs_are_known_by_their_file_not_by_their_name(sandbox: Sandbox) -> None:
    sandbox.apply(
        """
[[rule]]
name = "curl-may-not"
server = "connect"
authority = "no"
when = "program == /usr/bin/curl"

[[rule]]
name = "nothing-in-sbin-may"
server = "connect"
authority = "no"
when = "program in {/usr/sbin/, /nonexistent/}"
"""
    )
    with sandbox.background(
        ["/usr/bin/python3", "-m", "http.server", "4010", "--bind", "127.0.0.1"]
    ):
        url = "http://127.0.0.1:4010/"
        sandbox.wait_until(
            lambda: sandbox.client("connect", "plain", "127.0.0.1", 4010) == "ok", 10
        )
        curl = sandbox.inside(["curl", "-sS", "-o", "/dev/null", url])
        assert curl.returncode == 7, curl.stderr
        renamed = sandbox.inside(["bash", "-c", f"exec -a wget curl -sS -o /dev/null {url}"])
        assert renamed.returncode == 7, renamed.stderr
        assert sandbox.inside(["nc", "-z", "127.0.0.1", "4010"]).returncode == 0
    sandbox.apply(RULES)


def test_simulate_rejects_nothing_and_says_what_it_would_have(sandbox: Sandbox) -> None:
    sandbox.activate("simulate", "connect")
    try:
        before = sandbox.totals("connect")
        with sandbox.listener("plain", "127.0.0.1", 4001):
            sandbox.mark()
            assert sandbox.client("connect", "plain", "127.0.0.1", 4001) == "ok"
            [line] = sandbox.audit(server="connect", authority="no")
        assert line["sockrules"]["mode"] == "simulate"
        assert line["sockrules"]["enforced"] is False
        assert line["event"]["outcome"] == "success"
        after = sandbox.totals("connect")
        assert after["simulated"] == before["simulated"] + 1
        assert after["rejections"] == before["rejections"]
    finally:
        sandbox.activate("enforce", "connect")


def test_off_means_detached(sandbox: Sandbox) -> None:
    sandbox.activate("off", "connect")
    try:
        assert not (sandbox.paths.pins / "links" / "connect4").exists()
        with sandbox.listener("plain", "127.0.0.1", 4001):
            assert sandbox.client("connect", "plain", "127.0.0.1", 4001) == "ok"
    finally:
        sandbox.activate("enforce", "connect")
