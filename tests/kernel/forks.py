# SPDX-License-Identifier: Apache-2.0
"""Programs of the tests as forks of a process that has read them, for emulated machines.

There an interpreter takes a second to start and a fork some hundredths. To the kernel it
is the same program, in the namespace, cgroup and user that are asked for.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import signal
import socket
import subprocess
from pathlib import Path
from typing import IO

FORKER = Path(__file__).with_name("forker.py")
CLIENT = Path(__file__).with_name("client.py")
STEPS = Path(__file__).with_name("steps.py")
PYTHON = "/usr/bin/python3"


class Fork:
    """A process under way, with its ends of three pipes; what is used of Popen."""

    def __init__(self, asked: socket.socket, request: dict[str, object]) -> None:
        ours, theirs = [], []
        for number in range(3):
            reads, writes = os.pipe()
            ours.append(writes if number == 0 else reads)
            theirs.append(reads if number == 0 else writes)
        socket.send_fds(asked, [json.dumps(request).encode()], theirs)
        for fd in theirs:
            os.close(fd)
        self.stdin: IO[str] = os.fdopen(ours[0], "w", encoding="utf-8")
        self.stdout: IO[str] = os.fdopen(ours[1], encoding="utf-8")
        self.stderr: IO[str] = os.fdopen(ours[2], encoding="utf-8")
        self.pid = int(asked.recv(100))

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """End it, wait until it has gone, and let the pipes go."""
        with contextlib.suppress(OSError):
            self.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            gone = os.pidfd_open(self.pid)
            self.kill()
            select.select([gone], [], [])
            os.close(gone)
        for file in (self.stdin, self.stdout, self.stderr):
            with contextlib.suppress(OSError):
                file.close()

    def output(self) -> tuple[str, str]:
        """What it prints until its end, and its errors."""
        with contextlib.suppress(OSError):
            self.stdin.close()
        said = self.stdout.read(), self.stderr.read()
        self.close()
        return said


@functools.cache
def forker() -> socket.socket:
    """The process that forks, of which this is the only end; it goes with this process."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [PYTHON, "-I", "-S", str(FORKER), str(CLIENT), str(STEPS)]
    subprocess.Popen(command, stdin=there)
    there.close()
    return here


def fork(file: Path, arguments: list[str], netns: str, cgroup: Path, user: int | None) -> Fork:
    """client.py or steps.py with these arguments."""
    return Fork(
        forker(),
        {
            "file": str(file),
            "arguments": arguments,
            "netns": netns,
            "cgroup": str(cgroup),
            "user": user,
        },
    )
