# SPDX-License-Identifier: Apache-2.0
"""How often each rule decided: from the kernel's counters to the database, by rule name."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from ..control.model import DefaultRule, Rule
from .kernel import Kernel
from .state import State


class HitCounter:
    """Follows one table in force; a swap is `collect`, then `follow` the next."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._kernel: Kernel | None = None
        self._generation = 0
        self._rules: Sequence[Rule | DefaultRule] = ()
        self._seen = np.zeros(0, np.uint64)
        self._totals = [b"", b""]

    def follow(self, kernel: Kernel, rules: Sequence[Rule | DefaultRule]) -> None:
        """Count from zero for the table that `kernel` has in force."""
        self._kernel, self._generation = kernel, kernel.generation
        self._rules, self._seen = rules, np.zeros(len(rules), np.uint64)

    def keep_up(self) -> None:
        """`collect`, if anything was decided: a hit is counted just after its decision."""
        if self._kernel is None:
            return
        before, last, now = *self._totals, self._kernel.raw_totals()
        if not before == last == now:
            self.collect()
        self._totals = [last, now]

    def collect(self) -> None:
        """Add what was counted since last time. Raises sqlite3.Error; then nothing is forgotten."""
        if self._kernel is None:
            return
        counts, last = self._kernel.hits(len(self._rules), self._generation)
        more = {
            self._rules[index].name: (int(counts[index] - self._seen[index]), _wall(last[index]))
            for index in np.flatnonzero(counts > self._seen).tolist()
        }
        self._state.add_hits(more)
        self._seen = counts


def _wall(monotonic: int) -> str:
    moment = int(monotonic) + time.time_ns() - time.monotonic_ns()
    return (
        datetime.fromtimestamp(moment / 1e9, UTC)
        .isoformat(timespec="seconds")
        .replace("+00:00", "Z")
    )
