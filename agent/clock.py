# SPDX-License-Identifier: Apache-2.0
"""The time of day for rules that ask for it: another table at every boundary.

Rules. The kernel has no clock: the table in force was compiled for a moment and
is right until the next boundary. It is replaced then, as the same revision: no
rule changes its number, so that events keep naming the right one.

Theory. Between the moment a table is made for and the boundary after it nothing
changes. So there is nothing to watch but whether the clock shows a time in
between: a step forwards leaves it at the boundary, a step back only matters
when it leads to before that moment, and a new zone is another clock. A look
twice a second, where any rule asks for the time, costs microseconds and needs no timer
that could be cancelled.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ..control import zone
from ..control.model import RuleSet
from ..control.problems import InputError
from ..control.schedule import next_boundary, rules_at, timed
from ..control.table import Table
from ..control.week import minute_of_week, minute_text
from ..control.zone import LOCALTIME
from .policy import Policy, compiled_again

if TYPE_CHECKING:
    from .daemon import Agent

TICK = 0.5  # seconds between looks at the clock: how late a boundary may be
_NAMED = 20  # rules named in the audit line of a boundary


class Clock:
    """The host's clock; its zone is the same object until the host's zone changes."""

    def __init__(self, localtime: Path = LOCALTIME) -> None:
        self._file = localtime

    def now(self) -> datetime:
        """The present moment in the host's zone."""
        return zone.now(self._file)


class Timekeeper:
    """Keeps the table in force that the time of day asks for."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._table: Table | None = None
        self._moment: datetime | None = None
        self._boundary: datetime | None = None

    def is_needed(self) -> bool:
        """Whether the table in force asks for the time, as far as the last look knows."""
        return self._moment is not None

    async def tick(self) -> None:
        """Look at the clock; put another table in force when its time has come."""
        if self.due(self._agent.policy, self._agent.clock.now()):
            async with self._agent.changing:
                policy, moment = self._agent.policy, self._agent.clock.now()
                if self.due(policy, moment):
                    await self._change(policy, moment)

    def due(self, policy: Policy, moment: datetime) -> bool:
        """Whether the policy's table may be wrong at this moment."""
        if policy.table is not self._table:
            self._look_ahead(policy, policy.table.moment or moment)
        if self._moment is None:
            return False
        return (
            moment.tzinfo is not self._moment.tzinfo
            or moment.astimezone(UTC) < self._moment.astimezone(UTC)
            or (self._boundary is not None and moment.astimezone(UTC) >= self._boundary)
        )

    def next_change(self) -> str | None:
        """When the time will next change which rules hold, ISO 8601 in UTC."""
        if self._agent.policy.table is not self._table:
            self.due(self._agent.policy, self._agent.clock.now())
        if self._boundary is None:
            return None
        return self._boundary.isoformat(timespec="seconds").replace("+00:00", "Z")

    def _look_ahead(self, policy: Policy, moment: datetime) -> None:
        """From `moment` until the boundary after it there is nothing to do for this table."""
        active = policy.ruleset.active()
        self._table, self._moment, self._boundary = policy.table, None, None
        if timed(active):
            self._moment = moment
            boundary = next_boundary(RuleSet(active), moment)
            self._boundary = boundary.astimezone(UTC) if boundary else None

    async def _change(self, policy: Policy, moment: datetime) -> None:
        agent, before = self._agent, self._moment
        self._look_ahead(policy, moment)  # also when it fails: not again before the next one
        active = policy.ruleset.active()
        try:
            fresh = await agent.in_worker(compiled_again, policy, moment, policy.same)
        except InputError as error:
            agent.record.problem(
                f"the rules as of {_shown(moment)} cannot be compiled, those of before"
                f" stay in force: {error}"
            )
            return
        changed = [
            rule.name
            for rule, was, is_ in zip(
                active, rules_at(active, before or moment), rules_at(active, moment), strict=True
            )
            if was.when != is_.when
        ]
        await agent.put_in_force(fresh)
        agent.record.say(
            "rules-by-time",
            f"the time, {_shown(moment)}, changed what holds of {len(changed)} rules",
            rules=changed[:_NAMED],
        )


def _shown(moment: datetime) -> str:
    return f"{minute_text(minute_of_week(moment))} ({moment.isoformat(timespec='seconds')})"
