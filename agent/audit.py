# SPDX-License-Identifier: Apache-2.0
"""The audit log: folded, written as JSON lines, rotated, and honest about what it lost.

The first of several identical events is written at once; those that follow
within the window become one line with their count. A disk that refuses writing
stops neither enforcement nor the drain: lines are counted as unwritten, and the
first line after it works again says how many.
"""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .events import Event

FOLD_WINDOW = 10_000_000_000
"""Nanoseconds in which identical events are folded: SYNs are sent again after 1, 3 and 7 s."""

_MOST_FOLDED = 16384
_PIECE = 1 << 20  # bytes handed to one write(2)


class Log:
    """A file of JSON lines: `path`, and older ones as `path.1`, `path.2`, ...

    `report` words how many lines a disk refused, once it takes lines again.
    """

    def __init__(
        self, path: Path, max_bytes: int, keep: int, report: Callable[[int], dict[str, Any]]
    ) -> None:
        self._report = report
        self.path = path
        self.max_bytes = max_bytes
        self.keep = keep
        self.written = 0
        self.unwritten = 0
        self._pending_unwritten = 0
        self._fd: int | None = None

    def write(self, documents: list[dict[str, Any]]) -> None:
        """Append a line for each document, or as many as the disk takes.

        Never raises for the disk's sake. Called without documents it only tries
        whether what could not be written can be reported now.
        """
        reports = [self._report(self._pending_unwritten)] if self._pending_unwritten else []
        lines = [*reports, *documents]
        if not lines:
            return
        data = "".join(json.dumps(doc, separators=(",", ":")) + "\n" for doc in lines).encode()
        kept = self._append(data)
        self.written += kept
        if kept and reports:
            self._pending_unwritten = 0
        refused = len(documents) - max(0, kept - len(reports))
        self.unwritten += refused
        self._pending_unwritten += refused

    def _append(self, data: bytes) -> int:
        """How many lines of `data` are in the file now; never a part of one."""
        done = 0
        try:
            fd = self._open()
            start = os.fstat(fd).st_size
            if start and start + len(data) > self.max_bytes:
                self._rotate()
                fd, start = self._open(), 0
            try:
                while done < len(data):
                    done += os.write(fd, data[done : done + _PIECE])
            except OSError:
                done = data.rfind(b"\n", 0, done) + 1
                os.ftruncate(fd, start + done)
                raise
        except OSError:
            self.close()
        return data.count(b"\n", 0, done)

    def _open(self) -> int:
        """The file that is at `path` now: somebody may have moved or removed the one before."""
        if self._fd is not None:
            try:
                same = os.path.samestat(os.fstat(self._fd), os.stat(self.path))
            except FileNotFoundError:
                same = False
            if not same:
                self.close()
        if self._fd is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._fd = os.open(self.path, flags, 0o640)
        return self._fd

    def _rotate(self) -> None:
        self.close()
        if self.keep <= 0:
            self.path.unlink(missing_ok=True)
            return
        for number in range(self.keep - 1, 0, -1):
            older = self.path.with_name(f"{self.path.name}.{number}")
            if older.exists():
                older.rename(self.path.with_name(f"{self.path.name}.{number + 1}"))
        self.path.rename(self.path.with_name(f"{self.path.name}.1"))

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


@dataclass(slots=True)
class _Fold:
    first: int
    last: Event
    more: int = 0


class Folder:
    """Folds identical events. `word` turns an event and a count into a document."""

    def __init__(self, word: Callable[[Event, int], dict[str, Any]]) -> None:
        self._word = word
        self._open: OrderedDict[tuple[object, ...], _Fold] = OrderedDict()

    def take(self, event: Event) -> list[dict[str, Any]]:
        """What is to be written now because of this event."""
        key = event.identity
        fold = self._open.get(key)
        if fold is None:
            self._open[key] = _Fold(event.monotonic, event)
            written = [self._word(event, 1)]
            if len(self._open) > _MOST_FOLDED:
                written += self._close(*self._open.popitem(last=False))
            return written
        fold.last = event
        fold.more += 1
        return []

    def expire(self, now: int) -> list[dict[str, Any]]:
        """The lines of windows that are over at `now` (monotonic ns)."""
        written: list[dict[str, Any]] = []
        while self._open:
            key, fold = next(iter(self._open.items()))
            if fold.first + FOLD_WINDOW > now:
                break
            del self._open[key]
            written += self._close(key, fold)
        return written

    def flush(self) -> list[dict[str, Any]]:
        """The lines of all open windows."""
        written = [line for key, fold in self._open.items() for line in self._close(key, fold)]
        self._open.clear()
        return written

    def _close(self, _: tuple[object, ...], fold: _Fold) -> list[dict[str, Any]]:
        return [self._word(fold.last, fold.more)] if fold.more else []
