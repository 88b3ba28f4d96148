# SPDX-License-Identifier: Apache-2.0
"""What waits to be confirmed, and whose lists hold, kept so that no crash forgets it.

Rules. The deadline is on disk before the rules that it is for are in force, and
off the disk only after it was met or the rules were taken back. The clock of a
running agent is the monotonic one; what is left after a restart is counted by
the wall clock, and is never more than was asked for. So a clock that is set
while nobody looks makes the countdown shorter or starts it again, but never
longer.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS pending (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    revision INTEGER NOT NULL,  -- waits to be confirmed
    previous INTEGER NOT NULL,  -- comes back otherwise
    seconds REAL NOT NULL,      -- that were asked for
    deadline REAL NOT NULL,     -- seconds since 1970
    user TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS held_lists (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    revision INTEGER NOT NULL   -- is in force with its lists as recorded, whatever the files say
);
"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A revision that is taken back unless it is confirmed; `deadline` in seconds since 1970."""

    revision: int
    previous: int
    seconds: float
    deadline: float
    user: str

    def left(self, now: float) -> float:
        """Seconds that are left at `now`; zero or less when it is over."""
        return min(self.deadline - now, self.seconds)


class Pending:
    """The two tables, in the state database, with a connection that waits for the disk."""

    def __init__(
        self,
        path: Path,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_SCHEMA)
        self._until: float | None = None
        self._waiting = self._read()
        if self._waiting is not None:
            self._until = monotonic() + self._waiting.left(wall())

    @property
    def waiting(self) -> Waiting | None:
        """What waits to be confirmed."""
        return self._waiting

    def left(self) -> float:
        """Seconds until what waits is taken back; zero or less when it is time."""
        if self._waiting is None or self._until is None:
            return 0.0
        return min(self._until - self._monotonic(), self._waiting.left(self._wall()))

    def begin(self, revision: int, previous: int, seconds: float, user: str) -> None:
        """Start the countdown; on disk when this returns."""
        self._write(Waiting(revision, previous, seconds, self._wall() + seconds, user))

    def put_back(self, waiting: Waiting | None) -> None:
        """Go on with what waited before, because what was to replace it came to nothing."""
        if waiting is None:
            self.clear()
        else:
            self._write(waiting)

    def clear(self) -> None:
        """Nothing waits any more."""
        self._db.execute("DELETE FROM pending")
        self._waiting = self._until = None

    def hold_lists(self, revision: int) -> None:
        """This revision stays in force with the lists that are recorded with it."""
        self._db.execute(
            "INSERT OR REPLACE INTO held_lists (one, revision) VALUES (1, ?)", (revision,)
        )

    def held_lists(self) -> int | None:
        """The revision whose lists hold as recorded, whether or not it is the latest."""
        row = self._db.execute("SELECT revision FROM held_lists").fetchone()
        return int(row[0]) if row else None

    def close(self) -> None:
        self._db.close()

    def _write(self, waiting: Waiting) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO pending (one, revision, previous, seconds, deadline, user)"
            " VALUES (1, ?, ?, ?, ?, ?)",
            (
                waiting.revision,
                waiting.previous,
                waiting.seconds,
                waiting.deadline,
                waiting.user,
            ),
        )
        self._waiting = waiting
        self._until = self._monotonic() + waiting.left(self._wall())

    def _read(self) -> Waiting | None:
        row = self._db.execute(
            "SELECT revision, previous, seconds, deadline, user FROM pending"
        ).fetchone()
        return Waiting(*row) if row else None
