# SPDX-License-Identifier: Apache-2.0
"""The rings of events of one set of programs, and the doorbell beside them.

The rings themselves wake nobody (perf.py). Whoever empties them looks in on a timer while
events come; when long none came he asks to be woken and sleeps: the next event that is
told rings, once. That takes a flag in a map, which the programs read after they have put
an event into its ring. On a weakly ordered machine they may read it too early, and ring
not: a sleeper comes by of himself once in a while.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

from . import libbpf
from .perf import PerfBuffer

_ASLEEP = struct.pack("=I", 1)
_ONLY = struct.pack("=I", 0)  # the index of the only element


class Rings:
    """Opens them; `take(cpu, bytes)` gets a copy of each event.

    Args:
        maps: descriptors by name; they must outlive the rings.
        pages: of one ring, a power of two.
    """

    def __init__(
        self, maps: Mapping[str, int], take: Callable[[int, bytes], None], pages: int
    ) -> None:
        self._events = PerfBuffer(maps["events"], take, pages)
        self._bell = PerfBuffer(maps["doorbell"], lambda *_: None, 1, wakes=True)
        self._asleep = maps["asleep"]

    @property
    def closed(self) -> bool:
        return self._events.closed

    def consume(self) -> int:
        """Hand over all events that wait; how many they were. From any thread."""
        return self._events.consume()

    def sleep(self) -> int | None:
        """Ask to be woken by the next event: a descriptor that is readable then.

        What came before does not ring: look once more before you sleep. None when the rings
        are closed.
        """
        with self._bell.open_meanwhile() as waiting:
            if waiting is not None:
                libbpf.update(self._asleep, _ONLY, _ASLEEP)
            return waiting

    def wake(self) -> None:
        """The doorbell was heard."""
        self._bell.consume()

    def close(self) -> None:
        self._events.close()
        self._bell.close()
