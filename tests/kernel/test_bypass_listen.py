# SPDX-License-Identifier: Apache-2.0
"""Ways round a listen rule (docs/bypasses.md), tried; more of them in test_listen.py.

Where a test asks `by_fallback`, the fallback hooks leave a gap that the preferred
ones close, and the test shows both.
"""

from __future__ import annotations

import pytest

from .roundabout import TURNED_AWAY, by_fallback, io_uring_or_skip, nobody_gets_in, steps, walking
from .sandbox import Sandbox

pytestmark = pytest.mark.kernel

RULES = """
[[rule]]
name = "no-5001"
server = "listen"
authority = "no"
when = "local.port == 5001"

[[rule]]
name = "no-5002-for-2000"
server = "listen"
authority = "no"
when = "local.port == 5002 and user == 2000"

[[rule]]
name = "no-ephemeral-listener-for-2001"
server = "listen"
authority = "no"
when = "local.port >= 32768 and user == 2001"
"""

DENIED = "127.0.0.1 5001"
BIND_BY_IO_URING = (6, 11)
"""The first Linux whose io_uring has bind and listen."""


@pytest.fixture(scope="module", autouse=True)
def _rules(sandbox: Sandbox) -> None:
    sandbox.apply(RULES)
    sandbox.activate("enforce", "listen")


def listened(box: Sandbox, *way: str, user: int | None = None) -> str:
    """The port on which a listener stands after these steps, or the error that one of them met."""
    with walking(box, *way, "serve", user=user) as walk:
        return walk.said.rpartition(": ")[2]


@pytest.mark.matrix
@pytest.mark.parametrize(
    "way",
    [
        ["socket inet", "unspec-bind 5001"],
        ["socket inet", "option freebind 1", "bind 192.0.2.1 5001"],
        ["socket inet", "option transparent 1", "bind 192.0.2.1 5001"],
        ["socket inet", "option device lo", f"bind {DENIED}"],
        ["socket inet", "option reuseport 1", f"bind {DENIED}"],
        ["socket inet", "connect 127.0.0.1 5000", "disconnect", f"bind {DENIED}"],
        ["netns", "socket inet", f"bind {DENIED}"],
        ["userns", "netns", "socket inet", f"bind {DENIED}"],
    ],
    ids=lambda way: way[-2].removeprefix("socket ") if len(way) > 2 else way[-1],
)
def test_roundabout_binds(sandbox: Sandbox, way: list[str]) -> None:
    with walking(sandbox, "socket inet", "option reuseaddr 1", "bind 127.0.0.1 5000", "listen",
                 "serve"):  # fmt: skip
        assert listened(sandbox, *way, "listen") == "EPERM"
        allowed = [step.replace("5001", "5003") for step in way]
        assert listened(sandbox, *allowed, "listen") == "5003"


@pytest.mark.kernel(optional=True)
@pytest.mark.parametrize("ring", ["uring", "uring-async", "uring-sqpoll"])
def test_io_uring_bind_and_listen(sandbox: Sandbox, ring: str) -> None:
    io_uring_or_skip(BIND_BY_IO_URING)
    way = ("socket inet", f"{ring} bind {DENIED}", f"{ring} listen")
    assert listened(sandbox, *way) == "EPERM"
    allowed = [step.replace("5001", "5003") for step in way]
    assert listened(sandbox, *allowed) == "5003"
    assert listened(sandbox, *way, user=2000) == "EPERM"


@pytest.mark.kernel(optional=True)
@pytest.mark.parametrize("ring", ["uring", "uring-async", "uring-sqpoll"])
def test_io_uring_listen_without_bind(sandbox: Sandbox, ring: str) -> None:
    io_uring_or_skip(BIND_BY_IO_URING)
    with walking(sandbox, "socket inet", f"{ring} listen", "serve", user=2001) as walk:
        assert nobody_gets_in(sandbox, walk.said)
    with walking(sandbox, "socket inet", f"{ring} listen", "serve", user=2002) as walk:
        assert not nobody_gets_in(sandbox, walk.said)


@pytest.mark.matrix
@pytest.mark.parametrize(
    "before",
    [[], ["bind 127.0.0.1 0"], ["option no-port 1", "bind 127.0.0.1 0"]],
    ids=["no bind", "port 0", "no port"],
)
def test_listen_without_a_chosen_port(sandbox: Sandbox, before: list[str]) -> None:
    way = ("socket inet", *before, "listen", "serve")
    with walking(sandbox, *way, user=2001) as walk:
        assert nobody_gets_in(sandbox, walk.said)
    with walking(sandbox, *way, user=2002) as walk:
        assert not nobody_gets_in(sandbox, walk.said)


@pytest.mark.matrix
def test_listen_without_a_chosen_port_in_another_network_namespace(sandbox: Sandbox) -> None:
    with walking(sandbox, "socket inet", "listen", "serve", user=2001) as walk:
        assert nobody_gets_in(sandbox, walk.said)
    way = ("userns", "netns", "socket inet", "listen", "visit")
    assert steps(sandbox, *way, user=2002) == "ok"
    reached = steps(sandbox, *way[:-1], "visit-until-refused", user=2001)
    assert reached in TURNED_AWAY or reached == "listen: EPERM"


FAILED_BIND = ("fail bind 192.0.2.1 0", f"bind {DENIED}")
CONNECTED = ("bind 127.0.0.1 0", "connect 127.0.0.1 5000", "disconnect", f"bind {DENIED}")


@pytest.mark.matrix
@pytest.mark.parametrize("before", [FAILED_BIND, CONNECTED], ids=["failed", "connected"])
def test_a_bind_to_port_0_first_gets_nobody_in(sandbox: Sandbox, before: tuple[str, ...]) -> None:
    with (
        walking(sandbox, "socket inet", "bind 127.0.0.1 5000", "listen", "serve"),
        walking(sandbox, "socket inet", *before, "listen", "serve") as walk,
    ):
        assert nobody_gets_in(sandbox, walk.said.rpartition(": ")[2])


@pytest.mark.matrix
def test_a_bind_to_port_0_first_in_another_network_namespace(sandbox: Sandbox) -> None:
    way = ("userns", "netns", "socket inet")
    judged = () if by_fallback(sandbox, "listen") else ("listen",)
    assert steps(sandbox, *way, f"bind {DENIED}", *judged, user=2000) == "EPERM"
    reached = steps(sandbox, *way, *FAILED_BIND, "listen", "visit", user=2000)
    assert reached.endswith("EPERM")


@pytest.mark.matrix
@pytest.mark.parametrize("how", ["user", "fork", "pass"])
def test_bound_by_one_and_listened_to_by_another(sandbox: Sandbox, how: str) -> None:
    becomes = ["user 2000"] if how == "user" else [how, "user 2000"]
    outcome = listened(sandbox, "socket inet", "bind 127.0.0.1 5002", *becomes, "listen")
    assert outcome == ("5002" if by_fallback(sandbox, "listen") else "EPERM")
    assert listened(sandbox, "socket inet", "bind 127.0.0.1 5002", "listen", user=2000) == "EPERM"


@pytest.mark.matrix
@pytest.mark.parametrize("before", [[], ["listen", "shutdown"]], ids=["bound", "listened"])
def test_a_rule_that_comes_after_bind_and_before_listen(
    sandbox: Sandbox, before: list[str]
) -> None:
    way = ("socket inet", "bind 127.0.0.1 5004", *before, "wait", "listen", "serve")
    with walking(sandbox, *way) as walk:
        sandbox.apply(RULES.replace("5001", "5004"))
        try:
            walk.go_on()
            outcome = walk.listen()
            others = ("socket inet", "bind 127.0.0.2 5004", "listen")
            assert listened(sandbox, *others) == "EPERM", "the new rules are in force"
        finally:
            sandbox.apply(RULES)
    assert outcome == ("5004" if by_fallback(sandbox, "listen") else "EPERM")


def test_an_accepted_socket_that_turns_listener_is_judged(sandbox: Sandbox) -> None:
    for port, met in (("5001", "EPERM"), ("5003", "5003")):
        turn = ("wait", "accept", "disconnect", f"bind 127.0.0.1 {port}", "listen", "serve")
        reuse = "option reuseaddr 1"
        with walking(sandbox, "socket inet", reuse, "bind 127.0.0.1 5000", "listen", *turn) as walk:
            walk.go_on()
            sandbox.client("connect", "plain", "127.0.0.1", 5000)
            assert walk.listen().rpartition(": ")[2] == met
