# SPDX-License-Identifier: Apache-2.0
"""Paths that are one program: a symbolic link and what it names, two hard links.

Theory. The kernel knows a program by its inode, so conditions that name one
inode by two paths ask the same. `identified` says so in the rules themselves:
to every path of a comparison it adds the other paths of the same file. Then the
reference, the table and the kernel agree without knowing of files at all.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace

from .condition import And, Comparison, Condition, Not, Or
from .evaluate import comparisons
from .model import Rule, RuleSet

Same = Mapping[str, tuple[str, ...]]
"""A path -> all paths of that file, itself included; those that are alone are left out."""


def named(rules: Iterable[Rule]) -> tuple[str, ...]:
    """The paths that the rules' conditions name, each once, in order."""
    found: dict[str, None] = {}
    for rule in rules:
        when = rule.when
        for asked in when.parts if isinstance(when, And) else (when,):
            if isinstance(asked, Comparison):  # as nearly all are
                if asked.paths:
                    found.update(dict.fromkeys(asked.paths))
            else:
                found.update((path, None) for each in comparisons(asked) for path in each.paths)
    return tuple(found)


def grouped(files: Mapping[str, Hashable]) -> Same:
    """Of paths and what file each is, those that share one. Folders (`/` at the end) are apart."""
    groups: dict[object, list[str]] = {}
    for path, file in files.items():
        groups.setdefault((file, path.endswith("/")), []).append(path)
    return {
        path: tuple(sorted(group)) for group in groups.values() if len(group) > 1 for path in group
    }


def same_files(paths: Iterable[str]) -> Same:
    """By the file system as it is now; each path's real path counts as named, too."""
    files: dict[str, Hashable] = {}
    for path in paths:
        real = os.path.realpath(path)
        for each in (path, real + "/" if path.endswith("/") and real != "/" else real):
            try:
                status = os.stat(each)
            except (OSError, ValueError):
                continue
            files[each] = status.st_dev, status.st_ino
    return grouped(files)


def identified(rules: Sequence[Rule], same: Same) -> tuple[Rule, ...]:
    """The rules with every path joined by the others of its file."""
    if not same:
        return tuple(rules)
    return tuple(_rule(rule, same) for rule in rules)


def identified_set(ruleset: RuleSet) -> RuleSet:
    """A rule set as this host's files are now."""
    return replace(ruleset, rules=identified(ruleset.rules, same_files(named(ruleset.rules))))


def program_run(program: str | None) -> str | None:
    """What the kernel calls a program that is started by this path: its real path."""
    return None if program is None else os.path.realpath(program)


def _rule(rule: Rule, same: Same) -> Rule:
    if not any(path in same for asked in comparisons(rule.when) for path in asked.paths):
        return rule
    return replace(rule, when=_joined(rule.when, same))


def _joined(condition: Condition, same: Same) -> Condition:
    match condition:
        case And(parts):
            return And(tuple(_joined(part, same) for part in parts))
        case Or(parts):
            return Or(tuple(_joined(part, same) for part in parts))
        case Not(part):
            return Not(_joined(part, same))
        case Comparison(paths=paths) if paths:
            every = (each for path in paths for each in same.get(path, (path,)))
            return replace(condition, paths=tuple(dict.fromkeys(every)))
    return condition
