# SPDX-License-Identifier: Apache-2.0
"""The table of docs/kernels.md: vm.costs on this host and in machines, side by side."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import machine, userland
from .costs import REPORT
from .plan import PATIENCE, SLOWER, Plan

Report = dict[str, Any]
"""What vm.costs prints."""


class NotMeasured(Exception):
    """A measurement failed; the text is the end of what it said."""


def page(plans: Sequence[Plan]) -> str:
    """Three Markdown tables: of programs by kernel instructions and nanoseconds; of starts."""
    reports = [here(), *(there(plan) for plan in plans)]
    return "\n\n".join(
        (
            "Instructions that the verifier went through:\n",
            by_kernel(reports, "instructions"),
            "Nanoseconds an invocation; all kernels but the first under emulation:\n",
            by_kernel(reports, "nanoseconds"),
            "Starts; all kernels but the first under emulation:\n",
            starts(reports),
        )
    ).replace("\n\n\n", "\n\n")


def here() -> Report:
    """This host's own."""
    done = subprocess.run(
        [sys.executable, "-m", "vm.costs"],
        cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False,
    )  # fmt: skip
    return _found(done.stdout, done.stderr)


def there(plan: Plan) -> Report:
    """A machine's.

    Raises:
        CannotBeHad: the kernel or the userland.
    """
    script = f"export SOCKRULES_TEST_PATIENCE={SLOWER}\npython3 -m vm.costs\n"
    outcome = machine.run(plan.machine(), userland.image(), script, PATIENCE)
    return _found(outcome.output, outcome.output)


def _found(output: str, trouble: str) -> Report:
    for line in output.splitlines():
        if line.startswith(REPORT):
            return dict(json.loads(line.removeprefix(REPORT)))
    raise NotMeasured("\n".join(trouble.splitlines()[-30:]))


def by_kernel(reports: Sequence[Report], what: str) -> str:
    """A row for each program, a column for each kernel; empty where the program did not run."""
    rows = [["program", *(str(report["kernel"]) for report in reports)]]
    for index, first in enumerate(reports[0]["hooks"]):
        row = [str(first["hook"])]
        for report in reports:
            each = report["hooks"][index]
            number = f"{each.get(what) or 0:,}".replace(",", " ")
            row.append("refused" if each["refused"] else "" if number == "0" else number)
        rows.append(row)
    return _table(rows)


def starts(reports: Sequence[Report]) -> str:
    """A row for each kernel and set of ways."""
    rows = [["kernel", "listen, accept, connect by", "attached and proven s", "clang s"]]
    for report in reports:
        for start in report["starts"]:
            rows.append(
                [
                    *(report["kernel"], start["ways"], f"{start['seconds']:.1f}"),
                    f"{report['compile']:.1f}",
                ]
            )
    return _table(rows)


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, "|---" * len(rows[0]) + "|")
    return "\n".join(lines)
