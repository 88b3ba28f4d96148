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
import shutil
import stat
import subprocess
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..control import abi
from ..control.model import Mode, Server
from ..control.table import Table
from ..control.walk import service_words
from .attachment import Attachment, ServerState
from .bytecode import Cache
from .cgroups import CgroupPaths
from .coverage import Arrival, Covered, decode_arrival
from .features import kernel_macros
from .identities import Identities
from .kernel import Kernel, Known, capacity_for, fits, grace_period
from .listeners import Registry
from .loader import load
from .longest_walk import is_too_long, longest_walk
from .reader import Reader


class EnforcerError(Exception):
    """The host cannot be governed as configured; the text says what to do."""


@dataclass
class Enforcer:
    """The kernel side of one agent.

    Args:
        pins: this root's directory on the BPF file system.
        cgroup: the cgroup v2 that is governed, `None` for the root of the hierarchy.
        forced: the way that agent.toml chose for a server; the best one for the others.
        reject_with: what rejected peers are to get (REJECT_WITH of control/agent_file.py).
        take: gets (cpu, bytes) of every event.
        cache: where compiled programs are kept.
    """

    pins: Path
    cgroup: str | None
    forced: Mapping[Server, str]
    reject_with: str
    buffer_pages: int
    take: Callable[[int, bytes], None]
    cache: Cache | None = None
    table: Table | None = None
    identities: Identities = field(default_factory=Identities)

    def __post_init__(self) -> None:
        self._kernel: Kernel | None = None
        self._offsets: dict[str, int] = {}
        self.mount = cgroup_mount()
        self.cgroup_path = self._find_cgroup()
        self.cgroups = CgroupPaths(lambda: self.kernel.map("cgroup_paths"), self.mount)
        self.attachment = Attachment(
            self.pins / "links", self.cgroup_path, self.forced, self.reject_with
        )
        self.coverage = self.attachment.coverage
        self.arrivals: deque[Arrival] = deque()
        self.registry: Registry | None = None
        self.reader = Reader()

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
        make_private(self.pins)
        (self.pins / "links").mkdir(exist_ok=True)
        self._offsets = kernel_macros()
        self.identities.follow((*table.programs, *table.directories))
        self._kernel, self.table = self._load(table, modes), table
        self.registry = Registry(self.kernel, self.cgroup_path, self.mount)
        if any(mode is not Mode.OFF for mode in modes.values()):
            self.registry.reconcile()
        self._arrange(modes)
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
        old, attached = self.kernel, self.attachment.links.attached()
        new = self._load(table, {server: each.mode for server, each in self.servers.items()})
        new.loaded.need(attached)
        try:
            if new.loaded.refused:
                hook, why = next(iter(new.loaded.refused.items()))
                raise EnforcerError(
                    f"the kernel refuses the larger program for {hook}: {why}"
                    + self._longest_walk(new, table, why)
                )
            self.attachment.relink(new, attached)
        except (OSError, EnforcerError):
            self.attachment.relink(old, attached)
            new.close()
            raise
        self._kernel = new
        if self.registry:
            self.registry.use(new)
        self._keep_services()

    def _load(self, table: Table, modes: dict[Server, Mode]) -> Kernel:
        capacity = capacity_for(table)
        maps = self.pins / f"maps-{abi.digest[:8]}"
        maps.mkdir(parents=True, exist_ok=True)
        loaded = load(capacity, self._offsets, pins=maps, cache=self.cache)
        kernel = Kernel(loaded, capacity, self.mount)
        for server, mode in modes.items():
            kernel.set_mode(server, mode)
        kernel.govern(self.cgroup_path, self.cgroup_path == self.mount)
        kernel.install(table, self.identities.known())
        self.reader.add(kernel.loaded.open_events(self.take, self.buffer_pages))
        kernel.loaded.open_arrivals(lambda _, data: self.arrivals.append(decode_arrival(data)))
        return kernel

    def _longest_walk(self, kernel: Kernel, table: Table, why: str) -> str:
        """What to add to a refusal that has to do with the length of the walk."""
        if not is_too_long(why):
            return ""
        refused = [name for name, said in kernel.loaded.refused.items() if is_too_long(said)]
        needed = table.required.steps
        return "; " + longest_walk(needed, kernel.capacity, self._offsets, refused, self.cache)

    def _remove_old_maps(self) -> None:
        """Another version's maps, which nothing uses now that the programs are replaced."""
        for directory in self.pins.glob("maps-*"):
            if directory.name != f"maps-{abi.digest[:8]}":
                shutil.rmtree(directory, ignore_errors=True)

    # -- servers ----------------------------------------------------------------------

    @property
    def servers(self) -> dict[Server, ServerState]:
        return self.attachment.servers

    def set_modes(self, modes: dict[Server, Mode]) -> None:
        """Attach, detach or change what the named servers do with their decisions."""
        wanted = {server: state.mode for server, state in self.servers.items()} | modes
        if self.registry and any(mode is not Mode.OFF for mode in modes.values()):
            self.registry.reconcile()
        self._arrange(wanted)

    def _arrange(self, modes: dict[Server, Mode]) -> None:
        self.attachment.arrange(self.kernel, modes)
        self._keep_services()
        for state in self.servers.values():
            if self.table:
                state.refused += self._longest_walk(self.kernel, self.table, state.refused)
        if any(mode is not Mode.OFF for mode in modes.values()):
            self.reconcile(sweep=False)  # who began to listen while the hooks were attached

    def _keep_services(self) -> None:
        """What keeps the services lasts as long as something is judged, agent or no agent."""
        if self.kernel.services is None:
            return
        if self.attachment.links.attached():
            self.kernel.services.pin(self.pins / "links")
        else:
            self.kernel.services.unpin(self.pins / "links")

    # -- upkeep -----------------------------------------------------------------------

    def reconcile(self, *, sweep: bool = True) -> list[int]:
        """Compare the registry and the covered network namespaces with what is listening.

        Returns:
            Inode numbers of the namespaces that were found to lack a program and have one now.
        """
        if self.registry is None:
            return []
        self.registry.reconcile(sweep=sweep)
        return self.coverage.tend(self.registry.namespaces)

    def meet(self) -> list[Covered]:
        """Cover the network namespaces in which somebody began to listen."""
        arrivals = [self.arrivals.popleft() for _ in range(len(self.arrivals))]
        covered = self.coverage.arrived(arrivals)
        if self.attachment.sk_lookup_alone:
            return covered
        return [replace(each, unjudged=0) for each in covered]  # another hook judged meanwhile

    def keep_spare(self) -> None:
        """Have a program loaded for the network namespace that comes next."""
        instances = self.kernel.loaded.instances
        if instances is not None and self.coverage.covered:
            instances.prepare()

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
        for entry in self.registry.shut():
            service = self.cgroups.path_of(int(entry.value["owner"]["cgroup"]))
            known = self.identities.known()
            words = listener_words(entry.value, self.table, known, service)
            word = self.kernel.decide(words)
            if not enforcing or not word & abi.C["SR_REJECT"]:
                self.registry.reopen(entry)

    def detach(self) -> None:
        """Take everything off the host: links, pins, maps."""
        self.attachment.links.detach_all()
        remove_pins(self.pins)

    def silence(self) -> None:
        """Take the last events; what is decided from now on is counted as lost."""
        self.kernel.silence()

    def mend(self) -> list[str]:
        """Put back hooks and pins that somebody took away; their names."""
        links = self.attachment.links
        if links.lost_pins():
            mount_bpffs()
        mended = links.restore_pins()
        detached = links.detached(links.attached())
        if detached:
            self._arrange({server: state.mode for server, state in self.servers.items()})
        return sorted({*mended, *detached})

    def close(self) -> None:
        """Let go; what is pinned goes on."""
        self.attachment.links.close()
        self.reader.close()
        if self._kernel is not None:
            self._kernel.close()
            self._kernel = None


def listener_words(entry: Any, table: Table, known: Known, service: str | None) -> list[int]:
    """The request that a registered listener's listen() was, as words of abi.h."""
    owner, place = entry["owner"], entry["place"]
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
    local = int(place["hi"]), int(place["lo"])
    return [bits | places, int(place["port"]) << 16, ids, who, *local, 0, 0]


def cgroup_mount() -> Path:
    """Where the cgroup v2 hierarchy is mounted."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        if rest.split()[0] == "cgroup2":
            return Path(fields.split()[4])
    raise EnforcerError("no cgroup v2 hierarchy is mounted; mount one at /sys/fs/cgroup")


def remove_pins(pins: Path) -> None:
    """Unpin all of a root: what is detached is gone then."""
    shutil.rmtree(pins, ignore_errors=True)
    with contextlib.suppress(OSError):
        pins.parent.rmdir()


def make_private(pins: Path) -> None:
    """Make the directory of pins, root's alone: whoever may write there could detach everything."""
    for directory in (pins.parent, pins):
        with contextlib.suppress(FileExistsError):
            directory.mkdir(mode=0o700)
        status = directory.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid or status.st_mode & 0o022:
            raise EnforcerError(
                f"{directory} is not a directory that only root may write to; somebody else made"
                " it: look who, and remove it"
            )


def mount_bpffs() -> None:
    """Mount the BPF file system where it is missing, as systemd does at boot."""
    place = "/sys/fs/bpf"
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    if any(line.split()[4] == place and " - bpf " in line for line in mounts):
        return
    done = subprocess.run(
        ["mount", "-t", "bpf", "-o", "mode=0700", "bpf", place],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise EnforcerError(f"cannot mount the BPF file system at {place}: {done.stderr.strip()}")
