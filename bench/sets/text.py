# SPDX-License-Identifier: Apache-2.0
"""A rule set as people keep it: rules.toml, and long sets as lists of their own."""

from __future__ import annotations

from pathlib import Path

from sockrules.control.addresses import format_address
from sockrules.control.condition import And, Any, Comparison, Condition, Not, Or, Range
from sockrules.control.model import Field, RuleSet

_ADDRESSES = (Field.LOCAL_ADDRESS, Field.REMOTE_ADDRESS)
_LONG = 20  # members that a condition spells out


def write(ruleset: RuleSet, directory: Path) -> Path:
    """Write rules.toml and lists/*.txt into a directory; the path of the rules."""
    text, lists = rules_toml(ruleset)
    (directory / "lists").mkdir(parents=True, exist_ok=True)
    for name, members in lists.items():
        (directory / "lists" / f"{name}.txt").write_text(members)
    path = directory / "rules.toml"
    path.write_text(text)
    return path


def rules_toml(ruleset: RuleSet) -> tuple[str, dict[str, str]]:
    """The text of rules.toml, and of the lists that it names."""
    lists: dict[tuple[Range, ...], str] = {}
    parts = []
    for rule in ruleset.rules:
        when = _text(rule.when, lists)
        parts.append(
            f'[[rule]]\nname = "{rule.name}"\nserver = "{rule.server.word}"\n'
            f'authority = "{_word(rule.authority)}"\naudit = "{rule.audit}"\nwhen = "{when}"\n'
        )
    for server, default in ruleset.defaults.items():
        parts.append(
            f'[default.{server.word}]\nauthority = "{_word(default.authority)}"\n'
            f'audit = "{default.audit}"\n'
        )
    return "\n".join(parts), {name: _lines(key) for key, name in lists.items()}


def _word(authority: bool) -> str:
    return "yes" if authority else "no"


def _text(condition: Condition, lists: dict[tuple[Range, ...], str]) -> str:
    match condition:
        case Comparison():
            return _comparison(condition, lists)
        case And(parts):
            return " and ".join(f"({_text(part, lists)})" for part in parts)
        case Or(parts):
            return " or ".join(f"({_text(part, lists)})" for part in parts)
        case Not(part):
            return f"not ({_text(part, lists)})"
        case Any():
            return "any"
        case _:
            raise ValueError("rules to be measured do not ask for the time")


def _comparison(asked: Comparison, lists: dict[tuple[Range, ...], str]) -> str:
    members = [*asked.paths, *asked.services]
    if asked.ranges and len(asked.ranges) <= _LONG:
        members = [_member(asked.field, one) for one in asked.ranges]
    elif asked.ranges:
        members = ["@" + lists.setdefault(asked.ranges, f"list-{len(lists)}")]
    word = "not in" if asked.negated else "in"
    return f"{asked.field} {word} {{{', '.join(members)}}}"


def _member(field: Field, one: Range) -> str:
    first, last = one
    if field not in _ADDRESSES:
        return str(first) if first == last else f"{first}-{last}"
    size = last - first + 1
    if size & (size - 1) == 0 and first % size == 0:
        mapped = first >> 32 == 0xFFFF and last >> 32 == 0xFFFF
        length = (32 if mapped else 128) - (size.bit_length() - 1)
        return f"{format_address(first)}/{length}"
    return f"{format_address(first)}-{format_address(last)}"


def _lines(ranges: tuple[Range, ...]) -> str:
    large = ranges[-1][1] > 0xFFFFFFFF
    field = Field.REMOTE_ADDRESS if large else Field.USER
    return "".join(f"{_member(field, one)}\n" for one in ranges)
