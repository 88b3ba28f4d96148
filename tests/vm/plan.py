# SPDX-License-Identifier: Apache-2.0
"""Which machines there are, and which tests each of them runs.

Every kernel is booted twice. Without `bpf` in lsm= it runs all tests that are marked
`matrix`: fmod_ret enforces there, and LSM programs load and are never called. With it,
those in which the list of security modules can make a difference.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from . import kernels, userland
from .kernels import SUITES, Kernel
from .machine import LSM_WITH_BPF, LSM_WITHOUT_BPF, Machine, Outcome, quoted, run
from .programs import KEPT

WHERE_LSM_MATTERS = ("tests/kernel/test_ways.py", "tests/kernel/test_reject_with.py")
PATIENCE = 1500.0
"""Seconds for one machine; the slowest takes some 300 on an idle host with two CPUs."""
SLOWER = 10
"""How much longer the tests in a machine wait (SOCKRULES_TEST_PATIENCE)."""
OWN = "own"
"""What the kernel that SOCKRULES_VM_KERNEL names is called among the others."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One machine: a line of Debian's kernels or OWN, the modules, and the tests."""

    line: str
    lsm: tuple[str, ...]
    tests: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.line}-{'bpf' if 'bpf' in self.lsm else 'no-bpf'}"

    def kernel(self) -> Kernel:
        """Raises CannotBeHad."""
        if self.line != OWN:
            return kernels.debian(self.line)
        modules = os.environ.get("SOCKRULES_VM_MODULES")
        image = Path(os.environ["SOCKRULES_VM_KERNEL"])
        return kernels.own(image, Path(modules) if modules else None)

    def machine(self) -> Machine:
        """Raises CannotBeHad."""
        return Machine(self.kernel(), self.lsm)


def plans(environment: Mapping[str, str] = os.environ) -> list[Plan]:
    """The machines; with SOCKRULES_VM_KERNEL those of that kernel alone. Longest first."""
    lines = [OWN] if environment.get("SOCKRULES_VM_KERNEL") else list(SUITES)
    everything = [Plan(line, LSM_WITHOUT_BPF, ("tests/kernel",)) for line in lines]
    return everything + [Plan(line, LSM_WITH_BPF, WHERE_LSM_MATTERS) for line in lines]


def carry_out(plan: Plan, told: list[str]) -> Outcome:
    """Run a machine's tests; what it says goes to `told` line by line.

    Raises:
        CannotBeHad: the kernel or the userland.
    """
    image = userland.image()
    pytest = ("python3", "-m", "pytest", "-v", "-m", "matrix", "-p", "no:cacheprovider")
    script = (
        f"export SOCKRULES_REQUIRE_KERNEL=1 SOCKRULES_TEST_PATIENCE={SLOWER}\n"
        f"export SOCKRULES_TEST_PROGRAMS={KEPT} SOCKRULES_TEST_HOOKS=best\n"
        f"{quoted(*pytest, *plan.tests)}\n"
    )
    return run(plan.machine(), image, script, PATIENCE, told.append)
