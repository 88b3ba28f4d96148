# SPDX-License-Identifier: Apache-2.0
"""What the tests of docs/bypasses.md share: steps.py inside a sandbox, and what a peer meets."""

from __future__ import annotations

import contextlib
import platform
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from . import forks
from .processes import PYTHON, forked
from .sandbox import Sandbox

STEPS = Path(__file__).with_name("steps.py").read_text()  # other users may not reach the file

TURNED_AWAY = {"ECONNREFUSED", "ECONNRESET", "EPIPE", "ETIMEDOUT", "EINPROGRESS", "timeout"}
"""What a peer meets that accept rejects: a reset or silence, as the hook has it."""


def command(*steps: str, program: Sequence[str] = (PYTHON,)) -> list[str]:
    return [*program, "-I", "-S", "-c", STEPS, *steps]


def steps(
    box: Sandbox, *steps: str, user: int | None = None, program: Sequence[str] = (PYTHON,)
) -> str:
    """What the last of the steps met: `ok` or the name of the error."""
    if len(program) == 1 and forked(program[0]):
        out, errors = box.fork(forks.STEPS, steps, user).output()
        assert out, errors
        return out.strip()
    done = box.inside(command(*steps, program=program), user)
    assert done.stdout, done.stderr
    return done.stdout.strip()


class Walk:
    """Steps under way; `said` is the line they have come to."""

    def __init__(self, process: subprocess.Popen[str] | forks.Fork) -> None:
        assert process.stdin and process.stdout
        self._in, self._out = process.stdin, process.stdout
        self.said = self.listen()

    def listen(self) -> str:
        self.said = self._out.readline().strip()
        return self.said

    def go_on(self) -> None:
        """Past the `wait` that they stand at."""
        self._in.write("\n")
        self._in.flush()


@contextlib.contextmanager
def walking(
    box: Sandbox, *steps: str, user: int | None = None, program: Sequence[str] = (PYTHON,)
) -> Iterator[Walk]:
    """Steps that wait or serve meanwhile."""
    if len(program) == 1 and forked(program[0]):
        fork = box.fork(forks.STEPS, steps, user)
        try:
            yield Walk(fork)
        finally:
            fork.close()
        return
    governed = box.governed(command(*steps, program=program), user)
    with subprocess.Popen(
        governed, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Walk(process)
        finally:
            with contextlib.suppress(OSError):
                assert process.stdin
                process.stdin.close()
            process.kill()


def nobody_gets_in(box: Sandbox, outcome: str) -> bool:
    """Whether a listener was refused, or is shut: `outcome` is what its steps said."""
    if not outcome.isdigit():
        return outcome == "EPERM"
    return box.client("connect", "plain", "127.0.0.1", outcome) in TURNED_AWAY


def io_uring_or_skip(since: tuple[int, int] = (5, 5)) -> None:
    """For tests of what some kernels, by their age or configuration, rightly lack."""
    switch = Path("/proc/sys/kernel/io_uring_disabled")
    if switch.exists() and switch.read_text().strip() != "0":
        pytest.skip("sysctl kernel.io_uring_disabled is set")
    major, minor = platform.release().split(".")[:2]
    if (int(major), int(minor)) < since:
        pytest.skip(f"io_uring has this since Linux {since[0]}.{since[1]}")


def by_fallback(box: Sandbox, server: str) -> bool:
    """Whether a server is enforced by the hooks that every kernel has."""
    return box.totals(server)["hook"] in ("cgroup/post_bind", "sk_lookup")
