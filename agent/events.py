# SPDX-License-Identifier: Apache-2.0
"""Bytes from the perf buffers to audit documents.

`events_in` and `decode` are pure: a record in, its events out. `document` words an
Event with Elastic Common Schema names (https://www.elastic.co/guide/en/ecs/current);
what the schema has no name for stands below `sockrules`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ..control import abi
from ..control.addresses import format_address, format_endpoint
from ..control.model import Mode, Server
from ..control.names import Names
from ..control.services import unit_of
from .hooks import HOOK_NAMES

_STRUCT = abi.packer("sr_event")
_HEAD = abi.sizeof("sr_batch") - abi.C["SR_BATCH"] * _STRUCT.size  # bytes before a batch's events
_UNKNOWN_ID = 0xFFFFFFFF
_MAPPED = 0xFFFF


class EventError(ValueError):
    """Bytes that are not an event of this ABI."""


@dataclass(frozen=True, slots=True)
class ProgramId:
    """The inode of an executable: number, superblock device, inode generation."""

    number: int
    device: int
    generation: int


@dataclass(frozen=True, slots=True)
class Event:
    """One decided request as a hook reported it; `monotonic` in ns, unknown is `None`."""

    server: Server
    mode: Mode
    hook: str
    flags: int
    monotonic: int
    revision: int
    local_address: int | None
    local_port: int | None
    remote_address: int | None
    remote_port: int | None
    rule: int
    netns: int | None
    user: int | None
    group: int | None
    pid: int
    program: ProgramId | None
    comm: str
    cgroup: int | None = None

    @property
    def rejected(self) -> bool:
        """The rule's authority, whatever the mode."""
        return bool(self.flags & abi.C["SR_REJECT"])

    @property
    def identity(self) -> tuple[object, ...]:
        """What is the same in events that are one thing happening again."""
        return (
            self.server, self.mode, self.flags, self.revision, self.rule,
            self.local_address, self.local_port, self.remote_address, self.remote_port,
            self.user, self.pid, self.program, self.cgroup,
        )  # fmt: skip


def events_in(record: bytes) -> list[bytes]:
    """The events of a record of the ring: struct sr_batch, or one struct sr_event alone."""
    if len(record) < _HEAD + _STRUCT.size:
        return [record]
    absent = int.from_bytes(record[:_HEAD], sys.byteorder)
    end = min(_HEAD + _STRUCT.size * max(abi.C["SR_BATCH"] - absent, 0), len(record))
    return [record[at : at + _STRUCT.size] for at in range(_HEAD, end, _STRUCT.size)]


def decode(data: bytes) -> Event:
    """Read struct sr_event, host byte order. Bytes beyond its size are the buffer's padding.

    Raises:
        EventError: too short, another version or size, or numbers that mean nothing.
    """
    if len(data) < _STRUCT.size:
        raise EventError(f"an event of {len(data)} bytes; {_STRUCT.size} are needed")
    fields = _STRUCT.unpack_from(data)
    (version, size, server, mode, hook, flags, monotonic, revision) = fields[:8]
    if version != abi.C["SR_ABI_VERSION"] or size != _STRUCT.size:
        raise EventError(f"an event of version {version} and size {size}")
    (lhi, llo, rhi, rlo, lport, rport, known, rule, netns, uid, gid, pid, _) = fields[8:21]
    cgroup, number, device, generation = fields[21:25]
    if server >= len(Server) or mode >= len(Mode) or hook >= len(HOOK_NAMES):
        raise EventError(f"an event of server {server}, mode {mode}, hook {hook}")
    return Event(
        server=Server(server),
        mode=Mode(mode),
        hook=HOOK_NAMES[hook],
        flags=flags,
        monotonic=monotonic,
        revision=revision,
        local_address=lhi << 64 | llo if known & abi.C["SR_BIT_LOCAL_KNOWN"] else None,
        local_port=lport or None,
        remote_address=rhi << 64 | rlo if known & abi.C["SR_BIT_REMOTE_KNOWN"] else None,
        remote_port=rport or None,
        rule=rule,
        netns=netns or None,
        user=None if uid == _UNKNOWN_ID else uid,
        group=None if gid == _UNKNOWN_ID else gid,
        pid=pid,
        program=ProgramId(number, device, generation) if number else None,
        cgroup=cgroup or None,
        comm=bytes(fields[25:41]).split(b"\0", 1)[0].decode(errors="replace"),
    )


def document(
    event: Event,
    *,
    host: str,
    rule: str,
    sequence: int,
    program: str | None,
    cgroup: str | None,
    names: Names,
    offset: int,
    count: int = 1,
) -> dict[str, Any]:
    """The audit line of an event.

    Args:
        rule, sequence: what its rule index meant in its revision.
        program: the executable's path, if it is known.
        cgroup: the path of the cgroup, if it is known.
        offset: ns to add to the monotonic clock for the time of day.
        count: how many identical events the line stands for.
    """
    local = _endpoint(event.local_address, event.local_port)
    remote = _endpoint(event.remote_address, event.remote_port)
    enforced = event.mode is Mode.ENFORCE
    doc: dict[str, Any] = {
        "@timestamp": _utc(event.monotonic + offset),
        "event": {
            "kind": "event",
            "category": ["network"],
            "type": ["connection", "denied" if event.rejected else "allowed"],
            "action": event.server.word,
            "outcome": "failure" if event.rejected and enforced else "success",
        },
        "host": {"name": host},
        "rule": {"name": rule, "ruleset": str(event.revision)},
        "source": local if event.server is Server.CONNECT else remote,
        "destination": remote if event.server is Server.CONNECT else local,
        "network": {"transport": "tcp", "type": _family(event)},
        "user": _named(event.user, names.user_name),
        "group": _named(event.group, names.group_name),
        "process": {"pid": event.pid, "name": event.comm, "executable": program},
        "service": {"name": unit_of(cgroup) if cgroup else None},
        "sockrules": {
            "server": event.server.word,
            "authority": "no" if event.rejected else "yes",
            "enforced": event.rejected and enforced,
            "mode": event.mode.word,
            "sequence": sequence,
            "revision": event.revision,
            "monotonic_ns": event.monotonic,
            "netns": event.netns,
            "cgroup": cgroup,
            "count": count,
            "hook": event.hook,
            "local": _text(event.local_address, event.local_port),
            "remote": _text(event.remote_address, event.remote_port),
        },
    }
    return {key: kept for key, value in doc.items() if (kept := _without_unknown(value))}


def state_document(
    action: str, message: str, *, host: str, now: datetime, **facts: Any
) -> dict[str, Any]:
    """A line about the agent itself: events lost, rules applied, started, stopped."""
    return {
        "@timestamp": now.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "event": {"kind": "state", "action": action},
        "host": {"name": host},
        "message": message,
        "sockrules": facts,
    }


def _utc(nanoseconds: int) -> str:
    moment = datetime.fromtimestamp(nanoseconds / 1e9, UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _endpoint(address: int | None, port: int | None) -> dict[str, Any]:
    return {"ip": format_address(address) if address is not None else None, "port": port}


def _text(address: int | None, port: int | None) -> str | None:
    return None if address is None and port is None else format_endpoint(address, port)


def _family(event: Event) -> str | None:
    address = event.remote_address if event.remote_address is not None else event.local_address
    if address is None:
        return None
    return "ipv4" if address >> 32 == _MAPPED else "ipv6"


def _named(number: int | None, name_of: Any) -> dict[str, Any]:
    return {} if number is None else {"id": str(number), "name": name_of(number)}


def _without_unknown(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: each for key, each in value.items() if each is not None}
    return value
