# SPDX-License-Identifier: Apache-2.0
"""Attaching: links, pinned so that they outlive the agent, updated without a gap."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from . import libbpf
from .hooks import HOOKS, Hook


class _LinkInfo(ctypes.Structure):
    """The head of struct bpf_link_info for cgroup and netns links (Linux 5.8)."""

    _fields_ = [
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("prog_id", ctypes.c_uint32),
        ("pad", ctypes.c_uint32),
        ("target", ctypes.c_uint64),
        ("rest", ctypes.c_uint64 * 8),
    ]


@dataclass(frozen=True, slots=True)
class Target:
    """What a hook is attached to: an open descriptor and the kernel's number for it."""

    fd: int
    number: int


class Links:
    """The pinned links of one root below `directory`: one file a hook, or one a hook and
    network namespace, `sk_lookup-4026531840`, for hooks that are attached to these."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._held: dict[str, tuple[int, int | None]] = {}
        """By path of the pin: a descriptor, so that removing the pin detaches nothing while the
        agent runs, and the number of the target."""

    def _path(self, hook: Hook, number: int | None = None) -> str:
        name = hook.name if number is None else f"{hook.name}-{number}"
        return str(self.directory / name)

    def attach(self, hook: Hook, program_fd: int, target: Target | None) -> None:
        """Attach, or replace the program of the link that is already there.

        A link to another target (the configuration named another cgroup), and one to a
        function of the kernel (`target` is None), whose program cannot be replaced, goes
        only after the new one is in place: for a moment both judge.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        number = target.number if target else None
        path = self._path(hook, number if hook.target == "netns" else None)
        old = libbpf.get_pinned(path)
        try:
            if old is not None and _replace(old, hook, program_fd, number):
                link = os.dup(old)
            else:
                link = self._attach_anew(hook, program_fd, target, path)
                if old is not None:
                    _detach(old)
        finally:
            if old is not None:
                os.close(old)
        self._hold(path, link, number)

    def _attach_anew(
        self, hook: Hook, program_fd: int, target: Target | None, path: str
    ) -> int:
        """A new link, pinned."""
        new = (
            libbpf.link_to_kernel(program_fd)
            if target is None
            else libbpf.link_create(program_fd, target.fd, hook.attach_type)
        )
        try:
            self._pin(new, path)
        except OSError:
            os.close(new)
            raise
        return new

    def _hold(self, path: str, link: int, number: int | None) -> None:
        self._let_go(path)
        self._held[path] = (link, number)

    def _let_go(self, path: str) -> None:
        link, _ = self._held.pop(path, (None, None))
        if link is not None:
            os.close(link)

    def lost_pins(self) -> list[str]:
        """The paths of links that somebody unpinned."""
        return [path for path in self._held if not os.path.exists(path)]

    def restore_pins(self) -> list[str]:
        """Pin these again; their names."""
        lost = self.lost_pins()
        for path in lost:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._pin(self._held[path][0], path)
        return [os.path.basename(path) for path in lost]

    def detached(self, hooks: Iterable[Hook]) -> list[str]:
        """The links of these hooks that somebody detached, though their targets are there."""
        wanted = {self._path(hook): hook for hook in hooks if hook.target == "cgroup"}
        return [
            os.path.basename(path)
            for path, (link, number) in self._held.items()
            if path in wanted and _target_of(link, wanted[path]) != number
        ]

    def close(self) -> None:
        """Let the descriptors go; what is pinned stays attached."""
        for path in list(self._held):
            self._let_go(path)

    def _pin(self, link: int, path: str) -> None:
        """Pin in the place of what is pinned there; whenever this ends, one of them is."""
        draft = str(self.directory / f"new-{os.path.basename(path)}")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)
        libbpf.pin(link, draft)
        os.rename(draft, path)

    def detach(self, hook: Hook, number: int | None = None) -> bool:
        """Detach and unpin, from a network namespace if one is given; whether there was a link."""
        path = self._path(hook, number)
        link = libbpf.get_pinned(path)
        if link is not None:
            try:
                _detach(link)
                os.unlink(path)
            finally:
                os.close(link)
        self._let_go(path)
        return link is not None

    def sweep(self) -> None:
        """Let go what was pinned halfway when an agent was killed."""
        for draft in self.directory.glob("new-*"):
            draft.unlink()

    def attached(self) -> tuple[Hook, ...]:
        """The hooks that have a pinned link."""
        names = self._names()
        return tuple(hook for hook in HOOKS if hook.name in names or _numbers(hook, names))

    def numbers(self, hook: Hook) -> set[int]:
        """The network namespaces to which a hook has a pinned link, dead ones included."""
        return _numbers(hook, self._names())

    def _names(self) -> list[str]:
        try:
            return os.listdir(self.directory)
        except FileNotFoundError:
            return []

    def is_alive(self, hook: Hook, number: int) -> bool:
        """Whether a link is attached to its network namespace still; not if that is gone."""
        path = self._path(hook, number)
        held, _ = self._held.get(path, (None, None))
        link = libbpf.get_pinned(path) if held is None else os.dup(held)
        if link is None:
            return False
        try:
            return _target_of(link, hook) == number
        finally:
            os.close(link)

    def detach_all(self) -> None:
        for hook in HOOKS:
            self.detach(hook)
            for number in self.numbers(hook):
                self.detach(hook, number)
        self.sweep()
        with contextlib.suppress(OSError):
            self.directory.rmdir()


def _numbers(hook: Hook, names: Iterable[str]) -> set[int]:
    prefix = f"{hook.name}-"
    numbers = (name.removeprefix(prefix) for name in names if name.startswith(prefix))
    return {int(number) for number in numbers if number.isdecimal()}


def _replace(link: int, hook: Hook, program_fd: int, number: int | None) -> bool:
    """Put another program into a link, where it is one to this target and the kernel can."""
    if number is None or _target_of(link, hook) != number:
        return False
    try:
        libbpf.link_update(link, program_fd)
    except OSError as error:
        if error.errno in (errno.ENOLINK, errno.EINVAL, errno.ENODEV):
            return False
        raise
    return True


def _detach(link: int) -> None:
    """Detach now; a link whose cgroup or namespace is gone is detached already.

    One to a function of the kernel cannot be detached but by closing the last descriptor.
    """
    with contextlib.suppress(OSError):
        libbpf.link_detach(link)


def _target_of(link: int, hook: Hook) -> int | None:
    info = _LinkInfo()
    size = ctypes.c_uint32(ctypes.sizeof(info))
    if libbpf.libbpf().bpf_obj_get_info_by_fd(link, ctypes.byref(info), ctypes.byref(size)) < 0:
        return None
    target = int(info.target)
    return target if hook.target == "cgroup" else target & 0xFFFFFFFF
