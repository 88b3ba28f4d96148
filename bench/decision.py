# SPDX-License-Identifier: Apache-2.0
"""What one decision costs in the kernel, for each rule set and size."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sockrules.control import walk
from sockrules.control.compile import compile_table
from sockrules.control.table import CompileError

from . import sets
from .aim import Aim
from .probe import Timed

SIZES = (10, 1_000, 10_000, 100_000)
LIST_SIZES = (1_000, 10_000, 100_000, 1_000_000)
ALONE = 300
IN_TURN = 2048

HEADINGS = (
    f"{'set':16}{'size':>9}{'median ns':>11}{'p90':>7}{'worst':>7}{'in turn':>9}"
    f"{'steps':>7}{'tables':>8}{'kB':>8}{'compile s':>11}{'install s':>11}"
)


def sizes_of(name: str) -> tuple[int, ...]:
    if name == "deep":  # trees of 32 leaves: 10 000 of them are refused, after some seconds
        return SIZES[:2]
    return LIST_SIZES if name in sets.LISTS else SIZES


def decisions(names: Sequence[str], sizes: Sequence[int] | None = None) -> Iterator[dict[str, Any]]:
    """A row for each set and size, sizes ascending."""
    todo = [(size, name) for name in names for size in sizes or sizes_of(name)]
    with tempfile.TemporaryDirectory(prefix="sockrules-bench-") as directory:
        timed = Timed(Path(directory))
        try:
            for size, name in sorted(todo, key=lambda one: one[0]):
                yield _row(timed, name, size)
        finally:
            timed.close()


def _row(timed: Timed, name: str, size: int) -> dict[str, Any]:
    ruleset = sets.make(name, size)
    row: dict[str, Any] = {"set": name, "size": size}
    start = time.perf_counter()
    try:
        table = compile_table(ruleset, ruleset.rules)
    except CompileError as error:
        return {
            **row,
            "refused": error.problems[0].message,
            "compile_s": time.perf_counter() - start,
        }
    compiled = time.perf_counter() - start
    timed.prepare(table)
    start = time.perf_counter()
    timed.install(table)
    installed = time.perf_counter() - start
    aim = Aim(ruleset, size)
    alone, turns = timed.harness()
    times = sorted(
        time - alone
        for time in timed.alone([walk.request_words(table, r) for r in aim.requests(ALONE)])
    )
    in_turn = timed.in_turn([walk.request_words(table, r) for r in aim.requests(IN_TURN)]) - turns
    return {
        **row,
        "median_ns": statistics.median_low(times),
        "p90_ns": times[len(times) * 9 // 10],
        "worst_ns": times[-1],
        "in_turn_ns": in_turn,
        "harness_ns": [alone, turns],
        "steps": table.steps,
        "tables": table.required.tables,
        "entries": table.required.entries,
        "kB": table.size // 1024,
        "compile_s": compiled,
        "install_s": installed,
    }


def line(row: dict[str, Any]) -> str:
    """A row as printed."""
    head = f"{row['set']:16}{row['size']:>9}"
    if "refused" in row:
        return f"{head}  refused after {row['compile_s']:.1f} s: {row['refused']}"
    return (
        f"{head}{row['median_ns']:>11}{row['p90_ns']:>7}{row['worst_ns']:>7}{row['in_turn_ns']:>9}"
        f"{row['steps']:>7}{row['tables']:>8}{row['kB']:>8}"
        f"{row['compile_s']:>11.3f}{row['install_s']:>11.3f}"
    )
