# SPDX-License-Identifier: Apache-2.0
"""What sets two rule sets apart: rules added, removed, changed and moved, defaults, product.

Rules. A rule is known by its name. One that was renamed is one removed and one
added. A rule has moved when it changed places with a rule that is in both sets;
sequences that shift because others came or went are no difference.

Theory. The rules that keep their order are a longest increasing subsequence of
the old places, read in the new order, so as few rules as possible are said to
have moved.
"""

from __future__ import annotations

import difflib
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any as AnyType

from .condition import And, Any, Comparison, Condition, Not, Or, Time
from .model import DefaultRule, Product, Rule, RuleSet, Server

LISTS_CHANGED = "(as before; what its names stand for has changed)"
"""The new value of `when` where only a list, or a user's number, is another."""

_SWITCHES = ("authority", "audit", "message", "capture")
_FIELDS = ("server", *_SWITCHES, "active", "test", "when", "description")


@dataclass(frozen=True, slots=True)
class Changed:
    """A rule with the same name and other fields; `fields`: name -> (before, after) as written."""

    name: str
    sequence: int
    fields: Mapping[str, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Moved:
    """A rule that another rule of both sets was passed by; sequences before and after."""

    name: str
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Difference:
    """Everything in which two rule sets differ, each part in the order of the list."""

    added: tuple[Rule, ...] = ()
    removed: tuple[Rule, ...] = ()
    changed: tuple[Changed, ...] = ()
    moved: tuple[Moved, ...] = ()
    defaults: tuple[Changed, ...] = ()
    product: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether the rule sets are the same."""
        parts = (self.added, self.removed, self.changed, self.moved, self.defaults, self.product)
        return not any(parts)


def compare(before: RuleSet, after: RuleSet) -> Difference:
    """What is to be done to `before` to get `after`."""
    old = {rule.name: rule for rule in before.rules}
    new = {rule.name: rule for rule in after.rules}
    return Difference(
        added=tuple(rule for rule in after.rules if rule.name not in old),
        removed=tuple(rule for rule in before.rules if rule.name not in new),
        changed=tuple(
            Changed(rule.name, rule.sequence, fields)
            for rule in after.rules
            if rule.name in old and (fields := _fields_that_differ(old[rule.name], rule))
        ),
        moved=_moved(old, [rule for rule in after.rules if rule.name in old], before.rules),
        defaults=tuple(
            Changed(after.defaults[server].name, after.defaults[server].sequence, fields)
            for server in Server
            if (fields := _defaults_that_differ(before.defaults[server], after.defaults[server]))
        ),
        product=_product_that_differs(before.product, after.product),
    )


def condition_text(condition: Condition) -> str:
    """A condition as it would be written, without the parentheses that it does not need."""
    match condition:
        case Any():
            return "any"
        case Comparison() | Time():
            return condition.text
        case And(parts):
            return " and ".join(_inside(part, Or) for part in parts)
        case Or(parts):
            return " or ".join(condition_text(part) for part in parts)
        case Not(part):
            return f"not {_inside(part, And, Or)}"


def document(difference: Difference) -> dict[str, AnyType]:
    """The difference as JSON: `{"same", "added": [...], "removed", "changed", "moved", ...}`."""
    return {
        "same": difference.empty,
        "added": [_rule(rule) for rule in difference.added],
        "removed": [_rule(rule) for rule in difference.removed],
        "changed": [_changed(changed) for changed in difference.changed],
        "moved": [
            {"rule": moved.name, "before": moved.before, "after": moved.after}
            for moved in difference.moved
        ],
        "defaults": [_changed(changed) for changed in difference.defaults],
        "product": {name: list(values) for name, values in difference.product.items()},
    }


def text_difference(before: str, after: str, names: tuple[str, str]) -> list[str]:
    """The lines of a unified diff of two rule files; none when they are the same.

    Lines at both ends that are the same are set aside first: comparing the rest
    takes time that grows with its square where it has little in common.
    """
    old, new = before.splitlines(), after.splitlines()
    head = _same_at_start(old, new)
    tail = _same_at_start(old[head:][::-1], new[head:][::-1])
    first, left = max(head - 3, 0), max(tail - 3, 0)
    lines = difflib.unified_diff(
        old[first : len(old) - left], new[first : len(new) - left], *names, lineterm=""
    )
    return [_renumbered(line, first) if line.startswith("@@ ") else line for line in lines]


def _same_at_start(old: Sequence[str], new: Sequence[str]) -> int:
    count = 0
    for one, other in zip(old, new, strict=False):
        if one != other:
            break
        count += 1
    return count


def _renumbered(line: str, more: int) -> str:
    _, old, new, end = line.split(" ", 3)
    return f"@@ {_later(old, more)} {_later(new, more)} {end}"


def _later(place: str, more: int) -> str:
    start, comma, count = place[1:].partition(",")
    return f"{place[0]}{int(start) + more}{comma}{count}"


def _fields_that_differ(before: Rule, after: Rule) -> dict[str, tuple[str, str]]:
    fields = {
        name: (_word(getattr(before, name)), _word(getattr(after, name)))
        for name in _FIELDS
        if getattr(before, name) != getattr(after, name)
    }
    if "when" in fields and fields["when"][0] == fields["when"][1]:
        fields["when"] = (fields["when"][0], LISTS_CHANGED)
    return fields


def _defaults_that_differ(before: DefaultRule, after: DefaultRule) -> dict[str, tuple[str, str]]:
    return {
        name: (_word(getattr(before, name)), _word(getattr(after, name)))
        for name in _SWITCHES
        if getattr(before, name) != getattr(after, name)
    }


def _product_that_differs(before: Product, after: Product) -> dict[str, tuple[str, str]]:
    return {
        name: (_word(getattr(before, name)), _word(getattr(after, name)))
        for name in ("audit", "message", "capture")
        if getattr(before, name) != getattr(after, name)
    }


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Server):
        return value.word
    if isinstance(value, Any | Comparison | And | Or | Not):
        return condition_text(value)
    return str(value)


def _moved(
    old: Mapping[str, Rule], common: Sequence[Rule], before: Iterable[Rule]
) -> tuple[Moved, ...]:
    place = {rule.name: number for number, rule in enumerate(before)}
    kept = _longest_increasing([place[rule.name] for rule in common])
    return tuple(
        Moved(rule.name, old[rule.name].sequence, rule.sequence)
        for number, rule in enumerate(common)
        if number not in kept
    )


def _longest_increasing(places: Sequence[int]) -> set[int]:
    """The indices of a longest increasing subsequence (patience sorting)."""
    lowest: list[int] = []  # the smallest end of a subsequence of each length
    ends: list[int] = []  # and its index
    previous: list[int] = []
    for index, place in enumerate(places):
        length = bisect_left(lowest, place)
        previous.append(ends[length - 1] if length else -1)
        lowest[length : length + 1] = [place]
        ends[length : length + 1] = [index]
    kept = set()
    index = ends[-1] if ends else -1
    while index >= 0:
        kept.add(index)
        index = previous[index]
    return kept


def _inside(part: Condition, *kinds: type) -> str:
    text = condition_text(part)
    return f"({text})" if isinstance(part, kinds) else text


def _rule(rule: Rule) -> dict[str, AnyType]:
    return {
        "rule": rule.name,
        "sequence": rule.sequence,
        "server": rule.server.word,
        "authority": _word(rule.authority),
        "active": _word(rule.active),
        "when": condition_text(rule.when),
    }


def _changed(changed: Changed) -> dict[str, AnyType]:
    return {
        "rule": changed.name,
        "sequence": changed.sequence,
        "fields": {name: list(values) for name, values in changed.fields.items()},
    }
