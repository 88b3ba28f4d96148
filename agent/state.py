# SPDX-License-Identifier: Apache-2.0
"""What the agent remembers in SQLite: applied revisions, and how often each rule decided."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS revisions (
    revision INTEGER PRIMARY KEY,
    applied TEXT NOT NULL,      -- ISO 8601, UTC
    user TEXT NOT NULL,
    file TEXT NOT NULL,
    text TEXT NOT NULL,         -- rules.toml as it was
    lists TEXT NOT NULL         -- JSON: name of a list -> its text as it was
);
CREATE TABLE IF NOT EXISTS hits (
    rule TEXT PRIMARY KEY,
    hits INTEGER NOT NULL,
    last TEXT                   -- ISO 8601, UTC
);
CREATE TABLE IF NOT EXISTS facts (
    name TEXT PRIMARY KEY,
    number INTEGER NOT NULL
);
"""


@dataclass(frozen=True, slots=True)
class Revision:
    """One applied rule file with the lists it read."""

    revision: int
    applied: str
    user: str
    file: str
    text: str
    lists: Mapping[str, str]


class State:
    """The database. One writer, the agent; readers may look at any time."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(_SCHEMA)

    def latest(self) -> Revision | None:
        """The revision applied last."""
        row = self._db.execute(
            "SELECT revision, applied, user, file, text, lists FROM revisions"
            " ORDER BY revision DESC LIMIT 1"
        ).fetchone()
        if row is None:
            return None
        number, applied, user, file, text, lists = row
        return Revision(number, applied, user, file, text, json.loads(lists))

    def add(self, revision: Revision) -> None:
        """Record what is about to be in force."""
        self._db.execute(
            "INSERT INTO revisions (revision, applied, user, file, text, lists)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (
                revision.revision,
                revision.applied,
                revision.user,
                revision.file,
                revision.text,
                json.dumps(dict(revision.lists)),
            ),
        )

    def remove(self, revision: int) -> None:
        """Take back a revision that did not come into force."""
        self._db.execute("DELETE FROM revisions WHERE revision = ?", (revision,))

    def hits(self) -> dict[str, tuple[int, str | None]]:
        rows = self._db.execute("SELECT rule, hits, last FROM hits")
        return {rule: (hits, last) for rule, hits, last in rows}

    def add_hits(self, more: Mapping[str, tuple[int, str | None]]) -> None:
        """Add to the counts; a later `last` replaces an earlier one."""
        self._db.executemany(
            "INSERT INTO hits (rule, hits, last) VALUES (?, ?, ?) ON CONFLICT (rule) DO UPDATE"
            " SET hits = hits + excluded.hits,"
            " last = max(coalesce(last, ''), coalesce(excluded.last, ''))",
            [(rule, hits, last) for rule, (hits, last) in more.items()],
        )

    def fact(self, name: str) -> int:
        """A number that one agent leaves to the next; 0 when none did."""
        row = self._db.execute("SELECT number FROM facts WHERE name = ?", (name,)).fetchone()
        return int(row[0]) if row else 0

    def set_fact(self, name: str, number: int) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO facts (name, number) VALUES (?, ?)", (name, number)
        )

    def close(self) -> None:
        self._db.close()


def now() -> str:
    """The time as ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
