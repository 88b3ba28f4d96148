# SPDX-License-Identifier: Apache-2.0
"""A network namespace, a cgroup and a scratch root, made for one test and gone after it.

Names carry the process number of the test run, so that a later run can sweep
what one that was killed left behind.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pyroute2 import netns

from sockrules.agent.enforcer import cgroup_mount, mount_bpffs
from sockrules.agent.hooks import GUARD, TRACKERS, WAYS, Way
from sockrules.control.client import Client
from sockrules.control.model import Server
from sockrules.control.paths import PINS, Paths

from .forked_agent import ForkedAgent
from .processes import PATIENCE, Processes

PREFIX = "srtest"
_numbers = itertools.count()


FALLBACK = {"listen": "post_bind", "accept": "sk_lookup"}
"""What most tests run with: bind() fails, peers get a reset."""

BEST: dict[str, str] = {}
"""What a host gets that says nothing. test_ways.py is about it."""

USUAL = BEST if os.environ.get("SOCKRULES_TEST_HOOKS") == "best" else FALLBACK
"""What tests run with that do not say; in virtual machines the best hooks."""


class Sandbox(Processes):
    """Agents and clients run inside; nothing outside is governed."""

    programs: Path | None = None
    """Where compiled programs are kept for all sandboxes of a run."""

    def __init__(self, directory: Path) -> None:
        name = f"{PREFIX}-{os.getpid()}-{next(_numbers)}"
        super().__init__(name, cgroup_mount() / f"{name}.slice")  # cgroups in it can be units
        self.paths = Paths(directory / self.name)
        self.agent: subprocess.Popen[str] | ForkedAgent | None = None
        self._audit_seen = 0

    def open(self) -> None:
        mount_bpffs()
        self.paths.rules.parent.mkdir(parents=True)
        self.paths.lists.mkdir()
        if self.programs:
            self.paths.state_dir.mkdir(parents=True)
            (self.paths.state_dir / "programs").symlink_to(self.programs)
        self.cgroup.mkdir()
        self.add()
        self.configure()

    def close(self) -> None:
        if self.agent and self.agent.poll() is None:
            self.agent.kill()
            self.agent.wait()
        shutil.rmtree(self.paths.pins, ignore_errors=True)
        sweep(self.name)

    # -- the agent ----------------------------------------------------------------------

    def configure(
        self,
        product: str = 'audit = "yes"',
        events: str = "",
        hooks: Mapping[str, str] = USUAL,
        reject_with: str = "auto",
        **modes: str,
    ) -> None:
        def lines(values: Mapping[str, str]) -> str:
            return "".join(f'{key} = "{value}"\n' for key, value in values.items())

        self.paths.agent_config.write_text(
            f'[product]\n{product}\n[servers]\n{lines(modes)}[hooks]\n{lines(hooks)}'
            f'[accept]\nreject_with = "{reject_with}"\n'
            f'[agent]\ncgroup = "{self.cgroup}"\n[events]\n{events}\n'
        )

    def start(self, rules: str = "", *options: str, wait: bool = True) -> None:
        """Start an agent and wait until it answers."""
        if rules:
            self.paths.rules.write_text(rules)
        options = ("--root", str(self.paths.root), *options)
        if PATIENCE > 1:
            self.agent = ForkedAgent(self.path, list(options))
        else:
            command = [sys.executable, "-m", "sockrules.agent", "run", *options]
            self.agent = subprocess.Popen(
                self.enter(command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        if wait:
            self.wait_until(self.answers, 120)

    def answers(self) -> bool:
        assert self.agent
        if self.agent.poll() is not None:
            raise AssertionError(
                f"the agent ended: {self.agent.stderr and self.agent.stderr.read()}"
            )
        if not self.paths.socket.exists():
            return False
        with contextlib.suppress(Exception):
            self.call("status")
            return True
        return False

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.agent
        self.agent.send_signal(number)
        return self.agent.wait(20 * PATIENCE)

    def call(self, command: str, **arguments: Any) -> dict[str, Any]:
        return dict(Client(self.paths.socket).call(command, **arguments))

    def apply(self, rules: str) -> dict[str, Any]:
        return self.call("apply", text=rules, file="test.toml")

    def activate(self, mode: str, *servers: str) -> None:
        answer = self.call(
            "activate", servers=list(servers or ("listen", "accept", "connect")), mode=mode
        )
        if mode != "off":
            for server, state in answer["servers"].items():
                if server in servers or not servers:
                    assert state["proof"]["ok"], f"{server}: {state}"

    def way(self, server: Server) -> Way:
        """How an active server is enforced here."""
        name = self.call("status")["servers"][server.word]["hook"]
        return next(way for way in WAYS[server] if way.name == name)

    def links(self) -> set[str]:
        """The servers' hooks that are attached; sk_lookup has a link in each network namespace."""
        names = {path.name for path in (self.paths.pins / "links").iterdir()}
        judging = names - {hook.name for hook in (GUARD, *TRACKERS)}
        return {re.sub(r"^sk_lookup-\d+$", "sk_lookup", name) for name in judging}

    def totals(self, server: str) -> dict[str, Any]:
        return dict(self.call("status")["servers"][server])

    def mark(self) -> None:
        """Forget the audit lines so far."""
        self.settle()
        self._audit_seen = len(self._documents())

    def settle(self) -> None:
        """Wait until the agent has looked into its buffers at least once more."""
        time.sleep(0.3 * min(PATIENCE, 2))

    def audit(self, count: int = 1, kind: str = "event", **sockrules: Any) -> list[dict[str, Any]]:
        """Lines since the last mark, `count` of them at least, filtered by `sockrules` fields."""
        found: list[dict[str, Any]] = []

        def enough() -> bool:
            found[:] = [
                doc
                for doc in self._documents()[self._audit_seen :]
                if doc["event"]["kind"] == kind
                and all(doc["sockrules"].get(key) == value for key, value in sockrules.items())
            ]
            return len(found) >= count

        if count:
            self.wait_until(enough, 5, f"{count} audit lines with {sockrules}")
        else:
            self.settle()
            enough()
        return found

    def _documents(self) -> list[dict[str, Any]]:
        with contextlib.suppress(FileNotFoundError):
            return [json.loads(line) for line in self.paths.audit_log.read_text().splitlines()]
        return []

    def place(self, name: str) -> str:
        """The path of a cgroup in the sandbox's, as a condition names it."""
        return f"/{self.cgroup.name}/{name}"

    @contextlib.contextmanager
    def namespace(self) -> Iterator[Processes]:
        """Another network namespace, for processes of the same cgroup, meanwhile."""
        other = Processes(f"{self.name}-{next(_numbers)}", self.cgroup)
        other.add()
        try:
            yield other
        finally:
            other.remove()

    def wait_until(self, happens: Callable[[], bool], seconds: float, what: str = "") -> None:
        seconds *= PATIENCE
        deadline = time.monotonic() + seconds
        while not happens():
            assert time.monotonic() < deadline, (
                f"not within {seconds} s: {what or happens.__name__}"
            )
            time.sleep(0.03)


def sweep(name: str | None = None) -> None:
    """Remove sandboxes: the named one, or all whose test run is gone."""
    for cgroup in cgroup_mount().glob(f"{PREFIX}-*"):
        if cgroup.stem == name or (name is None and _is_orphan(cgroup.name)):
            for inner in sorted(cgroup.glob("**/"), reverse=True):
                _remove(inner)
    namespaces = Path("/run/netns")
    for namespace in namespaces.glob(f"{PREFIX}-*") if namespaces.exists() else ():
        if namespace.name == name or (name is None and _is_orphan(namespace.name)):
            netns.remove(namespace.name)
    for pins in PINS.glob(f"{PREFIX}-*") if PINS.exists() else ():
        if name is None and _is_orphan(pins.name):
            shutil.rmtree(pins, ignore_errors=True)


def _remove(cgroup: Path) -> None:
    for _ in range(50):
        with contextlib.suppress(OSError):
            for pid in (cgroup / "cgroup.procs").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
        with contextlib.suppress(OSError):
            cgroup.rmdir()
            return
        time.sleep(0.05)


def _is_orphan(name: str) -> bool:
    return not Path(f"/proc/{name.split('-')[1]}").exists()
