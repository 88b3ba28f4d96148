# SPDX-License-Identifier: Apache-2.0
"""The preferred hooks, and all that is promised of every kernel, on Debian's kernels.

A test here is a machine: it boots the kernel under emulation and runs the tests that are
marked `matrix` in it. A kernel that cannot be had fails like a test that fails in it.
"""

from __future__ import annotations

import pytest

from .conftest import SUMMARIES, Machines
from .debian import why_not_here
from .plan import Plan, plans
from .result import failures_in, result_of, why_not

pytestmark = [pytest.mark.kernel, pytest.mark.slow, pytest.mark.machine]

@pytest.mark.parametrize("plan", [pytest.param(plan, id=plan.name) for plan in plans()])
def test_the_matrix_holds(plan: Plan, machines: Machines, request: pytest.FixtureRequest) -> None:
    if reason := why_not_here():
        pytest.skip(reason)
    outcome = machines.wait(plan)
    result = result_of(outcome.output)
    summary = f"{plan.machine()}: {result}; {outcome.seconds:.0f} s with the boot"
    request.config.stash[SUMMARIES].append(summary)
    print(summary)
    if outcome.status != 0:
        why = f"{summary}: {why_not(outcome)}; all of it is in {plan.log()}"
        pytest.fail(f"{why}\n{failures_in(outcome.output)}", pytrace=False)
    assert " passed" in result, "a machine in which nothing ran proves nothing"
