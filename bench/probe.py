# SPDX-License-Identifier: Apache-2.0
"""Decisions timed in the kernel, by test runs of probe.c.

Two ways. `alone`: one request is repeated, so what it needs of the table is in the
first-level cache; that is a time for each request, and a median over them. `in_turn`:
thousands of requests one after the other, so that they drive each other from the
caches as different requests do; that is one mean. Of both, what the test run costs
without a decision is taken off (`harness`); the lowest of a few runs counts, since
nothing makes a run shorter than it is.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sockrules.agent import libbpf
from sockrules.agent.bytecode import Cache, digest
from sockrules.agent.compiler import SOURCES, compile_apart, compiler_version, source_text
from sockrules.agent.features import kernel_macros
from sockrules.agent.hooks import PROBE
from sockrules.agent.kernel import Kernel, capacity_for, fits
from sockrules.agent.loader import Capacity, load
from sockrules.control import abi
from sockrules.control.table import Table

_DECIDE, _IN_TURN = 1, 2
_PROGRAM = dataclasses.replace(PROBE, program_type=3)  # sched_cls: no run of one waits for RCU
_FRAME = np.dtype(
    [("word", "u8", 8), ("what", "u4"), ("count", "u4"), ("at", "u4"), ("rule", "u4")]
)
_REPEAT = 500
_BEST_OF = 5
_PASSES = 8  # over all requests in turn, of which the lowest counts
_LARGER = 64  # how many times too large maps may be that are used again

Words = Sequence[int]


class Timed:
    """A kernel with probe.c loaded and one table after the other in force.

    Programs are kept in `directory` and used again for every table that fits.
    """

    def __init__(self, directory: Path) -> None:
        self._cache = Cache(directory)
        self._kernel: Kernel | None = None

    def prepare(self, table: Table) -> None:
        """Have a program loaded that has room for the table."""
        wanted = capacity_for(table)
        if self._kernel and not _suits(self._kernel.capacity, wanted, table):
            self.close()
        if not self._kernel:
            self._kernel = _load(_rounded(wanted), self._cache)

    def install(self, table: Table) -> None:
        """Put it in force, after `prepare`."""
        self._need().install(table, ())

    def harness(self) -> tuple[int, int]:
        """Nanoseconds of a test run without a decision: on one request, on many in turn."""
        alone = min(self._run(0, (0,) * 8, 1, 4096) for _ in range(20))
        turns = min(self._run(_IN_TURN, (0,) * 8, 2048, 4096) for _ in range(20))
        return alone, turns

    def alone(self, requests: Sequence[Words]) -> list[int]:
        """For each request the nanoseconds of its decision, the harness included."""
        return [
            min(self._run(_DECIDE, words, 1, _REPEAT) for _ in range(_BEST_OF))
            for words in requests
        ]

    def in_turn(self, requests: Sequence[Words]) -> int:
        """Mean nanoseconds of a decision when these requests, at most 4096, take turns."""
        kernel = self._need()
        size = abi.sizeof("sr_entry")
        rows = np.zeros((len(requests), size // 8), np.uint64)
        rows[:, :8] = np.array(requests, np.uint64)
        half = kernel.capacity.entries * size
        at = (1 - kernel.generation) * half
        libbpf.fill_array(kernel.map("entries"), 2 * half, at, rows.tobytes())
        count = len(requests)
        return min(self._run(_DECIDE | _IN_TURN, (0,) * 8, count, count) for _ in range(_PASSES))

    def _run(self, what: int, words: Words, count: int, repeat: int) -> int:
        kernel = self._need()
        frame = np.zeros(1, _FRAME)
        frame["word"], frame["what"], frame["count"] = words, what, count
        return libbpf.test_run(kernel.loaded.programs[_PROGRAM.name], frame.tobytes(), repeat)[2]

    def _need(self) -> Kernel:
        if self._kernel is None:
            raise ValueError("nothing is prepared")
        return self._kernel

    def close(self) -> None:
        if self._kernel:
            self._kernel.close()
        self._kernel = None


def _suits(there: Capacity, wanted: Capacity, table: Table) -> bool:
    return (
        fits(table, there)
        and there.steps == wanted.steps
        and there.entries <= _LARGER * wanted.entries
    )


def _rounded(wanted: Capacity) -> Capacity:
    """Room for other tables of that size too."""
    return Capacity(
        steps=wanted.steps,
        entries=max(wanted.entries, 1 << 14),
        rests=max(wanted.rests, 1 << 14),
        slots=max(wanted.slots, 1 << 17),
        bounds=max(wanted.bounds, 1 << 14),
        rules=max(wanted.rules, 1 << 14),
    )


def _load(capacity: Capacity, cache: Cache) -> Kernel:
    """probe.c loaded; OSError with the verifier's last words when the kernel refuses it."""
    text = source_text(tuple(name for name in SOURCES if name != "probe.c"))
    own = Path(__file__).with_name("probe.c").read_text()
    text += re.sub(r'^#include "judge.h"$', "", own, flags=re.MULTILINE)
    macros = kernel_macros()
    flags = [f"-D{name}={value}" for name, value in {**capacity.macros(), **macros}.items()]
    key = digest(text, sorted(flags), compiler_version())
    code = cache.get(key)
    if code is None:
        code = compile_apart(text, flags)
        cache.put(key, code)
    loaded = load(capacity, macros, (_PROGRAM,), code=code)
    if loaded.refused:
        loaded.close()
        raise OSError(f"the kernel refuses the benchmark: {loaded.refused[_PROGRAM.name]}")
    return Kernel(loaded, capacity)
