# SPDX-License-Identifier: Apache-2.0
"""Make the maps and load the programs, compiled now or kept from before.

Every program is loaded by itself, when it is needed: one that the kernel refuses
costs no other, and the end of the verifier's log says why.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ..control import abi
from . import libbpf
from .bytecode import Cache, Compiled, MapSpec, digest, relocate, stamped
from .compiler import compile_apart, compiler_version, source_text
from .hooks import FLUSH, Hook
from .instances import Instances, NoInstance
from .perf import PerfBuffer
from .rings import Rings

PINNED = ("listeners", "changes", "owners", "namespaces", "totals", "stages", "paths")
"""Maps that one agent hands to the next (bpf/maps.h)."""

_PERF_EVENT_ARRAY = 4
_BY_CPU = ("stages",)
"""Other maps with an element for each CPU."""
_LOG_TAIL = 6


@dataclass(frozen=True, slots=True)
class Capacity:
    """Sizes that are compiled into the maps and the walk. Per generation where abi.h says so."""

    steps: int
    entries: int
    rests: int
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
            "SR_RESTS": self.rests,
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
    code: dict[str, bytes] = field(repr=False)
    """Bytecode by the name of its function, with the descriptors of these maps."""
    instances: Instances | None = None
    """Of sk_lookup, which is loaded once for each network namespace."""
    events: Rings | None = None
    arrivals: PerfBuffer | None = None
    _loading: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def need(self, hooks: Iterable[Hook]) -> None:
        """Load what is not loaded yet; what the kernel refuses is in `refused` afterwards."""
        with self._loading:
            wanted = [hook for hook in dict.fromkeys(hooks) if not self._is_known(hook)]
            with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
                for hook, result in zip(wanted, pool.map(self._load, wanted), strict=True):
                    if isinstance(result, Instances):
                        self.instances = result
                    elif isinstance(result, int):
                        self.programs[hook.name] = result
                    else:
                        self.refused[hook.name] = result

    def _is_known(self, hook: Hook) -> bool:
        loaded = self.instances if hook.target == "netns" else self.programs.get(hook.name)
        return loaded is not None or hook.name in self.refused

    def _load(self, hook: Hook) -> int | str | Instances:
        code = self.code[hook.function]
        if hook.target == "netns":
            return _instances(hook, code, self.maps["places"])
        return _load_one(hook, code)

    def open_events(self, take: Callable[[int, bytes], None], pages: int) -> Rings:
        """`take(cpu, bytes)` gets a copy of each record; `pages` are those of one CPU's ring.

        Raises:
            OSError: the kernel has no room for them, or refuses FLUSH.
        """
        self.need((FLUSH,))
        if FLUSH.name in self.refused:
            raise OSError(f"the kernel refuses to hand over events: {self.refused[FLUSH.name]}")
        self.events = Rings(self.maps, self.programs[FLUSH.name], take, pages)
        return self.events

    def open_arrivals(self, take: Callable[[int, bytes], None]) -> None:
        """Open the buffers of struct sr_arrival: few, and somebody waits for each (`wakes`)."""
        self.arrivals = PerfBuffer(self.maps["arrivals"], take, 1, wakes=True)

    def consume(self) -> None:
        """Hand over all events that wait in the buffers. From any thread."""
        if self.events:
            self.events.consume()

    def close(self) -> None:
        """Let programs and maps go; links and pins keep theirs."""
        for buffer in (self.events, self.arrivals):
            if buffer:
                buffer.close()
        if self.instances:
            self.instances.close()
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
    hooks: Iterable[Hook] = (),
    *,
    pins: Path | None = None,
    cache: Cache | None = None,
    code: Compiled | None = None,
) -> Loaded:
    """Make the maps and load the programs of `hooks`; others when they are needed
    (`Loaded.need`).

    Args:
        macros: what else the text needs: SR_OFF_*.
        pins: a directory of the BPF file system in which the maps of `PINNED` are found or
            put; without it they are this load's own.
        cache: where compiled programs are kept.
        code: what was compiled already, for that capacity and those macros.

    Raises:
        CompileError: BCC is missing or clang refuses the text.
        OSError: a map cannot be made.
    """
    code = code or compiled(capacity, macros, cache)
    loaded = Loaded({}, {}, {}, code.maps, {})
    try:
        for name, spec in code.maps.items():
            loaded.maps[name] = _map(name, spec, pins if name in PINNED else None)
    except OSError:
        loaded.close()
        raise
    numbers = dict(enumerate(loaded.maps.values()))
    loaded.code.update((name, relocate(text, numbers)) for name, text in code.programs.items())
    loaded.need(hooks)
    return loaded


def _map(name: str, spec: MapSpec, pins: Path | None) -> int:
    """A map's descriptor: the pinned one where there is one, else a new one, pinned if asked.

    A pinned one of another shape is an earlier version's; the new one takes its place.
    """
    path = str(pins / name) if pins else None
    found = libbpf.get_pinned(path) if path else None
    if path and found is not None:
        info = libbpf.map_info(found)
        shape = (info.type, info.key_size, info.value_size, info.map_flags)
        if shape == (spec.type, spec.key_size, spec.value_size, spec.flags):
            return found
        os.close(found)
        os.unlink(path)
    by_cpu = spec.type == _PERF_EVENT_ARRAY or name in _BY_CPU
    entries = libbpf.possible_cpus() if by_cpu else spec.max_entries
    fd = libbpf.map_create(name, spec.type, spec.key_size, spec.value_size, entries, spec.flags)
    if path:
        libbpf.pin(fd, path)
    return fd


def _instances(hook: Hook, code: bytes, places: int) -> Instances | str:
    """The program with one instance loaded, or why the kernel refused it."""

    def load_instance(place: int) -> int | str:
        return _load_one(hook, stamped(code, abi.C["SR_PLACE_MARK"], place))

    instances = Instances(load_instance, places)
    try:
        instances.prepare()
    except NoInstance as error:
        return str(error)
    return instances


def _load_one(hook: Hook, code: bytes) -> int | str:
    """Load one program: its descriptor, or why the kernel refused it."""
    try:
        target = libbpf.btf_id(hook.symbol, hook.attach_type) if hook.symbol else 0
        return libbpf.prog_load(hook.name, hook.program_type, hook.attach_type, code, target)
    except libbpf.ProgramRefused as error:
        tail = error.log.strip().splitlines()[-_LOG_TAIL:]
        return "\n".join([error.strerror or str(error), *tail])
    except OSError as error:
        return str(error)
