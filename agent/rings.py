# SPDX-License-Identifier: Apache-2.0
"""The rings of events of one set of programs, and the doorbell beside them.

The rings themselves wake nobody (perf.py). Whoever empties them looks in on a timer while
events come; when long none came he asks to be woken and sleeps: the next event that is
told rings, once. That takes a flag in a map, which the programs read after they have put
an event into its ring. On a weakly ordered machine that gathers no events (bpf/stage.h)
they may read it too early, and ring not: a sleeper comes by of himself once in a while.

A record holds several events, as a CPU gathers them (bpf/stage.h); what is not handed over
yet is asked for when the rings have been emptied.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

from . import libbpf
from .perf import PerfBuffer
from .stages import Stages

_ASLEEP = struct.pack("=I", 1)
_ONLY = struct.pack("=I", 0)  # the index of the only element


class Rings:
    """Opens them; `take(cpu, bytes)` gets a copy of each record (events.py).

    Args:
        maps: descriptors by name; they must outlive the rings.
        flush: the program of the hook FLUSH, which must outlive them too.
        pages: of one ring, a power of two.
    """

    def __init__(
        self,
        maps: Mapping[str, int],
        flush: int,
        take: Callable[[int, bytes], None],
        pages: int,
    ) -> None:
        self._stages = Stages(maps["stages"], flush)
        self._gathers = True
        self._events = PerfBuffer(maps["events"], take, pages)
        self._bell = PerfBuffer(maps["doorbell"], lambda *_: None, 1, wakes=True)
        self._asleep = maps["asleep"]

    @property
    def closed(self) -> bool:
        return self._events.closed

    def consume(self) -> int:
        """Hand over all records that wait; how many they were. From any thread."""
        return self._events.consume(self._gather)

    def gather_no_more(self) -> None:
        """Hand over all that waits; from now on only the rings are looked into."""
        self.consume()
        self._gathers = False
        self.consume()  # another thread may have been at it

    def _gather(self) -> bool:
        return self._gathers and self._stages.hand_over()

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
        self._stages.close()
