# SPDX-License-Identifier: Apache-2.0
"""The choice of ways, with a kernel that refuses, attaches and calls what each test says."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sockrules.agent import attachment
from sockrules.agent.attachment import Attachment
from sockrules.agent.hooks import HOOKS, SK_LOOKUP, WAYS, Hook
from sockrules.agent.prove import Attempt
from sockrules.control.agent_file import HOOK_WAYS
from sockrules.control.model import Mode, Server

ON = dict.fromkeys(Server, Mode.ENFORCE)
OFF = dict.fromkeys(Server, Mode.OFF)
LSM_ACTIVE, LSM_MISSING = True, False


class Host:
    """A kernel and its links. `log` is what was attached (+) and detached (-), in order."""

    def __init__(
        self,
        refuses: Collection[str] = (),
        unattachable: Collection[str] = (),
        silent: Collection[str] = (),
        families: Collection[int] = (4, 6),
        trouble: str = "",
    ) -> None:
        self.refuses, self.unattachable, self.silent = refuses, unattachable, silent
        self.families, self.trouble = families, trouble
        self.programs: dict[str, int] = {}
        self.refused: dict[str, str] = {}
        self.present: set[str] = set()
        self.log: list[str] = []
        self.loaded = SimpleNamespace(
            need=self.need, programs=self.programs, refused=self.refused, instances=()
        )
        self.coverage = SimpleNamespace(
            attach=lambda *_: self.attach(SK_LOOKUP, 1, None),
            detach=lambda _: "sk_lookup" in self.present and self.detach(SK_LOOKUP),
            missing={},
        )

    def need(self, hooks: Iterable[Hook]) -> None:
        for hook in hooks:
            if any(word in hook.name for word in self.refuses):
                self.refused[hook.name] = "Operation not permitted"
            else:
                self.programs[hook.name] = 1

    def set_mode(self, server: Server, mode: Mode) -> None:
        pass

    def map(self, name: str) -> int:
        return 1

    def report_arrivals(self, on: bool) -> None:
        pass

    def attach(self, hook: Hook, program: int, target: object) -> None:
        if any(word in hook.name for word in self.unattachable):
            raise OSError("attach: no such thing here")
        self.present.add(hook.name)
        self.log.append(f"+{hook.name}")

    def detach(self, hook: Hook) -> bool:
        self.log.append(f"-{hook.name}")
        self.present.remove(hook.name)
        return True

    def attached(self) -> tuple[Hook, ...]:
        return tuple(hook for hook in HOOKS if hook.name in self.present)

    def sweep(self) -> None:
        pass

    def prove(self, kernel: object, cgroup: Path) -> Attempt:
        seen = {
            hook.counts
            for hook in self.attached()
            if hook.counts is not None
            and not self.trouble
            and not any(word in hook.name for word in self.silent)
            and (hook.family is None or hook.family in self.families)
        }
        families = frozenset(() if self.trouble else self.families)
        return Attempt(frozenset(seen), families, self.trouble, datetime.now(UTC))


def arranged(
    host: Host,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    modes: dict[Server, Mode] = ON,
    forced: dict[Server, str] | None = None,
    reject_with: str = "auto",
) -> Attachment:
    monkeypatch.setattr(attachment, "prove", host.prove)
    made = Attachment(tmp_path, tmp_path, forced or {}, reject_with)
    links: Any = host
    kernel: Any = host
    coverage: Any = host.coverage
    host.coverage.covered = (1,) if reject_with == "reset" else ()
    made.links, made.coverage = links, coverage
    made.arrange(kernel, modes)
    return made


def words(made: Attachment) -> dict[str, str]:
    return {server.word: made.servers[server].way.word for server in Server}


BEST = {"listen": "fmod_ret", "accept": "fmod_ret", "connect": "cgroup"}


def test_the_best_way_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = arranged(Host(), monkeypatch, tmp_path)
    assert words(made) == BEST
    for state in made.servers.values():
        assert state.attached
        assert state.proof and state.proof.ok
        assert not state.passed_over


@pytest.mark.parametrize(
    ("host", "expected", "why"),
    [
        (Host(refuses=["fmod_ret"]), ("lsm", "lsm"), "Operation not permitted"),
        (Host(unattachable=["fmod_ret"]), ("lsm", "lsm"), "no such thing here"),
        (Host(silent=["fmod_ret"]), ("lsm", "lsm"), "attached and never called"),
        (Host(refuses=["fmod_ret"], silent=["lsm"]), ("post_bind", "sk_lookup"), "Operation not"),
        (Host(refuses=["fmod_ret-conn"]), ("fmod_ret", "lsm"), "Operation not permitted"),
        (Host(refuses=["fmod_ret-socket"]), ("lsm", "fmod_ret"), "Operation not permitted"),
    ],
)
def test_a_way_that_does_not_work_is_passed_over_for_the_next(
    host: Host,
    expected: tuple[str, str],
    why: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    made = arranged(host, monkeypatch, tmp_path)
    assert words(made) == {"listen": expected[0], "accept": expected[1], "connect": "cgroup"}
    for server in Server:
        state = made.servers[server]
        assert state.proof and state.proof.ok
        better = WAYS[server][: WAYS[server].index(state.way)]
        assert list(state.passed_over) == [way.name for way in better]
        if better:
            assert why in state.passed_over[better[0].name]
    wanted = {hook.name for server in Server for hook in made.hooks_of(server)}
    assert host.present - {"guard"} == wanted, "nothing of what was tried stays"


def test_a_way_that_was_replaced_goes_last(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    host = Host()
    forced = {Server.LISTEN: "post_bind", Server.ACCEPT: "sk_lookup"}
    arranged(host, monkeypatch, tmp_path, forced=forced)
    host.log.clear()
    arranged(host, monkeypatch, tmp_path)
    last = max(at for at, step in enumerate(host.log) if step.startswith("+"))
    assert {step for step in host.log if step.startswith("-")} == {
        *("-bind4", "-bind6", "-post_bind4", "-post_bind6", "-sk_lookup")
    }
    assert all(step.startswith("-") for step in host.log[last + 1 :])


def test_a_forced_way_is_kept_and_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    host = Host(silent=["lsm"])
    made = arranged(host, monkeypatch, tmp_path, forced={Server.LISTEN: "lsm"})
    assert words(made) == {**BEST, "listen": "lsm"}
    state = made.servers[Server.LISTEN]
    assert state.attached
    assert state.proof and not state.proof.ok
    assert "lsm-socket_listen" in state.proof.why
    refusing = arranged(Host(refuses=["lsm"]), monkeypatch, tmp_path, forced={Server.ACCEPT: "lsm"})
    state = refusing.servers[Server.ACCEPT]
    assert not state.attached
    assert "Operation not permitted" in state.refused
    listen = refusing.servers[Server.LISTEN]
    assert not listen.attached, "who listens on a port of the kernel's choice could not be shut"


def test_when_no_request_could_be_made_the_way_stays_and_is_not_proven(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = arranged(Host(trouble="cannot enter the cgroup"), monkeypatch, tmp_path)
    assert words(made) == BEST
    for state in made.servers.values():
        assert state.proof and not state.proof.ok
        assert state.proof.why == "cannot enter the cgroup"


def test_every_hook_of_a_server_is_proven(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = arranged(Host(silent=["connect6"]), monkeypatch, tmp_path)
    proof = made.servers[Server.CONNECT].proof
    assert proof and not proof.ok
    assert "connect6" in proof.why
    without_ipv6 = arranged(Host(silent=["connect6"], families=[4]), monkeypatch, tmp_path)
    proof = without_ipv6.servers[Server.CONNECT].proof
    assert proof and proof.ok


def test_listen_alone_has_an_accept_hook_that_turns_peers_away(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    host = Host()
    modes = {**OFF, Server.LISTEN: Mode.ENFORCE}
    made = arranged(host, monkeypatch, tmp_path, modes)
    assert host.present == {"guard", "sockops", "fmod_ret-socket_listen", "fmod_ret-conn_request"}
    assert not made.servers[Server.ACCEPT].attached
    arranged(host, monkeypatch, tmp_path, OFF)
    assert not host.present


def test_agent_toml_knows_the_ways() -> None:
    assert {server: tuple(way.word for way in ways) for server, ways in WAYS.items()} == HOOK_WAYS


def test_a_reset_is_put_in_front_of_a_hook_that_drops(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    host = Host()
    made = arranged(host, monkeypatch, tmp_path, reject_with="reset")
    assert words(made) == BEST
    assert {"sk_lookup", "fmod_ret-conn_request"} <= host.present
    assert (made.answer.given, made.answer.why) == ("reset", "")
    made.arrange(host, OFF)  # type: ignore[arg-type]
    assert not host.present


@pytest.mark.parametrize("host", [Host(refuses=["sk_lookup"]), Host(unattachable=["sk_lookup"])])
def test_a_reset_that_cannot_be_had_costs_no_enforcement(
    host: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = arranged(host, monkeypatch, tmp_path, reject_with="reset")
    assert words(made) == BEST
    assert all(state.attached for state in made.servers.values())
    assert 'reject_with = "reset" cannot be had here: sk_lookup: ' in made.answer.why


def test_silence_cannot_be_had_of_sk_lookup(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    host = Host(refuses=["fmod_ret", "lsm"])
    made = arranged(host, monkeypatch, tmp_path, reject_with="drop")
    assert 'reject_with = "drop" cannot be had here' in made.answer.why


def test_a_namespace_that_sk_lookup_misses_is_guarded_by_the_hook_behind_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = arranged(Host(), monkeypatch, tmp_path, reject_with="reset")
    made.coverage.missing = {7: "no room"}
    assert made.unguarded == {}
    made = arranged(Host(refuses=["fmod_ret", "lsm"]), monkeypatch, tmp_path)
    made.coverage.missing = {7: "no room"}
    assert made.unguarded == {7: "no room"}
