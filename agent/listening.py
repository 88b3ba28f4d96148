# SPDX-License-Identifier: Apache-2.0
"""What is listening: in this network namespace, and in those of all governed processes."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from . import diag
from .netns import all_namespaces, inside, netns_inum, open_namespace, processes


def listening_everywhere(cgroup: Path, mount: Path) -> dict[int, list[diag.Socket]]:
    """The listeners of this network namespace and of those of all governed processes.

    Returns:
        Inode number of the namespace -> its listeners; one that ends meanwhile is left out.
    """
    own, everything = netns_inum(), cgroup == mount
    pids = processes() if everything else processes_below(cgroup)
    found = {own: diag.listeners()}
    for inum, path in all_namespaces(pids, mounted=everything).items():
        if inum == own:
            continue
        with contextlib.suppress(OSError):
            namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if netns_inum(namespace) == inum:
                    found[inum] = inside(namespace, diag.listeners)
            finally:
                os.close(namespace)
    return found


def listening_in(netns: int, pid: int) -> list[diag.Socket]:
    """The listeners of a network namespace in which a process listened; none when it is gone."""
    namespace = open_namespace(netns, pid)
    if namespace is None:
        return []
    try:
        return inside(namespace, diag.listeners)
    finally:
        os.close(namespace)


def processes_below(cgroup: Path) -> list[int]:
    """The processes of a cgroup v2 and of those below it."""
    found = []
    for procs in cgroup.rglob("cgroup.procs"):
        with contextlib.suppress(OSError):  # gone meanwhile, or a threaded one
            found += [int(pid) for pid in procs.read_text().split()]
    return found
