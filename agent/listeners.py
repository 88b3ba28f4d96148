# SPDX-License-Identifier: Apache-2.0
"""The registry of listeners, reconciled with what the kernel says is listening.

The programs keep the registry while they run (bpf/listeners.c). Sockets that
listened before are found through socket diagnostics (sock_diag(7)) and /proc
and entered here; entries of sockets that went unseen are swept. A sweep takes
an entry only when it was stale twice in a row, so that a listener which appears
meanwhile keeps its entry.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..control import abi
from ..control.addresses import format_address, parse_address
from . import libbpf
from .cgroups import cgroup_id, cgroup_of
from .inodes import inode_of
from .netns import netns_inum

_LISTEN = 1 << 10  # TCP_LISTEN as a bit of the diagnostics' state mask


@dataclass(frozen=True, slots=True)
class Place:
    """A listening address and port; address 0 or ::ffff:0.0.0.0 is a wildcard."""

    address: int
    port: int

    def __str__(self) -> str:
        return f"{format_address(self.address)} port {self.port}"


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that holds a listening socket."""

    pid: int
    uid: int
    gid: int
    comm: str
    program: str | None
    cgroup: str | None


def listening() -> dict[Place, set[int]]:
    """All TCP listeners of this network namespace, with the inodes of their sockets."""
    from pyroute2 import DiagSocket

    found: dict[Place, set[int]] = {}
    with DiagSocket() as diag:
        for family in (socket.AF_INET, socket.AF_INET6):
            for message in diag.get_sock_stats(family=family, states=_LISTEN):
                place = Place(_mapped(message["idiag_src"], family), message["idiag_sport"])
                found.setdefault(place, set()).add(message["idiag_inode"])
    return found


def _mapped(text: str, family: int) -> int:
    if family == socket.AF_INET6:
        return int(ipaddress.IPv6Address(text))
    return parse_address(text)


def owners(inodes: set[int]) -> dict[int, Owner]:
    """Who holds these sockets, from /proc; a socket held by several is the first one's."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, Owner] = {}
    for pid in sorted(int(entry) for entry in os.listdir("/proc") if entry.isdigit()):
        if len(found) == len(wanted):
            break
        for link in descriptors(pid):
            inode = wanted.get(link)
            if inode is not None and inode not in found:
                owner = owner_of(pid)
                if owner:
                    found[inode] = owner
    return found


def descriptors(pid: int) -> Iterator[str]:
    """What a process's descriptors are, as /proc words it: `socket:[4711]`."""
    try:
        for entry in os.scandir(f"/proc/{pid}/fd"):
            try:
                yield os.readlink(entry.path)
            except OSError:
                continue
    except OSError:
        return


def owner_of(pid: int) -> Owner | None:
    """Who a process is; `None` when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    try:
        program = os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")
    except OSError:
        program = None
    uid, gid = int(fields["Uid"].split()[0]), int(fields["Gid"].split()[0])
    return Owner(pid, uid, gid, fields["Name"], program, cgroup_of(pid))


def in_cgroup(pid: int, cgroup: Path, mount: Path) -> bool:
    """Whether a process is in the cgroup v2 or below it."""
    own = cgroup_of(pid)
    if own is None:
        return False
    place = mount / own.lstrip("/")
    return place == cgroup or cgroup in place.parents


class Registry:
    """The map `listeners`, for one network namespace and one cgroup."""

    def __init__(self, map_fd: int, cgroup: Path, mount: Path) -> None:
        self._fd = map_fd
        self._netns = netns_inum()
        self._cgroup = cgroup
        self._mount = mount
        self._stale: set[bytes] = set()
        self._foreign: set[tuple[Place, frozenset[int]]] = set()
        self.programs: dict[tuple[int, int], str] = {}
        """Paths of programs that were entered here, by inode number and device."""

    def use(self, map_fd: int) -> None:
        """Go on with the descriptor of newly loaded programs; the pinned map is the same."""
        self._fd = map_fd

    def reconcile(self, *, sweep: bool = True) -> int:
        """Enter listeners that are missing, sweep entries that are stale; how many were entered."""
        now = listening()
        entries = {key: value for key, value in self._entries()}
        known = {
            _place(key)
            for key, value in entries.items()
            if key["netns"] == self._netns and value["count"]
        }
        if sweep:
            self._sweep(entries, now)
        missing = {place: inodes for place, inodes in now.items() if place not in known}
        missing = {
            place: inodes
            for place, inodes in missing.items()
            if (place, frozenset(inodes)) not in self._foreign
        }
        if not missing:
            return 0
        holders = owners({inode for inodes in missing.values() for inode in inodes})
        entered = 0
        for place, inodes in missing.items():
            owner = next((holders[inode] for inode in inodes if inode in holders), None)
            if owner is not None and in_cgroup(owner.pid, self._cgroup, self._mount):
                self._enter(place, owner, len(inodes))
                entered += 1
            else:
                self._foreign.add((place, frozenset(inodes)))
        self._foreign = {
            (place, inodes)
            for place, inodes in self._foreign
            if frozenset(now.get(place, ())) == inodes
        }
        return entered

    def shut(self) -> list[tuple[Any, Any]]:
        """Keys and entries whose listeners no peer gets in to."""
        return [(key, value) for key, value in self._entries() if value["flags"] & abi.C["SR_SHUT"]]

    def recorded(self) -> dict[Place, Any]:
        """The entries of this network namespace: who listened, as it was at listen()."""
        return {
            _place(key): value
            for key, value in self._entries()
            if key["netns"] == self._netns and value["count"]
        }

    def reopen(self, key: Any) -> None:
        """Let peers in again."""
        raw = libbpf.lookup(self._fd, key.tobytes(), abi.sizeof("sr_listener"))
        if raw is None:
            return
        entry = np.frombuffer(bytearray(raw), abi.dtype("sr_listener"))
        entry["flags"] &= ~np.uint32(abi.C["SR_SHUT"])
        libbpf.update(self._fd, key.tobytes(), entry.tobytes())

    def _entries(self) -> Iterator[tuple[Any, Any]]:
        for raw in libbpf.keys(self._fd, abi.sizeof("sr_listener_key")):
            value = libbpf.lookup(self._fd, raw, abi.sizeof("sr_listener"))
            if value is not None:
                key = np.frombuffer(raw, abi.dtype("sr_listener_key"))[0]
                yield key, np.frombuffer(value, abi.dtype("sr_listener"))[0]

    def _sweep(self, entries: dict[Any, Any], now: dict[Place, set[int]]) -> None:
        stale = {
            key.tobytes()
            for key, value in entries.items()
            if not value["count"] or (key["netns"] == self._netns and _place(key) not in now)
        }
        for key in stale & self._stale:
            libbpf.delete(self._fd, key)
        self._stale = stale - self._stale

    def _enter(self, place: Place, owner: Owner, count: int) -> None:
        key = np.zeros(1, abi.dtype("sr_listener_key"))
        key["netns"], key["port"] = self._netns, place.port
        key["hi"], key["lo"] = place.address >> 64, place.address & (2**64 - 1)
        value = np.zeros(1, abi.dtype("sr_listener"))
        value["count"] = count
        who = value["owner"][0]
        who["uid"], who["gid"], who["pid"] = owner.uid, owner.gid, owner.pid
        who["cgroup"] = cgroup_id(self._mount, owner.cgroup) if owner.cgroup else 0
        who["comm"][:15] = list(owner.comm.encode()[:15].ljust(15, b"\0"))
        self._describe_program(owner, who)
        raw = libbpf.lookup(self._fd, key.tobytes(), abi.sizeof("sr_listener"))
        if raw is None or not np.frombuffer(raw, abi.dtype("sr_listener"))["count"][0]:
            libbpf.update(self._fd, key.tobytes(), value.tobytes())  # else it came meanwhile

    def _describe_program(self, owner: Owner, who: Any) -> None:
        inode = inode_of(f"/proc/{owner.pid}/exe")
        if inode is None:
            return
        who["program"]["number"], who["program"]["device"] = inode.number, inode.device
        if owner.program is None:
            return
        self.programs[inode.number, inode.device] = owner.program
        above = [inode_of(str(parent)) for parent in Path(owner.program).parents]
        depth = 0
        for directory in above[: abi.C["SR_DEPTH"]]:
            if directory is not None:
                who["above"][depth]["number"] = directory.number
                who["above"][depth]["device"] = directory.device
                depth += 1
        who["depth"] = depth


def _place(key: Any) -> Place:
    return Place(int(key["hi"]) << 64 | int(key["lo"]), int(key["port"]))
