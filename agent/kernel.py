# SPDX-License-Identifier: Apache-2.0
"""The loaded programs' maps: writing a generation, swapping, counting, asking.

Rules. A generation is written while the other is in force, then one byte swaps
them: a request sees one or the other, never both. The old one is written over
only after everyone who may still read it is done (membarrier(2), which waits
for an RCU grace period; the programs run inside RCU read-side sections).
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..control import abi
from ..control.model import Mode, Server
from ..control.table import Limits, Table
from . import libbpf
from .hooks import PROBE
from .inodes import Inode
from .loader import Capacity, Loaded
from .services import Services

_MEMBARRIER = {"x86_64": 324, "aarch64": 283, "riscv64": 283, "ppc64le": 365, "s390x": 356}
_MEMBARRIER_CMD_GLOBAL = 1

STEP_CLASSES = (96, 320, Limits().steps)
"""Step limits that programs are compiled for; a longer walk takes longer to verify."""


PROBE_LASTS = 20_000_000_000
"""Nanoseconds after which an armed probe is over, whatever became of the agent."""


NOBODY = bytes(abi.sizeof("sr_listener_key"))
"""The key under which the map `listeners` has who answers for listeners that are not in it."""

Known = Iterable[tuple[str, Inode]]
"""What paths are on this host, also those that were replaced and are still run."""


class AbiMismatch(Exception):
    """The compiler laid a struct out otherwise than Python reads it."""


def capacity_for(table: Table) -> Capacity:
    """The smallest capacity that holds a table with room to grow."""

    def room(needed: int, least: int) -> int:
        return max(least, 1 << (needed + needed // 4).bit_length())

    need = table.required
    return Capacity(
        steps=next(steps for steps in STEP_CLASSES if steps >= need.steps),
        entries=room(need.entries, 4096),
        rests=room(need.rests, 1024),
        slots=room(need.slots, 16384),
        bounds=room(need.bounds, 4096),
        rules=room(len(table.rules), 1024),
        known=room(2 * (len(table.programs) + len(table.directories)), 4096),
        names=room(2 * (len(table.units) + len(table.cgroups)), 1024),
    )


def fits(table: Table, capacity: Capacity) -> bool:
    """Whether programs of this capacity can hold the table."""
    need = table.required
    return (
        need.steps <= capacity.steps
        and need.entries <= capacity.entries
        and need.rests <= capacity.rests
        and need.slots <= capacity.slots
        and need.bounds <= capacity.bounds
        and len(table.rules) <= capacity.rules
        and 2 * (len(table.programs) + len(table.directories)) <= capacity.known
        and 2 * (len(table.units) + len(table.cgroups)) <= capacity.names
    )


def grace_period() -> None:
    """Wait until no program reads what was replaced before the call."""
    number = _MEMBARRIER.get(platform.machine())
    if number is None:
        raise OSError(f"membarrier(2) has no known number on {platform.machine()}")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, _MEMBARRIER_CMD_GLOBAL, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "membarrier")


class Kernel:
    """One set of loaded programs and their maps.

    Args:
        mount: where the cgroup v2 hierarchy is mounted; without it services are not kept.
    """

    def __init__(self, loaded: Loaded, capacity: Capacity, mount: Path | None = None) -> None:
        self.loaded = loaded
        self.capacity = capacity
        self.generation = 0
        self._cpus = libbpf.possible_cpus()
        self._control = np.zeros(1, abi.dtype("sr_control"))
        self._known: tuple[set[bytes], set[bytes]] = (set(), set())
        self._totals = b""
        self._lost: dict[int, int] = {}
        self._check_layout()
        self.services = Services(loaded, mount) if mount else None

    def _check_layout(self) -> None:
        """Compare every map's value with Python's reading of abi.h, before anything is attached."""
        for name, struct in (
            ("control", "sr_control"),
            ("headers", "sr_header"),
            ("entries", "sr_entry"),
            ("rests", "sr_rest"),
            ("slots", "sr_slot"),
            ("bounds", "sr_bound"),
            ("known", "sr_known"),
            ("totals", "sr_totals"),
            ("stages", "sr_stage"),
            ("listeners", "sr_listener"),
            ("owners", "sr_listener"),
            ("paths", "sr_path"),
            ("names", "sr_named"),
            ("cgroups", "sr_service"),
            ("cgroup_paths", "sr_cgroup_path"),
            ("tracking", "sr_tracking"),
        ):
            compiled = self.loaded.specs[name].value_size
            if compiled != abi.sizeof(struct):
                raise AbiMismatch(
                    f"struct {struct} has {compiled} bytes in the kernel programs and"
                    f" {abi.sizeof(struct)} in Python; bpf/abi.h and control/abi.py disagree"
                )

    def map(self, name: str) -> int:
        return self.loaded.maps[name]

    # -- the table --------------------------------------------------------------------

    def install(self, table: Table, known: Known) -> None:
        """Write the table as the generation not in force, then swap.

        `known` says what the table's programs and directories are on this host;
        a path without an inode matches nothing until `learn` names one.
        """
        grace_period()
        other = 1 - self.generation
        self._write(table, other)
        self._write_known(table, known, other)
        if self.services:
            self.services.install(table, other)
        self._forget_hits(other, len(table.rules))
        self.generation = other
        self._control["generation"] = other
        self._put_control()

    def _write(self, table: Table, generation: int) -> None:
        for name, data in (
            ("entries", table.entries),
            ("rests", table.rests),
            ("slots", table.slots),
            ("bounds", table.bounds),
        ):
            size = self.loaded.specs[name].value_size * self.loaded.specs[name].max_entries
            libbpf.fill_array(self.map(name), size, generation * size // 2, data)
        libbpf.update(self.map("headers"), generation.to_bytes(4, sys.byteorder), table.header)

    def _write_known(self, table: Table, known: Known, generation: int) -> None:
        keys = self._known[generation]
        for key in keys:
            libbpf.delete(self.map("known"), key)
        keys.clear()
        for key, value in _known_entries(table, known, generation).items():
            libbpf.update(self.map("known"), key, value)
            keys.add(key)

    def learn(self, table: Table, known: Known) -> None:
        """Bring the programs of the generation in force up to date: a file was replaced or made."""
        keys = self._known[self.generation]
        wanted = _known_entries(table, known, self.generation)
        for key, value in wanted.items():
            libbpf.update(self.map("known"), key, value)
        for key in keys - wanted.keys():
            libbpf.delete(self.map("known"), key)
        keys.clear()
        keys.update(wanted)

    # -- control ----------------------------------------------------------------------

    def set_mode(self, server: Server, mode: Mode) -> None:
        self._control["mode"][0][server] = mode
        self._put_control()

    def arm_probe(self, tgid: int) -> None:
        """Let requests of one process, and peers of its listeners, count as proofs; 0 to disarm."""
        self._control["probe_tgid"] = tgid
        self._control["probe_until"] = time.monotonic_ns() + PROBE_LASTS
        self._put_control()

    def report_arrivals(self, on: bool) -> None:
        """Whether a listener in a network namespace that is not covered is an event."""
        self._control["arrivals"] = on
        self._put_control()

    def govern(self, cgroup: Path, whole_host: bool) -> None:
        """Say whom the hooks that see the whole host judge: callers in the cgroup, peers of
        listeners that were entered, and where the whole host is governed of all others too."""
        fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            libbpf.update(self.map("governed"), bytes(4), fd.to_bytes(4, sys.byteorder))
        finally:
            os.close(fd)
        nobody = np.zeros(1, abi.dtype("sr_listener"))
        nobody["owner"]["uid"] = nobody["owner"]["gid"] = 0xFFFFFFFF
        nobody["count"] = 1
        for name, key in (("owners", bytes(8)), ("listeners", NOBODY)):
            if whole_host:
                libbpf.update(self.map(name), key, nobody.tobytes())
            else:
                libbpf.delete(self.map(name), key)
        self.listeners_changed()

    def listeners_changed(self) -> None:
        """After `listeners` was written to: what CPUs remember of it is void (bpf/found.h).

        Counted from the clock, so that no count comes again where the map is a new one.
        """
        by_agents = (1).to_bytes(4, sys.byteorder)
        raw = libbpf.lookup(self.map("changes"), by_agents, 8) or b""
        count = max(int.from_bytes(raw, sys.byteorder) + 1, time.monotonic_ns())
        libbpf.update(self.map("changes"), by_agents, count.to_bytes(8, sys.byteorder))

    def has_overflowed(self) -> bool:
        """Whether a listener found no room in the registry since `set_overflowed(False)`."""
        return any(libbpf.lookup(self.map("overflowed"), bytes(4), 4) or b"")

    def set_overflowed(self, flag: bool) -> None:
        libbpf.update(self.map("overflowed"), bytes(4), int(flag).to_bytes(4, sys.byteorder))
        self.listeners_changed()  # nobody stands for who is not found, or no longer

    def _put_control(self) -> None:
        libbpf.update(self.map("control"), bytes(4), self._control.tobytes())

    # -- counters ---------------------------------------------------------------------

    def totals(self) -> dict[Server, dict[str, int]]:
        """Every counter of struct sr_totals, summed over the CPUs."""
        return {
            server: {name: int(row[name].sum()) for name in row.dtype.names or ()}
            for server, row in (
                (server, self._per_cpu("totals", "sr_totals", server)) for server in Server
            )
        }

    def raw_totals(self) -> bytes:
        """All counters of `totals`, to be compared: whether anything was decided meanwhile."""
        return b"".join(self._raw("totals", "sr_totals", server) for server in Server)

    def proofs(self) -> dict[int, int]:
        """How many requests of the agent's own each hook saw (SR_HOOK_* of abi.h)."""
        return {hook: self._count("proofs", hook) for hook in range(abi.C["SR_HOOKS"])}

    def lost_by_cpu(self) -> dict[int, int]:
        """Events that found no room or no reader, for each CPU that lost any."""
        raw = self.raw_totals()
        if raw != self._totals:  # asked again and again, and mostly nothing went on
            rows = np.frombuffer(raw, abi.dtype("sr_totals")).reshape(len(Server), self._cpus)
            lost = rows["lost"].sum(axis=0)
            self._lost = {cpu: int(count) for cpu, count in enumerate(lost) if count}
            self._totals = raw
        return self._lost

    def hits(self, rules: int, generation: int) -> Any:
        """An array of u64, by rule index: how many requests it has decided."""
        raw = libbpf.lookup_array(
            self.map("hits"), generation * self.capacity.rules, rules, 8 * self._cpus
        )
        return np.frombuffer(raw, np.uint64).reshape(rules, self._cpus).sum(axis=1)

    def _per_cpu(self, name: str, struct: str, index: int) -> Any:
        return np.frombuffer(self._raw(name, struct, index), abi.dtype(struct))

    def _raw(self, name: str, struct: str, index: int) -> bytes:
        size = abi.sizeof(struct) * self._cpus
        key = index.to_bytes(4, sys.byteorder)
        return libbpf.lookup(self.map(name), key, size) or bytes(size)

    def _count(self, name: str, index: int) -> int:
        raw = libbpf.lookup(self.map(name), index.to_bytes(4, sys.byteorder), 8 * self._cpus)
        return int(np.frombuffer(raw or b"", np.uint64).sum())

    def _forget_hits(self, generation: int, rules: int) -> None:
        size, base = 8 * self._cpus, generation * self.capacity.rules
        try:
            libbpf.update_array(self.map("hits"), base, bytes(size * rules), size)
        except OSError:  # not at once, before Linux 5.13
            for index in range(base, base + rules):
                libbpf.update(self.map("hits"), index.to_bytes(4, sys.byteorder), bytes(size))

    # -- the test facility ------------------------------------------------------------

    def decide(self, words: Iterable[int]) -> int:
        """The rule word that the loaded decision gives a request, by BPF_PROG_TEST_RUN."""
        frame = np.zeros(1, abi.dtype("sr_probe"))
        frame["word"] = list(words)
        _, out, _ = libbpf.test_run(self._probe(), frame.tobytes())
        return int(np.frombuffer(out, abi.dtype("sr_probe"))["rule"][0])

    def time_decision(self, words: Iterable[int], repeat: int) -> int:
        """Mean nanoseconds of one decision over `repeat` runs."""
        frame = np.zeros(1, abi.dtype("sr_probe"))
        frame["word"] = list(words)
        return libbpf.test_run(self._probe(), frame.tobytes(), repeat)[2]

    def _probe(self) -> int:
        self.loaded.need((PROBE,))
        if PROBE.name in self.loaded.refused:
            raise OSError(f"the kernel refuses the test run: {self.loaded.refused[PROBE.name]}")
        return self.loaded.programs[PROBE.name]

    def silence(self) -> None:
        """Hand over the last events; what is decided from now on is counted as lost.

        What other programs gather meanwhile, in the map that is shared, stays there for them.
        """
        if self.loaded.events:
            self.loaded.events.gather_no_more()
        for cpu in range(self._cpus):
            libbpf.delete(self.map("events"), cpu.to_bytes(4, sys.byteorder))
        grace_period()
        self.loaded.consume()

    def close(self) -> None:
        """Let programs and maps go; links and pins keep theirs."""
        if self.services:
            self.services.close()
        self.loaded.close()


def _known_entries(table: Table, known: Known, generation: int) -> dict[bytes, bytes]:
    """Keys and values of the map `known`; paths that are one inode are joined.

    Of several programs that are one the last is taken: the rules name all of them alike
    (control/same.py).
    """
    found: dict[bytes, Any] = {}
    for path, inode in known:
        if path not in table.programs and path not in table.directories:
            continue
        key = np.zeros(1, abi.dtype("sr_inode"))
        key["number"], key["device"], key["generation"] = inode.number, inode.device, generation
        value = found.setdefault(key.tobytes(), np.zeros(1, abi.dtype("sr_known")))
        if inode.generation is not None:
            value["checked"], value["generation"] = 1, inode.generation
        if path in table.programs:
            value["program"] = table.programs[path]
        else:
            value["directory"] |= np.uint64(1 << table.directories[path])
    return {key: value.tobytes() for key, value in found.items()}
