# SPDX-License-Identifier: Apache-2.0
"""Whether anything was made, removed or renamed in some directories (inotify(7))."""

from __future__ import annotations

import ctypes
import functools
import os
import select
import struct

_CREATE, _DELETE, _DELETE_SELF, _MOVE_SELF = 0x100, 0x200, 0x400, 0x800
_MOVED = 0x40 | 0x80  # IN_MOVED_FROM, IN_MOVED_TO
_ONLYDIR = 0x01000000
_MASK = _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF | _MOVED | _ONLYDIR
_IGNORED = 0x8000  # a watch was removed
_EVENT = struct.Struct("=iIII")  # watch, mask, cookie, bytes of the name that follows
_PIECE = 1 << 16


@functools.cache
def _all_of(_: int) -> select.epoll:
    """Every watch of a process."""
    return select.epoll()


def waiting() -> int:
    """A descriptor that is readable when something happened in any watch of this process."""
    return _all_of(os.getpid()).fileno()


def heard() -> None:
    """Once `waiting` was seen to be readable: it is not any more, until something else happens."""
    _all_of(os.getpid()).poll(0)


class Watch:
    """Directories that are watched. Asked by `changed`, which never waits."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        flags = os.O_NONBLOCK | os.O_CLOEXEC
        self._fd = self._libc.inotify_init1(flags)
        if self._fd < 0:
            code = ctypes.get_errno()
            raise OSError(code, f"inotify: {os.strerror(code)}")
        _all_of(os.getpid()).register(self._fd, select.EPOLLIN | select.EPOLLET)
        self._numbers: dict[str, int] = {}

    def only(self, directories: set[str]) -> None:
        """Watch these directories and no others; those that are not there are passed over."""
        for gone in self._numbers.keys() - directories:
            number = self._numbers.pop(gone)
            if number not in self._numbers.values():  # one directory may have several names
                self._libc.inotify_rm_watch(self._fd, number)
        for directory in directories:
            self.add(directory)

    def add(self, directory: str) -> None:
        """Watch a directory too. One that was made anew under its old name is another."""
        number = self._libc.inotify_add_watch(self._fd, os.fsencode(directory), _MASK)
        before = self._numbers.pop(directory, number)
        if before not in (number, *self._numbers.values()):
            self._libc.inotify_rm_watch(self._fd, before)
        if number >= 0:
            self._numbers[directory] = number

    def changed(self) -> bool:
        """Whether something happened since the last time."""
        found = False
        while True:
            try:
                events = os.read(self._fd, _PIECE)
            except BlockingIOError:
                return found
            at = 0
            while at < len(events):
                _, mask, _, size = _EVENT.unpack_from(events, at)
                found |= mask != _IGNORED
                at += _EVENT.size + size

    def close(self) -> None:
        os.close(self._fd)
