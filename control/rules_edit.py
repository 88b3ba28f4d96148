# SPDX-License-Identifier: Apache-2.0
"""Edits of rules.toml, text to text: comments, blank lines and alignment survive.

Rules. An edit touches the block of one rule (see toml_blocks) and nothing else.
Whether the new text makes sense is for parse_rules to say. `EditError` means
that the edit itself cannot be made: no such rule, the name taken, no such place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from .problems import did_you_mean
from .rules_file import sequence_step
from .toml_blocks import Block, cut
from .toml_keys import as_toml, newline_of, pairs, with_key

ORDER = (
    "name",
    "description",
    "server",
    "authority",
    "audit",
    "message",
    "capture",
    "active",
    "test",
    "expires",
    "when",
)
"""The order in which a new rule's keys are written, and a new key finds its place."""


class EditError(Exception):
    """An edit that cannot be made, with what would be right."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a rule goes. `where` is first, last, before, after (`rule` says of which) or to.

    `to` is a place as listings show it: the rule will be at `sequence`, or, when
    no rule can be at that very number, where a rule with that number would be.
    """

    where: str = "last"
    rule: str = ""
    sequence: int = 0


LAST = Place()


def rule_names(text: str) -> list[str]:
    """The names of the rules, in order; rules without one are left out."""
    return [block.name for block in _cut(text) if block.kind == "rule" and block.name is not None]


def add(text: str, keys: Mapping[str, str], place: Place = LAST) -> str:
    """Add a rule with these keys, which hold a `name`."""
    blocks = _cut(text)
    name = keys["name"]
    if any(block.kind == "rule" and block.name == name for block in blocks):
        raise EditError(f"a rule is named {name} already; names are unique")
    written = {key: keys[key] for key in ORDER if key in keys}
    width = max(map(len, written))
    lines = [f"{key:<{width}} = {as_toml(key, value)}" for key, value in written.items()]
    newline = newline_of(text)
    new = Block("rule", newline.join(["[[rule]]", *lines, ""]), name)
    position = _position(blocks, place, None)
    return _joined(_insert(blocks, new, position, newline, _are_apart(blocks)), newline)


def remove(text: str, name: str) -> str:
    """Take a rule out, with the comments that belong to it."""
    blocks = _cut(text)
    return _joined(_without(blocks, _find(blocks, name)), newline_of(text))


def move(text: str, name: str, place: Place) -> str:
    """Put a rule elsewhere, with the comments that belong to it."""
    blocks = _cut(text)
    at = _find(blocks, name)
    if place.where in ("before", "after") and place.rule == name:
        raise EditError(f"{name} cannot be put {place.where} itself")
    position = _position(blocks, place, name)
    if position == _rule_indexes(blocks).index(at):
        return text
    newline, apart = newline_of(text), _are_apart(blocks)
    return _joined(_insert(_without(blocks, at), blocks[at], position, newline, apart), newline)


def set_keys(text: str, name: str, keys: Mapping[str, str]) -> str:
    """Set keys of a rule. Values written as TOML's true and false stay of that kind."""
    blocks = _cut(text)
    at = _find(blocks, name)
    block = blocks[at].text
    for key, value in keys.items():
        block = with_key(block, key, value, ORDER, newline_of(text))
    blocks[at] = Block("rule", block, name)
    return _joined(blocks, newline_of(text))


def enable(text: str, name: str) -> str:
    """Make a rule active: the kernel evaluates it once it is applied."""
    return _with_active(text, name, "yes")


def disable(text: str, name: str) -> str:
    """Make a rule inactive; whether it is in test stays as it is."""
    return _with_active(text, name, "no")


def _with_active(text: str, name: str, value: str) -> str:
    blocks = _cut(text)
    block = blocks[_find(blocks, name)].text
    if value == "yes" and all(pair.key != "active" for pair in pairs(block)):
        return text  # left out is yes
    return set_keys(text, name, {"active": value})


def _cut(text: str) -> list[Block]:
    try:
        return cut(text)
    except (ValueError, RecursionError) as error:
        raise EditError(f"the file cannot be edited as it is: {error}") from None


def _find(blocks: list[Block], name: str) -> int:
    """The index of the block of the one rule with this name."""
    found = [at for at, block in enumerate(blocks) if block.kind == "rule" and block.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise EditError(f"{len(found)} rules are named {name}; give them names of their own first")
    names = [block.name for block in blocks if block.kind == "rule" and block.name is not None]
    if name.startswith("default-"):
        hint = f"default rules are edited in the file, in [{name.replace('-', '.', 1)}]"
    else:
        hint = did_you_mean(name, names) or "see: sockrules rule list"
    raise EditError(f"no rule is named {name}; {hint}")


def _rule_indexes(blocks: list[Block]) -> list[int]:
    return [at for at, block in enumerate(blocks) if block.kind == "rule"]


def _position(blocks: list[Block], place: Place, name: str | None) -> int:
    """How many rules will stand before the one that is placed; `name` is not counted."""
    rules = [block.name for block in blocks if block.kind == "rule"]
    others = [rule for rule in rules if name is None or rule != name]
    match place.where:
        case "first":
            return 0
        case "last":
            return len(others)
        case "before" | "after":
            _find(blocks, place.rule)
            return others.index(place.rule) + (place.where == "after")
        case _:
            return _position_of_sequence(rules, others, place.sequence, name)


def _position_of_sequence(
    rules: list[str | None], others: list[str | None], sequence: int, name: str | None
) -> int:
    step = sequence_step(len(others) + 1)
    if sequence % step == 0:
        return min(max(sequence // step - 1, 0), len(others))
    before = [rule for at, rule in enumerate(rules) if (at + 1) * step < sequence]
    return sum(1 for rule in before if name is None or rule != name)


def _insert(
    blocks: list[Block], block: Block, position: int, newline: str, apart: bool
) -> list[Block]:
    """The blocks with one more rule, `position` rules before it; `apart`: by a blank line."""
    rules = _rule_indexes(blocks)
    blank = [Block("gap", newline)] if apart else []
    if position < len(rules):
        at = rules[position]
        return [*blocks[:at], block, *blank, *blocks[at:]]
    at = rules[-1] + 1 if rules else len(blocks)
    before, after = blocks[:at], blocks[at:]
    if not before or _ends_blank(before[-1]):
        blank = []
    if after and after[0].kind in ("table", "other"):
        after = [Block("gap", newline), *after]
    return [*before, *blank, block, *after]


def _are_apart(blocks: list[Block]) -> bool:
    """Whether rules stand apart by blank lines; they do unless the file shows otherwise."""
    rules = _rule_indexes(blocks)
    return len(rules) < 2 or any(after - before > 1 for before, after in pairwise(rules))


def _without(blocks: list[Block], at: int) -> list[Block]:
    """The blocks without one, and without the blank lines that only kept it apart."""
    before, after = blocks[:at], blocks[at + 1 :]
    if after and _is_blank(after[0]) and (not before or before[-1].kind == "gap"):
        after = after[1:]
    elif not after and before and _is_blank(before[-1]):
        before = before[:-1]
    return [*before, *after]


def _ends_blank(block: Block) -> bool:
    return block.kind == "gap" and not block.text.removesuffix("\n").rpartition("\n")[2].strip()


def _is_blank(block: Block) -> bool:
    return block.kind == "gap" and not block.text.strip()


def _joined(blocks: list[Block], newline: str) -> str:
    """The file; every block but the last ends its line."""
    *most, last = [block.text for block in blocks] or [""]
    return "".join(text if text.endswith("\n") else text + newline for text in most) + last
