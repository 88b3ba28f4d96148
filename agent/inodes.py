# SPDX-License-Identifier: Apache-2.0
"""Paths to inodes as the kernel programs see them.

The device is the superblock's, as /proc/self/mountinfo shows it: st_dev is
another number on btrfs (proc_pid_mountinfo(5), field 3). The number is the one
in memory, which on overlayfs stat(2) does not always tell: /proc/PID/fdinfo
does (proc_pid_fdinfo(5), since Linux 5.14). The generation is what ext4, btrfs, xfs
and f2fs give an inode, so that a number used again is told apart
(ioctl FS_IOC_GETVERSION, include/uapi/linux/fs.h); others keep theirs to
themselves.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

_GETVERSION = 0x80087601  # _IOR('v', 1, long); what it writes is an int


@dataclass(frozen=True, slots=True)
class Inode:
    """What a path names: the number and the superblock's device (major << 20 | minor).

    `generation` is no part of what is compared: not everybody who knows an inode knows it.
    """

    number: int
    device: int
    generation: int | None = field(default=None, compare=False)


def inode_of(path: str) -> Inode | None:
    """What a path names, symbolic links followed; `None` when nothing is there."""
    return _inode_of(path, _Mounts())


def inodes_of(paths: Iterable[str]) -> dict[str, Inode]:
    """The inodes of those paths that exist."""
    mounts = _Mounts()
    found = ((path, _inode_of(path, mounts)) for path in paths)
    return {path: inode for path, inode in found if inode is not None}


def executed() -> Iterator[Inode]:
    """What the processes of this host run."""
    mounts = _Mounts()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            inode = _inode_of(f"/proc/{entry}/exe", mounts)
            if inode is not None:
                yield inode


class _Mounts:
    """The devices of superblocks by mount, read once: numbers may be used again later."""

    def __init__(self) -> None:
        self._devices: dict[str, int] | None = None

    def device(self, mount: str) -> int | None:
        if self._devices is None:
            self._devices = {}
            with contextlib.suppress(OSError):
                for line in Path("/proc/self/mountinfo").read_text().splitlines():
                    number, _, device = line.split(None, 3)[:3]
                    major, minor = device.split(":")
                    self._devices[number] = int(major) << 20 | int(minor)
        return self._devices.get(mount)


def _inode_of(path: str, mounts: _Mounts) -> Inode | None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        status = os.fstat(fd)
        major, minor = os.major(status.st_dev), os.minor(status.st_dev)
        number, device = status.st_ino, major << 20 | minor
        if major == 0:  # anonymous: stat(2) may show what user space is meant to see
            facts = _facts(fd)
            number = int(facts.get("ino", number))
            device = mounts.device(facts.get("mnt_id", "")) or device
        return Inode(number, device, _generation(fd, status.st_mode))
    finally:
        os.close(fd)


def _facts(fd: int) -> dict[str, str]:
    try:
        lines = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
    except OSError:
        return {}
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def _generation(fd: int, mode: int) -> int | None:
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return None
    try:
        opened = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        raw = fcntl.ioctl(opened, _GETVERSION, bytes(8))
    except OSError:
        return None
    finally:
        os.close(opened)
    return int.from_bytes(raw[:4], sys.byteorder)
