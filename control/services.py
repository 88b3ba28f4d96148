# SPDX-License-Identifier: Apache-2.0
"""Services: which systemd unit a cgroup belongs to, and which cgroups a word means. Pure.

Rules. A process's service is its path in the cgroup v2 hierarchy, counted from
the hierarchy's root. Its unit is found as systemd finds it (cg_path_get_unit,
src/basic/cgroup-util.c, systemd 257): from the root down, slices are passed
over, and the first other component is the unit. So who may make cgroups below
a unit of his own (`user@1000.service`, a container) cannot take another's name.

A member of a condition is one of

- a unit's name, `nginx.service`: every cgroup of that unit, however deep;
- a slice's name, `user.slice`: that slice, and everything below. A slice's name
  says where it is (cg_slice_to_path): `a-b.slice` is /a.slice/a-b.slice;
- a path, `/system.slice/nginx.service`: that cgroup alone; with a `/` at its
  end that cgroup and everything below it.

A known service has a unit or none; a request may know the unit alone.
"""

from __future__ import annotations

import re

SLICE = ".slice"
LONGEST_NAME = 255
"""Bytes of a unit's name and of a cgroup's (UNIT_NAME_MAX, NAME_MAX)."""

LONGEST_PATH = 511
"""Bytes of a cgroup's path that a condition may name: SR_CGROUP_PATH without its final zero."""

DEEPEST = 32
"""Components of such a path: SR_CGROUP_DEPTH."""

_TYPES = "automount|device|mount|path|scope|service|slice|socket|swap|target|timer"
_UNIT = re.compile(rf"[A-Za-z0-9:_.\\-][A-Za-z0-9:_.\\@-]*\.({_TYPES})")
_SLICE_NAME = re.compile(r"-\.slice|(?!-)(?!.*--)[A-Za-z0-9:_.\\-]*[A-Za-z0-9:_.\\]\.slice")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_TAKEN = re.compile(  # names that the kernel's own files have, and those of its controllers
    r"[_.]|cgroup\.|(cpu|cpuset|io|memory|hugetlb|pids|rdma|misc|dmem|tasks|perf_event)(\.|$)"
)


def problem_of(word: str) -> tuple[str, str] | None:
    """What is wrong with a member of a condition, and what would be right."""
    if word.startswith("/"):
        return _path_problem(word)
    if word.endswith(SLICE) and not _SLICE_NAME.fullmatch(word):
        return f"service {word} is not the name of a slice", "use one such as user-1000.slice"
    if not _UNIT.fullmatch(word) or len(word) > LONGEST_NAME:
        hint = "use its name, as in nginx.service, or a cgroup's path, as in /system.slice/"
        if re.fullmatch(r"[A-Za-z0-9:_\\@-]+", word):
            hint = f"did you mean {word}.service?"
        elif "/" in word:
            hint = f"did you mean /{word}?"
        return f"service {word} is not a unit", hint
    return None


def _path_problem(word: str) -> tuple[str, str] | None:
    plain = "/".join(part for part in word.split("/") if part not in ("", "."))
    plain = f"/{plain}/" if plain and word.endswith("/") else f"/{plain}"
    if plain != word or ".." in word.split("/"):
        return f"service {word} is not a plain path", f"use {plain}"
    long = len(word.encode("utf-8", "replace")) > LONGEST_PATH
    if _CONTROL.search(word) or long or plain.strip("/").count("/") >= DEEPEST:
        return (
            f"service {word[:40]!r} is no path of a cgroup",
            f"it has at most {LONGEST_PATH} bytes and {DEEPEST} parts, no control characters",
        )
    return None


def requested(word: str) -> str:
    """A request's service: a unit's name or a cgroup's path; a slice's name is its path.

    Raises ValueError.
    """
    problem = problem_of(word)
    if problem is None and len(word) > 1 and word.endswith("/"):
        problem = f"{word} is many cgroups", f"use {word[:-1]} for that one"
    if problem is not None:
        message, hint = problem
        raise ValueError(f"{message.removeprefix('service ')}; {hint}")
    place = place_of(word)
    return word if place is None else place.rstrip("/") or "/"


def unit_of(path: str) -> str | None:
    """The unit of a cgroup, `None` where it has none: in a slice itself, at the root."""
    for part in path.split("/"):
        if part and not _is_slice(part):
            name = _unescaped(part)
            return name if _UNIT.fullmatch(name) and not name.endswith(SLICE) else None
    return None


def unit_named(service: str) -> str | None:
    """The unit of a request's service."""
    return unit_of(service) if service.startswith("/") else service


def slice_path(name: str) -> str:
    """Where a slice is: `user-1000.slice` is `/user.slice/user-1000.slice/`."""
    if name == "-.slice":
        return "/"
    parts = name.removesuffix(SLICE).split("-")
    names = ("-".join(parts[: n + 1]) + SLICE for n in range(len(parts)))
    return "/" + "".join(("_" + each if _TAKEN.match(each) else each) + "/" for each in names)


def place_of(member: str) -> str | None:
    """The path that a member stands for, a slice's included; `None` for a unit's name."""
    if member.startswith("/"):
        return member
    return slice_path(member) if member.endswith(SLICE) else None


def places_above(path: str) -> list[str]:
    """The members by path that hold for a cgroup: itself, and each that ends in `/`."""
    if path == "/":
        return ["/"]
    return [path, *(path[: at + 1] for at, c in enumerate(path) if c == "/"), path + "/"]


def service_matches(member: str, service: str) -> bool:
    """Whether a request's service, a path or a unit's name, is what a member means."""
    place = place_of(member)
    if place is None:
        return unit_named(service) == member
    if not service.startswith("/"):
        return False
    if not place.endswith("/"):
        return service == place
    return place == "/" or f"{service}/".startswith(place)


def _is_slice(part: str) -> bool:
    """Whether the kernel programs pass a component over (sr_is_slice, bpf/services.c).

    systemd asks besides that the letters before `.slice` be a slice's name; only
    who may write to the hierarchy's own slices could make another.
    """
    return len(part) > len(SLICE) and part.endswith(SLICE)


def _unescaped(part: str) -> str:
    """A unit's name from its cgroup's (cg_unescape)."""
    return part[1:] if part.startswith("_") else part
