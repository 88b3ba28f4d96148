# SPDX-License-Identifier: Apache-2.0
"""What connect() and connect-accept-close feel: many short rounds, interleaved, and paired.

A pass is one round under each condition, in random order. `nothing` is measured twice,
in two sandboxes; their mean is the bare round of a pass. What a condition costs is the
median, over the passes, of its round divided by the bare one; the range of that median
(95 %, from the order of the ratios alone) says what the number is worth. What the two
`nothing` differ by is what no difference looks like. Clients are renewed every few
passes, since each process has a speed of its own.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from typing import Any

from .conditions import AGAIN, NOTHING, Subject

CALLS = 120  # of a round
MOST_PASSES = 400
RENEWED = 12  # passes of one client

HEADINGS = (
    f"{'':38}{'connect()':^34}  {'connect-accept-close':^34}\n"
    f"{'under':38}" + 2 * f"{'us':>8}{'ratio':>8}{'95 %':>16}{'':4}"
)


def latencies(subjects: Sequence[Subject], seconds: float) -> list[dict[str, Any]]:
    """A row for each condition after so many seconds of passes."""
    rng = random.Random(1)
    times: dict[str, dict[str, list[float]]] = {
        subject.condition.name: {"connect": [], "cycle": []} for subject in subjects
    }
    order = list(subjects)
    end = time.monotonic() + seconds
    passes = 0
    while passes < 5 or (time.monotonic() < end and passes < MOST_PASSES):
        if passes and passes % RENEWED == 0:
            for subject in subjects:
                subject.renew()
        rng.shuffle(order)
        for subject in order:
            for what, median in subject.order("rounds", CALLS).items():
                times[subject.condition.name][what].append(median)
        passes += 1
    bare = {
        what: [(one + other) / 2 for one, other in zip(first, again, strict=True)]
        for what, first in times[NOTHING.name].items()
        for again in [times[AGAIN.name][what]]
    }
    return [
        {
            "under": subject.condition.name,
            "passes": passes,
            "lost": subject.lost() if subject.condition.mode else 0,
            **{
                what: _summary(times[subject.condition.name][what], bare[what])
                for what in ("connect", "cycle")
            },
        }
        for subject in subjects
    ]


def _summary(own: list[float], bare: list[float]) -> dict[str, float]:
    ratios = sorted(mine / theirs for mine, theirs in zip(own, bare, strict=True))
    low, high = _interval(ratios)
    return {
        "median_us": statistics.median(own) / 1000,
        "lowest_us": min(own) / 1000,
        "ratio": statistics.median(ratios),
        "low": low,
        "high": high,
        "lowest_ratio": min(own) / min(bare),
    }


def _interval(ordered: list[float]) -> tuple[float, float]:
    """Bounds of the median with 95 % confidence, whatever the distribution (binomial)."""
    n = len(ordered)
    reach = round(0.98 * n**0.5)
    return ordered[max(0, n // 2 - reach)], ordered[min(n - 1, n // 2 + reach)]


def line(row: dict[str, Any]) -> str:
    """A row as printed."""
    parts = [f"{row['under']:38}"]
    for what in ("connect", "cycle"):
        one = row[what]
        parts.append(
            f"{one['median_us']:>8.2f}{one['ratio']:>8.3f}{one['low']:>9.3f}-{one['high']:.3f} "
        )
    if row["lost"]:
        parts.append(f" {row['lost']} events lost")
    return "   ".join(parts)
