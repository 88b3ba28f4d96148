# SPDX-License-Identifier: Apache-2.0
"""Empties the rings of events on time, whatever else the agent is busy with.

Wording and writing a burst of events can take longer than a ring lasts, and so can a
compilation that shares the interpreter. This thread only copies bytes out.
"""

from __future__ import annotations

import threading

from .perf import PerfBuffer

EVERY = 0.05  # seconds; a ring of 64 pages holds some 1 400 events
_IDLE_EVERY = 0.1
_IDLE_AFTER = 20  # rounds that brought nothing


class Reader:
    """Consumes every buffer that was added until it is closed."""

    def __init__(self) -> None:
        self._buffers: list[PerfBuffer] = []
        self._adding = threading.Lock()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, buffer: PerfBuffer) -> None:
        with self._adding:
            self._buffers.append(buffer)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="reader", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Read no more; a round under way is finished first."""
        self._end.set()
        if self._thread:
            self._thread.join()

    def _run(self) -> None:
        empty = 0
        while not self._end.wait(EVERY if empty < _IDLE_AFTER else _IDLE_EVERY):
            with self._adding:
                self._buffers = [buffer for buffer in self._buffers if not buffer.closed]
                buffers = list(self._buffers)
            taken = sum(buffer.consume() for buffer in buffers)
            empty = 0 if taken else empty + 1
