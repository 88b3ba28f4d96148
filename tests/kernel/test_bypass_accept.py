# SPDX-License-Identifier: Apache-2.0
"""Ways round an accept rule (docs/bypasses.md), tried; more of them in test_accept.py.

Where a test asks `by_fallback`, the fallback hook leaves a gap that the preferred
ones close, and the test shows both.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from .processes import PYTHON
from .roundabout import TURNED_AWAY, by_fallback, io_uring_or_skip, steps, walking
from .sandbox import Sandbox

pytestmark = pytest.mark.kernel

COPY = "/var/tmp/sockrules-test-python"

RULES = f"""
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
name = "no-peers-for-the-copy"
server = "accept"
authority = "no"
when = "program == {COPY}"

[[rule]]
name = "nobody-on-6004"
server = "accept"
authority = "no"
when = "local.port == 6004"
"""


@pytest.fixture(scope="module", autouse=True)
def _rules(sandbox: Sandbox) -> Iterator[None]:
    shutil.copy(PYTHON, COPY)
    sandbox.apply(RULES)
    sandbox.activate("enforce", "accept")
    yield
    Path(COPY).unlink()


def met(box: Sandbox, port: str | int, *source: str) -> str:
    """What a peer meets: `turned away`, whether by a reset or by silence, or another outcome."""
    outcome = box.client("connect", "plain", "127.0.0.1", port, *source)
    return "turned away" if outcome in TURNED_AWAY else outcome


@pytest.mark.matrix
def test_peers_are_turned_away_before_anybody_accepts(sandbox: Sandbox) -> None:
    for port, outcome in (("6004", "turned away"), ("6000", "ok")):
        with walking(sandbox, "socket inet", f"bind 127.0.0.1 {port}", "listen", "wait"):
            assert met(sandbox, port) == outcome


@pytest.mark.kernel(optional=True)
@pytest.mark.parametrize("ring", ["uring", "uring-async", "uring-sqpoll"])
def test_io_uring_accept(sandbox: Sandbox, ring: str) -> None:
    io_uring_or_skip()
    for port, outcome in (("6004", "turned away"), ("6000", "ok")):
        way = ("socket inet", f"bind 127.0.0.1 {port}", "listen", "wait", f"{ring} accept", "wait")
        with walking(sandbox, *way) as walk:
            walk.go_on()
            assert met(sandbox, port) == outcome
            if outcome == "ok":
                assert walk.listen() == "waiting", "the peer was accepted"


@pytest.mark.matrix
def test_syn_cookies(sandbox: Sandbox) -> None:
    """Always sent: no request socket remembers that the peer was judged."""
    with walking(sandbox, "socket inet", "bind 0.0.0.0 6001", "listen", "serve"):
        sandbox.inside(["sysctl", "-qw", "net.ipv4.tcp_syncookies=2"])
        try:
            assert met(sandbox, 6001, "127.0.0.2") == "ok"
            assert met(sandbox, 6001, "127.66.0.1") == "turned away"
        finally:
            sandbox.inside(["sysctl", "-qw", "net.ipv4.tcp_syncookies=1"])


@pytest.mark.matrix
def test_a_listener_in_another_network_namespace(sandbox: Sandbox) -> None:
    """With sk_lookup from a moment after the first listen() there."""
    way = ("socket inet", "bind 127.0.0.1 6004", "listen")
    assert steps(sandbox, "netns", *way, "visit-until-refused") in TURNED_AWAY
    assert steps(sandbox, *way, "visit") in TURNED_AWAY


@pytest.mark.matrix
@pytest.mark.parametrize("how", ["fork", "pass"])
def test_a_listener_that_was_handed_over_is_still_of_whoever_listened(
    sandbox: Sandbox, how: str
) -> None:
    """As systemd does it: one listens, another one serves."""
    serve = ("socket inet", "bind 127.0.0.1 0", "listen", how, "user 2000", "serve")
    with walking(sandbox, *serve) as walk:
        assert met(sandbox, walk.said) == "ok"
        sandbox.apply(RULES.replace("user == 2000", "user == root"))
        try:
            assert met(sandbox, walk.said) == "turned away"
        finally:
            sandbox.apply(RULES)


@pytest.mark.matrix
def test_listeners_of_one_port_that_are_two_programs(sandbox: Sandbox) -> None:
    way = ("socket inet", "option reuseport 1", "bind 127.0.0.1 6003", "listen", "serve")
    with walking(sandbox, *way, program=[COPY]):
        assert met(sandbox, 6003) == "turned away"
        with walking(sandbox, *way) as other:
            assert other.said == "6003"
        outcome = met(sandbox, 6003)  # of the first one, which is alone again
    assert outcome == ("ok" if by_fallback(sandbox, "accept") else "turned away")


@pytest.mark.matrix
def test_listeners_of_one_port_that_are_two_users(sandbox: Sandbox) -> None:
    """Each on a device of its own, or bind(2) would refuse the second one."""
    sandbox.inside(["ip", "link", "add", "other", "type", "veth", "peer", "name", "end"])
    way = ("bind 0.0.0.0 6008", "listen", "serve")
    try:
        with walking(sandbox, "socket inet", "option device lo", *way, user=2000):
            assert met(sandbox, 6008) == "turned away"
            with walking(sandbox, "socket inet", "option device other", *way, user=2002) as walk:
                assert walk.said == "6008"
                outcome = met(sandbox, 6008)
    finally:
        sandbox.inside(["ip", "link", "del", "other"])
    assert outcome == ("ok" if by_fallback(sandbox, "accept") else "turned away")


def test_a_listener_of_another_cgroup(sandbox: Sandbox) -> None:
    """Where a narrower cgroup is governed, what listens outside is not."""
    outside = f"cgroup {sandbox.cgroup.parent}"
    way = ("socket inet", "option reuseaddr 1", "bind 127.0.0.1 6004", "listen", "serve")
    for before, outcome in (((outside,), "ok"), ((), "turned away")):
        with walking(sandbox, *before, *way) as walk:
            assert met(sandbox, walk.said) == outcome


def test_a_simultaneous_open_is_a_matter_of_connect_alone(sandbox: Sandbox) -> None:
    """Without a listener nobody is asked to accept; a socket and itself are the simplest case."""
    own = "127.0.0.1 6004"
    assert steps(sandbox, "socket inet", f"bind {own}", "listen", "visit") in TURNED_AWAY
    before = sandbox.totals("accept")["decisions"]
    assert steps(sandbox, "socket inet", f"bind {own}", f"connect {own}", "send") == "ok"
    assert sandbox.totals("accept")["decisions"] == before


FILL = """
import socket, sys
for a in range(int(sys.argv[1])):
    for port in range(20000, 20400):
        with socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((f"127.1.{a}.1", port))
            one.listen(1)
"""


@pytest.mark.matrix
def test_a_full_registry_of_listeners(fresh: Sandbox) -> None:
    """Any user fills it faster than the agent sweeps it."""
    fresh.configure(accept="enforce")
    fresh.start(RULES)
    with fresh.listener("plain", "127.0.0.2", 6004):
        assert fresh.client("connect", "plain", "127.0.0.2", 6004) in TURNED_AWAY
    addresses = "200" if by_fallback(fresh, "accept") else "2"  # the others have no such limit
    done = fresh.inside([PYTHON, "-I", "-S", "-c", FILL, addresses], user=2002)
    assert done.returncode == 0, done.stderr
    with fresh.listener("plain", "127.0.0.1", 6004):
        outcome = met(fresh, 6004)
    if by_fallback(fresh, "accept"):
        assert fresh.totals("listen")["unregistered"] > 0
        assert outcome == "ok"
    else:
        assert outcome == "turned away"


@pytest.mark.kernel(optional=True)
def test_an_mptcp_peer_that_joins_from_another_address(sandbox: Sandbox) -> None:
    for command in (
        ["limits", "set", "subflow", "2", "add_addr_accepted", "2"],
        ["endpoint", "add", "127.66.0.1", "subflow"],
    ):
        done = sandbox.inside(["ip", "mptcp", *command])
        if done.returncode:
            pytest.skip(f"this kernel or its ip(8) lacks what is needed: {done.stderr}")
    try:
        sandbox.mark()
        server = ("bind 0.0.0.0 6001", "listen", "wait", "accept", "receive", "send", "wait")
        client = ("connect 127.0.0.1 6001", "send", "receive", "wait")
        with walking(sandbox, "socket inet mptcp", *server) as served:
            served.go_on()
            with walking(sandbox, "socket inet mptcp", *client):
                lines = sandbox.audit(2, server="accept")
        first, joined = lines[:2]
        assert (first["source"]["ip"], first["event"]["outcome"]) == ("127.0.0.1", "success")
        assert (joined["source"]["ip"], joined["event"]["outcome"]) == ("127.66.0.1", "failure")
    finally:
        sandbox.inside(["ip", "mptcp", "endpoint", "flush"])
