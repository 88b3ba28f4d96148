# SPDX-License-Identifier: Apache-2.0
"""Empties the rings of events on time, whatever else the agent is busy with.

Wording and writing a burst of events can take longer than a ring lasts, and so can a
compilation that shares the interpreter. This thread only copies bytes out. While nothing
comes it sleeps, until the doorbell of the rings.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable

from .rings import Rings

EVERY = 0.05  # seconds; a ring of 64 pages holds some 2 000 events
_ASLEEP_AFTER = 20  # rounds that brought nothing
_LONGEST_SLEEP = 5.0  # seconds


class Reader:
    """Consumes all rings that were added, until it is closed."""

    def __init__(self) -> None:
        self.asleep = False
        """Whether nothing has come for a while."""
        self.woken: Callable[[], None] = lambda: None
        """Called in the reader's thread when something has come after that."""
        self._rings: list[Rings] = []
        self._adding = threading.Lock()
        self._end = threading.Event()
        self._nudge = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread: threading.Thread | None = None

    def add(self, rings: Rings) -> None:
        with self._adding:
            self._rings.append(rings)
        os.eventfd_write(self._nudge, 1)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="reader", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Read no more; a round under way is finished first."""
        self._end.set()
        os.eventfd_write(self._nudge, 1)
        if self._thread:
            self._thread.join()
        os.close(self._nudge)

    def _run(self) -> None:
        empty = 0
        while not self._end.wait(EVERY):
            empty = 0 if self._round() else empty + 1
            if empty >= _ASLEEP_AFTER:
                self._sleep()
                empty = 0

    def _round(self) -> int:
        with self._adding:
            self._rings = [rings for rings in self._rings if not rings.closed]
            all_rings = list(self._rings)
        return sum(rings.consume() for rings in all_rings)

    def _sleep(self) -> None:
        """Until something comes, or there is something else to do."""
        self.asleep = True
        while not self._end.is_set():
            bells = select.poll()
            bells.register(self._nudge, select.POLLIN)
            for rings in self._rings:
                if (bell := rings.sleep()) is not None:
                    bells.register(bell, select.POLLIN)
            if self._round() or bells.poll(_LONGEST_SLEEP * 1000):
                break
        self.asleep = False
        if self._nudged():
            return
        for rings in self._rings:
            rings.wake()
        self._round()
        self.woken()

    def _nudged(self) -> bool:
        try:
            return os.eventfd_read(self._nudge) > 0
        except BlockingIOError:
            return False
