# SPDX-License-Identifier: Apache-2.0
"""Processes of a cgroup in a network namespace, and what they do with sockets there."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pyroute2 import NetNS, netns

from . import forks

CLIENT = Path(__file__).with_name("client.py").read_text()  # other users may not reach the file
HAMMER = Path(__file__).with_name("hammer.py")
HANDOVER = Path(__file__).with_name("handover.py")
PYTHON = "/usr/bin/python3"
PATIENCE = float(os.environ.get("SOCKRULES_TEST_PATIENCE", "1"))
"""By how much this machine is slower than others: what is waited for may take so much longer."""



def forked(program: str) -> bool:
    """Whether a program of the tests is forked (forks.py) rather than executed."""
    return PATIENCE > 1 and program == PYTHON


Outcomes = dict[str, dict[str, int]]
"""Target of hammer.py -> `ok` or the error's name -> how often."""


class Hammer:
    """A running hammer.py."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def stop(self) -> Outcomes:
        """End it; what it met."""
        out, _ = self._process.communicate(timeout=30 * PATIENCE)
        return dict(json.loads(out))


class Processes:
    """Clients and servers in a network namespace: `name`, made by `add`, or that at `path`."""

    def __init__(self, name: str, cgroup: Path, path: str = "") -> None:
        self.name = name
        self.cgroup = cgroup
        self._path = path

    def add(self) -> None:
        netns.create(self.name)
        with NetNS(self.name) as network:
            network.link("set", ifname="lo", state="up")

    def remove(self) -> None:
        """Take the name away; the namespace lives while a process is in it."""
        netns.remove(self.name)

    @property
    def path(self) -> str:
        """What opens the namespace."""
        return self._path or f"/run/netns/{self.name}"

    @property
    def inum(self) -> int:
        """The namespace's inode number."""
        return os.stat(self.path).st_ino

    def enter(self, command: Sequence[str]) -> list[str]:
        return ["nsenter", f"--net={self.path}", *command]

    def governed(
        self, command: Sequence[str], user: int | None, unit: str | None = None
    ) -> list[str]:
        if user is not None:
            command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *command]
        join = f'echo $$ > {self.cgroup / (unit or "")}/cgroup.procs && exec "$@"'
        return self.enter(["sh", "-c", join, "sh", *command])

    def inside(
        self, command: Sequence[str], user: int | None = None, unit: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in the namespace and the cgroup, as another user if asked.

        `unit` is the name of a cgroup in the sandbox's, which the test has made.
        """
        governed = self.governed(command, user, unit)
        return subprocess.run(
            governed, capture_output=True, text=True, timeout=30 * PATIENCE, check=False
        )

    def fork(
        self, file: Path, arguments: Iterable[str], user: int | None, unit: str | None = None
    ) -> forks.Fork:
        """A program of the tests, forked instead of executed."""
        return forks.fork(file, list(arguments), self.path, self.cgroup / (unit or ""), user)

    def popen(self, command: Sequence[str], user: int | None = None) -> subprocess.Popen[str]:
        """A program that has begun; its output is the caller's to read."""
        return subprocess.Popen(
            self.governed(command, user),
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
        if forked(program):
            out, errors = self.fork(forks.CLIENT, map(str, arguments), user, unit).output()
            assert out, errors
            return out.strip()
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
        if forked(program):
            process = self.fork(forks.CLIENT, ("listen", kind, address, str(port)), user, unit)
            try:
                yield process.stdout.readline().strip()
            finally:
                process.close()
            return
        command = [program, "-I", "-S", "-c", CLIENT, "listen", kind, address, str(port)]
        with self.server(command, user, unit) as (_, answer):
            yield answer

    @contextlib.contextmanager
    def handed_over(self, how: str, port: int, listens: int, serves: int) -> Iterator[None]:
        """handover.py, meanwhile."""
        command = [PYTHON, "-I", "-S", str(HANDOVER), how, *map(str, (port, listens, serves))]
        with subprocess.Popen(
            self.governed(command, None), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin and process.stdout
            try:
                assert process.stdout.readline().strip() == "ready"
                yield
            finally:
                process.stdin.close()
                process.wait(10 * PATIENCE)

    @contextlib.contextmanager
    def server(
        self, command: Sequence[str], user: int | None = None, unit: str | None = None
    ) -> Iterator[tuple[int, str]]:
        """A program that serves until its stdin closes: its process, and the first line it says."""
        with subprocess.Popen(
            self.governed(command, user, unit),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin and process.stdout
            try:
                yield process.pid, process.stdout.readline().strip()
            finally:
                with contextlib.suppress(OSError):
                    process.stdin.close()
                process.kill()

    @contextlib.contextmanager
    def hammer(self, *targets: str, user: int | None = None) -> Iterator[Hammer]:
        """hammer.py, meanwhile."""
        command = [PYTHON, "-I", "-S", str(HAMMER), *targets]
        if PATIENCE > 1:  # an only processor has others to serve as well
            command = ["nice", "-n", "19", *command]
        with subprocess.Popen(
            self.governed(command, user),
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
            self.governed(command, user),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()
