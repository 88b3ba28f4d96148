# SPDX-License-Identifier: Apache-2.0
"""Requests and verdicts as JSON documents: what `--batch`, `--in-kernel` and replay exchange.

Rules. What is left out, or null, is unknown. A request is taken as the kernel
would take it: connecting to an unspecified address is connecting to loopback
(or, for IPv4, to the address the socket is bound to), the local address of a
connecting socket that is bound to none is unknown, and so is port 0.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping

from .addresses import (
    LOOPBACK_4,
    LOOPBACK_6,
    MAPPED,
    Endpoint,
    format_address,
    format_endpoint,
    is_ipv4,
    parse_endpoint,
)
from .model import Field, Request, Server, Verdict
from .names import KnownNames, Names
from .problems import did_you_mean, listed
from .services import requested

LAST_ID = 0xFFFFFFFE
"""The highest user or group; 4294967295 is the kernel's "nobody was named", unknown."""

_KEYS = ("server", "local", "remote", "user", "group", "program", "service")
_UNSPECIFIED = (0, MAPPED)


def normalised(request: Request) -> Request:
    """The request as the kernel judges it."""
    local, remote = request.local_address, request.remote_address
    if request.server is Server.CONNECT:
        if local in _UNSPECIFIED:
            local = None
        if remote == MAPPED:
            remote = local if local is not None and is_ipv4(local) else LOOPBACK_4
        elif remote == 0:
            remote = LOOPBACK_4 if local is not None and is_ipv4(local) else LOOPBACK_6
    return dataclasses.replace(
        request,
        local_address=local,
        local_port=request.local_port or None,
        remote_address=remote,
        remote_port=request.remote_port or None,
    )


def request_from_json(doc: object, names: Names) -> Request:
    """A request from `{"server": "accept", "local": "10.0.0.5:443", "user": "www-data", ...}`.

    Raises ValueError that names the key, what is wrong and what would be right.
    """
    if not isinstance(doc, Mapping):
        raise ValueError('a request is an object, as in {"server": "connect", "remote": ":443"}')
    for key in doc:
        if key not in _KEYS:
            hint = did_you_mean(str(key), _KEYS) or f"use {listed(_KEYS, 'or')}"
            raise ValueError(f"{key}: a request has no such key; {hint}")
    server = _server(doc.get("server"))
    if server is Server.LISTEN and doc.get("remote") is not None:
        raise ValueError("remote: a listen request has no remote side; leave it out")
    local_address, local_port = _endpoint(doc, "local")
    remote_address, remote_port = _endpoint(doc, "remote")
    program = _text(doc, "program")
    if program is not None and not program.startswith("/"):
        raise ValueError(f"program: {program} is not an absolute path; use /usr/sbin/nginx or such")
    known = names if isinstance(names, KnownNames) else None
    return normalised(
        Request(
            server=server,
            local_address=local_address,
            local_port=local_port,
            remote_address=remote_address,
            remote_port=remote_port,
            user=_id(doc, "user", names.uid, known.known_users if known else None),
            group=_id(doc, "group", names.gid, known.known_groups if known else None),
            program=program,
            service=_service(doc),
        )
    )


def request_to_json(request: Request, names: Names) -> dict[str, object]:
    """The document that request_from_json reads; what is unknown is left out."""
    doc: dict[str, object] = {"server": request.server.word}
    local = format_endpoint(request.local_address, request.local_port)
    remote = format_endpoint(request.remote_address, request.remote_port)
    optional = {
        "local": local or None,
        "remote": remote or None,
        "user": None if request.user is None else names.user_name(request.user) or request.user,
        "group": (
            None if request.group is None else names.group_name(request.group) or request.group
        ),
        "program": request.program,
        "service": request.service,
    }
    doc.update((key, value) for key, value in optional.items() if value is not None)
    return doc


def verdict_to_json(verdict: Verdict) -> dict[str, object]:
    """`{"server": "accept", "authority": "no", "rule": "block-lab", "sequence": 20, ...}`."""
    return {
        "server": verdict.server.word,
        "authority": "yes" if verdict.authority else "no",
        "rule": verdict.rule,
        "sequence": verdict.sequence,
        "audit": verdict.audit,
        "message": verdict.message,
        "capture": verdict.capture,
    }


def value_text(field: Field | str, value: int | str | None, names: Names) -> str:
    """A request's value of a field for people: `10.0.0.5`, `www-data`, `unknown`."""
    if value is None:
        return "unknown"
    if isinstance(value, str):
        return value
    if field in (Field.LOCAL_ADDRESS, Field.REMOTE_ADDRESS):
        return format_address(value)
    name = None
    if field is Field.USER:
        name = names.user_name(value)
    elif field is Field.GROUP:
        name = names.group_name(value)
    return name or str(value)


def _server(value: object) -> Server:
    for server in Server:
        if server.word == value:
            return server
    words = listed((server.word for server in Server), "or")
    if value is None:
        raise ValueError(f"server: a request names its server; use {words}")
    raise ValueError(f"server: {value!r} is not a server; use {words}")


def _endpoint(doc: Mapping[str, object], key: str) -> Endpoint:
    text = _text(doc, key)
    if text is None:
        return None, None
    try:
        return parse_endpoint(text)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _text(doc: Mapping[str, object], key: str) -> str | None:
    value = doc.get(key)
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key}: {value!r} is not a text; write it in quotes or leave it out")
    return value


def _service(doc: Mapping[str, object]) -> str | None:
    text = _text(doc, "service")
    try:
        return None if text is None else requested(text)
    except ValueError as error:
        raise ValueError(f"service: {error}") from None


def _id(
    doc: Mapping[str, object],
    key: str,
    number_of: Callable[[str], int | None],
    known: Callable[[], Iterable[str]] | None,
) -> int | None:
    value = doc.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        raise ValueError(f"{key}: {value!r} is not a {key}; use a name or a number")
    if isinstance(value, str) and not (value.isascii() and value.isdigit()):
        number = number_of(value)
        if number is None:
            hint = did_you_mean(value, known()) if known else ""
            raise ValueError(f"{key}: no {key} is named {value}; {hint or 'use its number'}")
        return number
    if len(str(value)) > len(str(LAST_ID)) or not 0 <= int(value) <= LAST_ID:
        raise ValueError(f"{key}: {value} is out of range; use 0-{LAST_ID}")
    return int(value)
