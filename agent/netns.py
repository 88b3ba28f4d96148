# SPDX-License-Identifier: Apache-2.0
"""Network namespaces: which there are, what they are called, and looking into them.

Theory. A namespace is known by its inode number, as lsns(8) shows it; the number
is given to another namespace soon after one is gone. The kernel's cookie
(SO_NETNS_COOKIE, Linux 5.14) is never given twice while the host is up, so
number and cookie together name one namespace for good. A namespace lives as long
as a process, a socket, a descriptor or a mount refers to it, and is found through
these: /proc/PID/ns/net, the sockets of a process (pidfd_getfd(2), SIOCGSKNS), and
mounts of type nsfs as `ip netns` and container runtimes make them.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

_SO_NETNS_COOKIE = 71  # asm-generic/socket.h
_CLONE_NEWNET = 0x40000000  # linux/sched.h
_PIDFD_GETFD = 438  # the same number on every architecture
_SIOCGSKNS = 0x894C  # linux/sockios.h: the network namespace of a socket

_T = TypeVar("_T")


def netns_inum(place: str | int = "/proc/self/ns/net") -> int:
    """The inode number of a namespace, given by a path or a descriptor."""
    return os.stat(place).st_ino


def netns_cookie() -> int:
    """The cookie of the calling thread's namespace; 0 where the kernel does not tell it."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            raw = probe.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
        except OSError:
            return 0
    return int.from_bytes(raw, sys.byteorder)


def inside(namespace: int, work: Callable[[], _T]) -> _T:
    """Do something in another namespace, in a thread of its own; raises what `work` raises.

    Args:
        namespace: an open descriptor of the namespace.
    """
    done: list[_T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            _enter(namespace)
            done.append(work())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]


def _enter(namespace: int) -> None:
    """Move the calling thread; Python's os.setns came with 3.12."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, _CLONE_NEWNET) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"enter a network namespace: {os.strerror(code)}")


def all_namespaces(pids: Iterable[int], *, mounted: bool) -> dict[int, str]:
    """The namespaces of these processes: inode number -> a path that opens it.

    Args:
        mounted: add those that are mounted somewhere, which need no process.
    """
    found: dict[int, str] = {}
    for pid in pids:
        path = f"/proc/{pid}/ns/net"
        with contextlib.suppress(OSError):
            found.setdefault(netns_inum(path), path)
    for inum, path in mounts().items() if mounted else ():
        found.setdefault(inum, path)
    return found


def processes() -> list[int]:
    """Every process that /proc shows."""
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def mounts() -> dict[int, str]:
    """Namespaces that are mounted, as /proc/self/mountinfo tells: inode number -> path."""
    found = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        root, path = fields.split()[3:5]
        if rest.startswith("nsfs ") and root.startswith("net:["):
            found[int(root[5:-1])] = path.replace("\\040", " ")
    return found


def open_namespace(inum: int, pid: int) -> int | None:
    """A descriptor of a namespace that a process listens in, `None` when it is gone.

    The process may have left the namespace, or ended and left the listener to another.
    """
    for path in filter(None, (f"/proc/{pid}/ns/net", mounts().get(inum))):
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            if netns_inum(fd) == inum:
                return fd
            os.close(fd)
    found = _by_sockets(inum, [pid])
    if found is not None:
        return found
    everybody = processes()
    elsewhere = all_namespaces(everybody, mounted=False).get(inum)
    with contextlib.suppress(OSError):
        if elsewhere is not None:
            return os.open(elsewhere, os.O_RDONLY | os.O_CLOEXEC)
    return _by_sockets(inum, everybody)


def _by_sockets(inum: int, pids: Iterable[int]) -> int | None:
    for pid in pids:
        for fd in _of_sockets(pid):
            if netns_inum(fd) == inum:
                return fd
            os.close(fd)
    return None


def _of_sockets(pid: int) -> Iterator[int]:
    """Descriptors of the namespaces of a process's sockets; the caller closes them."""
    libc = ctypes.CDLL(None, use_errno=True)
    with contextlib.suppress(OSError):
        process = os.pidfd_open(pid)
        try:
            for entry in os.scandir(f"/proc/{pid}/fd"):
                if not _is_socket(entry.path):
                    continue
                fd = libc.syscall(_PIDFD_GETFD, process, int(entry.name), 0)
                if fd < 0:
                    continue
                try:
                    with contextlib.suppress(OSError):
                        yield fcntl.ioctl(fd, _SIOCGSKNS)
                finally:
                    os.close(fd)
        finally:
            os.close(process)


def _is_socket(path: str) -> bool:
    try:
        return os.readlink(path).startswith("socket:")
    except OSError:
        return False
