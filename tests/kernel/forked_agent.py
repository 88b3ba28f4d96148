# SPDX-License-Identifier: Apache-2.0
"""An agent forked from the process of the tests, which has its modules, for emulated machines.

There the agent takes ten seconds to read its modules and ten for all the rest.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
import traceback

from sockrules.agent import __main__ as program

CLONE_NEWNET = 0x40000000


class ForkedAgent:
    """`sockrules.agent run` with these options, in the network namespace at a path; what is
    used of Popen."""

    def __init__(self, netns: str, options: list[str]) -> None:
        out_here, out_there = os.pipe()
        errors_here, errors_there = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            _become_agent(netns, options, out_there, errors_there)
        os.close(out_there)
        os.close(errors_there)
        self.stdout = os.fdopen(out_here, encoding="utf-8")
        self.stderr = os.fdopen(errors_here, encoding="utf-8")
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        until = time.monotonic() + (timeout or float("inf"))
        while (status := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired("the agent", timeout or 0)
            time.sleep(0.05)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _become_agent(netns: str, options: list[str], out: int, errors: int) -> None:
    """In the fork: what `nsenter --net=NETNS python -m sockrules.agent run ...` is."""
    status = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(errors, 2)
        os.closerange(3, 1024)
        sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
        namespace = os.open(netns, os.O_RDONLY)
        if ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"enter {netns}")
        os.close(namespace)
        sys.argv = ["sockrules.agent", "run", *options]
        status = program.main()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
