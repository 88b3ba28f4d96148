# SPDX-License-Identifier: Apache-2.0
"""The tables of docs/performance.md, from one run's numbers, between marks in the text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Report = dict[str, Any]


def rewrite(report: Report, page: Path) -> None:
    """Put each table that the report has numbers for between its marks, and what was run on.

    A mark is `<!-- bench NAME -->` on a line of its own; `<!-- end -->` ends it.
    """
    text = page.read_text()
    for name, lines in _TABLES.items():
        if name in report:
            block = "\n".join(lines(report))
            pattern = rf"(<!-- bench {name} -->\n).*?(<!-- end -->)"
            text = re.sub(pattern, lambda m, b=block: f"{m[1]}{b}\n{m[2]}", text, flags=re.DOTALL)
    page.write_text(text)


def _table(headings: Iterable[str], rows: Iterable[Iterable[object]]) -> list[str]:
    names = list(headings)
    return [
        f"| {' | '.join(names)} |",
        f"|{'---|' * len(names)}",
        *(f"| {' | '.join(map(str, row))} |" for row in rows),
    ]


def _number(value: int) -> str:
    return f"{value:,}".replace(",", " ")


def _host(report: Report) -> list[str]:
    return [
        f"Linux {report['kernel']}, {report['cpus']} processors ({report['processor']}),"
        f" load {report['load']:.1f} at the beginning, {report['seconds']} s in all."
    ]


def _decision(report: Report) -> list[str]:
    headings = ("set", "rules or prefixes", "median ns", "p90", "worst", "in turn")
    rows = []
    for row in report["decision"]:
        head = row["set"], _number(row["size"])
        if "refused" in row:
            what = row["refused"].split(":")[0].split(";")[0]
            rows.append((*head, f"refused after {row['compile_s']:.1f} s: {what}", *[""] * 6))
            continue
        rows.append(
            (
                *head,
                *(row[key] for key in ("median_ns", "p90_ns", "worst_ns", "in_turn_ns")),
                *(row[key] for key in ("steps", "tables")),
                _number(row["kB"]),
                f"{row['compile_s']:.2f}",
            )
        )
    return _table((*headings, "steps at most", "tables", "kB", "compile s"), rows)


def _latency(report: Report) -> list[str]:
    rows = []
    for row in report["latency"]:
        cells = [row["under"]]
        for what in ("connect", "cycle"):
            one = row[what]
            added, low, high = (100 * (one[key] - 1) for key in ("ratio", "low", "high"))
            cells += [f"{one['median_us']:.1f}", f"{added:+.1f} % ({low:+.1f} to {high:+.1f})"]
        rows.append(cells)
    return _table(("under", "connect() us", "added", "connect-accept-close us", "added"), rows)


def _hooks(report: Report) -> list[str]:
    return _table(
        ("under", "program", "while the client does", "ns a run"),
        (
            (row["under"], f"`{row['program']}`", row["doing"], round(row["ns"]))
            for row in report["hooks"]
        ),
    )


def _compile(report: Report) -> list[str]:
    return _table(
        ("rules", "read s", "compile s", "table kB", "peak MB"),
        (
            (
                row["rules"],
                f"{row['read_s']:.3f}",
                f"{row['compile_s']:.3f}",
                _number(row["kB"]),
                row["peak_mb"],
            )
            for row in report["compile"]
        ),
    )


def _apply(report: Report) -> list[str]:
    return _table(
        ("rules", "median s", "longest s", "agent's peak MB", "MB at rest", "CPU at rest"),
        (
            (
                row["rules"],
                f"{row['median_s']:.3f}",
                f"{row['longest_s']:.3f}",
                row["peak_mb"],
                row["rest_mb"],
                f"{100 * row['rest_cpu']:.1f} %",
            )
            for row in report["apply"]
        ),
    )


_TABLES: dict[str, Callable[[Report], list[str]]] = {
    "kernel": _host,
    "decision": _decision,
    "latency": _latency,
    "hooks": _hooks,
    "compile": _compile,
    "apply": _apply,
}
