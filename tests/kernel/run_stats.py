# SPDX-License-Identifier: Apache-2.0
"""How often programs run and how long, as the kernel counts them (bpf_stats).

Counting reads the clock twice around every program, some 20 ns natively, which are in
the numbers, and slows what it counts: nothing else is timed meanwhile.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from typing import NamedTuple

from sockrules.agent.libbpf import libbpf

_RUN_TIME = 0  # BPF_STATS_RUN_TIME


class _Info(ctypes.Structure):
    """struct bpf_prog_info up to run_cnt (include/uapi/linux/bpf.h, Linux 5.1)."""

    _fields_ = [
        ("before", ctypes.c_uint8 * 64),
        ("name", ctypes.c_char * 16),
        ("between", ctypes.c_uint8 * 112),
        ("run_time_ns", ctypes.c_uint64),
        ("run_cnt", ctypes.c_uint64),
    ]


class Runs(NamedTuple):
    """Of one program, or of several of one name together."""

    count: int
    nanoseconds: int


@contextlib.contextmanager
def counted() -> Iterator[None]:
    """The kernel counts meanwhile.

    Raises:
        OSError: it does not.
    """
    stats = libbpf().bpf_enable_stats(_RUN_TIME)
    if stats < 0:
        raise OSError(ctypes.get_errno(), "bpf_enable_stats")
    try:
        yield
    finally:
        os.close(stats)


def programs() -> dict[int, tuple[str, Runs]]:
    """Every loaded program by its id, with its name (libbpf.prog_load)."""
    found, number = {}, ctypes.c_uint32(0)
    while libbpf().bpf_prog_get_next_id(number, ctypes.byref(number)) == 0:
        fd = libbpf().bpf_prog_get_fd_by_id(number)
        if fd < 0:
            continue
        info, size = _Info(), ctypes.c_uint32(ctypes.sizeof(_Info))
        with contextlib.closing(open(fd, "rb", buffering=0)):
            if libbpf().bpf_obj_get_info_by_fd(fd, ctypes.byref(info), ctypes.byref(size)) == 0:
                found[number.value] = info.name.decode(), Runs(info.run_cnt, info.run_time_ns)
    return found


def since(before: dict[int, tuple[str, Runs]]) -> dict[str, Runs]:
    """What ran since `programs` said that, by name."""
    total: dict[str, Runs] = {}
    for number, (name, runs) in programs().items():
        _, old = before.get(number, (name, Runs(0, 0)))
        if runs.count > old.count:
            known = total.get(name, Runs(0, 0))
            total[name] = Runs(
                known.count + runs.count - old.count,
                known.nanoseconds + runs.nanoseconds - old.nanoseconds,
            )
    return total
