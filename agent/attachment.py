# SPDX-License-Identifier: Apache-2.0
"""Which way serves each server: tried best first, attached, and proven by requests.

Rules. What a kernel can do is found out by doing it, hook by hook. A way is passed over
for the next when the kernel refuses one of its programs, when a hook cannot be attached,
or when a hook is attached and a request shows that it is never called (an LSM program
without `bpf` among the active security modules). Hooks of ways that were passed over,
or that another way replaced, go only after all others are in place: for a moment two may
judge the same request, and at no moment none does.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..control.model import Mode, Server
from .coverage import Coverage
from .hooks import GUARD, SK_LOOKUP, WAYS, Hook, Way
from .kernel import Kernel
from .links import Links, Target
from .prove import Attempt, Proof, prove


@dataclass(slots=True)
class ServerState:
    """How one server stands. `passed_over` says of each better way why it is not taken."""

    way: Way
    mode: Mode = Mode.OFF
    attached: bool = False
    refused: str = ""
    proof: Proof | None = None
    passed_over: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a rejected peer gets, `reset` or `drop`, and `why` that is not what was wanted."""

    given: str
    wanted: str
    why: str


class Attachment:
    """The hooks of one root.

    `in_front` are hooks that answer rejected peers before the accept hook comes to it;
    what keeps them from being attached costs no enforcement and is in `not_in_front`.

    Args:
        directory: where links are pinned.
        cgroup: the directory of the cgroup v2 that is governed.
        forced: the word of the only way that a server may take; the others are free.
        reject_with: what rejected peers are to get: `auto`, `reset` or `drop`.
    """

    def __init__(
        self,
        directory: Path,
        cgroup: Path,
        forced: Mapping[Server, str],
        reject_with: str = "auto",
    ) -> None:
        self.links = Links(directory)
        self.coverage = Coverage(self.links)
        self.reject_with = reject_with
        self.not_in_front = ""
        self.forgeable = "nothing is attached"
        """Why programs could forge what they are; empty where the guard is attached."""
        self.cgroup = cgroup
        self._ways = {
            server: [way for way in ways if way.word == forced.get(server, way.word)]
            for server, ways in WAYS.items()
        }
        self.servers = {server: ServerState(self._ways[server][0]) for server in Server}

    # -- choosing ---------------------------------------------------------------------

    def arrange(self, kernel: Kernel, modes: Mapping[Server, Mode]) -> None:
        """Attach what the modes ask for, best way first, prove it, and detach the rest."""
        for server, mode in modes.items():
            self.servers[server].mode = mode
            kernel.set_mode(server, mode)
        needed = [server for server in Server if self._is_needed(server)]
        while True:
            trouble = self._attach(kernel, needed)
            if any([self._next_way(server, self._why(server, trouble)) for server in needed]):
                continue
            attempt = prove(kernel, self.cgroup) if needed else None
            if attempt is None or not any([self._never_called(each, attempt) for each in needed]):
                break
        for server in Server:
            state = self.servers[server]
            on = state.mode is not Mode.OFF
            hooks = self.hooks_of(server)
            state.refused = _told(hooks, trouble) if on else ""
            state.attached = on and not state.refused
            state.proof = attempt.proof(hooks) if state.attached and attempt else None
        self.not_in_front = _told(self._in_front(needed), trouble)
        self.forgeable = self._guard(kernel) if needed else "nothing is attached"
        wanted = {hook for server in needed for hook in self.hooks_of(server)}
        wanted.update([GUARD] if needed else [])
        wanted.update(self._in_front(needed))
        if SK_LOOKUP not in wanted:  # whether or not there is a link: programs may have been told
            self._leave_namespaces(kernel)
        for hook in self.links.attached():
            if hook not in wanted:
                self.links.detach(hook)
        self.links.sweep()

    def hooks_of(self, server: Server) -> tuple[Hook, ...]:
        """What a server needs. Listen needs an accept hook, for peers of rejected listeners."""
        hooks = self.servers[server].way.hooks
        if server is Server.LISTEN:
            hooks += self.servers[Server.ACCEPT].way.hooks
        return tuple(dict.fromkeys(hooks))

    @property
    def sk_lookup_alone(self) -> bool:
        """Whether nobody judges peers where sk_lookup is not attached."""
        return SK_LOOKUP in self.servers[Server.ACCEPT].way.hooks

    @property
    def answer(self) -> Answer:
        """What rejected peers get."""
        alone, why = self.sk_lookup_alone, ""
        if alone and self.reject_with == "drop":
            why = 'reject_with = "drop" cannot be had here: sk_lookup knows no other answer'
        elif not alone and self.reject_with == "reset" and self.not_in_front:
            why = f'reject_with = "reset" cannot be had here: {self.not_in_front}'
        return Answer("reset" if self.coverage.covered else "drop", self.reject_with, why)

    @property
    def unguarded(self) -> dict[int, str]:
        """Network namespaces with listeners whose peers nobody judges, and why."""
        return dict(self.coverage.missing) if self.sk_lookup_alone else {}

    def namespaces(self) -> dict[str, object]:
        """What `status` shows of the network namespaces; numbers are inode numbers.

        In those that are `missing` nobody judges; in those `without_reset` a hook behind
        sk_lookup does, which drops.
        """
        missing = {str(inum): why for inum, why in sorted(dict(self.coverage.missing).items())}
        alone = self.sk_lookup_alone
        return {
            "own": self.coverage.own,
            "covered": list(self.coverage.covered),
            "missing": missing if alone else {},
            "without_reset": {} if alone else missing,
        }

    def _in_front(self, servers: Collection[Server]) -> tuple[Hook, ...]:
        """sk_lookup answers with a reset where another accept hook would drop the SYN."""
        resets = self.reject_with == "reset" and Server.ACCEPT in servers
        return (SK_LOOKUP,) if resets else ()

    def _is_needed(self, server: Server) -> bool:
        on = self.servers[server].mode is not Mode.OFF
        return on or (
            server is Server.ACCEPT and self.servers[Server.LISTEN].mode is not Mode.OFF
        )

    def _why(self, server: Server, trouble: Mapping[Hook, str]) -> str:
        hooks = self.servers[server].way.hooks
        return _told(hooks, trouble) if len(hooks) > 1 else trouble.get(hooks[0], "")

    def _never_called(self, server: Server, attempt: Attempt) -> bool:
        """Pass over a way whose hooks are not called, where another has other hooks."""
        ways, state = self._ways[server], self.servers[server]
        following = ways[ways.index(state.way) + 1 :]
        unseen = attempt.unseen(state.way.hooks)
        if attempt.trouble or not following or all(hook in following[0].hooks for hook in unseen):
            return False
        names = ", ".join(hook.name for hook in unseen)
        return self._next_way(server, f"attached and never called: {names}")

    def _next_way(self, server: Server, why: str) -> bool:
        """Go on with the next best way, if there is a reason and another way."""
        ways, state = self._ways[server], self.servers[server]
        at = ways.index(state.way)
        if not why or at + 1 == len(ways):
            return False
        state.passed_over[state.way.name] = why
        state.way = ways[at + 1]
        return True

    # -- attaching --------------------------------------------------------------------

    def _attach(self, kernel: Kernel, servers: Collection[Server]) -> dict[Hook, str]:
        """Attach the hooks of these servers' ways; what went wrong, hook by hook."""
        needed = [hook for each in servers for hook in self.hooks_of(each)]
        hooks = list(dict.fromkeys((*needed, *self._in_front(servers))))
        kernel.loaded.need(hooks)
        trouble = {}
        for hook in hooks:
            try:
                self._link(kernel, hook)
            except OSError as error:
                trouble[hook] = str(error)
        return trouble

    def relink(self, kernel: Kernel, hooks: Iterable[Hook]) -> None:
        """Put other programs into the links that there are, one after the other."""
        for hook in hooks:
            self._link(kernel, hook)

    def _guard(self, kernel: Kernel) -> str:
        kernel.loaded.need((GUARD,))
        try:
            self._link(kernel, GUARD)
        except OSError as error:
            return str(error)
        return ""

    def _link(self, kernel: Kernel, hook: Hook) -> None:
        loaded = kernel.loaded
        if hook.name in loaded.refused:
            raise OSError(loaded.refused[hook.name])
        if hook.target == "netns":
            assert loaded.instances is not None
            self.coverage.attach(loaded.instances, kernel.map("namespaces"))
            kernel.report_arrivals(True)
        elif hook.target == "kernel":
            self.links.attach(hook, loaded.programs[hook.name], None)
        else:
            fd = os.open(self.cgroup, os.O_RDONLY | os.O_CLOEXEC)
            try:
                target = Target(fd, self.cgroup.stat().st_ino)
                self.links.attach(hook, loaded.programs[hook.name], target)
            finally:
                os.close(fd)

    def _leave_namespaces(self, kernel: Kernel) -> None:
        kernel.report_arrivals(False)
        self.coverage.detach(kernel.map("namespaces"))


def refused_ways(state: ServerState) -> list[dict[str, str]]:
    """The better ways and why they are not taken, as `status` and `doctor` tell it."""
    return [{"hook": name, "why": why} for name, why in state.passed_over.items()]


def _told(hooks: Iterable[Hook], trouble: Mapping[Hook, str]) -> str:
    return "; ".join(f"{hook.name}: {trouble[hook]}" for hook in hooks if hook in trouble)
