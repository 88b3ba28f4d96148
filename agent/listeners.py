# SPDX-License-Identifier: Apache-2.0
"""The registry of listeners, reconciled with what the kernel says is listening.

The programs keep the registry while they run (bpf/listeners.c). Sockets that
listened before are found through socket diagnostics (sock_diag(7)) and /proc
and entered here; entries of sockets that went unseen are swept. A sweep takes
an entry only when it was stale twice in a row, so that a listener which appears
meanwhile keeps its entry.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..control import abi
from ..control.addresses import format_address
from . import diag, libbpf
from .cgroups import cgroup_id, cgroup_of
from .inodes import inode_of
from .kernel import Kernel
from .listening import listening_everywhere, listening_in
from .netns import netns_inum

_NS_GET_USERNS = 0xB701  # include/uapi/linux/nsfs.h
_INIT_USER_NS = 0xEFFFFFFD  # PROC_USER_INIT_INO, include/linux/proc_ns.h

_KEYS = {"listeners": abi.sizeof("sr_listener_key"), "owners": 8}
"""The maps, and the sizes of their keys."""


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


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of one of the maps: its name, the key's bytes, and a struct sr_listener."""

    map: str
    key: bytes
    value: Any

    @property
    def netns(self) -> int:
        return int(self.value["place"]["netns"])

    @property
    def place(self) -> Place:
        place = self.value["place"]
        return Place(int(place["hi"]) << 64 | int(place["lo"]), int(place["port"]))


class Registry:
    """The maps `listeners` (by place) and `owners` (by cookie), for one cgroup."""

    def __init__(self, kernel: Kernel, cgroup: Path, mount: Path) -> None:
        self._kernel = kernel
        self._netns = netns_inum()
        self._cgroup = cgroup
        self._mount = mount
        self._stale: set[tuple[str, bytes]] = set()
        self._foreign: dict[int, set[int]] = {}
        self.programs: dict[tuple[int, int], str] = {}
        """Paths of programs that were entered here, by inode number and device."""

    def use(self, kernel: Kernel) -> None:
        """Go on with newly loaded programs; the pinned maps are the same."""
        self._kernel = kernel

    def reconcile(self, *, sweep: bool = True) -> int:
        """Enter listeners that are missing, sweep entries that are stale; how many were entered."""
        if self._kernel.has_overflowed():
            self._kernel.set_overflowed(False)  # until somebody finds no room again
        seen = listening_everywhere(self._cgroup, self._mount)
        entries: dict[int, list[Entry]] = {netns: [] for netns in seen}
        for each in self._entries():
            entries.setdefault(each.netns, []).append(each)
        entered = 0
        for netns, known in entries.items():
            now = seen.get(netns)
            if now is None:
                now = listening_in(netns, int(known[0].value["owner"]["pid"]))
            if sweep:
                self._sweep(known, now)
            entered += self._enter_missing(netns, known, now)
        self._foreign = {netns: each for netns, each in self._foreign.items() if netns in seen}
        return entered

    def _enter_missing(
        self, netns: int, entries: Sequence[Entry], now: Sequence[diag.Socket]
    ) -> int:
        foreign = self._foreign.setdefault(netns, set())
        foreign &= {each.cookie for each in now}
        known = {each.key for each in entries if each.map == "owners"}
        taken = {each.place for each in entries if each.map == "listeners" and each.value["count"]}
        missing = [
            each
            for each in now
            if each.cookie not in foreign
            and (_cookie_key(each) not in known or place_of(each) not in taken)
        ]
        if not missing:
            return 0
        holders = owners({each.inode for each in missing})
        entered = 0
        for each in missing:
            owner = holders.get(each.inode)
            if owner is None or not in_cgroup(owner.pid, self._cgroup, self._mount):
                foreign.add(each.cookie)
                continue
            place = place_of(each)
            count = sum(place_of(other) == place for other in now)
            self._enter(netns, each, owner, count)
            entered += 1
        return entered

    def namespaces(self) -> dict[int, int]:
        """The network namespaces that have listeners, and a process that listened in each."""
        return {
            each.netns: int(each.value["owner"]["pid"])
            for each in self._entries("listeners")
            if each.value["count"]
        }

    def shut(self) -> list[Entry]:
        """The entries of listeners that let no peer in."""
        return [each for each in self._entries() if each.value["flags"] & abi.C["SR_SHUT"]]

    def recorded(self) -> dict[Place, Any]:
        """Who listened, as it was at listen(), by place in this process's network namespace."""
        return {
            each.place: each.value
            for each in self._entries("listeners")
            if each.value["place"]["netns"] == self._netns and each.value["count"]
        }

    def reopen(self, entry: Entry) -> None:
        """Let peers in again."""
        raw = libbpf.lookup(self._kernel.map(entry.map), entry.key, abi.sizeof("sr_listener"))
        if raw is None:
            return
        value = np.frombuffer(bytearray(raw), abi.dtype("sr_listener"))
        value["flags"] &= ~np.uint32(abi.C["SR_SHUT"])
        libbpf.update(self._kernel.map(entry.map), entry.key, value.tobytes())
        self._kernel.listeners_changed()

    def _entries(self, *maps: str) -> Iterator[Entry]:
        for name in maps or tuple(_KEYS):
            for key in libbpf.keys(self._kernel.map(name), _KEYS[name]):
                if not any(key):  # stands for nobody (Kernel.govern)
                    continue
                raw = libbpf.lookup(self._kernel.map(name), key, abi.sizeof("sr_listener"))
                if raw is not None:
                    yield Entry(name, key, np.frombuffer(raw, abi.dtype("sr_listener"))[0])

    def _sweep(self, entries: Sequence[Entry], now: Sequence[diag.Socket]) -> None:
        cookies, places = {_cookie_key(each) for each in now}, {place_of(each) for each in now}
        stale = {
            (each.map, each.key)
            for each in entries
            if (each.map == "owners" and each.key not in cookies)
            or (each.map == "listeners" and (not each.value["count"] or each.place not in places))
        }
        again = stale & self._stale
        for name, key in again:
            libbpf.delete(self._kernel.map(name), key)
        if again:
            self._kernel.listeners_changed()
        self._stale -= {(each.map, each.key) for each in entries}
        self._stale |= stale - again

    def _enter(self, netns: int, found: diag.Socket, owner: Owner, count: int) -> None:
        """Make the entries of a listener, where none came meanwhile."""
        value = np.zeros(1, abi.dtype("sr_listener"))
        value["count"] = 1
        place = value["place"][0]
        place["netns"], place["port"] = netns, found.local_port
        place["hi"], place["lo"] = found.local_address >> 64, found.local_address & (2**64 - 1)
        who = value["owner"][0]
        who["uid"], who["gid"], who["pid"] = owner.uid, owner.gid, owner.pid
        who["cgroup"] = cgroup_id(self._mount, owner.cgroup) if owner.cgroup else 0
        who["comm"][:15] = list(owner.comm.encode()[:15].ljust(15, b"\0"))
        self._describe_program(owner, who)
        key = place.tobytes()
        raw = libbpf.lookup(self._kernel.map("listeners"), key, abi.sizeof("sr_listener"))
        try:
            libbpf.insert(self._kernel.map("owners"), _cookie_key(found), value.tobytes())
            value["count"] = count
            if raw is None or not np.frombuffer(raw, abi.dtype("sr_listener"))["count"][0]:
                libbpf.update(self._kernel.map("listeners"), key, value.tobytes())
                self._kernel.listeners_changed()
        except OSError as error:
            if error.errno != errno.E2BIG:
                raise
            self._kernel.set_overflowed(True)

    def _describe_program(self, owner: Owner, who: Any) -> None:
        inode = inode_of(f"/proc/{owner.pid}/exe")
        if inode is None:
            return
        who["program"]["number"], who["program"]["device"] = inode.number, inode.device
        if owner.program is None:
            return
        self.programs[inode.number, inode.device] = owner.program
        if not mounted_by_host(owner.pid):
            return
        inside_root = f"/proc/{owner.pid}/root"
        above = [inode_of(f"{inside_root}{parent}") for parent in Path(owner.program).parents]
        depth = 0
        for directory in above[: abi.C["SR_DEPTH"]]:
            if directory is not None:
                who["above"][depth]["number"] = directory.number
                who["above"][depth]["device"] = directory.device
                depth += 1
        who["depth"] = depth


def mounted_by_host(pid: int) -> bool:
    """Whether a process sees mounts of the host's own user namespace (NS_GET_USERNS, ioctl_ns(2)).

    Whoever has a user namespace may put any file below any directory there.
    """
    try:
        with open(f"/proc/{pid}/ns/mnt", "rb") as mounts:
            owner = fcntl.ioctl(mounts, _NS_GET_USERNS)
    except OSError:
        return False
    try:
        return os.fstat(owner).st_ino == _INIT_USER_NS
    finally:
        os.close(owner)


def place_of(found: diag.Socket) -> Place:
    """Where a listener listens."""
    return Place(found.local_address, found.local_port)


def _cookie_key(found: diag.Socket) -> bytes:
    return found.cookie.to_bytes(8, sys.byteorder)
