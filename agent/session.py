# SPDX-License-Identifier: Apache-2.0
"""Whether new rules would lock out who applies them: the session, and the way in for the next.

Theory. The session's own connection is found in two ways. From the process that
asks, up through its parents, the last one that is a login program and holds a
connection is the one to which the peer is connected; sudo and su do not break
the chain. SSH_CONNECTION, as the client has it or as its parents were started
with, tells the same where a terminal multiplexer broke it. A session that only
the variable names counts while there is such a connection.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..control.addresses import parse_address
from ..control.model import Mode, Server
from . import diag
from .sockets import Conversation, Judge

_VARIABLE = b"SSH_CONNECTION="
_MOST_PARENTS = 256

Ends = tuple[int, int, int, int]
"""Remote address and port, local address and port, as SSH_CONNECTION has them."""


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A process above the one that asks, or that one itself."""

    pid: int
    program: str
    ssh_connection: str | None


def ancestors(pid: int) -> Iterator[Ancestor]:
    """The process and its parents, up to the first of the system."""
    for _ in range(_MOST_PARENTS):
        if pid <= 1:
            return
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        yield Ancestor(pid, program_name(pid) or fields["Name"], _ssh_connection(pid))
        pid = int(fields["PPid"])


def program_name(pid: int) -> str | None:
    """The last part of the path of what a process runs."""
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)"))
    except OSError:
        return None


def _ssh_connection(pid: int) -> str | None:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    for entry in environment.split(b"\0"):
        if entry.startswith(_VARIABLE):
            return entry[len(_VARIABLE) :].decode(errors="replace")
    return None


def parse_ssh_connection(text: str) -> Ends | None:
    """`192.0.2.7 51000 10.0.0.5 22`; `None` for what does not read like that."""
    parts = text.split()
    if len(parts) != 4 or not (parts[1].isdecimal() and parts[3].isdecimal()):
        return None
    try:
        remote, local = (parse_address(part.partition("%")[0]) for part in (parts[0], parts[2]))
    except ValueError:
        return None
    return remote, int(parts[1]), local, int(parts[3])


def connections_of(
    session: Sequence[Ancestor],
    variable: str | None,
    found: Sequence[Conversation],
    logins: Collection[str],
) -> list[Conversation]:
    """The connections over which the session runs, each once. Pure.

    Args:
        session: the process that asks first, its parents after it.
        variable: SSH_CONNECTION of the client itself.
        logins: names of the programs that let people in.
    """
    chosen: list[Conversation] = []
    for ancestor in session:
        if ancestor.program in logins:
            held = [
                each for each in found if ancestor.pid in each.holders and not each.found.listens
            ]
            chosen = held or chosen
    accepted = [each for each in chosen if each.server is Server.ACCEPT]
    chosen = accepted or chosen
    texts = [variable, *(ancestor.ssh_connection for ancestor in session)]
    wanted = {parse_ssh_connection(text) for text in texts if text}
    for each in found:
        if _ends(each.found) in wanted and each not in chosen:
            chosen.append(each)
    return chosen


def login_listeners(
    found: Sequence[Conversation],
    logins: Collection[str],
    program_of: Callable[[int], str | None],
    session: Sequence[Conversation] = (),
) -> list[Conversation]:
    """The listeners that a login program holds, and those through which the session came.

    The latter may be held by systemd alone, which starts the login program on demand.
    """
    ports = {each.found.local_port for each in session}
    return [
        each
        for each in found
        if each.found.listens
        and (
            each.found.local_port in ports or any(program_of(pid) in logins for pid in each.holders)
        )
    ]


def dangers(
    session: Sequence[Conversation],
    listeners: Sequence[Conversation],
    judge: Judge,
    modes: dict[Server, Mode],
) -> list[str]:
    """What would lock out whoever applies these rules, in words; none when nothing would."""
    words = []
    for each in session:
        accepted = each if each.server is Server.ACCEPT else each.as_accept()
        if modes[Server.ACCEPT] is Mode.ENFORCE and judge.rejects(accepted):
            local, remote = each.ends
            why = _why(judge, accepted)
            words.append(f"this very session, from {remote} to {local}, would be rejected by {why}")
    lost = [each for each in listeners if judge.rejects(each)]
    if listeners and len(lost) == len(listeners) and modes[Server.LISTEN] is Mode.ENFORCE:
        places = ", ".join(f"{each.ends[0]} by {_why(judge, each)}" for each in lost)
        words.append(f"nobody could log in any more: no login server may listen ({places})")
    return words


def _why(judge: Judge, conversation: Conversation) -> str:
    found = judge.verdict(conversation)
    return f"rule {found.rule} (sequence {found.sequence})" if found else "a walk that is too long"


def _ends(found: diag.Socket) -> Ends:
    return found.remote_address, found.remote_port, found.local_address, found.local_port
