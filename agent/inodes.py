# SPDX-License-Identifier: Apache-2.0
"""Paths to inodes as the kernel programs see them.

The device is the superblock's, as /proc/self/mountinfo shows it: st_dev is
another number on btrfs (proc_pid_mountinfo(5), field 3).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_DEVICES: dict[int, int] = {}


@dataclass(frozen=True, slots=True)
class Inode:
    """What a path names: the number and the superblock's device (major << 20 | minor)."""

    number: int
    device: int


def inode_of(path: str) -> Inode | None:
    """What a path names, symbolic links followed; `None` when nothing is there."""
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        return Inode(status.st_ino, _superblock(fd, status.st_dev))
    finally:
        os.close(fd)


def inodes_of(paths: Iterable[str]) -> dict[str, Inode]:
    """The inodes of those paths that exist."""
    found = ((path, inode_of(path)) for path in paths)
    return {path: inode for path, inode in found if inode is not None}


def _superblock(fd: int, st_dev: int) -> int:
    """The superblock's device as major << 20 | minor (include/linux/kdev_t.h)."""
    if st_dev in _DEVICES:
        return _DEVICES[st_dev]
    device = os.major(st_dev) << 20 | os.minor(st_dev)
    if os.major(st_dev) == 0:  # anonymous: btrfs and others give subvolumes numbers of their own
        device = _from_mountinfo(fd) or device
    if len(_DEVICES) < 1024:
        _DEVICES[st_dev] = device
    return device


def _from_mountinfo(fd: int) -> int | None:
    try:
        info = Path(f"/proc/self/fdinfo/{fd}").read_text()
        mount = next(line.split()[1] for line in info.splitlines() if line.startswith("mnt_id:"))
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            fields = line.split()
            if fields[0] == mount:
                major, minor = fields[2].split(":")
                return int(major) << 20 | int(minor)
    except (OSError, StopIteration, ValueError):
        return None
    return None
