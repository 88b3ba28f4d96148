# SPDX-License-Identifier: Apache-2.0
"""Prove the hooks: harmless requests that every attached program must see.

A child moves into the cgroup that is governed, listens on loopback on ports of its
own and connects to itself, by IPv4 and IPv6. The programs know the child by its process
number, count its requests as proofs, hook by hook, and let them through.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from .hooks import Hook
from .kernel import Kernel

_CHILD = Path(__file__).parent / "prove_child.py"
_PATIENCE = 10.0  # seconds; the child needs some 30 ms


@dataclass(frozen=True, slots=True)
class Proof:
    """Whether all programs of a server saw requests of the agent's own."""

    ok: bool
    at: datetime
    why: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one attempt showed.

    `seen` are the numbers of hooks that counted (SR_HOOK_* of abi.h), `families` the
    address families by which requests were made, `trouble` what kept the child from
    making them.
    """

    seen: frozenset[int]
    families: frozenset[int]
    trouble: str
    at: datetime

    def unseen(self, hooks: Iterable[Hook]) -> list[Hook]:
        """The hooks that a request was made for and that did not see it."""
        return [
            hook
            for hook in hooks
            if hook.counts is not None
            and hook.counts not in self.seen
            and (hook.family is None or hook.family in self.families)
        ]

    def proof(self, hooks: Iterable[Hook]) -> Proof:
        """Whether hooks are proven; one of a family that this host lacks has nothing to see."""
        unseen = self.unseen(hooks)
        if not unseen and self.families:
            return Proof(True, self.at)
        names = ", ".join(hook.name for hook in unseen)
        seen = f"a request of the agent's own did not reach {names}"
        return Proof(False, self.at, self.trouble or seen)


def prove(kernel: Kernel, cgroup: Path) -> Attempt:
    """Provoke requests and look which hooks saw them."""
    before = kernel.proofs()
    families, trouble = _provoke(kernel, cgroup)
    after = kernel.proofs()
    seen = frozenset(number for number, count in after.items() if count > before[number])
    return Attempt(seen, families, trouble, datetime.now(UTC))


def _provoke(kernel: Kernel, cgroup: Path) -> tuple[frozenset[int], str]:
    """Run the child: the families it used, and what went wrong or an empty string."""
    with subprocess.Popen(
        [sys.executable, "-I", "-S", str(_CHILD), str(cgroup / "cgroup.procs")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as child:
        try:
            kernel.arm_probe(child.pid)
            out, _ = child.communicate("go\n", timeout=_PATIENCE)  # it may hang in a frozen cgroup
        except subprocess.TimeoutExpired:
            why = f"the process that proves the hooks did not finish in {_PATIENCE:.0f} s"
            return frozenset(), why
        except OSError as error:
            return frozenset(), f"the process that proves the hooks failed: {error}"
        finally:
            kernel.arm_probe(0)
            child.kill()
    said = out.splitlines()
    families = frozenset(int(line) for line in said if line.isdigit())
    trouble = "; ".join(line for line in said if not line.isdigit())
    if not families and not trouble:
        trouble = "the process that proves the hooks died"
    return families, trouble
