# SPDX-License-Identifier: Apache-2.0
"""Today's listeners and conversations as requests, as if they began now, and their verdicts.

Rules. A conversation whose local address and port have a listener was accepted,
any other was begun here. An accept is judged as the kernel judges it: by the
user, group and program that listened. A connect is judged by the process that
holds the socket; its local side is unknown, because nearly every socket that
connects is bound to none. What is outside the governed cgroup is left out, and
so is what no process holds and nobody waits for.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..control.addresses import MAPPED, format_endpoint, is_ipv4
from ..control.model import Mode, Request, Server, Verdict
from ..control.names import Names
from ..control.requests import normalised
from ..control.table import Table
from ..control.walk import EXHAUSTED, request_words, verdict, walk
from . import diag
from .inodes import Inode, inode_of
from .listeners import Place, descriptors, in_cgroup, owner_of

_FIN_WAIT = (4, 5)
_UNNAMED = 1  # the number of a program that no rule names (abi.h)


@dataclass(frozen=True, slots=True)
class Process:
    """Who a request is from: real user and group, and the executable with all folders above."""

    pid: int
    user: int
    group: int
    name: str
    program: str | None
    executable: Inode | None
    above: tuple[tuple[str, Inode], ...] = ()
    service: str | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """One socket as a request.

    `asks` is who the rules judge; `holders` the processes that have the socket
    open, the oldest first.
    """

    found: diag.Socket
    request: Request
    asks: Process | None
    holders: tuple[int, ...] = ()

    @property
    def server(self) -> Server:
        return self.request.server

    @property
    def ends(self) -> tuple[str, str]:
        """The local and the remote end as text."""
        found = self.found
        remote = "" if found.listens else format_endpoint(found.remote_address, found.remote_port)
        return format_endpoint(found.local_address, found.local_port), remote

    def as_accept(self) -> Conversation:
        """The conversation as one that was accepted, for one whose listener is gone."""
        request = _request(self.found, Server.ACCEPT, self.asks)
        return dataclasses.replace(self, request=request)


def survey(
    cgroup: Path,
    mount: Path,
    recorded: Mapping[Place, Any] | None = None,
    service_of: Callable[[int], str | None] = lambda _: None,
) -> list[Conversation]:
    """Look at the sockets of this network namespace and at who holds them.

    Args:
        recorded: entries of the registry of listeners (struct sr_listener).
        service_of: the path of a cgroup by its id.
    """
    sockets = diag.tcp_sockets()
    holders = holders_of({found.inode for found in sockets if found.inode})
    processes = {pid: process_of(pid) for pids in holders.values() for pid in pids}
    known = {pid: process for pid, process in processes.items() if process is not None}
    listened = {
        place: _recorded_process(entry, known, service_of)
        for place, entry in (recorded or {}).items()
    }
    inside = dict.fromkeys((process.pid for process in listened.values()), True)

    def governed(pid: int) -> bool:
        if cgroup == mount:
            return True
        if pid not in inside:
            inside[pid] = in_cgroup(pid, cgroup, mount)
        return inside[pid]

    return conversations(sockets, holders, known, listened, governed)


def conversations(
    sockets: Iterable[diag.Socket],
    holders: Mapping[int, tuple[int, ...]],
    processes: Mapping[int, Process],
    recorded: Mapping[Place, Process],
    governed: Callable[[int], bool] = lambda _: True,
) -> list[Conversation]:
    """Tell sockets apart and word them as requests. Pure.

    Args:
        holders: inode of a socket -> process numbers, the oldest first.
        recorded: who listened, where that is known from when it happened.
    """
    found = list(sockets)
    by_port: dict[int, list[diag.Socket]] = {}
    for each in found:
        if each.listens:
            by_port.setdefault(each.local_port, []).append(each)

    def first(pids: tuple[int, ...]) -> Process | None:
        return next((processes[pid] for pid in pids if pid in processes), None)

    def who_listens(listener: diag.Socket) -> Process | None:
        place = Place(listener.local_address, listener.local_port)
        return recorded.get(place) or first(holders.get(listener.inode, ()))

    judged = []
    for each in found:
        pids = holders.get(each.inode, ())
        if each.listens:
            server, asks = Server.LISTEN, who_listens(each)
        else:
            listener = _listener_for(each, by_port.get(each.local_port, ()))
            if not pids and (each.state in _FIN_WAIT or listener is None):
                continue
            server = Server.CONNECT if listener is None else Server.ACCEPT
            asks = first(pids) if listener is None else who_listens(listener)
        if asks is None or governed(asks.pid):
            judged.append(Conversation(each, _request(each, server, asks), asks, pids))
    return judged


def _listener_for(found: diag.Socket, listeners: Collection[diag.Socket]) -> diag.Socket | None:
    """The listener on a conversation's own address, else on any address of its family, or both."""
    wanted = [found.local_address]
    wanted += [MAPPED, 0] if is_ipv4(found.local_address) else [0]
    for address in wanted:
        for listener in listeners:
            if listener.local_address == address:
                return listener
    return None


def _request(found: diag.Socket, server: Server, asks: Process | None) -> Request:
    connects = server is Server.CONNECT
    return normalised(
        Request(
            server=server,
            local_address=None if connects else found.local_address,
            local_port=None if connects else found.local_port,
            remote_address=None if found.listens else found.remote_address,
            remote_port=None if found.listens else found.remote_port,
            user=found.uid if asks is None else asks.user,
            group=None if asks is None else asks.group,
            program=None if asks is None else asks.program,
            service=None if asks is None else asks.service,
        )
    )


class Judge:
    """Verdicts on conversations by a compiled table.

    Args:
        known: the inodes of the table's programs and directories, as inodes_of gives them;
            a process is the program whose inode it runs, whatever the paths.
    """

    def __init__(self, table: Table, known: Mapping[str, Inode]) -> None:
        self._table = table
        self._programs = {
            inode: table.programs[path] for path, inode in known.items() if path in table.programs
        }
        self._directories = {
            inode: table.directories[path]
            for path, inode in known.items()
            if path in table.directories
        }
        self._seen: dict[tuple[int, ...], Verdict | None] = {}

    def verdict(self, conversation: Conversation) -> Verdict | None:
        """The verdict, `None` where the walk runs out of steps (and the kernel rejects)."""
        words = self._words(conversation)
        key = tuple(words)
        if key not in self._seen:
            word = walk(self._table, words)
            self._seen[key] = None if word == EXHAUSTED else verdict(self._table, word)
        return self._seen[key]

    def rejects(self, conversation: Conversation) -> bool:
        """Whether the conversation would not begin."""
        found = self.verdict(conversation)
        return found is None or not found.authority

    def _words(self, conversation: Conversation) -> list[int]:
        request, asks = conversation.request, conversation.asks
        if asks is None or asks.executable is None:
            return request_words(self._table, request)
        words = request_words(self._table, dataclasses.replace(request, program=None))
        words[3] |= self._programs.get(asks.executable, _UNNAMED) << 32
        for _, inode in asks.above:
            if inode in self._directories:
                words[0] |= 1 << self._directories[inode]
        return words


def document(
    conversation: Conversation, found: Verdict | None, mode: Mode, names: Names
) -> dict[str, Any]:
    """A judged conversation as JSON; what is unknown is null."""
    request, asks = conversation.request, conversation.asks
    local, remote = conversation.ends
    return {
        "server": conversation.server.word,
        "state": diag.STATES[conversation.found.state],
        "local": local,
        "remote": remote or None,
        "user": _name(request.user, names.user_name),
        "group": _name(request.group, names.group_name),
        "program": request.program,
        "pid": asks.pid if asks else None,
        "process": asks.name if asks else None,
        "holders": list(conversation.holders),
        "authority": "yes" if found and found.authority else "no",
        "rule": found.rule if found else "exhausted",
        "sequence": found.sequence if found else 0,
        "mode": mode.word,
        "cookie": conversation.found.cookie,
    }


def _name(number: int | None, name: Callable[[int], str | None]) -> str | None:
    return None if number is None else name(number) or str(number)


# -- /proc ------------------------------------------------------------------------------


def holders_of(inodes: Collection[int]) -> dict[int, tuple[int, ...]]:
    """Who has these sockets open: inode -> process numbers, ascending."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, list[int]] = {}
    for pid in sorted(int(entry) for entry in os.listdir("/proc") if entry.isdigit()):
        for link in descriptors(pid):
            inode = wanted.get(link)
            if inode is not None and pid not in found.setdefault(inode, []):
                found[inode].append(pid)
    return {inode: tuple(pids) for inode, pids in found.items()}


def process_of(pid: int) -> Process | None:
    """Who a process is; `None` when it is gone."""
    owner = owner_of(pid)
    if owner is None:
        return None
    executable = inode_of(f"/proc/{pid}/exe")
    above: list[tuple[str, Inode]] = []
    for parent in Path(owner.program).parents if owner.program else ():
        inode = inode_of(str(parent))
        if inode is not None:
            above.append((str(parent), inode))
    return Process(
        pid,
        owner.uid,
        owner.gid,
        owner.comm,
        owner.program,
        executable,
        tuple(above),
        owner.cgroup,
    )


def _recorded_process(
    entry: Any, known: Mapping[int, Process], service_of: Callable[[int], str | None]
) -> Process:
    """Who listened, from an entry of the registry; the path is that of the process, if it lives."""
    owner = entry["owner"]
    number, device = int(owner["program"]["number"]), int(owner["program"]["device"])
    executable = Inode(number, device) if number else None
    pid = int(owner["pid"])
    now = known.get(pid)
    same = now is not None and now.executable == executable
    above = tuple(
        ("", Inode(int(each["number"]), int(each["device"])))
        for each in owner["above"][: owner["depth"]]
    )
    name = bytes(owner["comm"].tobytes()).split(b"\0", 1)[0].decode(errors="replace")
    return Process(
        pid,
        int(owner["uid"]),
        int(owner["gid"]),
        name,
        now.program if now is not None and same else None,
        executable,
        above,
        service_of(int(owner["cgroup"])),
    )
