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
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sockrules.agent.enforcer import cgroup_mount, mount_bpffs
from sockrules.control.client import Client
from sockrules.control.paths import PINS, Paths

PREFIX = "srtest"
CLIENT = Path(__file__).with_name("client.py").read_text()  # other users may not reach the file
HAMMER = Path(__file__).with_name("hammer.py")
PYTHON = "/usr/bin/python3"
_numbers = itertools.count()


Outcomes = dict[str, dict[str, int]]
"""Target of hammer.py -> `ok` or the error's name -> how often."""


class Hammer:
    """A running hammer.py."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def stop(self) -> Outcomes:
        """End it; what it met."""
        out, _ = self._process.communicate(timeout=30)
        return dict(json.loads(out))


class Sandbox:
    """Agents and clients run inside; nothing outside is governed."""

    programs: Path | None = None
    """Where compiled programs are kept for all sandboxes of a run."""

    def __init__(self, directory: Path) -> None:
        self.name = f"{PREFIX}-{os.getpid()}-{next(_numbers)}"
        self.paths = Paths(directory / self.name)
        self.cgroup = cgroup_mount() / f"{self.name}.slice"  # cgroups in it can be units
        self.agent: subprocess.Popen[str] | None = None
        self._audit_seen = 0

    def open(self) -> None:
        mount_bpffs()
        self.paths.rules.parent.mkdir(parents=True)
        self.paths.lists.mkdir()
        if self.programs:
            self.paths.state_dir.mkdir(parents=True)
            (self.paths.state_dir / "programs").symlink_to(self.programs)
        self.cgroup.mkdir()
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.inside(["ip", "link", "set", "lo", "up"])
        self.configure()

    def close(self) -> None:
        if self.agent and self.agent.poll() is None:
            self.agent.kill()
            self.agent.wait()
        shutil.rmtree(self.paths.pins, ignore_errors=True)
        sweep(self.name)

    # -- the agent ----------------------------------------------------------------------

    def configure(self, product: str = 'audit = "yes"', events: str = "", **modes: str) -> None:
        servers = "".join(f'{server} = "{mode}"\n' for server, mode in modes.items())
        self.paths.agent_config.write_text(
            f'[product]\n{product}\n[servers]\n{servers}[agent]\ncgroup = "{self.cgroup}"\n'
            f"[events]\n{events}\n"
        )

    def start(self, rules: str = "", *options: str, wait: bool = True) -> None:
        """Start an agent and wait until it answers."""
        if rules:
            self.paths.rules.write_text(rules)
        command = [sys.executable, "-m", "sockrules.agent", "run"]
        self.agent = subprocess.Popen(
            self._enter([*command, "--root", str(self.paths.root), *options]),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if wait:
            self.wait_until(self.answers, 30)

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
        return self.agent.wait(20)

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

    def totals(self, server: str) -> dict[str, Any]:
        return dict(self.call("status")["servers"][server])

    def mark(self) -> None:
        """Forget the audit lines so far."""
        self.settle()
        self._audit_seen = len(self._documents())

    def settle(self) -> None:
        """Wait until the agent has looked into its buffers at least once more."""
        time.sleep(0.3)

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

    # -- processes inside ---------------------------------------------------------------

    def _enter(self, command: Sequence[str]) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{self.name}", *command]

    def place(self, name: str) -> str:
        """The path of a cgroup in the sandbox's, as a condition names it."""
        return f"/{self.cgroup.name}/{name}"

    def _governed(
        self, command: Sequence[str], user: int | None, unit: str | None = None
    ) -> list[str]:
        if user is not None:
            command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *command]
        join = f'echo $$ > {self.cgroup / (unit or "")}/cgroup.procs && exec "$@"'
        return self._enter(["sh", "-c", join, "sh", *command])

    def inside(
        self, command: Sequence[str], user: int | None = None, unit: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in the namespace and the cgroup, as another user if asked.

        `unit` is the name of a cgroup in the sandbox's, which the test has made.
        """
        governed = self._governed(command, user, unit)
        return subprocess.run(governed, capture_output=True, text=True, timeout=30, check=False)

    def popen(self, command: Sequence[str], user: int | None = None) -> subprocess.Popen[str]:
        """A program that has begun; its output is the caller's to read."""
        return subprocess.Popen(
            self._governed(command, user),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def client(
        self,
        *arguments: str | int,
        user: int | None = None,
        program: str = PYTHON,
        unit: str | None = None,
    ) -> str:
        """One action of client.py; what it answers: `ok` or the name of the error."""
        done = self.inside([program, "-I", "-S", "-c", CLIENT, *map(str, arguments)], user, unit)
        assert done.stdout, done.stderr
        return done.stdout.strip()

    @contextlib.contextmanager
    def listener(
        self,
        kind: str,
        address: str,
        port: int,
        user: int | None = None,
        program: str = PYTHON,
        unit: str | None = None,
    ) -> Iterator[str]:
        """A process that listens meanwhile; what came of it: a port, or the name of the error."""
        with subprocess.Popen(
            self._governed(
                [program, "-I", "-S", "-c", CLIENT, "listen", kind, address, str(port)], user, unit
            ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin and process.stdout
            try:
                yield process.stdout.readline().strip()
            finally:
                with contextlib.suppress(OSError):
                    process.stdin.close()
                process.kill()

    @contextlib.contextmanager
    def hammer(self, *targets: str, user: int | None = None) -> Iterator[Hammer]:
        """hammer.py, meanwhile."""
        with subprocess.Popen(
            self._governed([PYTHON, "-I", "-S", str(HAMMER), *targets], user),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout
            try:
                assert process.stdout.readline().strip() == "ready"
                yield Hammer(process)
            finally:
                process.kill()

    def hammered(self, rounds: int, *targets: str, user: int | None = None) -> Outcomes:
        """So many rounds of hammer.py: how often each target met what."""
        command = [PYTHON, "-I", "-S", str(HAMMER), "--rounds", str(rounds), *targets]
        done = self.inside(command, user)
        assert done.stdout, done.stderr
        return dict(json.loads(done.stdout))

    @contextlib.contextmanager
    def background(
        self, command: Sequence[str], user: int | None = None
    ) -> Iterator[subprocess.Popen[str]]:
        """A program that runs meanwhile."""
        with subprocess.Popen(
            self._governed(command, user),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def wait_until(self, happens: Callable[[], bool], seconds: float, what: str = "") -> None:
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
            subprocess.run(["ip", "netns", "del", namespace.name], check=False)
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
