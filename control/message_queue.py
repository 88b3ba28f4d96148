# SPDX-License-Identifier: Apache-2.0
"""The message queue as it lies in the state database: its table, and reading it.

Rules. The agent writes, anybody who may read the file looks at any time. Ids
grow and are never used twice, so that following means asking for larger ones.
Reading never creates or changes anything.
"""

from __future__ import annotations

import json
import sqlite3
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .messages import Filter, Message, utc
from .times import parse_utc

SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    time TEXT NOT NULL,         -- ISO 8601, UTC, microseconds
    identifier TEXT NOT NULL,
    severity INTEGER NOT NULL,  -- of syslog
    text TEXT NOT NULL,
    host TEXT NOT NULL,
    data TEXT NOT NULL,         -- JSON object
    server TEXT,
    rule TEXT,
    revision INTEGER,
    count INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS messages_by_time ON messages (time);
"""

_COLUMNS = (
    "time", "identifier", "severity", "text", "host", "data", "server", "rule", "revision", "count",
)  # fmt: skip
INSERT = f"INSERT INTO messages ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
_AT_ONCE = 1000


def row(message: Message) -> tuple[object, ...]:
    """The message as INSERT takes it."""
    return (
        utc(message.time),
        message.identifier,
        message.severity,
        message.text,
        message.host,
        json.dumps(dict(message.data), separators=(",", ":")),
        message.server,
        message.rule,
        message.revision,
        message.count,
    )


class MessageQueue:
    """The queue in the database at a path. A queue that is not there yet is empty."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, wanted: Filter, after: int = 0) -> Iterator[Message]:
        """The messages with larger ids than `after`, the oldest first. Raises OSError."""
        while True:
            found = self._rows(wanted, f"id > {int(after)}", "ASC", _AT_ONCE)
            yield from found
            if len(found) < _AT_ONCE:
                return
            after = found[-1].id or 0

    def last(self, wanted: Filter, count: int) -> list[Message]:
        """The newest `count` messages, the oldest of them first. Raises OSError."""
        newest: deque[Message] = deque(self._rows(wanted, "1", "DESC", count))
        newest.reverse()
        return list(newest)

    def newest_id(self) -> int:
        """The largest id there is; 0 when the queue is empty."""
        found = self._rows(Filter(), "1", "DESC", 1)
        return (found[0].id or 0) if found else 0

    def _rows(self, wanted: Filter, where: str, order: str, limit: int) -> list[Message]:
        conditions, values = _conditions(wanted)
        query = (
            f"SELECT id, {', '.join(_COLUMNS)} FROM messages"
            f" WHERE {' AND '.join([where, *conditions])} ORDER BY id {order} LIMIT {int(limit)}"
        )
        if not self._path.exists():
            return []
        try:
            with closing(self._open()) as database:
                return [_message(*found) for found in database.execute(query, values)]
        except sqlite3.Error as error:
            if "no such table" in str(error):
                return []
            raise OSError(None, str(error), str(self._path)) from None

    def _open(self) -> sqlite3.Connection:
        name = f"file:{quote(str(self._path.absolute()))}?mode=ro"
        database = sqlite3.connect(name, uri=True, timeout=5)
        try:
            database.execute("SELECT 1 FROM sqlite_master LIMIT 1")
        except sqlite3.OperationalError:
            # Without an agent and without leave to write, there is no log to share with it.
            database.close()
            if Path(f"{self._path}-wal").exists():
                raise
            database = sqlite3.connect(f"{name}&immutable=1", uri=True)
        return database


def _conditions(wanted: Filter) -> tuple[list[str], list[object]]:
    asked = [
        ("time >= ?", utc(wanted.since) if wanted.since else None),
        ("server = ?", wanted.server),
        ("rule = ?", wanted.rule),
        ("severity <= ?", wanted.severity),
    ]
    present = [(condition, value) for condition, value in asked if value is not None]
    return [condition for condition, _ in present], [value for _, value in present]


def _message(id: int, time: str, identifier: str, severity: int, *rest: Any) -> Message:
    text, host, data, server, rule, revision, count = rest
    moment = parse_utc(time)
    assert moment is not None, "the agent writes times as ISO 8601"
    return Message(
        moment, identifier, severity, text, host, json.loads(data),
        server=server, rule=rule, revision=revision, count=count, id=id,
    )  # fmt: skip
