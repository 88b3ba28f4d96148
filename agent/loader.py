# SPDX-License-Identifier: Apache-2.0
"""Make the maps and load the programs, compiled now or kept from before.

Every program is loaded by itself: one that the kernel refuses costs no other,
and the end of the verifier's log says why.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from . import libbpf
from .bytecode import Cache, Compiled, MapSpec, digest, relocate
from .compiler import compile_apart, compiler_version, source_text
from .hooks import HOOKS, PROBE, TRACKERS, Hook
from .perf import PerfBuffer

PINNED = ("listeners", "totals")
"""Maps that one agent hands to the next (bpf/maps.h)."""

_PERF_EVENT_ARRAY = 4
_LOG_TAIL = 6


@dataclass(frozen=True, slots=True)
class Capacity:
    """Sizes that are compiled into the maps and the walk. Per generation where abi.h says so."""

    steps: int
    entries: int
    slots: int
    bounds: int
    rules: int
    known: int = 8192
    listeners: int = 65536
    names: int = 1024
    cgroups: int = 16384

    def macros(self) -> dict[str, int]:
        return {
            "SR_STEPS": self.steps,
            "SR_ENTRIES": self.entries,
            "SR_SLOTS": self.slots,
            "SR_BOUNDS": self.bounds,
            "SR_RULES": self.rules,
            "SR_KNOWN": self.known,
            "SR_LISTENERS": self.listeners,
            "SR_NAMES": self.names,
            "SR_CGROUPS": self.cgroups,
        }


@dataclass(slots=True)
class Loaded:
    """Programs and maps by name, as descriptors that live until `close`."""

    programs: dict[str, int]
    refused: dict[str, str]
    maps: dict[str, int]
    specs: dict[str, MapSpec]
    events: PerfBuffer | None = None

    def open_events(
        self, take: Callable[[int, bytes], None], lost: Callable[[int], None], pages: int
    ) -> None:
        """Open the perf buffers, `pages` pages a CPU; `take(cpu, bytes)` gets a copy of each event.

        No wake-ups: the caller comes by on a timer (`consume`).
        """
        self.events = PerfBuffer(self.maps["events"], take, lost, pages)

    def consume(self) -> None:
        """Hand over all events that wait in the buffers. From any thread."""
        if self.events:
            self.events.consume()

    def close(self) -> None:
        """Let programs and maps go; links and pins keep theirs."""
        if self.events:
            self.events.close()
        for fd in (*self.programs.values(), *self.maps.values()):
            os.close(fd)
        self.programs.clear()
        self.maps.clear()


def compiled(capacity: Capacity, macros: Mapping[str, int], cache: Cache | None) -> Compiled:
    """Maps and bytecode for a capacity, kept or fresh.

    Raises:
        CompileError: BCC is missing or clang refuses the text.
    """
    text = source_text()
    flags = [f"-D{name}={value}" for name, value in {**capacity.macros(), **macros}.items()]
    key = digest(text, sorted(flags), compiler_version())
    kept = cache.get(key) if cache else None
    if kept is None:
        kept = compile_apart(text, flags)
        if cache:
            cache.put(key, kept)
    return kept


def load(
    capacity: Capacity,
    macros: Mapping[str, int],
    hooks: tuple[Hook, ...] = (*HOOKS, *TRACKERS, PROBE),
    *,
    pins: Path | None = None,
    cache: Cache | None = None,
) -> Loaded:
    """Make the maps and load the programs of `hooks`.

    Args:
        macros: what else the text needs: SR_OFF_*.
        pins: a directory of the BPF file system in which the maps of `PINNED` are found or
            put; without it they are this load's own.
        cache: where compiled programs are kept.

    Raises:
        CompileError: BCC is missing or clang refuses the text.
        OSError: a map cannot be made.
    """
    code = compiled(capacity, macros, cache)
    loaded = Loaded({}, {}, {}, code.maps)
    try:
        for name, spec in code.maps.items():
            loaded.maps[name] = _map(name, spec, pins if name in PINNED else None)
        numbers = dict(enumerate(loaded.maps.values()))
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            results = pool.map(
                lambda hook: _load_one(hook, relocate(code.programs[hook.function], numbers)), hooks
            )
            for hook, result in zip(hooks, results, strict=True):
                if isinstance(result, int):
                    loaded.programs[hook.name] = result
                else:
                    loaded.refused[hook.name] = result
    except OSError:
        loaded.close()
        raise
    return loaded


def _map(name: str, spec: MapSpec, pins: Path | None) -> int:
    """A map's descriptor: the pinned one where there is one, else a new one, pinned if asked."""
    path = str(pins / name) if pins else None
    found = libbpf.get_pinned(path) if path else None
    if found is not None:
        return found
    entries = libbpf.possible_cpus() if spec.type == _PERF_EVENT_ARRAY else spec.max_entries
    fd = libbpf.map_create(name, spec.type, spec.key_size, spec.value_size, entries, spec.flags)
    if path:
        libbpf.pin(fd, path)
    return fd


def _load_one(hook: Hook, code: bytes) -> int | str:
    """Load one program: its descriptor, or why the kernel refused it."""
    try:
        return libbpf.prog_load(hook.name, hook.program_type, hook.attach_type, code)
    except libbpf.ProgramRefused as error:
        tail = error.log.strip().splitlines()[-_LOG_TAIL:]
        return "\n".join([error.strerror or str(error), *tail])
