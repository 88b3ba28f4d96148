# SPDX-License-Identifier: Apache-2.0
"""Captured transactions: distinct requests with how often and when they were seen.

Rules. Where the kernel picks a port anew for every conversation, the port is
folded away, or every conversation would be a transaction of its own:

- accept: the remote port, always;
- connect: the local port, when the socket was bound and its port lies in the
  host's ephemeral range. A connecting socket that is not bound has no local
  port yet: that is unknown, as it was to the rules, and nothing is folded;
- listen: the local port, when nobody chose it (a listen without a bind).

A folded port is not lost: `folded` is the lowest and the highest that were
seen, and whoever judges the transaction asks for the ports in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .addresses import format_address, format_endpoint, parse_endpoint, parse_prefix
from .condition import Range, path_matches
from .model import Field, Request, Server
from .names import Names
from .requests import request_to_json
from .times import parse_utc

FOLDED_FIELD = {
    Server.LISTEN: Field.LOCAL_PORT,
    Server.ACCEPT: Field.REMOTE_PORT,
    Server.CONNECT: Field.LOCAL_PORT,
}
"""The port that a server's transactions may have folded away."""


@dataclass(frozen=True, slots=True)
class Captured:
    """One distinct request, and the rule and authority that decided it.

    Times are ISO 8601 in UTC, to the second. `folded` is the range of the
    folded port, which is `None` in `request`; `None` when none was folded.
    """

    request: Request
    authority: bool
    rule: str
    count: int = 1
    first: str = ""
    last: str = ""
    folded: Range | None = None
    number: int = 0


@dataclass(frozen=True, slots=True)
class Filter:
    """Which transactions are meant; what is `None` does not matter.

    `program` is a path, or with a trailing `/` everything below it; `remote` a
    range of addresses; `since` a time as in Captured, compared with the last one.
    """

    server: Server | None = None
    user: int | None = None
    program: str | None = None
    remote: Range | None = None
    since: str | None = None
    number: int | None = None

    def holds(self, one: Captured) -> bool:
        """Whether a transaction is meant."""
        request = one.request
        checks = (
            self.server is None or request.server is self.server,
            self.user is None or request.user == self.user,
            self.program is None
            or (request.program is not None and path_matches(self.program, request.program)),
            self.remote is None
            or (
                request.remote_address is not None
                and self.remote[0] <= request.remote_address <= self.remote[1]
            ),
            self.since is None or one.last >= self.since,
            self.number is None or one.number == self.number,
        )
        return all(checks)


def filter_to_json(chosen: Filter) -> dict[str, object]:
    """The document that filter_from_json reads; what does not matter is left out."""
    remote = chosen.remote
    doc = {
        "server": None if chosen.server is None else chosen.server.word,
        "user": chosen.user,
        "program": chosen.program,
        "remote": None if remote is None else [format_address(each) for each in remote],
        "since": chosen.since,
        "number": chosen.number,
    }
    return {key: value for key, value in doc.items() if value is not None}


def filter_from_json(doc: object) -> Filter:
    """Raises ValueError with what is wrong."""
    if not isinstance(doc, Mapping):
        raise ValueError('a filter is an object, as in {"server": "accept"}')
    if unknown := set(doc) - {"server", "user", "program", "remote", "since", "number"}:
        raise ValueError(f"a filter has no key {sorted(map(str, unknown))[0]}")
    server = doc.get("server")
    if server is not None and server not in {each.word for each in Server}:
        raise ValueError(f"server: {server!r} is not a server; use listen, accept or connect")
    since = doc.get("since")
    if since is not None and parse_utc(since) is None:
        raise ValueError(f"since: {since!r} is not a time; use 2025-01-31T14:30:00Z")
    remote = doc.get("remote")
    if remote is not None:
        if not isinstance(remote, list | tuple) or len(remote) != 2:
            raise ValueError("remote: use the first and the last address")
        remote = parse_prefix(str(remote[0]))[0], parse_prefix(str(remote[1]))[1]
    return Filter(
        server=None if server is None else Server[str(server).upper()],
        user=_whole(doc, "user"),
        program=None if doc.get("program") is None else str(doc["program"]),
        remote=remote,
        since=None if since is None else str(since),
        number=_whole(doc, "number"),
    )


def captured_to_json(one: Captured, names: Names) -> dict[str, object]:
    """The request's document, then `authority`, `rule`, `count`, `first`, `last`, `number`.

    `folded` is `{"field": "remote.port", "first": 32768, "last": 60999}`.
    """
    doc: dict[str, object] = {"number": one.number, **request_to_json(one.request, names)}
    if one.folded is not None:
        first, last = one.folded
        field = FOLDED_FIELD[one.request.server]
        doc["folded"] = {"field": field.value, "first": first, "last": last}
    doc |= {
        "authority": "yes" if one.authority else "no",
        "rule": one.rule,
        "count": one.count,
        "first": one.first,
        "last": one.last,
    }
    return doc


def captured_from_json(doc: Mapping[str, object]) -> Captured:
    """What captured_to_json wrote with names that name nobody: users and groups are numbers.

    Raises ValueError, KeyError or TypeError when it is something else.
    """
    local = parse_endpoint(str(doc["local"])) if doc.get("local") else (None, None)
    remote = parse_endpoint(str(doc["remote"])) if doc.get("remote") else (None, None)
    folded = doc.get("folded")
    program, service = doc.get("program"), doc.get("service")
    return Captured(
        Request(
            Server[str(doc["server"]).upper()],
            *local,
            *remote,
            _whole(doc, "user"),
            _whole(doc, "group"),
            None if program is None else str(program),
            None if service is None else str(service),
        ),
        doc["authority"] == "yes",
        str(doc["rule"]),
        _whole(doc, "count") or 0,
        str(doc["first"]),
        str(doc["last"]),
        (int(folded["first"]), int(folded["last"])) if isinstance(folded, Mapping) else None,
        _whole(doc, "number") or 0,
    )


def endpoint_text(one: Captured, side: str) -> str:
    """One side for people: `192.0.2.7:*` where the port was folded, `-` when it is unknown."""
    request = one.request
    address, port = (
        (request.local_address, request.local_port)
        if side == "local"
        else (request.remote_address, request.remote_port)
    )
    text = format_endpoint(address, port)
    if one.folded is not None and FOLDED_FIELD[request.server].value.startswith(side):
        return f"{text}:*"
    return text or "-"


def _whole(doc: Mapping[str, object], key: str) -> int | None:
    value = doc.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{key}: {value!r} is not a number")
    return value
