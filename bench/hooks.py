# SPDX-License-Identifier: Apache-2.0
"""Nanoseconds of each program per invocation, as the kernel counts them (bpf_stats)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from kernel.run_stats import counted, programs, since

from .conditions import Subject

CALLS = 3000
LISTENS = 500

HEADINGS = f"{'under':38}{'program':16}{'doing':24}{'runs':>8}{'ns a run':>10}"


def hooks(subjects: Sequence[Subject]) -> Iterator[dict[str, Any]]:
    """A row for each program that ran under a condition, and what the client was doing."""
    with counted():
        for subject in subjects:
            if not subject.condition.mode:
                continue
            rules = subject.condition.rules
            for doing, order in (
                ("one connect repeated", ("rounds", CALLS)),
                ("connects all over", ("varied", CALLS, rules)),
                ("listens", ("listens", LISTENS)),
            ):
                if subject.condition.policy and order[0] == "varied":
                    continue  # most would be rejected, and reporting those is another cost
                before = programs()
                subject.order(*order)
                for name, (count, spent) in sorted(since(before).items()):
                    if count >= LISTENS // 2:
                        yield {
                            "under": subject.condition.name,
                            "program": name,
                            "doing": doing,
                            "runs": count,
                            "ns": spent / count,
                        }


def line(row: dict[str, Any]) -> str:
    """A row as printed."""
    return (
        f"{row['under']:38}{row['program']:16}{row['doing']:24}{row['runs']:>8}{row['ns']:>10.0f}"
    )
