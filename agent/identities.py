# SPDX-License-Identifier: Apache-2.0
"""What the programs and directories that rules name are on this host, kept current.

Rules. A path is what it names now. When a package replaces a program, the new
file is it from then on; the old one stays it for as long as a process runs it,
and is nothing afterwards. Every directory on the way to a path is watched,
through symbolic links as well, so a change is seen at once. What inotify does
not tell (a mount on top, a network file system) is seen by looking again now
and then.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Mapping

from .inodes import Inode, executed, inodes_of
from .inotify import Watch

_LOOK_EVERY = 2.0  # seconds at least between looks for what nobody tells
_LOOK_SHARE = 50  # times as long as a look takes is waited before the next
_MOST_LINKS = 40  # symbolic links in one path (path_resolution(7))


class Identities:
    """The inodes of some paths, present and former."""

    def __init__(self) -> None:
        self._watch: Watch | None = None
        self._paths: tuple[str, ...] = ()
        self._next_look = 0.0
        self.present: dict[str, Inode] = {}
        self.former: dict[str, tuple[Inode, ...]] = {}
        """Files that were replaced and are still run."""

    def follow(self, paths: Iterable[str]) -> None:
        """From now on these paths, as they are now."""
        self._paths = tuple(paths)
        self.former = {path: old for path, old in self.former.items() if path in self._paths}
        self._watch_all()
        self.present = inodes_of(self._paths)

    def known(self) -> list[tuple[str, Inode]]:
        """Every path with each inode that it stands for."""
        former = [(path, inode) for path, old in self.former.items() for inode in old]
        return [*former, *self.present.items()]

    def due(self) -> bool:
        """Whether it is time for a look: something happened, or nobody looked for long."""
        if not self._paths:
            return False
        happened = self._watch is not None and self._watch.changed()
        return happened or time.monotonic() >= self._next_look

    def look(self) -> bool:
        """See what the paths are now; whether anything is known otherwise than before."""
        started = time.monotonic()
        self._watch_all()  # the way may lead through other directories
        now = inodes_of(self._paths)
        replaced = {
            path: old
            for path, old in self.present.items()
            if not path.endswith("/") and _differ(old, now.get(path))
        }
        changed = bool(replaced) or now.keys() != self.present.keys()
        changed |= any(_differ(now[path], self.present.get(path)) for path in now)
        former = {path: list(old) for path, old in self.former.items()}
        for path, old in replaced.items():
            former.setdefault(path, []).append(old)
        kept = _still_run(former, now) if former else {}
        changed |= kept != self.former
        self.present, self.former = now, kept
        took = time.monotonic() - started
        self._next_look = time.monotonic() + max(_LOOK_EVERY, _LOOK_SHARE * took)
        return changed

    def _watch_all(self) -> None:
        if self._watch is None:
            if not self._paths:
                return
            self._watch = Watch()
        self._watch.only({place for path in self._paths for place in way_to(path)})


def way_to(path: str) -> set[str]:
    """The directories that say what a path names, those of symbolic links on the way included."""
    found: set[str] = set()
    parts, at, links = deque(path.rstrip("/").split("/")), "/", 0
    while parts:
        found.add(at)
        part = parts.popleft()
        if part == "..":
            at = os.path.dirname(at)
        elif part not in ("", "."):
            at = os.path.join(at, part)
            try:
                target = os.readlink(at)
            except OSError:
                continue  # no link, or not there yet
            links += 1
            if links > _MOST_LINKS:
                break
            at = "/" if target.startswith("/") else os.path.dirname(at)
            parts.extendleft(reversed(target.split("/")))
    return found


def _differ(one: Inode, other: Inode | None) -> bool:
    return other is None or one != other or one.generation != other.generation


def _still_run(
    former: Mapping[str, Iterable[Inode]], now: Mapping[str, Inode]
) -> dict[str, tuple[Inode, ...]]:
    """Those former files that processes run, without what is the present one again."""
    running = {(each, each.generation) for each in executed()}
    kept = {}
    for path, files in former.items():
        present = now.get(path)
        left = tuple(
            old
            for old in dict.fromkeys(files)
            if (old, old.generation) in running and (present is None or _differ(old, present))
        )
        if left:
            kept[path] = left
    return kept
