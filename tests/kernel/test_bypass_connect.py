# SPDX-License-Identifier: Apache-2.0
"""Ways round a connect rule (docs/bypasses.md), tried; more of them in test_connect.py."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator

import pytest

from .processes import PYTHON
from .roundabout import io_uring_or_skip, steps, walking
from .sandbox import Sandbox

pytestmark = pytest.mark.kernel

RULES = """
[[rule]]
name = "no-4001"
server = "connect"
authority = "no"
when = "remote.port in {4001, 4003} and remote.address in {127.0.0.0/8, ::1}"

[[rule]]
name = "no-4002-for-2000"
server = "connect"
authority = "no"
when = "remote.port == 4002 and user == 2000"
"""

ALLOWED, DENIED, NOT_FOR_2000 = "127.0.0.1 4000", "127.0.0.1 4001", "127.0.0.1 4002"
RINGS = ["uring", "uring-async", "uring-sqpoll"]


@pytest.fixture(scope="module", autouse=True)
def _rules(sandbox: Sandbox) -> Iterator[None]:
    sandbox.apply(RULES)
    sandbox.activate("enforce", "connect")
    with contextlib.ExitStack() as stack:
        for port in (4000, 4001, 4002):
            dual = ("socket inet6", "option v6only 0", f"bind :: {port}", "listen", "serve")
            stack.enter_context(walking(sandbox, *dual))
        yield


def release() -> tuple[int, ...]:
    """The kernel's version, as far as it decides what is in it."""
    return tuple(map(int, platform.release().split("-")[0].split(".")[:2]))


@pytest.mark.matrix
@pytest.mark.kernel(optional=True)
@pytest.mark.parametrize("protocol", ["tcp", "mptcp"])
@pytest.mark.parametrize("call", ["sendto", "sendmsg"])
def test_fast_open(sandbox: Sandbox, call: str, protocol: str) -> None:
    met = steps(sandbox, f"socket inet {protocol}", f"fastopen-{call} {ALLOWED}")
    if protocol == "mptcp" and met != "ok" and release() < (6, 2):
        pytest.skip(f"Multipath TCP has no Fast Open before Linux 6.2: {met}")
    assert met == "ok"
    assert steps(sandbox, f"socket inet {protocol}", f"fastopen-{call} {DENIED}") == "EPERM"
    assert steps(sandbox, f"socket inet6 {protocol}", f"fastopen-{call} ::1 4001") == "EPERM"


def test_a_deferred_fast_open_goes_where_it_was_judged(sandbox: Sandbox) -> None:
    """connect() has been judged, the SYN is yet to go; sendto() with another address changes
    nothing (tcp_sendmsg_fastopen, net/ipv4/tcp.c)."""
    deferred = ("option fastopen-no-cookie 1", "option fastopen-connect 1", f"connect {ALLOWED}")
    assert steps(sandbox, "socket inet", *deferred[:2], f"connect {DENIED}") == "EPERM"
    sent = (f"fastopen-sendto {DENIED}", "send")
    went = steps(sandbox, "socket inet", *deferred, *sent, f"peer {ALLOWED}")
    assert went == "ok"


@pytest.mark.matrix
@pytest.mark.parametrize(
    "way",
    [
        ("socket inet", f"connect {ALLOWED}", "disconnect"),
        ("socket inet mptcp", f"connect {ALLOWED}", "disconnect"),
        ("socket inet6", "connect ::ffff:127.0.0.1 4000", "option addrform 2", "disconnect"),
    ],
    ids=["tcp", "mptcp", "made IPv4 meanwhile"],
)
def test_a_socket_that_was_disconnected_is_judged_again(
    sandbox: Sandbox, way: tuple[str, ...]
) -> None:
    assert steps(sandbox, *way, f"connect {DENIED}") == "EPERM"
    assert steps(sandbox, *way, f"connect {ALLOWED}") == "ok"


@pytest.mark.matrix
@pytest.mark.kernel(optional=True)
@pytest.mark.parametrize("ring", RINGS)
def test_io_uring_connect(sandbox: Sandbox, ring: str) -> None:
    io_uring_or_skip()
    assert steps(sandbox, "socket inet", f"{ring} connect {ALLOWED}") == "ok"
    assert steps(sandbox, "socket inet", f"{ring} connect {DENIED}") == "EPERM"
    assert steps(sandbox, "socket inet6", f"{ring} connect ::1 4001") == "EPERM"
    assert steps(sandbox, "socket inet", f"{ring} fastopen-sendmsg {DENIED}") == "EPERM"


@pytest.mark.kernel(optional=True)
@pytest.mark.parametrize("ring", RINGS)
def test_io_uring_threads_are_the_user_that_submitted(sandbox: Sandbox, ring: str) -> None:
    io_uring_or_skip()
    way = ("socket inet", f"{ring} connect {NOT_FOR_2000}")
    assert steps(sandbox, *way, user=2000) == "EPERM"
    assert steps(sandbox, *way, user=2001) == "ok"


@pytest.mark.parametrize(
    "before",
    [
        ["bind 127.0.0.1 0"],
        ["option no-port 1", "bind 127.0.0.1 0"],
        ["option device lo"],
        ["option transparent 1", "bind 192.0.2.9 0"],
        ["option repair 1"],
    ],
    ids=["port 0", "no port", "device", "transparent", "repair"],
)
def test_what_was_done_to_the_socket_before_does_not_help(
    sandbox: Sandbox, before: list[str]
) -> None:
    assert steps(sandbox, "socket inet", *before, f"connect {DENIED}") == "EPERM"


@pytest.mark.matrix
@pytest.mark.kernel(optional=True)
@pytest.mark.parametrize("family", ["smc", "inet smc"])
def test_smc(sandbox: Sandbox, family: str) -> None:
    made = steps(sandbox, f"socket {family}")
    if made != "ok":
        pytest.skip(f"this kernel has no SMC: {made}")
    assert steps(sandbox, f"socket {family}", f"connect {DENIED}") == "EPERM"
    assert steps(sandbox, f"socket {family}", f"connect {ALLOWED}") == "ok"


def test_a_connection_to_oneself(sandbox: Sandbox) -> None:
    """TCP's simultaneous open, which needs no listener."""
    for port, met in ((4010, "ok"), (4003, "EPERM")):
        own = f"127.0.0.9 {port}"
        assert steps(sandbox, "socket inet", f"bind {own}", f"connect {own}") == met


@pytest.mark.matrix
@pytest.mark.parametrize("how", ["fork", "pass"])
def test_who_connects_an_inherited_or_passed_socket_is_judged(sandbox: Sandbox, how: str) -> None:
    way = ("socket inet", how, "user 2000", f"connect {NOT_FOR_2000}")
    assert steps(sandbox, *way) == "EPERM"
    assert steps(sandbox, *way[:2], f"connect {NOT_FOR_2000}") == "ok"


@pytest.mark.parametrize("how", ["fork", "pass", "steal"])
def test_a_connection_that_was_handed_over_is_not_judged_again(sandbox: Sandbox, how: str) -> None:
    assert steps(sandbox, "socket inet", f"connect {NOT_FOR_2000}", user=2000) == "EPERM"
    leave = () if how == "steal" else ("user 2000",)
    assert steps(sandbox, "socket inet", f"connect {NOT_FOR_2000}", how, *leave, "send") == "ok"


@pytest.mark.matrix
def test_other_network_namespaces(sandbox: Sandbox) -> None:
    assert steps(sandbox, "netns", "socket inet", f"connect {DENIED}") == "EPERM"
    assert steps(sandbox, "netns", "socket inet", f"connect {ALLOWED}") == "ECONNREFUSED"


@pytest.mark.matrix
def test_other_user_namespaces(sandbox: Sandbox) -> None:
    """Whoever is root or nobody in there is the user outside."""
    way = ("userns", "netns", "socket inet", f"connect {NOT_FOR_2000}")
    assert steps(sandbox, *way, user=2000) == "EPERM"
    assert steps(sandbox, *way, user=2001) == "ECONNREFUSED"


def test_root_leaves_a_governed_cgroup_and_users_do_not(sandbox: Sandbox) -> None:
    outside = f"cgroup {sandbox.cgroup.parent}"
    assert steps(sandbox, "socket inet", f"connect {DENIED}") == "EPERM"
    assert steps(sandbox, outside, user=2000) == "EACCES"
    assert steps(sandbox, outside, "socket inet", f"connect {DENIED}") == "ok"


def test_a_socket_belongs_to_the_cgroup_it_was_made_in(sandbox: Sandbox) -> None:
    inside, outside = f"cgroup {sandbox.cgroup}", f"cgroup {sandbox.cgroup.parent}"
    assert steps(sandbox, inside, "socket inet", outside, f"connect {DENIED}") == "EPERM"
    assert steps(sandbox, outside, "socket inet", inside, f"connect {DENIED}") == "ok"


@pytest.mark.matrix
def test_a_change_of_rules_holds_for_the_next_connect_and_not_for_what_exists(
    sandbox: Sandbox,
) -> None:
    before = ("socket inet", f"connect {ALLOWED}", "wait", "send")
    with (
        walking(sandbox, *before) as connected,
        walking(sandbox, *before, "disconnect", f"connect {ALLOWED}") as again,
        walking(sandbox, "socket inet", "wait", f"connect {ALLOWED}") as fresh,
    ):
        sandbox.apply(RULES.replace("4003", "4000"))
        try:
            for walk, met in ((connected, "ok"), (again, "EPERM"), (fresh, "EPERM")):
                walk.go_on()
                assert walk.listen() == met
        finally:
            sandbox.apply(RULES)


RAW_SYN = """
import select, socket, struct, sys
def sum16(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF
try:
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
except PermissionError:
    sys.exit(print("EPERM"))
here, port = socket.inet_aton("127.0.0.1"), 4001
syn = struct.pack("!HHIIBBHHH", 55001, port, 1, 0, 5 << 4, 2, 1024, 0, 0)
check = sum16(here + here + struct.pack("!BBH", 0, 6, len(syn)) + syn)
raw.sendto(syn[:16] + struct.pack("!H", check) + syn[18:], ("127.0.0.1", 0))
while select.select([raw], [], [], 3)[0]:
    answer = raw.recv(100)[20:]
    if answer[:4] == struct.pack("!HH", port, 55001):
        sys.exit(print("SYN-ACK" if answer[13] == 18 else answer[13]))
print("silence")
"""


def test_a_tcp_of_ones_own_on_a_raw_socket_is_not_seen(sandbox: Sandbox) -> None:
    """And needs CAP_NET_RAW, which can be taken away."""
    assert steps(sandbox, "socket inet", f"connect {DENIED}") == "EPERM"
    begin = [PYTHON, "-I", "-S", "-c", RAW_SYN]
    before = sandbox.totals("connect")["decisions"]
    assert sandbox.inside(begin).stdout.strip() == "SYN-ACK"
    assert sandbox.totals("connect")["decisions"] == before
    without = ["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw", *begin]
    assert sandbox.inside(without).stdout.strip() == "EPERM"
    assert sandbox.inside(begin, user=2000).stdout.strip() == "EPERM"


@pytest.mark.kernel(optional=True)
def test_mptcp_subflows_that_a_peer_asks_for(sandbox: Sandbox) -> None:
    """The kernel opens them, so the address is judged and the user is not known."""
    announced = ["ip", "mptcp", "endpoint", "add", "127.0.0.5", "port", "4021", "signal"]
    accepted = ["ip", "mptcp", "limits", "set", "subflow", "2", "add_addr_accepted", "2"]
    for command in (accepted, announced):
        done = sandbox.inside(command)
        if done.returncode:
            pytest.skip(f"this kernel or its ip(8) lacks what is needed: {done.stderr}")
    rule = '[[rule]]\nname = "%s"\nserver = "connect"\nauthority = "no"\nwhen = "%s"\n'
    of_user = rule % ("of-user", "remote.port == 4021 and user == 2000")
    try:
        for rules, name, authority in (
            (of_user, "default-connect", "yes"),
            (of_user + rule % ("to-address", "remote.port == 4021"), "to-address", "no"),
        ):
            sandbox.apply(rules)
            sandbox.mark()
            server = ("bind 127.0.0.1 4020", "listen", "wait", "accept", "receive", "send", "wait")
            client = ("connect 127.0.0.1 4020", "send", "receive", "wait")
            with walking(sandbox, "socket inet mptcp", "option reuseaddr 1", *server) as served:
                served.go_on()
                with walking(sandbox, "socket inet mptcp", *client, user=2000):
                    lines = sandbox.audit(2, server="connect")
            subflow = next(line for line in lines if line["destination"]["port"] == 4021)
            assert (subflow["rule"]["name"], subflow["sockrules"]["authority"]) == (name, authority)
            assert subflow["sockrules"]["enforced"] is (authority == "no")
            assert "executable" not in subflow["process"]
    finally:
        sandbox.inside(["ip", "mptcp", "endpoint", "flush"])
        sandbox.apply(RULES)
