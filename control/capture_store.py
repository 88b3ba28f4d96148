# SPDX-License-Identifier: Apache-2.0
"""Captured transactions in the state database: the table, and reading it.

Only the agent writes (agent/captures.py); anybody who may read the file can
look, with an agent or without one.

Theory. What is unknown is stored as a value that nothing known has (port 0, id
-1, an empty text or address), because SQLite holds every NULL to be different
and a unique key over NULLs would not be one. Addresses are sixteen bytes in
network order, so SQLite compares them as the numbers they are, and a prefix is
a BETWEEN.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .captured import Captured, Filter
from .model import Request, Server

SCHEMA = """
CREATE TABLE IF NOT EXISTS captures (
    number INTEGER PRIMARY KEY,
    server INTEGER NOT NULL,
    authority INTEGER NOT NULL,
    rule TEXT NOT NULL,
    local_address BLOB NOT NULL,     -- 16 bytes, or none: unknown
    local_port INTEGER NOT NULL,     -- 0: unknown, or folded
    remote_address BLOB NOT NULL,
    remote_port INTEGER NOT NULL,
    user INTEGER NOT NULL,           -- -1: unknown
    grp INTEGER NOT NULL,
    program TEXT NOT NULL,           -- empty: unknown
    service TEXT NOT NULL,
    folded INTEGER NOT NULL,         -- whether a port was folded away
    count INTEGER NOT NULL,
    first TEXT NOT NULL,             -- ISO 8601, UTC
    last TEXT NOT NULL,
    low INTEGER NOT NULL,            -- of the folded port, 0: none was folded
    high INTEGER NOT NULL,
    UNIQUE (server, authority, rule, local_address, local_port, remote_address, remote_port,
            user, grp, program, service, folded)
);
CREATE INDEX IF NOT EXISTS captures_last ON captures (last);
CREATE TABLE IF NOT EXISTS capture_losses (
    why TEXT PRIMARY KEY,            -- see LOSSES
    count INTEGER NOT NULL,
    last TEXT NOT NULL
);
"""

EVERYTHING = Filter()

LOSSES = {
    "overflow": "requests that came when the memory for new transactions was full",
    "crowded": "transactions removed because there were more than keep_rows",
    "aged": "transactions removed because they were older than keep_days",
}
"""What is not in the table any more, or never was, and why."""

_COLUMNS = (
    "number, server, authority, rule, local_address, local_port, remote_address, remote_port,"
    " user, grp, program, service, folded, count, first, last, low, high"
)
_UPSERT = (
    "INSERT INTO captures (server, authority, rule, local_address, local_port, remote_address,"
    " remote_port, user, grp, program, service, folded, count, first, last, low, high)"
    f" VALUES ({', '.join('?' * 17)}) ON CONFLICT (server, authority, rule, local_address,"
    " local_port, remote_address, remote_port, user, grp, program, service, folded) DO UPDATE"
    " SET count = count + excluded.count, first = min(first, excluded.first),"
    " last = max(last, excluded.last), low = min(low, excluded.low),"
    " high = max(high, excluded.high)"
)


@dataclass(frozen=True, slots=True)
class InForce:
    """The rules that were applied last, with the lists they read."""

    revision: int
    file: str
    text: str
    lists: Mapping[str, str]


def open_to_read(path: Path) -> sqlite3.Connection:
    """The database of an agent that may run or not. Raises OSError when it cannot be read."""
    if not path.exists():  # also where the folder may not be looked into
        path.stat()
    try:
        return _opened(path, "mode=ro")
    except sqlite3.Error as error:
        if not path.with_name(f"{path.name}-wal").exists():
            # Nobody has it open, and we may not make the file that readers share.
            with contextlib.suppress(sqlite3.Error):
                return _opened(path, "immutable=1")
        raise OSError(None, f"cannot be read: {error}", str(path)) from None


def _opened(path: Path, how: str) -> sqlite3.Connection:
    db = sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True)
    db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return db


def add(db: sqlite3.Connection, many: Iterator[Captured]) -> None:
    """Add to the counts, in the transaction that the caller opened."""
    db.executemany(_UPSERT, map(_row, many))


def select(
    db: sqlite3.Connection, chosen: Filter = EVERYTHING, *, after: int = 0, most: int = -1
) -> list[Captured]:
    """Transactions in the order of their numbers, those above `after`, `most` at most."""
    where, values = _where(chosen)
    if not _has_captures(db):
        return []
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM captures WHERE {where} AND number > ? ORDER BY number LIMIT ?",
        (*values, after, most),
    )
    return [_captured(row) for row in rows]


def count(db: sqlite3.Connection, chosen: Filter = EVERYTHING) -> int:
    """How many transactions there are."""
    where, values = _where(chosen)
    number: int = db.execute(f"SELECT count(*) FROM captures WHERE {where}", values).fetchone()[0]
    return number


def delete(db: sqlite3.Connection, chosen: Filter = EVERYTHING) -> int:
    """Take transactions out; how many."""
    where, values = _where(chosen)
    return db.execute(f"DELETE FROM captures WHERE {where}", values).rowcount


def losses(db: sqlite3.Connection) -> dict[str, int]:
    """How much is missing, by the keys of LOSSES."""
    if not _has_captures(db):
        return {}
    return dict(db.execute("SELECT why, count FROM capture_losses"))


def in_force(db: sqlite3.Connection) -> InForce | None:
    """The revision applied last."""
    row = db.execute(
        "SELECT revision, file, text, lists FROM revisions ORDER BY revision DESC LIMIT 1"
    ).fetchone()
    return InForce(row[0], row[1], row[2], json.loads(row[3])) if row else None


def _has_captures(db: sqlite3.Connection) -> bool:
    """Whether an agent that captures has ever opened it."""
    found = db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'captures'").fetchone()
    return bool(found[0])


def _where(chosen: Filter) -> tuple[str, list[object]]:
    clauses: list[str] = ["1"]
    values: list[object] = []
    for column, value in (
        ("server", chosen.server),
        ("user", chosen.user),
        ("number", chosen.number),
    ):
        if value is not None:
            clauses.append(f"{column} = ?")
            values.append(int(value))
    if chosen.program is not None:
        below = chosen.program.endswith("/")
        clauses.append("substr(program, 1, length(?)) = ?" if below else "program = ?")
        values += [chosen.program] * (2 if below else 1)
    if chosen.remote is not None:
        clauses.append("remote_address BETWEEN ? AND ?")
        values += [each.to_bytes(16, "big") for each in chosen.remote]
    if chosen.since is not None:
        clauses.append("last >= ?")
        values.append(chosen.since)
    return " AND ".join(clauses), values


def _row(one: Captured) -> tuple[object, ...]:
    request = one.request
    low, high = one.folded or (0, 0)
    return (
        int(request.server),
        int(one.authority),
        one.rule,
        _bytes(request.local_address),
        request.local_port or 0,
        _bytes(request.remote_address),
        request.remote_port or 0,
        -1 if request.user is None else request.user,
        -1 if request.group is None else request.group,
        request.program or "",
        request.service or "",
        int(one.folded is not None),
        one.count,
        one.first,
        one.last,
        low,
        high,
    )


def _captured(row: tuple[object, ...]) -> Captured:
    (number, server, authority, rule, local, local_port, remote, remote_port) = row[:8]
    (user, group, program, service, folded, times, first, last, low, high) = row[8:]
    return Captured(
        Request(
            Server(int(str(server))),
            _address(local),
            int(str(local_port)) or None,
            _address(remote),
            int(str(remote_port)) or None,
            None if user == -1 else int(str(user)),
            None if group == -1 else int(str(group)),
            str(program) or None,
            str(service) or None,
        ),
        bool(authority),
        str(rule),
        int(str(times)),
        str(first),
        str(last),
        (int(str(low)), int(str(high))) if folded else None,
        int(str(number)),
    )


def _bytes(address: int | None) -> bytes:
    return b"" if address is None else address.to_bytes(16, "big")


def _address(data: object) -> int | None:
    return int.from_bytes(data, "big") if isinstance(data, bytes) and data else None
