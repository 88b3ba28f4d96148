# SPDX-License-Identifier: Apache-2.0
"""Wakes the agent when somebody listens in a network namespace that is not covered.

Not on the timer of the other events, nor in the worker, which may be compiling for
seconds: until the namespace is covered, its peers are not judged.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict

from .coverage import Covered
from .enforcer import Enforcer
from .record import Record


class ArrivalWatch:
    """Covers network namespaces as they appear, and writes down which. For one loop."""

    def __init__(self, enforcer: Enforcer, record: Record) -> None:
        self._enforcer = enforcer
        self._record = record
        self._watched: int | None = None
        self._meeting: asyncio.Task[None] | None = None

    def follow(self) -> None:
        """Hear the programs that are in force, before those that were are let go."""
        self._unfollow()
        arrivals = self._enforcer.kernel.loaded.arrivals
        assert arrivals is not None
        self._watched = arrivals.waiting

        def arrived() -> None:
            arrivals.consume()
            self.meet_soon()

        asyncio.get_running_loop().add_reader(self._watched, arrived)
        self.meet_soon()

    def meet_soon(self) -> None:
        """Cover who has arrived, and load a program for who comes next."""
        if self._meeting is None or self._meeting.done():
            self._meeting = asyncio.create_task(self._meet())

    async def close(self) -> None:
        """Finish what is under way and hear no more."""
        self._unfollow()
        if self._meeting:
            await self._meeting

    def _unfollow(self) -> None:
        if self._watched is not None:
            asyncio.get_running_loop().remove_reader(self._watched)
            self._watched = None

    async def _meet(self) -> None:
        with self._record.noting("network namespaces"):
            while True:
                for each in await asyncio.to_thread(self._enforcer.meet):
                    self._record.say("namespace-covered", _words_of(each), **asdict(each))
                await asyncio.to_thread(self._enforcer.keep_spare)
                if not self._enforcer.arrivals:
                    return


def _words_of(covered: Covered) -> str:
    peers = {None: "an unknown number of peers", 0: "no peer", 1: "1 peer"}
    who = peers.get(covered.unjudged, f"{covered.unjudged} peers")
    return (
        f"network namespace {covered.netns} is covered: process {covered.pid} listens there;"
        f" {who} came unjudged in the {covered.gap * 1000:.1f} ms before"
    )
