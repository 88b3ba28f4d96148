# SPDX-License-Identifier: Apache-2.0
"""The sk_lookup program, once for each network namespace.

Theory. The program cannot ask in which namespace it runs: its context does not
say, and "current" is nobody where a SYN arrives. So each namespace has an instance
of its own, which differs in one number, its place in the map `places`; there the
agent writes the namespace's inode number. Places instead of inode numbers, because
an instance can then be loaded before anyone knows whom it is for: a namespace that
appears is covered by writing a number and attaching, without waiting for the
verifier.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ..control import abi
from . import libbpf

SPARE = 1
"""Instances that are kept loaded for namespaces to come."""


class NoInstance(OSError):
    """There can be no further instance; the text says why."""


class Instances:
    """The instances of one set of loaded programs.

    Args:
        load: loads the instance of a place: its descriptor, or why the kernel refused it.
        places: the map `places` (place -> inode number of a namespace, 0 for none).
    """

    def __init__(self, load: Callable[[int], int | str], places: int) -> None:
        self._load = load
        self._map = places
        self._spare: list[tuple[int, int]] = []
        self._used: dict[int, tuple[int, int]] = {}
        self._places_left = list(reversed(range(abi.C["SR_PLACES"])))
        self._lock = threading.Lock()
        self._closed = False

    def prepare(self, count: int = SPARE) -> None:
        """Have so many instances loaded that are nobody's yet. Takes the verifier's time.

        Raises:
            NoInstance: the kernel refuses the program, or all places are taken.
        """
        with self._lock:
            wanted = 0 if self._closed else max(0, count - len(self._spare))
            if wanted > len(self._places_left):
                raise NoInstance(f"more than {abi.C['SR_PLACES']} network namespaces")
            places = [self._places_left.pop() for _ in range(wanted)]
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            loaded = list(pool.map(self._load, places))
        refused = ""
        with self._lock:
            for place, result in zip(places, loaded, strict=True):
                if isinstance(result, str):
                    refused = result
                    self._places_left.append(place)
                elif self._closed:
                    os.close(result)
                else:
                    self._spare.append((place, result))
        if refused:
            raise NoInstance(refused)

    def of(self, inum: int) -> int:
        """The descriptor of a namespace's instance; loaded only where none is spare."""
        with self._lock:
            known = self._used.get(inum)
        if known is not None:
            return known[1]
        if not self._spare:
            self.prepare(1)
        with self._lock:
            place, fd = self._used[inum] = self._spare.pop()
        self._write(place, inum)
        return fd

    def free(self, inum: int) -> None:
        """The namespace is gone or no longer covered: its instance may be another's."""
        with self._lock:
            used = self._used.pop(inum, None)
            if used is None:
                return
            self._write(used[0], 0)
            self._spare.append(used)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for _, fd in (*self._spare, *self._used.values()):
                os.close(fd)
            self._spare.clear()
            self._used.clear()

    def _write(self, place: int, inum: int) -> None:
        key, value = (each.to_bytes(4, sys.byteorder) for each in (place, inum))
        libbpf.update(self._map, key, value)
