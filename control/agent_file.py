# SPDX-License-Identifier: Apache-2.0
"""agent.toml: the product configuration, the servers' modes, and what the agent needs to know.

Everything is optional; what is left out is as shipped. An unknown key is an error.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .messages import FACILITIES
from .model import Mode, Product, Server
from .problems import InputError, did_you_mean, listed
from .toml_document import TomlDocument, shown

SMALLEST_BUFFER = 4  # pages; a full batch of events is 8.7 kB (bpf/abi.h)
LARGEST_BUFFER = 16384
"""Pages of an event buffer, per CPU: 64 MiB, far more than a second of any host's events."""

_MODES = {mode.word: mode for mode in Mode}
_KEYS = {
    "product": ("audit", "message", "capture"),
    "servers": tuple(server.word for server in Server),
    "hooks": tuple(server.word for server in Server),
    "accept": ("reject_with",),
    "agent": ("cgroup", "logins"),
    "audit": ("max_bytes", "keep"),
    "events": ("buffer_pages",),
    "captures": ("keep_days", "keep_rows"),
    "messages": (
        "keep",
        "keep_days",
        "syslog",
        "syslog_socket",
        "syslog_format",
        "syslog_facility",
        "journal",
        "journal_socket",
        "command",
        "command_seconds",
        "command_per_minute",
    ),
}
_FORMATS = ("rfc5424", "rfc3164")

REJECT_WITH = ("auto", "reset", "drop")
"""What a rejected peer gets; `auto` is whatever the hook gives."""


def known_keys() -> dict[str, tuple[str, ...]]:
    """The keys of agent.toml, by table."""
    return dict(_KEYS)


@dataclass(frozen=True, slots=True)
class MessageSettings:
    """What agent.toml says about the message queue and where messages go besides.

    The newest `keep` messages of the last `keep_days` days are kept. `command`
    is a program and its arguments, empty for none; a run that takes longer than
    `command_seconds` is killed, and at most `command_per_minute` are started.
    """

    keep: int = 100_000
    keep_days: int = 30
    syslog: bool = True
    syslog_socket: str = "/dev/log"
    syslog_format: str = "rfc5424"
    syslog_facility: str = "authpriv"
    journal: bool = True
    journal_socket: str = "/run/systemd/journal/socket"
    command: tuple[str, ...] = ()
    command_seconds: int = 10
    command_per_minute: int = 60


HOOK_WAYS: dict[Server, tuple[str, ...]] = {
    Server.LISTEN: ("fmod_ret", "lsm", "post_bind"),
    Server.ACCEPT: ("fmod_ret", "lsm", "sk_lookup"),
    Server.CONNECT: ("cgroup",),
}
"""The ways in which a server can be enforced, best first; agent/hooks.py says what they are."""

_AUTO = "auto"


@dataclass(frozen=True, slots=True)
class HookSettings:
    """Which way each server takes: a word of HOOK_WAYS, or `auto` for the best that works."""

    listen: str = _AUTO
    accept: str = _AUTO
    connect: str = _AUTO

    def forced(self) -> dict[Server, str]:
        """The ways of the servers that may take no other."""
        chosen: dict[Server, str] = {each: getattr(self, each.word) for each in Server}
        return {server: word for server, word in chosen.items() if word != _AUTO}


LOGINS = ("sshd", "sshd-session", "dropbear", "in.telnetd", "telnetd")
"""Programs through which people log in over the network, by the last part of their path."""


def _all_off() -> dict[Server, Mode]:
    return dict.fromkeys(Server, Mode.OFF)


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """What agent.toml says.

    `cgroup` is the directory of the cgroup whose processes are judged, `None`
    the root of the hierarchy. `audit_max_bytes` is the size at which the audit
    log is rotated, `audit_keep` how many old ones are kept. `buffer_pages` is
    the size of the event buffer of one CPU, a power of two. Captured
    transactions are kept `captures_keep_days` days after they were last seen,
    and the last `captures_keep_rows` of them. `logins` are the names of the
    programs whose connections and listeners `apply` watches over. `hooks` is how each
    server is enforced. `reject_with` is what a peer gets that no rule lets in: a reset,
    silence, or what the hook gives.
    """

    product: Product = Product()
    modes: dict[Server, Mode] = field(default_factory=_all_off)
    hooks: HookSettings = HookSettings()
    reject_with: str = REJECT_WITH[0]
    cgroup: str | None = None
    audit_max_bytes: int = 64 * 1024 * 1024
    audit_keep: int = 8
    buffer_pages: int = 64
    captures_keep_days: int = 90
    captures_keep_rows: int = 100_000
    logins: tuple[str, ...] = LOGINS
    messages: MessageSettings = MessageSettings()


def parse_agent_config(text: str, *, file: str) -> AgentConfig:
    """The configuration in a text. Raises InputError with every error, in the file's order."""
    document = TomlDocument(text, file)
    document.unknown_keys(document.data, (), _KEYS)
    tables = {}
    for name, keys in _KEYS.items():
        tables[name] = document.table(document.data, (), name)
        document.unknown_keys(tables[name], (name,), keys)
    shipped = AgentConfig()
    config = AgentConfig(
        product=_product(document, tables["product"]),
        modes={server: _mode(document, tables["servers"], server) for server in Server},
        hooks=HookSettings(
            **{each.word: _way(document, tables["hooks"], each) for each in Server}
        ),
        reject_with=_word(
            document, tables["accept"], ("accept", "reject_with"), "reject_with", REJECT_WITH
        ),
        cgroup=_cgroup(document, tables["agent"]),
        audit_max_bytes=_number(
            document, tables, ("audit", "max_bytes"), shipped.audit_max_bytes, (1024, 1 << 50)
        ),
        audit_keep=_number(document, tables, ("audit", "keep"), shipped.audit_keep, (0, 10_000)),
        buffer_pages=_buffer_pages(document, tables, shipped.buffer_pages),
        captures_keep_days=_number(
            document, tables, ("captures", "keep_days"), shipped.captures_keep_days, (1, 3650)
        ),
        captures_keep_rows=_number(
            document,
            tables,
            ("captures", "keep_rows"),
            shipped.captures_keep_rows,
            (1, 10_000_000),
        ),
        logins=_logins(document, tables["agent"]),
        messages=_messages(document, tables),
    )
    if errors := document.errors():
        raise InputError(errors)
    return config


def _product(document: TomlDocument, table: dict[str, object]) -> Product:
    why = "nothing stands behind the product configuration"
    flags = (
        document.yes_no(("product", key), table.get(key, "no"), why) for key in _KEYS["product"]
    )
    return Product(*(bool(flag) for flag in flags))


def _mode(document: TomlDocument, table: dict[str, object], server: Server) -> Mode:
    word = table.get(server.word, Mode.OFF.word)
    mode = _MODES.get(word) if isinstance(word, str) else None
    if mode is None:
        near = did_you_mean(word, _MODES) if isinstance(word, str) else ""
        words = listed((f'"{known}"' for known in _MODES), "or")
        message = f"the mode of {server.word} is {shown(word)}"
        document.wrong_value(("servers", server.word), message, near or f"use {words}")
        return Mode.OFF
    return mode


def _way(document: TomlDocument, table: dict[str, object], server: Server) -> str:
    known, place = (_AUTO, *HOOK_WAYS[server]), ("hooks", server.word)
    return _word(document, table, place, f"the hook of {server.word}", known)


def _word(
    document: TomlDocument,
    table: dict[str, object],
    place: tuple[str, str],
    what: str,
    known: tuple[str, ...],
) -> str:
    """One of the known words; the first where nothing is said, or something else."""
    word = table.get(place[1], known[0])
    if isinstance(word, str) and word in known:
        return word
    near = did_you_mean(word, known) if isinstance(word, str) else ""
    words = listed((f'"{each}"' for each in known), "or")
    document.wrong_value(place, f"{what} is {shown(word)}", near or f"use {words}")
    return known[0]


def _cgroup(document: TomlDocument, table: dict[str, object]) -> str | None:
    path = table.get("cgroup")
    if path is None:
        return None
    return _path(document, ("agent", "cgroup"), path, None, "/sys/fs/cgroup/system.slice")


def _messages(document: TomlDocument, tables: dict[str, dict[str, object]]) -> MessageSettings:
    shipped, table = MessageSettings(), tables["messages"]

    def number(key: str, first: int, last: int) -> int:
        return _number(document, tables, ("messages", key), getattr(shipped, key), (first, last))

    def switch(key: str) -> bool:
        why = "nothing stands behind it"
        value = document.yes_no(("messages", key), table.get(key, getattr(shipped, key)), why)
        return bool(value)

    def path(key: str) -> str:
        known: str = getattr(shipped, key)
        place = ("messages", key)
        return _path(document, place, table.get(key, known), known, known) or known

    def word(key: str, known: tuple[str, ...]) -> str:
        value = table.get(key, getattr(shipped, key))
        if isinstance(value, str) and value in known:
            return value
        near = did_you_mean(value, known) if isinstance(value, str) else ""
        words = listed((f'"{each}"' for each in known), "or")
        document.wrong_value(("messages", key), f"{key} is {shown(value)}", near or f"use {words}")
        return known[0]

    return MessageSettings(
        keep=number("keep", 1, 10_000_000),
        keep_days=number("keep_days", 1, 36_500),
        syslog=switch("syslog"),
        syslog_socket=path("syslog_socket"),
        syslog_format=word("syslog_format", _FORMATS),
        syslog_facility=word("syslog_facility", tuple(FACILITIES)),
        journal=switch("journal"),
        journal_socket=path("journal_socket"),
        command=_command(document, table.get("command", [])),
        command_seconds=number("command_seconds", 1, 3600),
        command_per_minute=number("command_per_minute", 1, 60_000),
    )


def _command(document: TomlDocument, value: object) -> tuple[str, ...]:
    place = ("messages", "command")
    hint = 'write the program and its arguments, as in ["/usr/local/bin/notify", "--now"]'
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        what = "holds more than texts" if isinstance(value, list) else f"is {shown(value)}"
        document.wrong_value(place, f"command {what}", hint)
        return ()
    if value and not value[0].startswith("/"):
        document.wrong_value(place, f"{shown(value[0])} is not an absolute path", hint)
        return ()
    if any("\0" in word for word in value):
        document.wrong_value(place, "command holds a NUL character", "take it out")
        return ()
    return tuple(value)


def _path(
    document: TomlDocument, place: tuple[str, str], value: object, shipped: str | None, example: str
) -> str | None:
    """An absolute path; `shipped` when it was none and reported."""
    if isinstance(value, str) and value.startswith("/") and "\0" not in value:
        return value
    hint = f'use an absolute path, as in "{example}"'
    document.wrong_value(place, f"{place[1]} is {shown(value)}", hint)
    return shipped


def _logins(document: TomlDocument, table: dict[str, object]) -> tuple[str, ...]:
    value = table.get("logins", list(LOGINS))
    names = value if isinstance(value, list) else [None]
    if all(isinstance(name, str) and name and "/" not in name for name in names):
        return tuple(names)
    hint = 'list names without their folders, as in ["sshd", "dropbear"]'
    document.wrong_value(("agent", "logins"), f"logins is {shown(value)}", hint)
    return LOGINS


def _number(
    document: TomlDocument,
    tables: dict[str, dict[str, object]],
    path: tuple[str, str],
    shipped: int,
    limits: tuple[int, int],
) -> int:
    table, key = path
    value = tables[table].get(key, shipped)
    first, last = limits
    if isinstance(value, bool) or not isinstance(value, int):
        document.wrong_value(path, f"{key} is {shown(value)}", f"use a number {first}-{last}")
        return shipped
    if not first <= value <= last:
        document.wrong_value(path, f"{key} {value} is out of range", f"use {first}-{last}")
        return shipped
    return value


def _buffer_pages(
    document: TomlDocument, tables: dict[str, dict[str, object]], shipped: int
) -> int:
    path = ("events", "buffer_pages")
    pages = _number(document, tables, path, shipped, (SMALLEST_BUFFER, LARGEST_BUFFER))
    if pages & (pages - 1):
        below = 1 << (pages.bit_length() - 1)
        message = f"buffer_pages {pages} is not a power of two"
        document.wrong_value(path, message, f"use {below} or {2 * below}")
    return pages
