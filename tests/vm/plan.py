# SPDX-License-Identifier: Apache-2.0
"""Which machines there are, and which tests each of them runs.

Every kernel is booted twice: without `bpf` in lsm=, where LSM programs load and are never
called, and with it, where they enforce. The tests that are marked `matrix` are shared out
between the two, so that a kernel runs each of them once; those of the list of security
modules run in both.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from . import cache, kernels, userland
from .kernels import SUITES, Kernel
from .machine import LSM_WITH_BPF, LSM_WITHOUT_BPF, Machine, Outcome, quoted, run
from .programs import KEPT

WAYS = "tests/kernel/test_ways.py::"
ONLY_WITH_BPF = (
    f"{WAYS}test_ways_are_changed_without_a_gap",
    f"{WAYS}test_the_fallback_works_on_every_kernel",
    *("tests/kernel/test_reject_with.py", "tests/kernel/test_services.py"),
    "tests/kernel/test_namespaces.py",
)
WITH_BPF = (f"{WAYS}test_a_way_that_is_never_called_is_not_enforcement", *ONLY_WITH_BPF)
WITHOUT_BPF = ("tests/kernel", *(f"--deselect={each}" for each in ONLY_WITH_BPF))
PATIENCE = float(os.environ.get("SOCKRULES_VM_PATIENCE", "1500"))
"""Seconds for one machine, boot included, and much more than it takes where nothing else runs."""
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

    def log(self) -> Path:
        """Where all that the machine says is kept, until it runs again."""
        place = cache.directory() / "logs"
        place.mkdir(exist_ok=True)
        return place / f"{self.name}.log"

    def machine(self) -> Machine:
        """Raises CannotBeHad."""
        return Machine(self.kernel(), self.lsm)


def plans(environment: Mapping[str, str] = os.environ) -> list[Plan]:
    """The machines; with SOCKRULES_VM_KERNEL those of that kernel alone."""
    lines = [OWN] if environment.get("SOCKRULES_VM_KERNEL") else list(SUITES)
    without = [Plan(line, LSM_WITHOUT_BPF, WITHOUT_BPF) for line in lines]
    return without + [Plan(line, LSM_WITH_BPF, WITH_BPF) for line in lines]


def carry_out(plan: Plan, told: list[str]) -> Outcome:
    """Run a machine's tests; what it says goes to `told` and to its log, line by line.

    Raises:
        CannotBeHad: the kernel or the userland.
    """
    image = userland.image()
    pytest = ("python3", "-m", "pytest", "-v", "-m", "matrix", "-p", "no:cacheprovider")
    pytest += ("--durations=10",)
    script = (
        f"export SOCKRULES_REQUIRE_KERNEL=1 SOCKRULES_TEST_PATIENCE={SLOWER}\n"
        f"export SOCKRULES_TEST_PROGRAMS={KEPT} SOCKRULES_TEST_HOOKS=best\n"
        f"{quoted(*pytest, *plan.tests)}\n"
    )
    with open(plan.log(), "w", encoding="utf-8", buffering=1) as log:

        def tell(line: str) -> None:
            told.append(line)
            log.write(f"{line}\n")

        return run(plan.machine(), image, script, PATIENCE, tell)
