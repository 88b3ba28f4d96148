# SPDX-License-Identifier: Apache-2.0
"""This process's network namespace, by the two numbers the kernel has for it."""

from __future__ import annotations

import os
import socket
import sys

_SO_NETNS_COOKIE = 71  # Linux 5.14, asm-generic/socket.h


def netns_cookie() -> int:
    """Unique while the host is up; what BPF programs see."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        raw = probe.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
    return int.from_bytes(raw, sys.byteorder)


def netns_inum() -> int:
    """The inode number, as lsns(8) shows it."""
    return os.stat("/proc/self/ns/net").st_ino
