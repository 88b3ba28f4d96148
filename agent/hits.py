# SPDX-License-Identifier: Apache-2.0
"""How often each rule decided: from the kernel's counters to the database, by rule name.

The kernel counts and keeps no time: a look at its clock would take as long as the
decision. When a rule last decided is known as well as these counters are read often.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..control.model import DefaultRule, Rule
from .kernel import Kernel
from .state import State, now


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
        before, last, current = *self._totals, self._kernel.raw_totals()
        if not before == last == current:
            self.collect()
        self._totals = [last, current]

    def collect(self) -> None:
        """Add what was counted since last time. Raises sqlite3.Error; then nothing is forgotten."""
        if self._kernel is None:
            return
        counts = self._kernel.hits(len(self._rules), self._generation)
        present = now()
        more = {
            self._rules[index].name: (int(counts[index] - self._seen[index]), present)
            for index in np.flatnonzero(counts > self._seen).tolist()
        }
        self._state.add_hits(more)
        self._seen = counts
