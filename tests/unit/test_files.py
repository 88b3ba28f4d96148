# SPDX-License-Identifier: Apache-2.0
"""A file is replaced whole, or it stays the old one."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from sockrules.control import files
from sockrules.control.files import FileBusy, edit, read_text, write_atomically
from sockrules.control.problems import InputError


def nothing(_: str) -> None:
    """A check that finds nothing."""


def left_over(folder: Path) -> list[str]:
    """What lies in a folder besides locks and the file itself."""
    return [path.name for path in folder.iterdir() if path.name.endswith(".new")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "rules.toml"
    path.write_text("old\n")
    return path


def test_an_edit_reads_changes_and_replaces(path: Path) -> None:
    assert edit(path, lambda text: text + "new\n", nothing)
    assert path.read_text() == "old\nnew\n"
    assert left_over(path.parent) == []


def test_what_the_check_refuses_is_not_written(path: Path) -> None:
    seen = []

    def refuse(text: str) -> None:
        seen.append(text)
        raise InputError([])

    with pytest.raises(InputError):
        edit(path, lambda text: "worse\n", refuse)
    assert seen == ["worse\n"]
    assert path.read_text() == "old\n"
    assert left_over(path.parent) == []


def test_an_edit_that_changes_nothing_writes_nothing(path: Path) -> None:
    before = path.stat()
    assert not edit(path, lambda text: text, nothing)
    assert path.stat().st_ino == before.st_ino


def test_a_new_file_is_made_with_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "etc/sockrules/rules.toml"
    assert edit(path, lambda text: f"{text}new\n", nothing)
    assert path.read_text() == "new\n"
    assert path.stat().st_mode & 0o777 == 0o644


def test_mode_and_line_ends_are_kept(path: Path) -> None:
    path.chmod(0o640)
    path.write_bytes(b"a\r\n")
    assert edit(path, lambda text: text + "b\r\n", nothing)
    assert path.stat().st_mode & 0o777 == 0o640
    assert path.read_bytes() == b"a\r\nb\r\n"


def test_a_symbolic_link_stays_one(path: Path) -> None:
    link = path.with_name("link.toml")
    link.symlink_to(path)
    write_atomically(link, "new\n")
    assert link.is_symlink()
    assert path.read_text() == "new\n"


def test_a_write_that_fails_leaves_the_old_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new\n")
    assert path.read_text() == "old\n"
    assert left_over(path.parent) == []


def test_somebody_elses_edit_is_waited_for_and_not_forever(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PATIENCE", 0.0)
    with path.with_name(".rules.toml.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(FileBusy, match=r"rules\.toml is being edited"):
            write_atomically(path, "new\n")
    assert path.read_text() == "old\n"
    write_atomically(path, "new\n")
    assert path.read_text() == "new\n"


def test_an_error_names_the_file_that_was_meant(path: Path) -> None:
    with pytest.raises(FileExistsError) as caught:
        write_atomically(path / "below.toml", "new\n")
    assert caught.value.filename == str(path / "below.toml")


def test_what_is_not_utf_8_is_refused_with_its_line(path: Path) -> None:
    path.write_bytes(b"good\nbad \xff\n")
    with pytest.raises(InputError, match=r"rules\.toml:2: byte 0xff is not UTF-8"):
        read_text(path)
