# SPDX-License-Identifier: Apache-2.0
"""Nanoseconds of each program per invocation, as the kernel counts them (bpf_stats).

Counting reads the clock twice around every program, some 20 ns that are in the numbers,
and slows what it counts: nothing else is timed meanwhile.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator, Sequence
from typing import Any

from sockrules.agent import libbpf

from .conditions import Subject

CALLS = 3000
LISTENS = 500

HEADINGS = f"{'under':38}{'program':16}{'doing':24}{'runs':>8}{'ns a run':>10}"


class _Info(ctypes.Structure):
    """struct bpf_prog_info up to run_cnt (include/uapi/linux/bpf.h)."""

    _fields_ = [
        ("before", ctypes.c_ubyte * 64),
        ("name", ctypes.c_char * 16),
        ("between", ctypes.c_ubyte * 112),
        ("run_time_ns", ctypes.c_uint64),
        ("run_cnt", ctypes.c_uint64),
    ]


def hooks(subjects: Sequence[Subject]) -> Iterator[dict[str, Any]]:
    """A row for each program that ran under a condition, and what the client was doing."""
    stats = libbpf.libbpf().bpf_enable_stats(0)  # BPF_STATS_RUN_TIME
    if stats < 0:
        raise OSError(ctypes.get_errno(), "bpf_enable_stats")
    try:
        for subject in subjects:
            if not subject.condition.mode:
                continue
            rules = subject.condition.rules
            for doing, order in (
                ("one connect repeated", ("rounds", CALLS)),
                ("connects all over", ("varied", CALLS, rules)),
                ("listens", ("listens", LISTENS)),
            ):
                if subject.condition.policy and order[0] == "varied":
                    continue  # most would be rejected, and reporting those is another cost
                before = _counters()
                subject.order(*order)
                for name, (count, spent) in sorted(_difference(before, _counters()).items()):
                    if count >= LISTENS // 2:
                        yield {
                            "under": subject.condition.name,
                            "program": name,
                            "doing": doing,
                            "runs": count,
                            "ns": spent / count,
                        }
    finally:
        os.close(stats)


def _counters() -> dict[int, tuple[str, int, int]]:
    """Name, runs and nanoseconds of every loaded program, by id."""
    lib = libbpf.libbpf()
    found, number = {}, ctypes.c_uint32(0)
    while lib.bpf_prog_get_next_id(number, ctypes.byref(number)) == 0:
        fd = lib.bpf_prog_get_fd_by_id(number)
        if fd < 0:
            continue
        info, size = _Info(), ctypes.c_uint32(ctypes.sizeof(_Info))
        with contextlib.closing(open(fd, "rb", buffering=0)):
            if lib.bpf_obj_get_info_by_fd(fd, ctypes.byref(info), ctypes.byref(size)) == 0:
                found[number.value] = info.name.decode(), info.run_cnt, info.run_time_ns
    return found


def _difference(
    before: dict[int, tuple[str, int, int]], after: dict[int, tuple[str, int, int]]
) -> dict[str, tuple[int, int]]:
    total: dict[str, tuple[int, int]] = {}
    for number, (name, runs, spent) in after.items():
        _, old_runs, old_spent = before.get(number, (name, 0, 0))
        if runs > old_runs:
            counted = total.get(name, (0, 0))
            total[name] = counted[0] + runs - old_runs, counted[1] + spent - old_spent
    return total


def line(row: dict[str, Any]) -> str:
    """A row as printed."""
    return (
        f"{row['under']:38}{row['program']:16}{row['doing']:24}{row['runs']:>8}{row['ns']:>10.0f}"
    )
