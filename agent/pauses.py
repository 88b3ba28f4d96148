# SPDX-License-Identifier: Apache-2.0
"""The pauses between two looks at what has come: short while something comes, else long ones
that end when something does.

All that is done now and then is done at the same moments, multiples of how often it is done:
one awakening serves for all. An agent that has nothing to do wakes once in two seconds.
"""

from __future__ import annotations

import asyncio
import contextlib

from . import inotify
from .reader import Reader

LIVE = 0.1  # seconds: how live `audit --follow` is
IDLE = 2.0  # the same while nothing comes; what does come then is looked at at once
SOONEST = 0.05  # seconds from one look to the next: whoever changes directories sets no pace


async def until_next(seconds: float) -> None:
    """Until the loop's time is a multiple of this."""
    await asyncio.sleep(_left(seconds))


def _left(seconds: float) -> float:
    return seconds - asyncio.get_running_loop().time() % seconds


class Pauses:
    """For one loop; events by the reader, and directories that are watched, end them."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._loop = asyncio.get_running_loop()
        self._came = asyncio.Event()
        self._ended = self._loop.time()
        reader.woken = self._woken
        self._loop.add_reader(inotify.waiting(), self._changed)

    async def pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_left(IDLE if self._reader.asleep else LIVE)):
                await self._came.wait()
        await asyncio.sleep(self._ended + SOONEST - self._loop.time())
        self._came.clear()
        self._ended = self._loop.time()

    def _woken(self) -> None:
        """In the reader's thread."""
        self._loop.call_soon_threadsafe(self._came.set)

    def _changed(self) -> None:
        inotify.heard()
        self._came.set()
