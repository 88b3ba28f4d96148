# SPDX-License-Identifier: Apache-2.0
"""The preferred hooks, and all that is promised of every kernel, on Debian's kernels.

A test here is a machine: it boots the kernel under emulation and runs the tests that are
marked `matrix` in it. A kernel that cannot be had fails like a test that fails in it.
"""

from __future__ import annotations

import re

import pytest

from .conftest import SUMMARIES, Machines
from .debian import why_not_here
from .machine import BOOT_FAILED, Outcome
from .plan import Plan, plans

pytestmark = [pytest.mark.kernel, pytest.mark.slow, pytest.mark.machine]

_LAST_LINES = 60
_RESULT = re.compile(r"=+ (?P<result>\d+ (?:passed|failed|skipped|error|deselected).*?) =+$")


def result_of(output: str) -> str:
    """`87 passed, 200 deselected in 63.12s`, or what pytest did not come to."""
    found = [match for line in output.splitlines() if (match := _RESULT.match(line))]
    return found[-1]["result"] if found else "no result"


def failures_in(output: str) -> str:
    """What pytest says of failures, or the end of whatever was said."""
    at = re.search(r"^=+ (ERRORS|FAILURES) =+$", output, re.MULTILINE)
    return output[at.start() :] if at else "\n".join(output.splitlines()[-_LAST_LINES:])


def why_not(outcome: Outcome) -> str:
    """What went wrong in a machine, in a word or two."""
    if outcome.status is None:
        return "it was not done in time"
    if outcome.status == BOOT_FAILED:
        return "it did not boot"
    return f"exit status {outcome.status}"


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
        pytest.fail(f"{summary}: {why_not(outcome)}\n{failures_in(outcome.output)}", pytrace=False)
    assert " passed" in result, "a machine in which nothing ran proves nothing"
