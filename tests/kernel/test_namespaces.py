# SPDX-License-Identifier: Apache-2.0
"""accept on the fallback hook in network namespaces other than the agent's own."""

from __future__ import annotations

import contextlib
import os
import signal
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from sockrules.agent import libbpf
from sockrules.agent.hooks import SK_LOOKUP
from sockrules.control import abi

from .processes import CLIENT, PATIENCE, PYTHON, Processes
from .sandbox import FALLBACK, Sandbox
from .test_agent import many_rules

pytestmark = pytest.mark.kernel

WANDERER = Path(__file__).with_name("wanderer.py")

RULES = """
[[rule]]
name = "nobody-on-6004"
server = "accept"
authority = "no"
when = "local.port == 6004"

[[rule]]
name = "no-peers-for-2000"
server = "accept"
authority = "no"
when = "user == 2000"
"""


@pytest.fixture
def box(fresh: Sandbox) -> Iterator[Sandbox]:
    """An agent that enforces RULES."""
    fresh.configure(accept="enforce", hooks=FALLBACK)
    fresh.start(RULES)
    yield fresh


def covered(box: Sandbox) -> list[int]:
    return list(box.call("status")["namespaces"]["covered"])


def until_covered(box: Sandbox, inum: int) -> None:
    box.wait_until(lambda: inum in covered(box), 5, f"{inum} is covered")


def refuses(namespace: Processes, port: int) -> Callable[[], bool]:
    return lambda: namespace.client("connect", "plain", "127.0.0.1", port) == "ECONNREFUSED"


@contextlib.contextmanager
def governed(box: Sandbox) -> Iterator[Processes]:
    """Another namespace whose port 6004 is refused to peers, and whose port 6000 is open."""
    with (
        box.namespace() as other,
        other.listener("plain", "127.0.0.1", 6004),
        other.listener("plain", "127.0.0.1", 6000),
    ):
        until_covered(box, other.inum)
        yield other


@pytest.mark.matrix
def test_a_namespace_is_covered_with_its_first_listener(box: Sandbox) -> None:
    with box.namespace() as other:
        assert other.inum not in covered(box)
        with other.listener("plain", "127.0.0.1", 6004) as outcome:
            assert outcome == "6004"
            until_covered(box, other.inum)
            assert other.client("connect", "plain", "127.0.0.1", 6004) == "ECONNREFUSED"
            [line] = box.audit(server="accept", authority="no")
            assert line["sockrules"]["netns"] == other.inum
            assert line["process"]["executable"].startswith("/usr/bin/python3")
        with (
            other.listener("plain", "::", 6000),
            other.listener("plain", "0.0.0.0", 6001, user=2000),
        ):
            assert other.client("connect", "plain", "::1", 6000) == "ok"
            assert other.client("connect", "plain", "127.0.0.1", 6001) == "ECONNREFUSED"
        [line] = [
            line
            for line in box.audit(0, kind="state")
            if line["event"]["action"] == "namespace-covered"
        ]
        assert line["sockrules"]["netns"] == other.inum
        assert line["sockrules"]["unjudged"] == 0


def test_one_port_in_two_namespaces_is_two_listeners(box: Sandbox) -> None:
    with (
        box.namespace() as other,
        other.listener("plain", "127.0.0.1", 6001, user=2000),
        box.listener("plain", "127.0.0.1", 6001),
    ):
        until_covered(box, other.inum)
        assert other.client("connect", "plain", "127.0.0.1", 6001) == "ECONNREFUSED"
        assert box.client("connect", "plain", "127.0.0.1", 6001) == "ok"


def test_peers_from_another_namespace_are_told_apart(box: Sandbox) -> None:
    box.apply(RULES.replace("local.port == 6004", "remote.address == 10.66.0.1"))
    with box.namespace() as other:
        for command in (
            ["ip", "link", "add", "sr0", "type", "veth", "peer", "sr1", "netns", other.name],
            ["ip", "address", "add", "10.66.0.1/24", "dev", "sr0"],
            ["ip", "address", "add", "10.66.0.2/24", "dev", "sr0"],
            ["ip", "link", "set", "sr0", "up"],
        ):
            assert box.inside(command).returncode == 0
        for command in (
            ["ip", "address", "add", "10.66.0.9/24", "dev", "sr1"],
            ["ip", "link", "set", "sr1", "up"],
        ):
            assert other.inside(command).returncode == 0
        with other.listener("plain", "0.0.0.0", 6000):
            until_covered(box, other.inum)
            assert box.client("connect", "plain", "10.66.0.9", 6000, "10.66.0.2") == "ok"
            assert box.client("connect", "plain", "10.66.0.9", 6000, "10.66.0.1") == "ECONNREFUSED"


def test_listeners_older_than_the_agent_are_guarded_in_every_namespace(fresh: Sandbox) -> None:
    with fresh.namespace() as other, other.listener("plain", "127.0.0.1", 6001, user=2000):
        fresh.configure(accept="enforce", hooks=FALLBACK)
        fresh.start(RULES)
        assert other.inum in covered(fresh)
        assert other.client("connect", "plain", "127.0.0.1", 6001) == "ECONNREFUSED"
        fresh.activate("off", "accept")
        assert covered(fresh) == []
        assert other.client("connect", "plain", "127.0.0.1", 6001) == "ok"
        with other.listener("plain", "127.0.0.1", 6004):
            fresh.activate("enforce", "accept")
            assert other.client("connect", "plain", "127.0.0.1", 6001) == "ECONNREFUSED"
            assert other.client("connect", "plain", "127.0.0.1", 6004) == "ECONNREFUSED"


def test_an_unshared_process_is_covered(box: Sandbox) -> None:
    serve = [PYTHON, "-I", "-S", "-c", CLIENT, "listen", "plain", "127.0.0.1", "6004"]
    up = 'ip link set lo up; exec "$@"'
    with box.server(["unshare", "-n", "sh", "-c", up, "sh", *serve]) as (pid, answer):
        assert answer == "6004"
        inside = Processes("unshared", box.cgroup, f"/proc/{pid}/ns/net")
        until_covered(box, inside.inum)
        assert inside.client("connect", "plain", "127.0.0.1", 6004) == "ECONNREFUSED"


def test_a_namespace_that_its_listener_has_left_is_covered(box: Sandbox) -> None:
    with (
        box.namespace() as other,
        box.server([PYTHON, "-I", "-S", str(WANDERER), other.path, "6004"]) as (_, answer),
    ):
        assert answer == "6004"
        until_covered(box, other.inum)
        assert other.client("connect", "plain", "127.0.0.1", 6004) == "ECONNREFUSED"
        [line] = box.audit(server="accept", authority="no")
        assert line["sockrules"]["netns"] == other.inum


@pytest.mark.matrix
def test_enforcement_elsewhere_outlives_the_agent(box: Sandbox) -> None:
    with governed(box) as other, other.hammer("connect:6004", "connect:6000") as hammer:
        box.stop(signal.SIGKILL)
        assert other.client("connect", "plain", "127.0.0.1", 6004) == "ECONNREFUSED"
        with other.listener("plain", "127.0.0.1", 6001, user=2000):  # while no agent runs
            assert other.client("connect", "plain", "127.0.0.1", 6001) == "ECONNREFUSED"
            box.start()
            assert other.inum in covered(box)
            box.apply(RULES + "# again\n")
            assert other.client("connect", "plain", "127.0.0.1", 6001) == "ECONNREFUSED"
        met = hammer.stop()
        assert set(met["connect:6004"]) == {"ECONNREFUSED"}
        assert set(met["connect:6000"]) == {"ok"}


def test_a_namespace_that_nobody_is_in_stays_covered_over_a_restart(box: Sandbox) -> None:
    with box.namespace() as other:
        with other.listener("plain", "127.0.0.1", 6000):
            until_covered(box, other.inum)
        box.stop()
        box.start()
        assert other.inum in covered(box)
        box.mark()
        with other.listener("plain", "127.0.0.1", 6004):
            assert other.client("connect", "plain", "127.0.0.1", 6004) == "ECONNREFUSED"
        actions = [line["event"]["action"] for line in box.audit(0, kind="state")]
        assert "namespace-covered" not in actions  # it was already


def test_a_table_that_is_outgrown_is_replaced_in_every_namespace_without_a_gap(
    box: Sandbox,
) -> None:
    with governed(box) as other, other.hammer("connect:6004", "connect:6000") as hammer:
        box.apply(many_rules(6000) + RULES)
        box.apply(RULES.replace("6004", "6005"))
        with other.listener("plain", "127.0.0.1", 6005):
            assert other.client("connect", "plain", "127.0.0.1", 6005) == "ECONNREFUSED"
        assert other.client("connect", "plain", "127.0.0.1", 6004) == "ok"
        box.apply(RULES)
        met = hammer.stop()
    assert set(met["connect:6000"]) == {"ok"}
    with governed(box) as another:  # the new programs' arrivals are heard too
        assert another.client("connect", "plain", "127.0.0.1", 6004) == "ECONNREFUSED"


def test_a_namespace_that_is_gone_is_left_and_its_number_given_anew_is_another(
    box: Sandbox,
) -> None:
    seen: list[int] = []
    for _ in range(12):  # as containers are started again and again
        with box.namespace() as other, other.listener("plain", "127.0.0.1", 6004):
            seen.append(other.inum)
            box.wait_until(refuses(other, 6004), 5, f"{other.inum} is covered again")
    assert len(set(seen)) < len(seen), "no number was given again: the test shows nothing"
    own = box.call("status")["namespaces"]["own"]
    box.wait_until(lambda: covered(box) == [own], 15, "the links of the dead are taken away")
    links = box.paths.pins / "links"
    assert [path.name for path in links.glob("sk_lookup-*")] == [f"sk_lookup-{own}"]


def test_many_namespaces_at_once(box: Sandbox) -> None:
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(box.namespace()) for _ in range(8)]
        for other in others:
            stack.enter_context(other.listener("plain", "127.0.0.1", 6004))
        for other in others:
            until_covered(box, other.inum)
            assert other.client("connect", "plain", "127.0.0.1", 6004) == "ECONNREFUSED"


def test_an_agent_that_is_told_to_detach_leaves_every_namespace(box: Sandbox) -> None:
    with governed(box) as other:
        box.call("stop", detach=True)
        assert box.agent and box.agent.wait(20 * PATIENCE) == 0
        assert other.client("connect", "plain", "127.0.0.1", 6004) == "ok"
        assert not box.paths.pins.exists()


@contextlib.contextmanager
def crowded(namespace: Processes) -> Iterator[None]:
    """A namespace with as many sk_lookup programs as it takes: 64 (net_namespace.c, Linux 6.18)."""
    let_through = struct.pack("=BBhiBBhi", 0xB7, 0, 0, 1, 0x95, 0, 0, 0)  # return SK_PASS
    program = libbpf.prog_load("full", SK_LOOKUP.program_type, SK_LOOKUP.attach_type, let_through)
    place = os.open(namespace.path, os.O_RDONLY)
    links: list[int] = []
    try:
        with pytest.raises(OSError, match="[Aa]rgument list too long"):
            while True:
                links.append(libbpf.link_create(program, place, SK_LOOKUP.attach_type))
        yield
    finally:
        for fd in (*links, place, program):
            os.close(fd)


def test_a_namespace_that_cannot_be_covered_is_told_until_it_can(box: Sandbox) -> None:
    with box.namespace() as other:
        with crowded(other), other.listener("plain", "127.0.0.1", 6004):
            box.wait_until(lambda: bool(box.call("status")["namespaces"]["missing"]), 5)
            report = box.call("status")
            assert list(report["namespaces"]["missing"]) == [str(other.inum)]
            assert "rgument list too long" in report["namespaces"]["missing"][str(other.inum)]
            assert "1 network namespace NOT COVERED" in report["sentence"]
            assert report["enforcing"] is False
        box.wait_until(lambda: not box.call("status")["namespaces"]["missing"], 15)
        assert box.call("status")["enforcing"] is True
        with other.listener("plain", "127.0.0.1", 6004):
            until_covered(box, other.inum)
            assert other.client("connect", "plain", "127.0.0.1", 6004) == "ECONNREFUSED"


def test_a_namespace_that_went_while_nothing_was_attached_is_no_alarm(box: Sandbox) -> None:
    def registered() -> set[int]:
        [path] = box.paths.pins.glob("maps-*/listeners")
        listeners = libbpf.get_pinned(str(path))
        assert listeners is not None
        try:
            size = abi.sizeof("sr_listener_key")
            raw = b"".join(libbpf.keys(listeners, size))
            return {int(key["netns"]) for key in np.frombuffer(raw, abi.dtype("sr_listener_key"))}
        finally:
            os.close(listeners)

    with governed(box) as other:
        gone = other.inum
        box.activate("off", "accept")
    assert gone in registered()
    box.activate("enforce", "accept")
    assert box.call("status")["enforcing"] is True
    box.wait_until(lambda: gone not in registered(), 25, "what listened there is forgotten")
    assert box.call("status")["enforcing"] is True
