# SPDX-License-Identifier: Apache-2.0
"""Prove the hooks: one harmless request per server that its own program must see.

A child moves into the cgroup that is governed, listens on loopback on a port of
its own and connects to itself. The programs know the child by its process
number, count its requests as proofs and let them through.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ..control.model import Server
from .kernel import Kernel

_CHILD = Path(__file__).parent / "prove_child.py"
_PATIENCE = 10.0  # seconds; the child needs some 30 ms


@dataclass(frozen=True, slots=True)
class Proof:
    """Whether a server's programs saw a request of the agent's own."""

    ok: bool
    at: datetime
    why: str = ""


def prove(kernel: Kernel, servers: Collection[Server], cgroup: Path) -> dict[Server, Proof]:
    """Provoke one request per server and look whether it was seen."""
    if not servers:
        return {}
    before = kernel.totals()
    trouble = _provoke(kernel, cgroup)
    after = kernel.totals()
    now = datetime.now(UTC)
    proofs = {}
    for server in servers:
        seen = after[server]["proofs"] > before[server]["proofs"]
        why = (
            ""
            if seen
            else trouble or f"a {server.word} of the agent's own did not reach its program"
        )
        proofs[server] = Proof(seen, now, why)
    return proofs


def _provoke(kernel: Kernel, cgroup: Path) -> str:
    """Run the child; what went wrong, or an empty string."""
    with subprocess.Popen(
        [sys.executable, "-I", "-S", str(_CHILD), str(cgroup / "cgroup.procs")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as child:
        patience = threading.Timer(_PATIENCE, child.kill)  # it may hang in a frozen cgroup
        try:
            patience.start()
            kernel.arm_probe(child.pid)
            assert child.stdin and child.stdout
            child.stdin.write("listen\n")
            child.stdin.flush()
            answer = child.stdout.readline().strip()
            if not answer.isdigit():
                return answer or "the process that proves the hooks died"
            out, _ = child.communicate("connect\n", timeout=_PATIENCE)
            return out.strip()
        except subprocess.TimeoutExpired:
            return f"the process that proves the hooks did not finish in {_PATIENCE:.0f} s"
        except OSError as error:
            return f"the process that proves the hooks failed: {error}"
        finally:
            patience.cancel()
            kernel.arm_probe(0)
            child.kill()
