# SPDX-License-Identifier: Apache-2.0
"""What is loaded, attached and proven on this host for one root.

Rules. Everything is prepared before anything is attached: a server's first
request is decided by the full table. Replacing programs (an agent's restart, a
larger table) updates the links one by one, each atomically; a request never
goes unjudged because of it. What cannot be attached is reported and costs no
other server.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..control import abi
from ..control.model import Mode, Server
from ..control.table import Table
from ..control.walk import service_words
from .btf import offset_macros
from .bytecode import Cache
from .cgroups import CgroupPaths
from .hooks import WAYS, Hook
from .identities import Identities
from .kernel import Kernel, Known, capacity_for, fits, grace_period
from .links import Links, Target
from .listeners import Registry
from .loader import load
from .netns import netns_inum
from .prove import Proof, prove


class EnforcerError(Exception):
    """The host cannot be governed as configured; the text says what to do."""


@dataclass(slots=True)
class ServerState:
    """How one server stands."""

    mode: Mode = Mode.OFF
    attached: bool = False
    refused: str = ""
    proof: Proof | None = None


@dataclass
class Enforcer:
    """The kernel side of one agent.

    Args:
        pins: this root's directory on the BPF file system.
        cgroup: the cgroup v2 that is governed, `None` for the root of the hierarchy.
        take: gets (cpu, bytes) of every event.
        cache: where compiled programs are kept.
    """

    pins: Path
    cgroup: str | None
    buffer_pages: int
    take: Callable[[int, bytes], None]
    cache: Cache | None = None
    servers: dict[Server, ServerState] = field(
        default_factory=lambda: {server: ServerState() for server in Server}
    )
    table: Table | None = None
    identities: Identities = field(default_factory=Identities)

    def __post_init__(self) -> None:
        self._kernel: Kernel | None = None
        self._offsets: dict[str, int] = {}
        self.mount = cgroup_mount()
        self.cgroup_path = self._find_cgroup()
        self.cgroups = CgroupPaths(lambda: self.kernel.map("cgroup_paths"), self.mount)
        self.links = Links(self.pins / "links")
        self.registry: Registry | None = None
        self.lost_by_reader = 0

    def _find_cgroup(self) -> Path:
        if self.cgroup is None:
            return self.mount
        path = Path(self.cgroup)
        if not path.is_relative_to(self.mount):
            path = self.mount / self.cgroup.lstrip("/")
        if not (path / "cgroup.procs").exists():
            raise EnforcerError(
                f'agent.toml: cgroup "{self.cgroup}" is not a cgroup v2 below {self.mount}'
            )
        return path

    @property
    def kernel(self) -> Kernel:
        assert self._kernel is not None, "start() comes first"
        return self._kernel

    # -- starting and swapping --------------------------------------------------------

    def start(self, table: Table, modes: dict[Server, Mode]) -> None:
        """Load, fill, attach what `modes` asks for, and prove it."""
        mount_bpffs()
        (self.pins / "links").mkdir(parents=True, exist_ok=True)
        self._offsets = offset_macros()
        self.identities.follow((*table.programs, *table.directories))
        self._kernel, self.table = self._load(table, modes), table
        self.registry = Registry(self.kernel.map("listeners"), self.cgroup_path, self.mount)
        if any(mode is not Mode.OFF for mode in modes.values()):
            self.registry.reconcile()
        self._attach(modes)
        self._remove_old_maps()

    def install(self, table: Table) -> Kernel:
        """Put another table in force; the programs that were in force before.

        These are the same ones, or smaller ones that the caller hands to `retire`.
        What raises leaves the old table in force.
        """
        old, before = self.kernel, self.table
        self.identities.follow((*table.programs, *table.directories))
        try:
            if fits(table, old.capacity):
                old.install(table, self.identities.known())
            else:
                self._outgrow(table)
        except BaseException:
            if before is not None:
                self.identities.follow((*before.programs, *before.directories))
            raise
        self.table = table
        grace_period()  # after which the old table counts no more
        return old

    def retire(self, kernel: Kernel) -> None:
        """Take the last events of programs that were replaced, and let them go."""
        if kernel is not self._kernel:
            kernel.silence()
            kernel.close()

    def _outgrow(self, table: Table) -> None:
        """Replace the programs by larger ones, link by link."""
        old, attached = self._kernel, self.links.attached()
        new = self._load(table, {server: each.mode for server, each in self.servers.items()})
        try:
            for hook in attached:
                if hook.name not in new.loaded.programs:
                    raise EnforcerError(
                        f"the kernel refuses the larger program for {hook.name}:"
                        f" {new.loaded.refused.get(hook.name)}"
                    )
            self._kernel = new
            for hook in attached:
                self._link(hook)
        except (OSError, EnforcerError):
            if self._kernel is new:
                self._kernel = old
                for hook in attached:
                    self._link(hook)
            new.close()
            raise
        if self.registry:
            self.registry.use(new.map("listeners"))
        self._keep_services()

    def _load(self, table: Table, modes: dict[Server, Mode]) -> Kernel:
        capacity = capacity_for(table)
        maps = self.pins / f"maps-{abi.digest[:8]}"
        maps.mkdir(parents=True, exist_ok=True)
        loaded = load(capacity, self._offsets, pins=maps, cache=self.cache)
        kernel = Kernel(loaded, capacity, self.mount)
        for server, mode in modes.items():
            kernel.set_mode(server, mode)
        kernel.install(table, self.identities.known())
        kernel.loaded.open_events(self.take, self._count_lost, self.buffer_pages)
        return kernel

    def _remove_old_maps(self) -> None:
        """Another version's maps, which nothing uses now that the programs are replaced."""
        for directory in self.pins.glob("maps-*"):
            if directory.name != f"maps-{abi.digest[:8]}":
                shutil.rmtree(directory, ignore_errors=True)

    def _count_lost(self, count: int) -> None:
        self.lost_by_reader += count

    # -- servers ----------------------------------------------------------------------

    def set_modes(self, modes: dict[Server, Mode]) -> None:
        """Attach, detach or change what the named servers do with their decisions."""
        wanted = {server: state.mode for server, state in self.servers.items()} | modes
        if self.registry and any(mode is not Mode.OFF for mode in modes.values()):
            self.registry.reconcile()
        self._attach(wanted)

    def _attach(self, modes: dict[Server, Mode]) -> None:
        for server, mode in modes.items():
            self.kernel.set_mode(server, mode)
        needed = {
            hook
            for server in Server
            if modes[server] is not Mode.OFF
            for hook in WAYS[server].hooks
        }
        trouble: dict[Hook, str] = {}
        for hook in needed:
            try:
                self._link(hook)
            except OSError as error:
                trouble[hook] = str(error)
        for server in Server:
            state = self.servers[server]
            state.mode = modes[server]
            state.refused = (
                "; ".join(
                    f"{hook.name}: {trouble[hook]}"
                    for hook in WAYS[server].hooks
                    if hook in trouble
                )
                if state.mode is not Mode.OFF
                else ""
            )
            state.attached = state.mode is not Mode.OFF and not state.refused
        for hook in self.links.attached():
            if hook not in needed:
                self.links.detach(hook)
        self._keep_services()
        if self.registry and needed:  # those that began to listen while the hooks were attached
            self.registry.reconcile(sweep=False)
        self.prove()

    def _link(self, hook: Hook) -> None:
        if hook.name not in self.kernel.loaded.programs:
            raise OSError(0, self.kernel.loaded.refused.get(hook.name, "not loaded"))
        if hook.target == "cgroup":
            place, number = self.cgroup_path, self.cgroup_path.stat().st_ino
        else:
            place, number = Path("/proc/self/ns/net"), netns_inum()
        fd = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.links.attach(hook, self.kernel.loaded.programs[hook.name], Target(fd, number))
        finally:
            os.close(fd)

    def _keep_services(self) -> None:
        """What keeps the services lasts as long as something is judged, agent or no agent."""
        if self.kernel.services is None:
            return
        if self.links.attached():
            self.kernel.services.pin(self.pins / "links")
        else:
            self.kernel.services.unpin(self.pins / "links")

    def prove(self) -> None:
        """Prove every attached server anew."""
        attached = [server for server in Server if self.servers[server].attached]
        proofs = prove(self.kernel, attached, self.cgroup_path)
        for server in Server:
            self.servers[server].proof = proofs.get(server)

    # -- upkeep -----------------------------------------------------------------------

    def refresh_programs(self) -> bool:
        """Notice programs that were replaced or made; whether anything changed."""
        if self.table is None or not self.identities.look():
            return False
        self.kernel.learn(self.table, self.identities.known())
        return True

    def cgroups_made(self) -> bool:
        """Whether cgroups were made that the programs did not see to themselves."""
        return self.kernel.services is not None and self.kernel.services.changed()

    def refresh_services(self) -> None:
        """Enter them."""
        if self.table is not None and self.kernel.services is not None:
            self.kernel.services.refresh(self.table, self.kernel.generation)

    def reopen_listeners(self) -> None:
        """Judge again the listeners that are shut: the rules or the mode may have changed."""
        if self.registry is None or self.table is None:
            return
        enforcing = self.servers[Server.LISTEN].mode is Mode.ENFORCE
        for key, entry in self.registry.shut():
            service = self.cgroups.path_of(int(entry["owner"]["cgroup"]))
            known = self.identities.known()
            words = listener_words(key, entry, self.table, known, service)
            word = self.kernel.decide(words)
            if not enforcing or not word & abi.C["SR_REJECT"]:
                self.registry.reopen(key)

    def detach(self) -> None:
        """Take everything off the host: links, pins, maps."""
        self.links.detach_all()
        shutil.rmtree(self.pins, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.pins.parent.rmdir()

    def silence(self) -> None:
        """Take the last events; what is decided from now on is counted as lost."""
        self.kernel.silence()

    def close(self) -> None:
        """Let go; what is pinned goes on."""
        if self._kernel is not None:
            self._kernel.close()
            self._kernel = None


def listener_words(
    key: Any, entry: Any, table: Table, known: Known, service: str | None
) -> list[int]:
    """The request that a registered listener's listen() was, as words of abi.h."""
    owner = entry["owner"]
    above = {
        (int(each["number"]), int(each["device"])) for each in owner["above"][: owner["depth"]]
    }
    bits = abi.C["SR_LISTEN"] | abi.C["SR_BIT_LOCAL_KNOWN"]
    program = int(owner["program"]["number"] != 0)
    for path, inode in known:
        if path in table.directories and (inode.number, inode.device) in above:
            bits |= 1 << table.directories[path]
        elif path in table.programs and (inode.number, inode.device) == (
            int(owner["program"]["number"]),
            int(owner["program"]["device"]),
        ):
            program = table.programs[path]
    number, places = service_words(table, service)
    ids = int(owner["uid"]) << 32 | int(owner["gid"])
    who = program << 32 | number
    hi, lo = int(key["hi"]), int(key["lo"])
    return [bits | places, int(key["port"]) << 16, ids, who, hi, lo, 0, 0]


def cgroup_mount() -> Path:
    """Where the cgroup v2 hierarchy is mounted."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        if rest.split()[0] == "cgroup2":
            return Path(fields.split()[4])
    raise EnforcerError("no cgroup v2 hierarchy is mounted; mount one at /sys/fs/cgroup")


def mount_bpffs() -> None:
    """Mount the BPF file system where it is missing, as systemd does at boot."""
    place = "/sys/fs/bpf"
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    if any(line.split()[4] == place and " - bpf " in line for line in mounts):
        return
    done = subprocess.run(
        ["mount", "-t", "bpf", "bpf", place], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise EnforcerError(f"cannot mount the BPF file system at {place}: {done.stderr.strip()}")
