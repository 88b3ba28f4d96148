# SPDX-License-Identifier: Apache-2.0
"""Messages: what a rule with `message = "yes"` puts on the message queue, and how it is worded.

Rules. A message has an identifier that stands for its kind and never changes
its meaning, a severity as in syslog, a text, and the data that were filled into
the text, each with a name of its own. Everything here is pure: words in, words
out. The text is safe to show; the data are as they came.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from .render import safe
from .times import parse_utc

SEVERITIES = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
"""The worst first; the place is syslog's number (RFC 5424, 6.2.1)."""

WARNING, NOTICE, INFO = 4, 5, 6

_IDS = uuid.UUID("a4f86d3c-5a0e-4a53-9b40-6f6a8a6dbb0e")
_UNKNOWN = "unknown"

Value = str | int | bool


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of message. `template` names the data that are filled in, in braces."""

    identifier: str
    severity: int
    template: str

    @property
    def journal_id(self) -> str:
        """The kind's MESSAGE_ID in the journal: 32 hexadecimal digits."""
        return uuid.uuid5(_IDS, self.identifier).hex


_WHAT = {
    "listen": ("SRL", "listen on {local}", "program {program}, user {user}, process {pid}"),
    "accept": (
        "SRA",
        "connection from {remote} to {local}",
        "listening program {program}, user {user}",
    ),
    "connect": ("SRC", "connection to {remote}", "program {program}, user {user}, process {pid}"),
}
_OUTCOMES = {
    "allowed": ("0001", INFO, "allowed"),
    "rejected": ("0002", WARNING, "rejected"),
    "simulated": ("0003", NOTICE, "would be rejected"),
}

SUPPRESSED = Kind("SRM0001", WARNING, "messages not given to the command: {messages}; {reason}")
DROPPED = Kind(
    "SRM0002",
    WARNING,
    "messages lost: {messages}; they came faster than they could be delivered",
)
UNSTORED = Kind("SRM0003", WARNING, "messages not stored: {messages}; {reason}")

REQUESTS = {
    (server, outcome): Kind(prefix + number, severity, f"{what} {said} by rule {{rule}}: {who}")
    for server, (prefix, what, who) in _WHAT.items()
    for outcome, (number, severity, said) in _OUTCOMES.items()
}
"""By server and outcome: `allowed`, `rejected`, or `simulated` (it would have been rejected)."""

KINDS = {kind.identifier: kind for kind in (*REQUESTS.values(), SUPPRESSED, DROPPED, UNSTORED)}
"""Every kind there is, by identifier."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `id` is its place in the queue, counted from 1; `None` outside of it.

    `count` is how many identical ones it stands for. What concerns no request
    has no server and rule; `revision` is that of the rules which decided.
    """

    time: datetime
    identifier: str
    severity: int
    text: str
    host: str
    data: Mapping[str, Value]
    server: str | None = None
    rule: str | None = None
    revision: int | None = None
    count: int = 1
    id: int | None = None


def of_request(line: Mapping[str, Any]) -> Message:
    """The message about a request, from the request's audit line."""
    facts = line["sockrules"]
    server = facts["server"]
    kind = REQUESTS[server, _outcome(facts)]
    data = _data(line)
    count = int(facts.get("count", 1))
    again = f" ({count} times)" if count > 1 else ""
    return Message(
        time=parse_utc(line["@timestamp"]) or datetime.now(UTC),
        identifier=kind.identifier,
        severity=kind.severity,
        text=filled(kind.template, data) + again,
        host=line.get("host", {}).get("name", ""),
        data=data,
        server=server,
        rule=line["rule"]["name"],
        revision=facts.get("revision"),
        count=count,
    )


def _outcome(facts: Mapping[str, Any]) -> str:
    if facts["authority"] == "yes":
        return "allowed"
    return "rejected" if facts["enforced"] else "simulated"


def of_agent(kind: Kind, time: datetime, host: str, **data: Value) -> Message:
    """A message of the agent about messages."""
    return Message(time, kind.identifier, kind.severity, filled(kind.template, data), host, data)


def filled(template: str, data: Mapping[str, Value]) -> str:
    """The template with its data; what is not known reads `unknown`."""
    shown = {key: safe(value) for key, value in data.items()}
    if "program" not in shown and "process" in shown:
        shown["program"] = shown["process"]  # its short name: better than nothing
    return template.format_map(_Known(shown))


class _Known(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return _UNKNOWN


def _data(line: Mapping[str, Any]) -> dict[str, Value]:
    """The substitution data of a request; what is not known is left out."""
    facts = line["sockrules"]
    user, group, process = (line.get(key) or {} for key in ("user", "group", "process"))
    data = {
        "server": facts["server"],
        "authority": facts["authority"],
        "enforced": facts["enforced"],
        "mode": facts["mode"],
        "rule": line["rule"]["name"],
        "sequence": facts["sequence"],
        "local": facts.get("local"),
        "remote": facts.get("remote"),
        "program": process.get("executable"),
        "process": process.get("name") or None,
        "pid": process.get("pid") or None,
        "user": user.get("name") or user.get("id"),
        "uid": _number(user.get("id")),
        "group": group.get("name") or group.get("id"),
        "gid": _number(group.get("id")),
        "netns": facts.get("netns"),
    }
    return {key: value for key, value in data.items() if value is not None}


def _number(text: object) -> int | None:
    return int(text) if isinstance(text, str) and text.isdecimal() else None


def document(message: Message) -> dict[str, Any]:
    """The message as JSON: what `messages --json` prints and a command reads."""
    doc: dict[str, Any] = {
        "id": message.id,
        "time": utc(message.time),
        "identifier": message.identifier,
        "severity": SEVERITIES[message.severity],
        "text": message.text,
        "host": message.host,
        "server": message.server,
        "rule": message.rule,
        "revision": message.revision,
        "count": message.count,
    }
    known = {key: value for key, value in doc.items() if value is not None}
    return {**known, "data": dict(message.data)}


def utc(moment: datetime) -> str:
    """`2025-01-31T13:30:05.123456Z`: of one length, so that texts sort as the times do."""
    text = moment.astimezone(UTC).isoformat(timespec="microseconds")
    return text.replace("+00:00", "Z")


def summary(report: Mapping[str, Any]) -> str:
    """The `messages` of a status document in a line: what went where, and what did not."""
    command = report.get("command") or {}
    parts = [
        f"{tally.get('delivered', 0)} {what}"
        for place, what in _PLACES.items()
        if (tally := report.get(place) or {}).get("delivered") or place == "queue"
    ]
    parts += [
        f"{tally['failed']} not {what}"
        for place, what in _PLACES.items()
        if (tally := report.get(place) or {}).get("failed")
    ]
    if suppressed := command.get("suppressed"):
        parts.append(f"{suppressed} too many for the command")
    if dropped := report.get("dropped"):
        parts.append(f"{dropped} lost")
    return ", ".join(parts)


_PLACES = {
    "queue": "stored",
    "syslog": "told syslog",
    "journal": "told the journal",
    "command": "given to the command",
}


@dataclass(frozen=True, slots=True)
class Filter:
    """Which messages are wanted; what is left out asks nothing. `severity`: this or worse."""

    since: datetime | None = None
    server: str | None = None
    rule: str | None = None
    severity: int | None = None


# -- for other systems --------------------------------------------------------------------

FACILITIES = {
    "user": 1, "daemon": 3, "auth": 4, "syslog": 5, "authpriv": 10,
    **{f"local{number}": 16 + number for number in range(8)},
}  # fmt: skip
"""The facilities of syslog that a service may use (RFC 5424, 6.2.1)."""

NAME = "sockrules"
_SD_ID = f"{NAME}@32473"  # the number for examples (RFC 5612): the project has none of its own
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def rfc5424(message: Message, facility: int, pid: int) -> bytes:
    """A syslog message with the data as structured data."""
    priority = facility * 8 + message.severity
    host = message.host if message.host.isascii() and message.host else "-"
    data = {"count": message.count, "revision": message.revision, **message.data}
    pairs = "".join(
        f' {key}="{_parameter(value)}"' for key, value in data.items() if value is not None
    )
    head = f"<{priority}>1 {utc(message.time)} {host} {NAME} {pid} {message.identifier}"
    # A byte order mark says that the text is UTF-8; where it is ASCII nobody need be told.
    mark = "" if message.text.isascii() else "\ufeff"
    return f"{head} [{_SD_ID}{pairs}] {mark}{message.text}".encode("utf-8", "replace")


def rfc3164(message: Message, facility: int, pid: int) -> bytes:
    """A syslog message as local daemons have always read it: no host, local time."""
    priority = facility * 8 + message.severity
    local = message.time.astimezone()
    stamp = f"{_MONTHS[local.month - 1]} {local.day:2} {local:%H:%M:%S}"
    text = f"<{priority}>{stamp} {NAME}[{pid}]: {message.identifier} {message.text}"
    return text.encode("utf-8", "replace")


def journal(message: Message, facility: int) -> bytes:
    """An entry for the journal's native socket (systemd's "Native Journal Protocol")."""
    fields: dict[str, object] = {
        "MESSAGE": message.text,
        "PRIORITY": message.severity,
        "SYSLOG_IDENTIFIER": NAME,
        "SYSLOG_FACILITY": facility,
        "SOCKRULES_IDENTIFIER": message.identifier,
        "SOCKRULES_ID": message.id,
        "SOCKRULES_TIME": utc(message.time),
        "SOCKRULES_REVISION": message.revision,
        "SOCKRULES_COUNT": message.count,
        **{f"SOCKRULES_{key.upper()}": _word(value) for key, value in message.data.items()},
    }
    if message.identifier in KINDS:
        fields["MESSAGE_ID"] = KINDS[message.identifier].journal_id
    return b"".join(
        _journal_field(name, str(value)) for name, value in fields.items() if value is not None
    )


def _journal_field(name: str, value: str) -> bytes:
    data = value.encode("utf-8", "replace")
    if b"\n" not in data:
        return name.encode() + b"=" + data + b"\n"
    return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"


def _parameter(value: Value) -> str:
    text = safe(_word(value))
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")


def _word(value: Value) -> str:
    """A value as text; truths as in JSON."""
    return json.dumps(value) if isinstance(value, bool) else str(value)
