# SPDX-License-Identifier: Apache-2.0
"""What names stand for: users, groups and lists. The one place where parsing meets the host."""

from __future__ import annotations

import grp
import pwd
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

CACHED_NAMES = 4096
"""Names and numbers remembered of each kind: a host's users, with room to spare."""


class Names(Protocol):
    """Turns names into numbers and back; `None` is a name or number that nobody has."""

    def uid(self, name: str) -> int | None: ...

    def gid(self, name: str) -> int | None: ...

    def user_name(self, uid: int) -> str | None: ...

    def group_name(self, gid: int) -> str | None: ...

    def read_list(self, name: str) -> str:
        """The text of a named list. Raises OSError when it cannot be read."""
        ...


@runtime_checkable
class KnownNames(Protocol):
    """What some Names can tell besides: every name there is, to suggest the right one."""

    def known_users(self) -> Iterable[str]: ...

    def known_groups(self) -> Iterable[str]: ...

    def known_lists(self) -> Iterable[str]: ...


class SystemNames:
    """The host's own users and groups, and the lists of one directory.

    Answers are remembered as long as the instance lives: make a new one to
    see new users.
    """

    def __init__(self, lists: Path) -> None:
        self._lists = lists
        self._uid = lru_cache(CACHED_NAMES)(_uid)
        self._gid = lru_cache(CACHED_NAMES)(_gid)
        self._user_name = lru_cache(CACHED_NAMES)(_user_name)
        self._group_name = lru_cache(CACHED_NAMES)(_group_name)

    def uid(self, name: str) -> int | None:
        return self._uid(name)

    def gid(self, name: str) -> int | None:
        return self._gid(name)

    def user_name(self, uid: int) -> str | None:
        return self._user_name(uid)

    def group_name(self, gid: int) -> str | None:
        return self._group_name(gid)

    def read_list(self, name: str) -> str:
        return (self._lists / f"{name}.txt").read_text(encoding="utf-8", errors="replace")

    def known_users(self) -> list[str]:
        return [entry.pw_name for entry in pwd.getpwall()]

    def known_groups(self) -> list[str]:
        return [entry.gr_name for entry in grp.getgrall()]

    def known_lists(self) -> list[str]:
        try:
            return sorted(path.stem for path in self._lists.glob("*.txt"))
        except OSError:
            return []


class FixedNames:
    """Names given outright, for tests and for what must not look at the host."""

    def __init__(
        self,
        users: Mapping[str, int] | None = None,
        groups: Mapping[str, int] | None = None,
        lists: Mapping[str, str] | None = None,
    ) -> None:
        self._users = dict(users or {})
        self._groups = dict(groups or {})
        self._lists = dict(lists or {})

    def uid(self, name: str) -> int | None:
        return self._users.get(name)

    def gid(self, name: str) -> int | None:
        return self._groups.get(name)

    def user_name(self, uid: int) -> str | None:
        return next((name for name, number in self._users.items() if number == uid), None)

    def group_name(self, gid: int) -> str | None:
        return next((name for name, number in self._groups.items() if number == gid), None)

    def read_list(self, name: str) -> str:
        try:
            return self._lists[name]
        except KeyError:
            raise FileNotFoundError(2, "No such file or directory", f"{name}.txt") from None

    def known_users(self) -> list[str]:
        return list(self._users)

    def known_groups(self) -> list[str]:
        return list(self._groups)

    def known_lists(self) -> list[str]:
        return list(self._lists)


def _uid(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError):  # ValueError: a zero byte in the name
        return None


def _gid(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        return None


def _user_name(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return None


def _group_name(gid: int) -> str | None:
    try:
        return grp.getgrgid(gid).gr_name
    except (KeyError, OverflowError):
        return None
