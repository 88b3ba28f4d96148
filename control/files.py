# SPDX-License-Identifier: Apache-2.0
"""Reading and replacing the files that people write: the whole file or the old one, never a half.

Rules. A file is replaced under a lock (`.NAME.lock` beside it), by renaming a
complete, synced copy over it; its owner and mode stay, and a symbolic link
stays a link. Line ends are kept as they are.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .problems import InputError, Problem

PATIENCE = 10.0
"""Seconds to wait for somebody else's edit; checking 100 000 rules takes a few."""

_RETRY = 0.05
_NEW_MODE = 0o644  # rules hold no secrets, and `sockrules test` needs no root


class FileBusy(Exception):
    """Somebody else has been editing the file for too long."""


def read_text(path: Path) -> str:
    """The text of a UTF-8 file. Raises OSError, or InputError where it is not UTF-8."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"byte 0x{data[error.start]:02x} is not UTF-8"
        raise InputError([Problem(str(path), line, None, message, "save it as UTF-8")]) from None


def write_atomically(path: Path, text: str) -> None:
    """Replace the file, or create it and its folder. Raises OSError or FileBusy."""
    with _locked(path):
        _replace(path, text)


def edit(path: Path, change: Callable[[str], str], check: Callable[[str], None]) -> bool:
    """Read, change, check and replace under the lock; whether anything changed.

    A file that is not there is read as empty. What `change` or `check` raise
    leaves the old file as it was.
    """
    with _locked(path):
        try:
            before = read_text(path)
        except FileNotFoundError:
            before = ""
        after = change(before)
        if after == before:
            return False
        check(after)
        _replace(path, after)
        return True


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    target = path.resolve()
    lock = target.with_name(f".{target.name}.lock")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:  # of the file that was meant, not of its lock
        raise type(error)(error.errno, error.strerror, str(path)) from None
    try:
        _wait_for(fd, path)
        yield
    finally:
        os.close(fd)


def _wait_for(fd: int, path: Path) -> None:
    until = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                raise FileBusy(f"{path} is being edited by another sockrules; try again") from None
            time.sleep(_RETRY)


def _replace(path: Path, text: str) -> None:
    target = path.resolve()
    fd, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".new", dir=target.parent)
    try:
        with open(fd, "wb") as file:
            file.write(text.encode("utf-8"))
            file.flush()
            _keep_owner_and_mode(target, fd)
            os.fsync(fd)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _keep_owner_and_mode(target: Path, fd: int) -> None:
    try:
        old = target.stat()
    except FileNotFoundError:
        os.fchmod(fd, _NEW_MODE)
        return
    with contextlib.suppress(PermissionError):
        os.fchown(fd, old.st_uid, old.st_gid)
    os.fchmod(fd, old.st_mode & 0o7777)
