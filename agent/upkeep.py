# SPDX-License-Identifier: Apache-2.0
"""What an agent does of itself, now and then: reading what has come, seeing to hooks,
programs, cgroups and network namespaces, writing, and looking at the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..control.model import Mode
from ..control.problems import InputError
from .captures import FLUSH_EVERY
from .clock import TICK
from .pauses import Pauses, until_next
from .policy import Policy, compiled_again, same_now

if TYPE_CHECKING:
    from .daemon import Agent

SELDOM = 2.0  # seconds
MEND_EVERY = SELDOM
RECONCILE_EVERY = 10.0
COUNTDOWN_EVERY = 0.5  # how late an unconfirmed revision is taken back at most


class Upkeep:
    """The upkeep of one agent, for one loop."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._programs_due = self._cgroups_due = False
        self._watching: asyncio.Task[None] | None = None
        self._joined: Policy | None = None  # whose programs were seen to be right
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        agent = self._agent
        self._tasks = [
            asyncio.create_task(self._drain_always()),
            asyncio.create_task(self._every(MEND_EVERY, self._mend)),
            asyncio.create_task(self._every(RECONCILE_EVERY, self._reconcile)),
            asyncio.create_task(
                self._every(FLUSH_EVERY, agent.captures.flush, agent.captures.has_waiting)
            ),
            asyncio.create_task(
                self._every(COUNTDOWN_EVERY, agent.countdown.look, agent.countdown.is_running)
            ),
            asyncio.create_task(
                self._every(TICK, agent.timekeeper.tick, agent.timekeeper.is_needed)
            ),
        ]

    async def end(self) -> None:
        if self._watching:
            self._tasks.append(self._watching)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def look_anew(self) -> None:
        """Another policy is in force; the one before is kept by nobody."""
        self._joined = None

    async def _every(
        self, seconds: float, work: Any, needed: Callable[[], bool] = lambda: True
    ) -> None:
        """Where it is not needed the work is done now and then all the same."""
        while True:
            await until_next(seconds if needed() else SELDOM)
            with self._agent.record.noting(getattr(work, "__name__", "work")):
                result = work()
                if asyncio.iscoroutine(result):
                    await result

    async def _drain_always(self) -> None:
        pauses = Pauses(self._agent.enforcer.reader)
        while True:
            await pauses.pause()
            self._drain_and_watch()

    def _drain_and_watch(self) -> None:
        agent = self._agent
        with agent.record.noting("drain"):
            agent.record.drain()
        self._programs_due |= agent.enforcer.identities.due()
        self._cgroups_due |= agent.enforcer.cgroups_made()
        idle = self._watching is None or self._watching.done()
        if idle and (self._programs_due or self._cgroups_due):
            self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        """See to programs that were replaced or made, and to cgroups where that is needed."""
        agent = self._agent
        with agent.record.noting("programs and services"):
            if self._programs_due:
                async with agent.changing:
                    self._programs_due = False
                    changed = await agent.in_worker(agent.enforcer.refresh_programs)
                    if changed or agent.policy is not self._joined:
                        await self._join_programs()
                        self._joined = agent.policy
            if self._cgroups_due:
                async with agent.changing:
                    self._cgroups_due = False
                    await agent.in_worker(agent.enforcer.refresh_services)

    async def _join_programs(self) -> None:
        """Put another table in force where paths have become, or are no longer, one program."""
        agent = self._agent
        policy = agent.policy
        same = await agent.in_worker(same_now, policy.ruleset)
        if same == policy.same:
            return
        try:
            fresh = await agent.in_worker(compiled_again, policy, policy.table.moment, same)
        except InputError as error:
            agent.record.problem(f"programs were replaced, and the rules do not fit: {error}")
            return
        await agent.put_in_force(fresh)

    async def _mend(self) -> None:
        agent = self._agent
        async with agent.changing:
            agent.hits.keep_up()
            mended = await agent.in_worker(agent.enforcer.mend)
        if mended:
            agent.record.say("hooks-restored", f"somebody took away {', '.join(mended)}: put back")

    async def _reconcile(self) -> None:
        agent = self._agent
        if any(state.mode is not Mode.OFF for state in agent.enforcer.servers.values()):
            async with agent.changing:
                found = await agent.in_worker(agent.enforcer.reconcile)
            for inum in found:
                message = f"network namespace {inum} is covered: somebody listened there unnoticed"
                agent.record.say("namespace-covered", message, netns=inum)
