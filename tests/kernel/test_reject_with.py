# SPDX-License-Identifier: Apache-2.0
"""What a rejected peer gets: a reset or silence, as far as the hooks can, and as status says.

These tests hold on every kernel; where only sk_lookup can be had, every answer is a reset.
"""

from __future__ import annotations

from typing import Any

import pytest

from sockrules.control.model import Server

from .processes import Processes
from .release import release
from .sandbox import BEST, FALLBACK, Sandbox

pytestmark = pytest.mark.kernel

RULES = """
[[rule]]
name = "nobody-on-6004"
server = "accept"
authority = "no"
when = "local.port == 6004"

[[rule]]
name = "nobody-listens-on-a-port-of-the-kernels"
server = "listen"
authority = "no"
when = "local.port >= 32768 and user == 2000"
"""
MEETS = {"reset": "ECONNREFUSED", "drop": "timeout"}


def start(box: Sandbox, reject_with: str, **more: Any) -> dict[str, Any]:
    """What status says of the answer."""
    box.configure(reject_with=reject_with, accept="enforce", listen="enforce", **more)
    box.start(RULES)
    report = box.call("status")
    assert report["enforcing"], report["sentence"]
    return dict(report["servers"]["accept"]["reject_with"])


def refused(peers: Processes) -> str:
    return peers.client("connect", "hasty", "127.0.0.1", 6004)


def knows_only_resets(box: Sandbox) -> bool:
    return box.way(Server.ACCEPT).word == "sk_lookup"


@pytest.mark.parametrize(
    "wanted",
    ["auto", *(pytest.param(each, marks=pytest.mark.matrix) for each in ("reset", "drop"))],
)
def test_a_peer_gets_what_status_says(fresh: Sandbox, wanted: str) -> None:
    answer = start(fresh, wanted, hooks=BEST)
    assert answer["wanted"] == wanted
    if knows_only_resets(fresh):
        assert answer["given"] == "reset"
        assert bool(answer["why"]) is (wanted == "drop")
    else:
        assert answer["given"] == {"auto": "drop"}.get(wanted, wanted)
        assert answer["why"] == ""
    with fresh.listener("plain", "127.0.0.1", 6004), fresh.listener("plain", "127.0.0.1", 6000):
        assert refused(fresh) == MEETS[answer["given"]]
        assert fresh.client("connect", "plain", "127.0.0.1", 6000) == "ok"
    with fresh.listener("plain-unbound", "127.0.0.1", 0, user=2000) as port:  # it is shut
        assert fresh.client("connect", "hasty", "127.0.0.1", port) == MEETS[answer["given"]]


def test_drop_cannot_be_had_of_sk_lookup_and_the_agent_says_so(fresh: Sandbox) -> None:
    answer = start(fresh, "drop", hooks=FALLBACK)
    assert answer["given"] == "reset"
    assert 'reject_with = "drop" cannot be had here' in answer["why"]
    fresh.stop()
    assert fresh.agent and fresh.agent.stderr
    assert answer["why"] in fresh.agent.stderr.read()


@pytest.mark.matrix
def test_a_request_is_judged_once_whatever_is_in_front(fresh: Sandbox) -> None:
    """Before Linux 5.14 the hook behind cannot tell whether a namespace is covered (sr_is_covered,
    bpf/task.h): it judges again, by the same rules."""
    again = release() < (5, 14)
    start(fresh, "reset", hooks=BEST)
    with (
        fresh.namespace() as other,
        fresh.listener("plain", "127.0.0.1", 6000),
        other.listener("plain", "127.0.0.1", 6000),
    ):
        fresh.wait_until(
            lambda: other.inum in fresh.call("status")["namespaces"]["covered"], 5, "covered"
        )
        for peers in (fresh, other):
            fresh.mark()
            before = fresh.totals("accept")["decisions"]
            assert peers.client("connect", "plain", "127.0.0.1", 6000) == "ok"
            first, *others = fresh.audit(server="accept")
            assert first["sockrules"]["hook"] == "sk_lookup"
            assert not others or again
            judged = fresh.totals("accept")["decisions"] - before
            assert judged == 1 or (again and judged == 2)


def test_a_reset_in_every_namespace(fresh: Sandbox) -> None:
    start(fresh, "reset", hooks=BEST)
    with fresh.namespace() as other, other.listener("plain", "127.0.0.1", 6004):
        fresh.wait_until(lambda: refused(other) == "ECONNREFUSED", 5, "sk_lookup is in front")


@pytest.mark.matrix
@pytest.mark.kernel(optional=True)
def test_nobody_is_let_in_before_sk_lookup_is_in_front(fresh: Sandbox) -> None:
    """Where a security hook judges, it does so until sk_lookup is attached."""
    start(fresh, "reset", hooks=BEST)
    if knows_only_resets(fresh):
        pytest.skip("this kernel refuses the preferred hooks")
    for _ in range(3):
        with fresh.namespace() as other, other.listener("plain", "127.0.0.1", 6004):
            assert {refused(other) for _ in range(5)} <= {"timeout", "ECONNREFUSED"}
