# SPDX-License-Identifier: Apache-2.0
"""The audit log: whole lines, rotated, folded, and honest about what it could not write."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from sockrules.agent.audit import FOLD_WINDOW, Folder, Log
from sockrules.agent.events import Event
from sockrules.control.model import Mode, Server


def make(path: Path, max_bytes: int = 1 << 20, keep: int = 3) -> Log:
    return Log(path, max_bytes, keep, lambda count: {"missing": count})


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def numbered(first: int, last: int) -> list[dict[str, Any]]:
    return [{"n": n} for n in range(first, last)]


def test_a_line_for_each_document(tmp_path: Path) -> None:
    log = make(tmp_path / "log" / "audit.jsonl")
    log.write(numbered(0, 3))
    log.write([])
    log.write([{"text": "two\nlines, and ü"}])
    assert lines(log.path) == [*numbered(0, 3), {"text": "two\nlines, and ü"}]
    assert (log.written, log.unwritten) == (4, 0)
    assert log.path.stat().st_mode & 0o007 == 0, "not for everybody"


def test_a_later_log_goes_on_where_an_earlier_one_ended(tmp_path: Path) -> None:
    for n in range(2):
        log = make(tmp_path / "audit.jsonl")
        log.write([{"n": n}])
        log.close()
    assert lines(tmp_path / "audit.jsonl") == numbered(0, 2)


def test_rotation_keeps_as_many_as_asked_and_loses_no_line_among_them(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    log = make(path, max_bytes=100, keep=2)
    for n in range(100):
        log.write([{"n": n}])
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        *("audit.jsonl", "audit.jsonl.1", "audit.jsonl.2")
    ]
    kept = [
        document
        for file in (tmp_path / "audit.jsonl.2", tmp_path / "audit.jsonl.1", path)
        for document in lines(file)
    ]
    assert kept == numbered(kept[0]["n"], 100)
    assert all(file.stat().st_size <= 100 for file in tmp_path.iterdir())


def test_rotation_may_keep_nothing(tmp_path: Path) -> None:
    log = make(tmp_path / "audit.jsonl", max_bytes=100, keep=0)
    for n in range(100):
        log.write([{"n": n}])
    assert [file.name for file in tmp_path.iterdir()] == ["audit.jsonl"]
    assert lines(log.path)[-1] == {"n": 99}


@pytest.mark.parametrize("how", ["moved", "removed", "emptied"])
def test_a_file_that_others_took_away_is_made_again(tmp_path: Path, how: str) -> None:
    log = make(tmp_path / "audit.jsonl")
    log.write([{"n": 0}])
    if how == "moved":
        log.path.rename(tmp_path / "audit.old")
    elif how == "removed":
        log.path.unlink()
    else:
        os.truncate(log.path, 0)
    log.write([{"n": 1}])
    assert lines(log.path) == [{"n": 1}]
    assert log.unwritten == 0


class Disk:
    """write(2) to a disk that takes `room` bytes more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.room = room
        self._write = os.write
        monkeypatch.setattr(os, "write", self.write)

    def write(self, fd: int, data: bytes) -> int:
        if self.room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = self._write(fd, data[: self.room])
        self.room -= done
        return done


@pytest.mark.parametrize("room", range(0, 40, 3))
def test_a_full_disk_gets_whole_lines_only_and_the_rest_is_counted_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    log = make(tmp_path / "audit.jsonl")
    log.write([{"n": 0}])
    disk = Disk(monkeypatch, room)
    log.write(numbered(1, 5))  # 8 bytes each
    kept = min(4, room // 8)
    assert lines(log.path) == numbered(0, 1 + kept)
    assert (log.written, log.unwritten) == (1 + kept, 4 - kept)
    disk.room = 0
    log.write([{"n": 5}])
    log.write([])
    assert log.unwritten == 4 - kept + 1
    disk.room = 1000
    log.write([])
    assert lines(log.path)[1 + kept :] == [{"missing": 5 - kept}]
    log.write([{"n": 6}])
    assert lines(log.path)[2 + kept :] == [{"n": 6}], "reported once"
    assert log.unwritten == 5 - kept
    assert log.written == len(lines(log.path))


def test_a_report_that_finds_no_room_is_made_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = make(tmp_path / "audit.jsonl")
    disk = Disk(monkeypatch, 0)
    log.write(numbered(0, 3))
    disk.room = 5  # too little for anything
    log.write(numbered(3, 4))
    disk.room = 14  # the report and no more
    log.write(numbered(4, 6))
    assert lines(log.path) == [{"missing": 4}]
    disk.room = 1000
    log.write(numbered(6, 7))
    assert lines(log.path) == [{"missing": 4}, {"missing": 2}, {"n": 6}]
    assert log.unwritten == 6


def test_a_folder_that_cannot_be_made_costs_the_lines_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    log = make(tmp_path / "file" / "audit.jsonl")
    log.write(numbered(0, 2))
    assert (log.written, log.unwritten) == (0, 2)


# -- folding ------------------------------------------------------------------------------

EVENT = Event(
    server=Server.ACCEPT,
    mode=Mode.ENFORCE,
    hook="sk_lookup",
    flags=1,
    monotonic=0,
    revision=1,
    local_address=1,
    local_port=80,
    remote_address=2,
    remote_port=50000,
    rule=0,
    netns=None,
    user=0,
    group=0,
    pid=1,
    program=None,
    comm="x",
)


def at(moment: int, **changes: Any) -> Event:
    return dataclasses.replace(EVENT, monotonic=moment, **changes)


def word(event: Event, count: int) -> dict[str, Any]:
    return {"at": event.monotonic, "pid": event.pid, "count": count}


def test_the_first_is_told_at_once_and_the_rest_as_one_line() -> None:
    folder = Folder(word)
    assert folder.take(at(0)) == [{"at": 0, "pid": 1, "count": 1}]
    for moment in (1, 2, 3):
        assert folder.take(at(moment)) == []
    assert folder.expire(FOLD_WINDOW - 1) == []
    assert folder.expire(FOLD_WINDOW) == [{"at": 3, "pid": 1, "count": 3}]
    assert folder.expire(9 * FOLD_WINDOW) == []
    assert folder.take(at(FOLD_WINDOW + 1)) == [{"at": FOLD_WINDOW + 1, "pid": 1, "count": 1}]


def test_one_event_is_one_line() -> None:
    folder = Folder(word)
    folder.take(at(0))
    assert folder.expire(FOLD_WINDOW) == []
    assert folder.flush() == []


def test_different_events_are_not_folded() -> None:
    folder = Folder(word)
    told = [line for pid in range(5) for line in folder.take(at(pid, pid=pid))]
    assert [line["pid"] for line in told] == list(range(5))


def test_flush_tells_what_is_open() -> None:
    folder = Folder(word)
    for moment in range(4):
        folder.take(at(moment))
        folder.take(at(moment, pid=2))
    assert folder.flush() == [{"at": 3, "pid": 1, "count": 3}, {"at": 3, "pid": 2, "count": 3}]
    assert folder.flush() == []


def test_a_flood_of_different_events_is_told_in_full_with_bounded_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sockrules.agent.audit._MOST_FOLDED", 10)
    folder = Folder(word)
    told = []
    for moment in range(100):
        told += folder.take(at(moment, pid=moment))
        told += folder.take(at(moment, pid=moment))
    assert len(folder._open) <= 10
    told += folder.flush()
    assert sum(line["count"] for line in told) == 200
