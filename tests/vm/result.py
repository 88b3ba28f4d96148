# SPDX-License-Identifier: Apache-2.0
"""What pytest in a machine came to, told from what the machine printed."""

from __future__ import annotations

import re

from .machine import BOOT_FAILED, Outcome

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
