# SPDX-License-Identifier: Apache-2.0
"""Reading the audit log: audit.jsonl and the older audit.jsonl.1, .2, ..., oldest line first.

Rules. A line counts once it ends in a newline; the last one may be half-written
and is left for later. Lines that are not JSON objects are counted and passed
over. A log that is rotated while it is read loses and repeats nothing.

Theory. Rotation renames each file to the next number, the oldest first. Files
are opened from the newest to the oldest, so that one that is renamed meanwhile
shows up twice, with the same inode, and never not at all. While a file is
followed it stays open, so its inode cannot become another's.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from .addresses import parse_address, parse_endpoint
from .services import service_matches
from .times import parse_utc

Line = dict[str, Any]

_PIECE = 1 << 16
_LONGEST = 1 << 20
"""Bytes of the longest line that is waited for; the agent's have some 800."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which lines are wanted. What is left out asks nothing.

    `user` is a name or a number; `remote` the first and last address; `rejected`
    also means those that would have been rejected by a server that simulates;
    `service` is what a condition may compare the service with.
    """

    since: datetime | None = None
    server: str | None = None
    rule: str | None = None
    user: str | None = None
    remote: tuple[int, int] | None = None
    rejected: bool = False
    service: str | None = None

    @property
    def about_requests(self) -> bool:
        """Whether only requests are wanted, and not what the agent says of itself."""
        asked = (self.server, self.rule, self.user, self.remote, self.rejected, self.service)
        return any(asked)

    def recent(self, line: Line) -> bool:
        """Whether the line is not older than asked for."""
        moment = parse_utc(line.get("@timestamp"))
        return self.since is None or (moment is not None and moment >= self.since)

    def wants(self, line: Line) -> bool:
        if not self.recent(line):
            return False
        if not is_request(line):
            return not self.about_requests
        facts = part(line, "sockrules")
        user = part(line, "user")
        return (
            (self.server is None or facts.get("server") == self.server)
            and (self.rule is None or part(line, "rule").get("name") == self.rule)
            and (self.user is None or self.user in (user.get("name"), str(user.get("id"))))
            and (not self.rejected or facts.get("authority") == "no")
            and (self.remote is None or _lies_in(remote_address(line), self.remote))
            and (self.service is None or _belongs(line, self.service))
        )


def part(line: Line, key: str) -> Line:
    """An object inside a line; an empty one where there is none."""
    inside = line.get(key)
    return inside if isinstance(inside, dict) else {}


def is_request(line: Line) -> bool:
    """Whether the line is about a request, not about the agent."""
    return part(line, "event").get("kind") == "event"


def lost_events(line: Line) -> int:
    """How many events the line says were lost or not written."""
    if part(line, "event").get("action") not in ("events-lost", "lines-unwritten"):
        return 0
    facts = part(line, "sockrules")
    count = facts.get("lost", facts.get("lines", 1))
    return count if isinstance(count, int) else 1


def remote_address(line: Line) -> int | None:
    """The peer's address; for a connect its destination, else its source."""
    facts = part(line, "sockrules")
    end = "destination" if facts.get("server") == "connect" else "source"
    with contextlib.suppress(ValueError):
        if isinstance(remote := facts.get("remote"), str):
            return parse_endpoint(remote)[0]
        if isinstance(ip := part(line, end).get("ip"), str) and facts.get("server") != "listen":
            return parse_address(ip)
    return None


def _belongs(line: Line, member: str) -> bool:
    service = part(line, "sockrules").get("cgroup") or part(line, "service").get("name")
    return isinstance(service, str) and service_matches(member, service)


def _lies_in(address: int | None, limits: tuple[int, int]) -> bool:
    return address is not None and limits[0] <= address <= limits[1]


class AuditLog:
    """The log at a path. `unreadable` counts the lines that were not JSON objects."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.unreadable = 0

    def read(self, since: datetime | None = None) -> Iterator[Line]:
        """Every line there is. Raises OSError when the log cannot be read.

        `since` spares reading files that were last written before it; their
        lines are not judged.
        """
        files = self._open(None)
        if not files:
            raise FileNotFoundError(2, "No such file or directory", str(self._path))
        with contextlib.ExitStack() as stack:
            for file in files:
                stack.enter_context(file)
            for file in files:
                tail = _Tail(file)
                if since is None or tail.modified() >= since.timestamp():
                    yield from self._lines(tail, final=True)

    def follow(self, wait: Callable[[], None], since: datetime | None = None) -> Iterator[Line]:
        """Every line there is, then every line as it comes. `wait` is called to pass the time.

        A log that is not there yet is waited for.
        """
        tail: _Tail | None = None
        newer: list[BinaryIO] = []
        try:
            while True:
                if tail is not None:
                    tail.go_back_if_cut()
                    while tail.fill():
                        yield from self._lines(tail)
                newer = self._open(tail)
                if not newer:
                    wait()
                while newer:
                    if tail is not None:
                        yield from self._lines(tail, final=True)
                        tail.close()
                    tail = _Tail(newer.pop(0))
                    if since and tail.modified() < since.timestamp():
                        tail.skip()
        finally:
            for file in newer:
                file.close()
            if tail is not None:
                tail.close()

    def _lines(self, tail: _Tail, final: bool = False) -> Iterator[Line]:
        """The lines that are complete; `final`: no more will be written to this file."""
        while True:
            for raw in tail.complete():
                if (line := self._parsed(raw)) is not None:
                    yield line
            if not final or not tail.fill():
                return

    def _parsed(self, raw: bytes) -> Line | None:
        try:
            line = json.loads(raw)
        except (ValueError, RecursionError):
            line = None
        if isinstance(line, dict):
            return line
        self.unreadable += bool(raw.strip())
        return None

    def _open(self, followed: _Tail | None) -> list[BinaryIO]:
        """The files that are newer than the one that is followed, or all; the oldest first."""
        files: list[BinaryIO] = []
        seen = set()
        number = missing = 0
        while missing < 2:  # between two renames, one number is missing
            path = self._path.with_name(f"{self._path.name}.{number}") if number else self._path
            number += 1
            try:
                file = path.open("rb")
            except FileNotFoundError:
                missing += 1
                continue
            missing = 0
            status = os.fstat(file.fileno())
            identity = (status.st_dev, status.st_ino)
            if followed is not None and identity == followed.identity:
                file.close()
                break
            older = followed is not None and status.st_mtime < followed.modified()
            if identity in seen or older:
                file.close()
                continue
            seen.add(identity)
            files.append(file)
        return files[::-1]


class _Tail:
    """A file being read, and the piece of a line at its end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._bytes = b""
        status = os.fstat(file.fileno())
        self.identity = (status.st_dev, status.st_ino)

    def fill(self) -> bool:
        """Read on; whether there was anything."""
        data = self._file.read(_PIECE)
        self._bytes += data
        return bool(data)

    def complete(self) -> list[bytes]:
        """The lines that end in a newline; what is longer than any line is given up."""
        *lines, self._bytes = self._bytes.split(b"\n")
        if len(self._bytes) > _LONGEST:
            lines.append(self._bytes)
            self._bytes = b""
        return lines

    def skip(self) -> None:
        self._file.seek(0, os.SEEK_END)

    def modified(self) -> float:
        return os.fstat(self._file.fileno()).st_mtime

    def go_back_if_cut(self) -> None:
        """Go back to the end of a file that was made shorter: the agent cuts half lines off."""
        size, at = os.fstat(self._file.fileno()).st_size, self._file.tell()
        if size < at:
            self._file.seek(min(size, at - len(self._bytes)))
            self._bytes = b""

    def close(self) -> None:
        self._file.close()
