# SPDX-License-Identifier: Apache-2.0
"""This process's network namespace, by the number that programs and people know it by.

Not by cookie: programs and processes can ask for that only since Linux 5.14.
"""

from __future__ import annotations

import os


def netns_inum() -> int:
    """The inode number, as lsns(8) shows it."""
    return os.stat("/proc/self/ns/net").st_ino
