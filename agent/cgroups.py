# SPDX-License-Identifier: Apache-2.0
"""Cgroups v2 as this host has them: ids, paths, and where processes are.

A cgroup's id is the inode number of its directory (kernfs_node.id, never used
again while the host is up); its path is counted from the hierarchy's root, as
/proc/PID/cgroup has it behind `0::` (cgroups(7)).
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from ..control import abi
from . import libbpf

_FILEID_KERNFS = 0xFE  # include/linux/exportfs.h
_MOST = 4096


class _FileHandle(ctypes.Structure):
    """struct file_handle of open_by_handle_at(2) with a handle of eight bytes."""

    _fields_ = [
        ("handle_bytes", ctypes.c_uint32),
        ("handle_type", ctypes.c_int),
        ("id", ctypes.c_uint64),
    ]


def cgroups_below(mount: Path) -> Iterator[tuple[int, str]]:
    """Id and path of every cgroup there is, the root's first."""
    yield mount.stat().st_ino, "/"
    todo = [str(mount)]
    cut = len(todo[0].rstrip("/"))
    while todo:
        try:
            entries = list(os.scandir(todo.pop()))
        except OSError:
            continue  # it has just been removed
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                todo.append(entry.path)
                yield entry.inode(), entry.path[cut:]


def cgroup_of(pid: int) -> str | None:
    """The path of a process's cgroup; `None` when the process is gone."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    own = next((line[3:] for line in lines if line.startswith("0::")), None)
    return None if own is None else own.removesuffix(" (deleted)")


def cgroup_id(mount: Path, path: str) -> int:
    """The id of a cgroup, 0 when there is none of that path."""
    try:
        return (mount / path.lstrip("/")).stat().st_ino
    except OSError:
        return 0


def path_of_id(mount: Path, number: int) -> str | None:
    """The path of a cgroup that exists, by its id."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle = _FileHandle(8, _FILEID_KERNFS, number)
    directory = os.open(mount, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = libc.open_by_handle_at(directory, ctypes.byref(handle), os.O_PATH | os.O_CLOEXEC)
    finally:
        os.close(directory)
    if fd < 0:
        return None
    try:
        found = os.readlink(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
    root = str(mount)
    if found == root:
        return "/"
    return found[len(root) :] if found.startswith(f"{root}/") else None


class CgroupPaths:
    """What events call a cgroup: also those that are gone, if they were made since the start.

    Args:
        paths_map: the descriptor of the map `cgroup_paths`, asked anew as programs are replaced.
    """

    def __init__(self, paths_map: Callable[[], int], mount: Path) -> None:
        self._map, self._mount = paths_map, mount
        self._seen: dict[int, str] = {}

    def path_of(self, number: int | None) -> str | None:
        """The path of a cgroup by its id, `None` when it is not known."""
        if not number:
            return None
        path = self._seen.get(number)
        if path is None:
            path = self._look_up(number) or path_of_id(self._mount, number)
            if path is not None:
                if len(self._seen) >= _MOST:
                    self._seen.clear()
                self._seen[number] = path
        return path

    def _look_up(self, number: int) -> str | None:
        size = abi.sizeof("sr_cgroup_path")
        raw = libbpf.lookup(self._map(), number.to_bytes(8, sys.byteorder), size)
        return None if raw is None else os.fsdecode(raw.split(b"\0", 1)[0])
