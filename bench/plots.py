# SPDX-License-Identifier: Apache-2.0
"""The pictures of docs/performance.md, from one run's numbers: small SVG, text as text.

The tables of that page are brought up to date with them (tables.py).
"""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

from .tables import rewrite

Rows = list[dict[str, Any]]

_LICENCE = "<!-- SPDX-License-Identifier: Apache-2.0 -->"
_LISTS = ("blocklist", "crowded")


def plots(source: Path, target: Path) -> int:
    """Draw what the report at `source` has into the directory `target`."""
    try:
        import matplotlib
    except ImportError:
        print("bench: plots need matplotlib; run: packaging/setup --bench", file=sys.stderr)
        return 2
    matplotlib.use("svg")
    matplotlib.rcParams.update(
        {"svg.fonttype": "none", "svg.hashsalt": "sockrules", "font.size": 9, "legend.fontsize": 8}
    )
    report = json.loads(source.read_text())
    measured = [row for row in report.get("decision", ()) if "median_ns" in row]
    if measured:
        _save(_decisions([row for row in measured if row["set"] not in _LISTS]), target, "decision")
        _save(_lists([row for row in measured if row["set"] in _LISTS]), target, "lists")
    if report.get("latency"):
        _save(_latencies(report["latency"]), target, "connect")
    page = target / "performance.md"
    if page.exists():
        rewrite(report, page)
        print(page)
    return 0


def _figure(wide: float, high: float, panels: int = 1) -> tuple[Any, Any]:
    from matplotlib import pyplot

    return pyplot.subplots(1, panels, figsize=(wide, high), layout="constrained", squeeze=False)


def _save(figure: Any, target: Path, name: str) -> None:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    short = re.sub(r"(\d\.\d\d)\d+", r"\1", text.getvalue())
    head, rest = short.split("\n", 1)
    lines = (line.rstrip() for line in rest.splitlines())
    path = target / f"performance-{name}.svg"
    path.write_text("\n".join((head, _LICENCE, *lines)) + "\n")
    print(path)


def _decisions(rows: Rows) -> Any:
    """Nanoseconds by number of rules: one request repeated, and requests in turn."""
    figure, axes = _figure(8, 3.4, 2)
    for axis, key, title in (
        (axes[0][0], "median_ns", "one request repeated, median"),
        (axes[0][1], "in_turn_ns", "requests in turn, mean"),
    ):
        for number, name in enumerate(dict.fromkeys(row["set"] for row in rows)):
            own = [row for row in rows if row["set"] == name]
            axis.plot(
                [row["size"] for row in own],
                [max(row[key], 10) for row in own],
                marker="os^vDP*Xph"[number % 10],
                markersize=4,
                linewidth=1.2,
                color=f"C{number}",
                label=name,
            )
        axis.set(xscale="log", yscale="log", xlabel="rules", title=title, ylim=(10, 10_000))
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("ns a decision")
    axes[0][1].legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _lists(rows: Rows) -> Any:
    """Up to a million prefixes in one list: what a decision costs, and compiling."""
    figure, axes = _figure(8, 2.8, 2)
    for name, colour in zip(_LISTS, ("C0", "C3"), strict=True):
        own = [row for row in rows if row["set"] == name]
        sizes = [row["size"] for row in own]
        for key, style, what in (("median_ns", "o-", "repeated"), ("in_turn_ns", "s--", "in turn")):
            values = [row[key] for row in own]
            axes[0][0].plot(
                sizes, values, style, color=colour, markersize=4, label=f"{name}, {what}"
            )
        axes[0][1].plot(
            sizes, [row["compile_s"] for row in own], "o-", color=colour, markersize=4, label=name
        )
    axes[0][0].set(xscale="log", xlabel="prefixes", ylabel="ns a decision")
    axes[0][0].set_ylim(bottom=0)
    axes[0][1].set(xscale="log", yscale="log", xlabel="prefixes", ylabel="s to compile")
    for axis in axes[0]:
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    return figure


def _latencies(rows: Rows) -> Any:
    """What is added to a bare call, with the range of the median; far bars are cut."""
    figure, axes = _figure(8, 0.26 * len(rows) + 0.8, 2)
    names = [row["under"] for row in rows]
    for axis, what, title in (
        (axes[0][0], "connect", "connect()"),
        (axes[0][1], "cycle", "connect-accept-close"),
    ):
        for at, row in enumerate(rows):
            one = row[what]
            added = 100 * (one["ratio"] - 1)
            colour = "C1" if row["under"].startswith("nft") else "C0"
            axis.barh(at, min(added, 40), color=colour, alpha=0.8)
            if added > 40:
                axis.text(40, at, f"{added:.0f} % ", va="center", ha="right", color="white")
            else:
                axis.hlines(at, 100 * (one["low"] - 1), 100 * (one["high"] - 1), color="black")
        axis.set(title=title, xlabel="added, %", xlim=(-4, 40))
        axis.set_yticks(range(len(names)), names if axis is axes[0][0] else [""] * len(names))
        axis.invert_yaxis()
        axis.grid(axis="x", alpha=0.3)
    return figure
