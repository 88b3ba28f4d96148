# SPDX-License-Identifier: Apache-2.0
"""Which service each cgroup is, in the maps of one set of loaded programs.

Rules. A new cgroup is entered by the programs themselves, while it is made
(bpf/services.c); those that exist are entered here, for a table that is not yet
in force. Order is what makes this complete: first the names that the table asks
for are written; then every mkdir that may not have seen them ends (it holds a
lock that a cgroup of our own has to wait for); then what exists is looked
through. That cgroup of our own is also the proof that the tracepoint is called.

Where the kernel has no such tracepoint, inotify says that a cgroup was made,
and everything is looked through again: for a moment a new cgroup is one that no
rule names.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from pathlib import Path

import numpy as np

from ..control import abi
from ..control.table import Table
from ..control.walk import service_words
from . import libbpf
from .cgroups import cgroups_below
from .hooks import TRACKERS
from .inotify import Watch
from .loader import Loaded

_PROBE = "sockrules-probe"
_NOEXIST, _EXIST = 1, 2  # BPF_NOEXIST, BPF_EXIST of include/uapi/linux/bpf.h

SR_CGROUP_PATH = abi.C["SR_CGROUP_PATH"]

Asked = tuple[int, int, int]
"""What a table makes of a name: the number of a unit, bits for a path and below, for it alone."""

_NOTHING: Asked = (0, 0, 0)


class Services:
    """The maps `names` and `cgroups`, and the tracepoints that keep them.

    Args:
        loaded: the programs, with why some were refused, and their maps.
        mount: where the cgroup v2 hierarchy is mounted.
    """

    def __init__(self, loaded: Loaded, mount: Path) -> None:
        self._maps, self._mount = loaded.maps, mount
        self._asked: tuple[dict[str, Asked], dict[str, Asked]] = ({}, {})
        self._links: dict[str, int] = {}
        self._watch: Watch | None = None
        self._unentered = 0
        self._pinned = False
        self.refused = ""
        """Why the tracepoints are not used, empty while they are."""
        self._sweep()
        loaded.need(TRACKERS)
        try:
            for hook in TRACKERS:
                if hook.name not in loaded.programs:
                    raise OSError(errno.EINVAL, loaded.refused.get(hook.name, "not loaded"))
                program = loaded.programs[hook.name]
                self._links[hook.name] = libbpf.raw_tracepoint_open(hook.name, program)
            self._prove()
        except OSError as error:
            self._fall_back(error.strerror or str(error))

    def _fall_back(self, why: str) -> None:
        for link in self._links.values():
            os.close(link)
        self._links.clear()
        self.refused = why
        self._watch = Watch()

    def _prove(self) -> None:
        """Make a cgroup and see that the tracepoint told of it. Raises OSError."""
        probe = self._mount / f"{_PROBE}-{os.getpid()}"
        probe.mkdir()
        try:
            key = _key(probe.stat().st_ino)
            if libbpf.lookup(self._maps["cgroup_paths"], key, SR_CGROUP_PATH) is None:
                raise OSError(errno.ENODATA, "attached, but not called")
        finally:
            probe.rmdir()

    def _sweep(self) -> None:
        """Remove what an agent left that was killed while it proved."""
        for probe in self._mount.glob(f"{_PROBE}-*"):
            if not Path(f"/proc/{probe.name.rpartition('-')[2]}").exists():
                with contextlib.suppress(OSError):
                    probe.rmdir()

    # -- a table ----------------------------------------------------------------------

    def install(self, table: Table, generation: int) -> None:
        """Prepare for a table that will be in force as this generation."""
        self._write_names(table, generation)
        if not needed(table):
            return
        if self._watch is None:
            try:
                self._prove()
            except OSError as error:
                self._fall_back(error.strerror or str(error))
        self.look_through(table, generation)

    def changed(self) -> bool:
        """Without the tracepoint: whether cgroups were made or removed since the last time."""
        return self._watch is not None and self._watch.changed()

    def refresh(self, table: Table, generation: int) -> None:
        """Look through the cgroups again, for the table in force."""
        if needed(table):
            self.look_through(table, generation)

    def _write_names(self, table: Table, generation: int) -> None:
        before, now = self._asked[generation], _asked(table)
        for name in before.keys() | now.keys():
            if before.get(name) == now.get(name):
                continue
            before[name] = now.get(name, _NOTHING)
            entry = np.zeros(1, abi.dtype("sr_named"))
            for side, asked in enumerate(self._asked):
                unit, below, exact = asked.get(name, _NOTHING)
                entry["unit"][0][side] = unit
                entry["below"][0][side] = below
                entry["exact"][0][side] = exact
            key = name.encode().ljust(SR_CGROUP_PATH, b"\0")
            if entry.tobytes().strip(b"\0"):
                libbpf.update(self._maps["names"], key, entry.tobytes())
            else:
                libbpf.delete(self._maps["names"], key)
        before.clear()
        before.update(now)

    def look_through(self, table: Table, generation: int) -> None:
        """Enter what a table makes of every cgroup there is; forget those that are gone."""
        held = set(libbpf.keys(self._maps["cgroups"], 8))
        for number, path in cgroups_below(self._mount):
            if self._watch:  # before the cgroups in it are looked at
                self._watch.add(str(self._mount / path[1:]))
            unit, bits = service_words(table, path)
            self._enter(_key(number), unit if unit > 1 else 0, bits, generation)
            held.discard(_key(number))
        for key in held:
            libbpf.delete(self._maps["cgroups"], key)

    def _enter(self, key: bytes, unit: int, bits: int, generation: int) -> None:
        """One cgroup. The programs enter it before anybody can see it, never later."""
        raw = libbpf.lookup(self._maps["cgroups"], key, abi.sizeof("sr_service"))
        if raw is None and not (unit or bits):
            return
        entry = np.zeros(1, abi.dtype("sr_service"))
        if raw is not None:
            entry[0] = np.frombuffer(raw, entry.dtype)[0]
        entry["unit"][0][generation] = unit
        entry["bits"][0][generation] = bits
        if raw == entry.tobytes():
            return
        try:
            flag = _NOEXIST if raw is None else _EXIST
            libbpf.update(self._maps["cgroups"], key, entry.tobytes(), flag)
        except OSError as error:
            if error.errno == errno.E2BIG:
                self._unentered += 1
            elif error.errno not in (errno.ENOENT, errno.EEXIST):  # made or removed meanwhile
                raise

    # -- what becomes of it -------------------------------------------------------------

    def pin(self, directory: Path) -> None:
        """Let the tracepoints outlive the agent, and end those of the programs before."""
        if self._pinned:
            return
        self._pinned = True
        for hook in TRACKERS:
            path = directory / hook.name
            path.unlink(missing_ok=True)
            if hook.name in self._links:
                libbpf.pin(self._links[hook.name], str(path))

    def unpin(self, directory: Path) -> None:
        """Nothing is judged any more: let them end with the agent."""
        self._pinned = False
        for hook in TRACKERS:
            (directory / hook.name).unlink(missing_ok=True)

    def report(self) -> dict[str, object]:
        """How the services are kept, for `status`."""
        raw = libbpf.lookup(self._maps["tracking"], bytes(4), abi.sizeof("sr_tracking"))
        counted = np.frombuffer(raw or bytes(abi.sizeof("sr_tracking")), abi.dtype("sr_tracking"))
        return {
            "kept_by": "inotify" if self._watch else "tracepoint",
            "refused": self.refused,
            "made": int(counted["made"][0]),
            "unentered": int(counted["overflow"][0]) + self._unentered,
        }

    def close(self) -> None:
        """Let go; what is pinned goes on."""
        for link in self._links.values():
            os.close(link)
        self._links.clear()
        if self._watch:
            self._watch.close()
            self._watch = None


def needed(table: Table) -> bool:
    """Whether a rule of the table asks for a service."""
    return bool(table.units or table.cgroups)


def _asked(table: Table) -> dict[str, Asked]:
    """What a table asks for, by name: a unit's, or a path without a `/` at its end."""
    found = {unit: (number, 0, 0) for unit, number in table.units.items()}
    for path, bit in table.cgroups.items():
        name = path.rstrip("/") or "/"
        unit, below, exact = found.get(name, _NOTHING)
        if path.endswith("/"):
            below |= 1 << bit
        else:
            exact |= 1 << bit
        found[name] = unit, below, exact
    return found


def _key(number: int) -> bytes:
    return number.to_bytes(8, sys.byteorder)
