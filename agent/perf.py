# SPDX-License-Identifier: Apache-2.0
"""Reading a perf event array: one ring a CPU, looked into on a timer.

The rings do not wake their reader unless asked to: a wake-up costs the process
that caused the event microseconds, and the agent comes by by itself
(perf_event_open(2), `wakeup_events`). Record layouts: include/uapi/linux/perf_event.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Callable, Iterator

from .libbpf import libbpf, libbpf_undisturbed

_RECORD_SAMPLE = 9
_HEADER = 8  # bytes of struct perf_event_header: u32 type, u16 misc, u16 size
_NEXT = -2  # LIBBPF_PERF_EVENT_CONT


class _Attr(ctypes.Structure):
    """struct perf_event_attr as of PERF_ATTR_SIZE_VER0, 64 bytes."""

    _fields_ = [
        ("type", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("config", ctypes.c_uint64),
        ("sample_period", ctypes.c_uint64),
        ("sample_type", ctypes.c_uint64),
        ("read_format", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
        ("wakeup_events", ctypes.c_uint32),
        ("bp_type", ctypes.c_uint32),
        ("config1", ctypes.c_uint64),
    ]


_TYPE_SOFTWARE = 1
_COUNT_SW_BPF_OUTPUT = 10
_SAMPLE_RAW = 1 << 10
_NEVER = 1 << 30

_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


class PerfBuffer:
    """The rings behind a BPF_MAP_TYPE_PERF_EVENT_ARRAY.

    Args:
        map_fd: the map; its elements are set to the rings.
        take: gets (cpu, bytes): a copy of each record. The kernel pads records, so there
            may be some bytes behind what was sent.
        pages: of one ring, a power of two.
        wakes: each event makes `waiting` readable.
    """

    def __init__(
        self,
        map_fd: int,
        take: Callable[[int, bytes], None],
        pages: int,
        *,
        wakes: bool = False,
    ) -> None:
        self._lib = libbpf()
        self._lib.perf_buffer__new_raw.restype = ctypes.c_void_p
        self._consume = libbpf_undisturbed().perf_buffer__consume
        self._consume.argtypes = [ctypes.c_void_p]
        self._lib.perf_buffer__free.argtypes = [ctypes.c_void_p]
        self._reading = threading.Lock()
        self._taken = 0

        def record(_: int | None, cpu: int, at: int) -> int:
            kind = ctypes.c_uint32.from_address(at).value
            if kind == _RECORD_SAMPLE:
                self._taken += 1
                size = ctypes.c_uint32.from_address(at + _HEADER).value
                take(cpu, ctypes.string_at(at + _HEADER + 4, size))
            return _NEXT  # PERF_RECORD_LOST: the programs count what found no room themselves

        self._callback = _Callback(record)  # kept: libbpf holds no reference to it
        attr = _Attr(
            type=_TYPE_SOFTWARE,
            size=ctypes.sizeof(_Attr),
            config=_COUNT_SW_BPF_OUTPUT,
            sample_period=1,
            sample_type=_SAMPLE_RAW,
            wakeup_events=1 if wakes else _NEVER,
        )
        self._handle: int | None = self._lib.perf_buffer__new_raw(
            map_fd, ctypes.c_size_t(pages), ctypes.byref(attr), self._callback, None, None
        )
        if not self._handle:
            raise OSError(ctypes.get_errno(), "the perf buffers cannot be opened")

    @property
    def waiting(self) -> int:
        """A descriptor that is readable while events wait; it is closed with the buffer."""
        assert self._handle, "the buffer is closed"
        fd: int = self._lib.perf_buffer__epoll_fd(ctypes.c_void_p(self._handle))
        return fd

    @contextlib.contextmanager
    def open_meanwhile(self) -> Iterator[int | None]:
        """`waiting`, while no other thread closes the buffer; None if one has."""
        with self._reading:
            yield self.waiting if self._handle else None

    @property
    def closed(self) -> bool:
        return self._handle is None

    def consume(self, more: Callable[[], bool] = lambda: False) -> int:
        """Hand over all records that wait; how many they were. From any thread.

        `more` is called when there is room in the rings, while no other thread closes the
        buffer; what it has put there is handed over too, if it says that it has.
        """
        with self._reading:
            before = self._taken
            if self._handle:
                self._consume(self._handle)
                if more():
                    self._consume(self._handle)
            return self._taken - before

    def close(self) -> None:
        with self._reading:
            if self._handle:
                self._lib.perf_buffer__free(self._handle)
                self._handle = None
