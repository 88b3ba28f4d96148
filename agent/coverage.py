# SPDX-License-Identifier: Apache-2.0
"""The network namespaces in which peers are judged by sk_lookup, and which are not and why.

Rules. The agent's own namespace is covered always, another one as soon as a
governed process listens there and until nobody has listened there for a while.
The links are pinned, one a namespace, and hold no namespace alive: the kernel
detaches a link whose namespace is gone, and its number may be another's soon.
The map `namespaces` says to the programs what is covered, by inode number and
cookie; where it says nothing, a listener's first listen() is reported (struct
sr_arrival), and the agent attaches.

Known gap: what arrives between that listen() and the attaching, some milliseconds,
is not judged. How much that was is counted and told.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ..control import abi
from . import diag, libbpf
from .hooks import SK_LOOKUP
from .instances import Instances
from .links import Links, Target
from .netns import inside, netns_cookie, netns_inum, open_namespace

IDLE = 60.0
"""Seconds without a listener after which a namespace is left alone."""

_ARRIVAL = abi.packer("sr_arrival")


@dataclass(frozen=True, slots=True)
class Arrival:
    """A listen() in a namespace that was not covered; `monotonic` in ns."""

    netns: int
    pid: int
    cookie: int
    monotonic: int


def decode_arrival(data: bytes) -> Arrival:
    """Read struct sr_arrival, host byte order; what is behind it is the buffer's padding."""
    netns, pid, cookie, monotonic = _ARRIVAL.unpack_from(data)
    return Arrival(netns, pid, cookie, monotonic)


@dataclass(frozen=True, slots=True)
class Covered:
    """A namespace that was covered because somebody listened there.

    `gap` is the time from listen() until peers were judged, in seconds; `unjudged` the
    number of conversations that listeners had by then, `None` where nobody could look.
    """

    netns: int
    pid: int
    gap: float
    unjudged: int | None


@dataclass(slots=True)
class _Place:
    """A covered namespace; `cookie` is what the programs were told, `None` for not told."""

    cookie: int | None = None
    idle_since: float | None = None


class Coverage:
    """Where instances of sk_lookup are attached. From any thread."""

    def __init__(self, links: Links, now: Callable[[], float] = time.monotonic) -> None:
        self.own = netns_inum()
        self.missing: dict[int, str] = {}
        """Namespaces with governed listeners in which no peer is judged, and why."""
        self._links = links
        self._now = now
        self._places: dict[int, _Place] = {}
        self._instances: Instances | None = None
        self._map = -1
        self._changing = threading.RLock()

    @property
    def covered(self) -> tuple[int, ...]:
        """Inode numbers, in ascending order; none when sk_lookup is not in use."""
        return tuple(sorted(self._places))

    def attach(self, instances: Instances, namespaces: int) -> None:
        """Cover the agent's own namespace, and put these instances in every link there is.

        Raises:
            OSError: what is attached already stays as it is.
        """
        pinned = self._links.numbers(SK_LOOKUP)
        instances.prepare(len(pinned | {self.own}))
        with self._changing:
            self._instances, self._map = instances, namespaces
            for key in libbpf.keys(namespaces, 4):
                if int.from_bytes(key, sys.byteorder) not in pinned:
                    libbpf.delete(namespaces, key)  # of a time when the links were taken off
            for inum in self._links.numbers(SK_LOOKUP) - {self.own}:
                if self._links.is_alive(SK_LOOKUP, inum):
                    self._attach(inum, None)
                else:
                    self._leave(inum)
            self._attach(self.own, "/proc/self/ns/net")
            self._tell(self.own, netns_cookie())

    def arrived(self, arrivals: Iterable[Arrival]) -> list[Covered]:
        """Cover the namespaces in which somebody began to listen; those that are new."""
        found = []
        for each in arrivals:
            if self._is_known(each.netns, each.cookie):
                continue
            if self.cover(each.netns, each.pid, each.cookie):
                gap = (time.monotonic_ns() - each.monotonic) / 1e9
                found.append(Covered(each.netns, each.pid, gap, self._conversations(each)))
        return found

    def cover(self, inum: int, pid: int, cookie: int | None = None) -> bool:
        """Judge peers in a namespace in which a process listens; whether they are now.

        Why not is in `missing`, unless the namespace is gone.

        Args:
            cookie: the namespace's, where it is known; another's is not covered in its place.
        """
        namespace = open_namespace(inum, pid)
        if namespace is None:
            return False
        try:
            found = inside(namespace, netns_cookie)
            if cookie and found and found != cookie:
                return False  # its number is another's by now
            with self._changing:
                if self._instances is None:
                    return False
                self._attach(inum, f"/proc/self/fd/{namespace}")
                self._tell(inum, found)
        except OSError as error:
            self.missing[inum] = str(error)
            if self._instances is not None and inum not in self._places:
                self._instances.free(inum)
            return False
        finally:
            os.close(namespace)
        self.missing.pop(inum, None)
        return True

    def tend(self, listeners: Callable[[], Mapping[int, int]]) -> list[int]:
        """Leave what is gone or idle, cover what was missed; the namespaces newly covered.

        Args:
            listeners: tells the namespaces that have governed listeners now, and a process
                that listens in each.
        """
        with self._changing:
            if self._instances is None:
                return []
            self._leave_dead()
            listening = listeners()
            self._leave_idle(listening, listeners)
            for inum in set(self.missing) - set(listening):
                del self.missing[inum]
            untold = [
                inum
                for inum in listening
                if inum not in self._places or self._places[inum].cookie is None
            ]
        return [inum for inum in untold if self.cover(inum, listening[inum])]

    def detach(self, namespaces: int) -> None:
        """Leave every namespace, the agent's own too, also those that an earlier agent covered.

        The programs are told first: the hook behind sk_lookup judges again before it is gone.
        """
        with self._changing:
            self._map = namespaces
            for key in libbpf.keys(namespaces, 4):
                libbpf.delete(namespaces, key)
            for inum in self._links.numbers(SK_LOOKUP) | set(self._places):
                self._leave(inum)
            self.missing.clear()
            self._instances, self._map = None, -1

    # -- one namespace ----------------------------------------------------------------

    def _attach(self, inum: int, path: str | None) -> None:
        """Attach, or with no path to open it by, replace the program of the link there is."""
        assert self._instances is not None
        program = self._instances.of(inum)
        fd = -1 if path is None else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._links.attach(SK_LOOKUP, program, Target(fd, inum))
        finally:
            if path is not None:
                os.close(fd)
        if inum not in self._places:
            self._places[inum] = _Place(self._told(inum))

    def _leave(self, inum: int) -> None:
        self._forget(inum)
        self._links.detach(SK_LOOKUP, inum)
        if self._instances is not None:
            self._instances.free(inum)
        self._places.pop(inum, None)

    def _leave_dead(self) -> None:
        for inum in set(self._places):
            if self._links.is_alive(SK_LOOKUP, inum):
                continue
            if inum == self.own:  # somebody detached it
                self._attach(inum, "/proc/self/ns/net")
            else:
                self._leave(inum)

    def _leave_idle(
        self, listening: Mapping[int, int], listeners: Callable[[], Mapping[int, int]]
    ) -> None:
        idle = []
        for inum, place in self._places.items():
            if inum == self.own or inum in listening:
                place.idle_since = None
            elif place.idle_since is None:
                place.idle_since = self._now()
            elif self._now() - place.idle_since >= IDLE:
                idle.append(inum)
        for inum in idle:  # whoever listens from here on is an arrival
            self._forget(inum)
        meanwhile = listeners() if idle else {}
        for inum in idle:
            cookie = self._places[inum].cookie
            if inum not in meanwhile:
                self._leave(inum)
            elif cookie is not None:
                self._tell(inum, cookie)

    def _is_known(self, inum: int, cookie: int) -> bool:
        with self._changing:
            place = self._places.get(inum)
            return (
                place is not None
                and place.cookie in (0, cookie)
                and self._links.is_alive(SK_LOOKUP, inum)
            )

    def _conversations(self, arrival: Arrival) -> int | None:
        """How many peers the listeners of a namespace have."""
        namespace = open_namespace(arrival.netns, arrival.pid)
        if namespace is None:
            return None
        try:
            sockets = inside(namespace, diag.tcp_sockets)
        except OSError:
            return None
        finally:
            os.close(namespace)
        ports = {each.local_port for each in sockets if each.listens}
        return sum(not each.listens and each.local_port in ports for each in sockets)

    # -- the map `namespaces` ---------------------------------------------------------

    def _tell(self, inum: int, cookie: int) -> None:
        value = cookie.to_bytes(8, sys.byteorder)
        libbpf.update(self._map, _key(inum), value)
        self._places[inum].cookie = cookie

    def _told(self, inum: int) -> int | None:
        raw = libbpf.lookup(self._map, _key(inum), 8)
        return None if raw is None else int.from_bytes(raw, sys.byteorder)

    def _forget(self, inum: int) -> None:
        if self._map >= 0:
            libbpf.delete(self._map, _key(inum))


def _key(inum: int) -> bytes:
    return inum.to_bytes(4, sys.byteorder)
