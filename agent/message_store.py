# SPDX-License-Identifier: Apache-2.0
"""Writing the message queue into the state database, and forgetting what is old."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ..control.message_queue import INSERT, SCHEMA, row
from ..control.messages import Message, utc

_FORGET_EVERY = 60.0  # seconds
_FORGET_AT_ONCE = 5000  # rows, so that nobody else waits long for the database
_PATIENCE = 5.0  # seconds to wait for another writer


class Store:
    """The queue in the database at a path; for one thread.

    Args:
        keep: how many of the newest messages are kept.
        keep_days: how many days of them.
    """

    def __init__(self, path: Path, keep: int, keep_days: int) -> None:
        self.path = path
        self.keep = keep
        self.keep_days = keep_days
        self._db: sqlite3.Connection | None = None
        self._forgotten_at = float("-inf")

    def add(self, messages: Sequence[Message]) -> list[Message]:
        """Store messages, all or none; the same ones with their ids. Raises sqlite3.Error."""
        stored = []
        with self._open() as database:  # a transaction
            database.execute("BEGIN IMMEDIATE")
            for message in messages:
                number = database.execute(INSERT, row(message)).lastrowid
                stored.append(dataclasses.replace(message, id=number))
        return stored

    def forget(self, now: float) -> None:
        """Remove what is too old or too many, every minute of `now` (s). Raises sqlite3.Error."""
        if now < self._forgotten_at + _FORGET_EVERY or not self.path.exists():
            return
        database = self._open()
        (newest,) = database.execute("SELECT coalesce(max(id), 0) FROM messages").fetchone()
        oldest = utc(datetime.now(UTC) - timedelta(days=self.keep_days))
        for condition, value in (("id <= ?", newest - self.keep), ("time < ?", oldest)):
            query = (
                "DELETE FROM messages WHERE id IN"
                f" (SELECT id FROM messages WHERE {condition} LIMIT {_FORGET_AT_ONCE})"
            )
            while database.execute(query, (value,)).rowcount == _FORGET_AT_ONCE:
                pass
        self._forgotten_at = now

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            database = sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)
            try:
                database.execute("PRAGMA journal_mode=WAL")
                database.execute("PRAGMA synchronous=NORMAL")
                database.executescript(SCHEMA)
            except sqlite3.Error:
                database.close()
                raise
            self._db = database
        return self._db

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None
