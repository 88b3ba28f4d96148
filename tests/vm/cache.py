# SPDX-License-Identifier: Apache-2.0
"""What machines are made from, kept outside the checkout: SOCKRULES_VM_CACHE, or
~/.cache/sockrules/vm.

An entry's name says what it was made from, so that an entry is never out of date: what
is made from something else has another name. Entries that nobody used for a month go.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_UNUSED = 30 * 24 * 3600  # seconds


class CannotBeHad(Exception):
    """A kernel or a userland could not be had; the text says what failed and how it ended."""


def directory() -> Path:
    """Where everything is kept."""
    named = os.environ.get("SOCKRULES_VM_CACHE")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = Path(named).absolute() if named else home / "sockrules/vm"
    place.mkdir(parents=True, exist_ok=True)
    return place


def named_for(what: str, *made_from: str) -> str:
    """The name of an entry: what it is, and a digest of what it is made from."""
    return f"{what}-{hashlib.sha256(repr(made_from).encode()).hexdigest()[:12]}"


def entry(name: str, make: Callable[[Path], object]) -> Path:
    """The file or directory of that name. Where it is missing, `make` makes it elsewhere
    and it is moved here when it is complete; others who want it wait meanwhile."""
    place = directory()
    path = place / name
    with _alone(place / f".{name}.lock"):
        if path.exists():
            os.utime(path)  # it is used
            return path
        _forget_unused(place)
        draft = place / f".{name}.draft"
        _remove(draft)
        try:
            make(draft)
            os.utime(draft)  # what was unpacked may claim to be old
            draft.rename(path)
        finally:
            _remove(draft)
    return path


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with open(lock, "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _forget_unused(place: Path) -> None:
    before = time.time() - _UNUSED
    for path in place.glob("[!.]*-*"):
        if path.stat().st_mtime < before:
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
