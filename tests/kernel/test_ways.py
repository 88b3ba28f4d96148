# SPDX-License-Identifier: Apache-2.0
"""The ways to enforce: the best one that works is taken, and each does what it says.

These tests hold on every kernel. Which way a kernel allows is asked of the agent, and
for the kernels of Debian it is known.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sockrules.control.model import Server

from .processes import CLIENT, PATIENCE, PYTHON
from .roundabout import mptcp_or_skip
from .sandbox import BEST, FALLBACK, Sandbox

pytestmark = [pytest.mark.kernel, pytest.mark.matrix]

ALL = {"listen": "enforce", "accept": "enforce", "connect": "enforce"}
DEBIAN = re.match(r"(5\.10|6\.1|6\.12)\.\d+(-\d+|\+deb[\d.]+)-amd64$", platform.release())
"""These kernels take fmod_ret programs whatever their list of security modules."""

RULES = """
[[rule]]
name = "no-listen-4001"
server = "listen"
authority = "no"
when = "local.port == 4001"

[[rule]]
name = "no-ephemeral-listener"
server = "listen"
authority = "no"
when = "local.port >= 32768 and user == 2001"

[[rule]]
name = "no-accept-4002"
server = "accept"
authority = "no"
when = "local.port == 4002 and remote.address not in {127.0.0.9}"

[[rule]]
name = "no-peers-for-2000"
server = "accept"
authority = "no"
when = "local.port == 4003 and user == 2000"
"""


@pytest.fixture(scope="module")
def best(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """An agent that enforces RULES in the best way there is."""
    box = Sandbox(tmp_path_factory.mktemp("best"))
    box.open()
    try:
        box.configure(hooks=BEST, **ALL)
        box.start(RULES)
        yield box
    finally:
        box.close()


def is_turned_away(box: Sandbox, address: str, port: int | str, kind: str = "hasty") -> bool:
    """Whether a peer is refused as the accept hook in force does it."""
    met = box.client("connect", kind, address, port)
    reset = box.way(Server.ACCEPT).word == "sk_lookup"
    assert met in ("ok", "ECONNREFUSED" if reset else "timeout")
    return met != "ok"


def active_security_modules() -> list[str]:
    told = Path("/sys/kernel/security/lsm")
    if told.exists():
        return told.read_text().strip().split(",")
    asked = re.search(r"\blsm=(\S+)", Path("/proc/cmdline").read_text())
    return asked[1].split(",") if asked else []


def needs(box: Sandbox, server: Server) -> None:
    """Skip what only the preferred hooks do; Debian's kernels have them."""
    word = box.way(server).word
    if DEBIAN:
        assert word == "fmod_ret"
    if word not in ("fmod_ret", "lsm"):
        pytest.skip(f"this kernel refuses the preferred hooks; {server.word} is by {word}")


def test_status_says_which_way_and_why_no_better_one(best: Sandbox) -> None:
    status = best.call("status")
    assert status["enforcing"], status["sentence"]
    for server in Server:
        state, way = status["servers"][server.word], best.way(server)
        assert state["proof"]["ok"]
        assert state["covers"] == way.covers
        if DEBIAN:
            assert way.word in ("fmod_ret", "cgroup")
        for refused in state["refused_ways"]:
            assert refused["why"]
        words = [refused["hook"].split("/")[0] for refused in state["refused_ways"]]
        assert words == {"fmod_ret": [], "cgroup": [], "lsm": ["fmod_ret"]}.get(
            way.word, ["fmod_ret", "lsm"]
        )


@pytest.mark.kernel(optional=True)
@pytest.mark.parametrize("kind", ["plain", "mptcp"])
@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"])
def test_listen_is_refused(best: Sandbox, kind: str, address: str) -> None:
    needs(best, Server.LISTEN)
    mptcp_or_skip(kind)
    best.mark()
    before = best.totals("listen")["rejections"]
    assert best.client("stages", kind, address, 4001) == "ok EPERM EPERM"
    assert best.client("stages", kind, address, 4000) == "ok ok ok"
    assert best.totals("listen")["rejections"] == before + 2
    line = best.audit(server="listen", authority="no")[0]  # the second is folded into another
    assert line["rule"]["name"] == "no-listen-4001"
    assert line["destination"] == {"ip": address.removeprefix("::ffff:"), "port": 4001}
    assert line["sockrules"]["hook"] == "socket_listen"
    assert line["process"]["executable"].startswith("/usr/bin/python3")
    [line] = best.audit(server="listen", authority="yes")
    assert line["destination"]["port"] == 4000, "a second listen() is not judged again"


@pytest.mark.kernel(optional=True)
def test_a_client_that_binds_a_port_is_not_a_listener(best: Sandbox) -> None:
    needs(best, Server.LISTEN)
    with best.listener("plain", "127.0.0.1", 4000):
        assert best.client("connect", "plain", "127.0.0.1", 4000, "127.0.0.1", 4001) == "ok"


def test_a_listener_is_judged_once(best: Sandbox) -> None:
    before = best.totals("listen")["decisions"]
    with best.listener("plain", "127.0.0.1", 4000):
        assert best.totals("listen")["decisions"] == before + 1
    with best.listener("unbound", "127.0.0.1", 0):
        assert best.totals("listen")["decisions"] == before + 2


@pytest.mark.kernel(optional=True)
@pytest.mark.parametrize("kind", ["unbound", "mptcp-unbound", "dual-unbound"])
def test_an_unbound_listener_is_shut(best: Sandbox, kind: str) -> None:
    mptcp_or_skip(kind)
    address = "::" if kind == "dual-unbound" else "127.0.0.1"
    with best.listener(kind, address, 0, user=2001) as port:
        assert is_turned_away(best, "127.0.0.1", port)
        assert best.totals("listen")["shut"] > 0
    with best.listener(kind, address, 0, user=2002) as port:
        assert not is_turned_away(best, "127.0.0.1", port)


@pytest.mark.kernel(optional=True)
@pytest.mark.parametrize(
    ("kind", "bound", "address"),
    [
        ("plain", "127.0.0.1", "127.0.0.1"),
        ("plain", "0.0.0.0", "127.0.0.1"),
        ("plain", "::1", "::1"),
        ("dual", "::", "127.0.0.1"),
        ("dual", "::", "::1"),
        ("mptcp", "0.0.0.0", "127.0.0.1"),
    ],
)
def test_peers_are_turned_away(best: Sandbox, kind: str, bound: str, address: str) -> None:
    mptcp_or_skip(kind)
    best.mark()
    with best.listener(kind, bound, 4002) as outcome:
        assert outcome == "4002"
        assert is_turned_away(best, address, 4002)
        if address == "127.0.0.1":
            assert best.client("connect", "plain", address, 4002, "127.0.0.9") == "ok"
    line = best.audit(server="accept", authority="no")[0]
    assert line["rule"]["name"] == "no-accept-4002"
    assert line["source"]["ip"] == address
    assert line["source"]["port"]
    assert line["destination"] == {"ip": address, "port": 4002}


def test_the_owner_of_the_listener_is_known(best: Sandbox) -> None:
    for user, turned_away in ((2000, True), (2001, False)):
        with best.listener("plain", "127.0.0.1", 4003, user=user):
            assert is_turned_away(best, "127.0.0.1", 4003) is turned_away


@pytest.mark.parametrize("how", ["pass", "inherit"])
def test_a_listener_belongs_to_who_called_listen(best: Sandbox, how: str) -> None:
    """Whoever serves it later: a process that got it passed, or a service that was activated."""
    with best.handed_over(how, 4003, listens=2001, serves=2000):
        assert not is_turned_away(best, "127.0.0.1", 4003)
    with best.handed_over(how, 4003, listens=2000, serves=2001):
        assert is_turned_away(best, "127.0.0.1", 4003)


@pytest.mark.parametrize("last", ["ruled", "other"])
def test_a_group_of_listeners_with_different_owners(
    best: Sandbox, tmp_path: Path, last: str
) -> None:
    """SO_REUSEPORT: the preferred hooks know which socket a peer got; on the fallback the
    last one to listen answers for all."""
    ruled = tmp_path / "ruled-python"
    shutil.copy(PYTHON, ruled)
    rule = f"local.port == 4005 and program == {ruled}"
    best.apply(
        f'[[rule]]\nname = "ruled"\nserver = "accept"\nauthority = "no"\nwhen = "{rule}"\n{RULES}'
    )
    programs = [PYTHON, str(ruled)] if last == "ruled" else [str(ruled), PYTHON]
    with (
        best.listener("group", "127.0.0.1", 4005, program=programs[0]),
        best.listener("group", "127.0.0.1", 4005, program=programs[1]),
    ):
        met = set(best.hammered(20, "hasty:4005")["hasty:4005"])
    best.apply(RULES)
    if best.way(Server.ACCEPT).word == "sk_lookup":
        assert met == {"ECONNREFUSED" if last == "ruled" else "ok"}
    else:
        assert met == {"ok", "timeout"}


@pytest.mark.kernel(optional=True)
def test_another_network_namespace(best: Sandbox) -> None:
    """The preferred hooks see all of them."""
    needs(best, Server.ACCEPT)
    inside = ["unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh"]
    serve = [*inside, PYTHON, "-m", "http.server", "--bind", "127.0.0.1", "4002"]
    with best.background(serve) as server:

        def meets() -> str:
            command = [PYTHON, "-I", "-S", "-c", CLIENT, "connect", "hasty", "127.0.0.1", "4002"]
            done = subprocess.run(
                ["nsenter", f"--net=/proc/{server.pid}/ns/net", *command],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            return done.stdout.strip()

        best.wait_until(lambda: meets() == "timeout", 20)
        best.mark()
        assert meets() == "timeout"
        line = best.audit(server="accept", authority="no")[0]
        assert line["sockrules"]["netns"] == Path(f"/proc/{server.pid}/ns/net").stat().st_ino


def test_a_listener_older_than_the_agent_is_known(fresh: Sandbox) -> None:
    with (
        fresh.listener("plain", "127.0.0.1", 4003, user=2000),
        fresh.listener("dual", "::", 4002),
        fresh.listener("plain", "127.0.0.1", 4000),
    ):
        fresh.configure(hooks=BEST, **ALL)
        fresh.start(RULES)
        assert is_turned_away(fresh, "127.0.0.1", 4003)
        assert is_turned_away(fresh, "127.0.0.1", 4002)
        assert not is_turned_away(fresh, "127.0.0.1", 4000)
        [line] = fresh.audit(1, server="accept", authority="no")[:1]
        assert line["user"]["id"] == "2000"


def test_what_is_in_force_outlives_the_agent(fresh: Sandbox) -> None:
    fresh.configure(hooks=BEST, **ALL)
    fresh.start(RULES)
    with fresh.listener("plain", "127.0.0.1", 4002):
        assert is_turned_away(fresh, "127.0.0.1", 4002)
        met = fresh.client("connect", "hasty", "127.0.0.1", 4002)
        fresh.stop(9)
        assert fresh.client("connect", "hasty", "127.0.0.1", 4002) == met
        with fresh.listener("plain", "127.0.0.1", 4001) as outcome:
            assert outcome == "EPERM"
        fresh.start()
        assert is_turned_away(fresh, "127.0.0.1", 4002)
        fresh.call("stop", detach=True)
        assert fresh.agent and fresh.agent.wait(20 * PATIENCE) == 0
        assert fresh.client("connect", "plain", "127.0.0.1", 4002) == "ok"


def test_ways_are_changed_without_a_gap(fresh: Sandbox) -> None:
    """From one way to the other and back, by agents that take over."""
    fresh.configure(hooks=BEST, **ALL)
    fresh.start(RULES)
    best = {server: fresh.way(server).word for server in Server}
    with (
        fresh.listener("plain", "127.0.0.1", 4002),
        fresh.hammer("listen:4001", "hasty:4002") as hammer,
    ):
        for hooks in (FALLBACK, BEST):
            fresh.stop()
            fresh.configure(hooks=hooks, **ALL)
            fresh.start()
            assert fresh.call("status")["enforcing"]
            expected = {server: hooks.get(server.word, best[server]) for server in Server}
            assert {server: fresh.way(server).word for server in Server} == expected
        met = hammer.stop()
    assert set(met["listen:4001"]) == {"EPERM"}
    assert set(met["hasty:4002"]) <= {"ECONNREFUSED", "timeout"}
    wanted = {hook.name for server in Server for hook in fresh.way(server).hooks}
    assert fresh.links() == wanted


def test_the_fallback_works_on_every_kernel(fresh: Sandbox) -> None:
    fresh.configure(hooks=FALLBACK, **ALL)
    fresh.start(RULES)
    assert fresh.call("status")["enforcing"]
    assert fresh.way(Server.LISTEN).word == "post_bind"
    assert fresh.client("stages", "plain", "127.0.0.1", 4001).startswith("EPERM")
    with fresh.listener("plain", "127.0.0.1", 4002):
        assert fresh.client("connect", "plain", "127.0.0.1", 4002) == "ECONNREFUSED"


def test_a_way_that_is_never_called_is_not_enforcement(fresh: Sandbox) -> None:
    """LSM programs load and attach without `bpf` in lsm=, and judge nothing."""
    active = "bpf" in active_security_modules()
    fresh.configure(hooks={"listen": "lsm", "accept": "lsm"}, **ALL)
    fresh.start(RULES)
    status = fresh.call("status")
    with fresh.listener("plain", "127.0.0.1", 4001) as outcome:
        enforced = outcome == "EPERM"
    assert status["enforcing"] is enforced
    if active and DEBIAN:
        assert enforced
        assert fresh.way(Server.ACCEPT).word == "lsm"
        with fresh.listener("plain", "127.0.0.1", 4002):
            assert is_turned_away(fresh, "127.0.0.1", 4002)
        return
    assert not enforced
    missing = "NOT PROVEN" if DEBIAN else "NOT ATTACHED"
    assert f"listen, accept {missing}" in status["sentence"]
    state = status["servers"]["listen"]
    assert "lsm-socket_listen" in (state["proof"]["why"] if DEBIAN else state["refused"])
    assert status["servers"]["connect"]["proof"]["ok"], "one server does not cost another"
