# SPDX-License-Identifier: Apache-2.0
"""Setting one key in the text of one table, and nothing else in it.

tomlkit puts a new key below the blank lines and comments that follow a table;
here it stands among the other keys, its `=` below theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tomlkit
from tree_sitter import Node

from .toml_blocks import HEADERS, parsed

Value = str | int | Sequence[str]


@dataclass(frozen=True, slots=True)
class Pair:
    """A key and its value in a text: offsets of the value, of the `=`, and of the whole lines."""

    key: str
    value: tuple[int, int]
    equals: int
    lines: tuple[int, int]


def pairs(text: str) -> list[Pair]:
    """The keys of a table with its header, offsets in characters of the text."""
    source = text.encode("utf-8")
    found = []
    for table in parsed(text).children:
        for node in table.children if table.type in HEADERS else ():
            if node.type == "pair":
                found.append(_pair(source, node))
    return found


def _pair(source: bytes, node: Node) -> Pair:
    key, equals, value = node.children[:3]

    def characters(offset: int) -> int:
        return len(source[:offset].decode("utf-8"))

    line_start = source.rfind(b"\n", 0, node.start_byte) + 1
    newline = source.find(b"\n", value.end_byte)
    line_end = len(source) if newline < 0 else newline + 1
    word = source[key.start_byte : key.end_byte].decode("utf-8").strip("\"'")
    return Pair(
        word,
        (characters(value.start_byte), characters(value.end_byte)),
        characters(equals.start_byte),
        (characters(line_start), characters(line_end)),
    )


def with_key(table: str, key: str, value: Value, order: Sequence[str], newline: str) -> str:
    """The text of a table with the key set; a new key stands after those before it in `order`."""
    present = pairs(table)
    for pair in present:
        if pair.key == key:
            first, last = pair.value
            old = table[first:last]
            new = as_toml(key, value)
            if old in ("true", "false") and value in ("yes", "no"):
                new = "true" if value == "yes" else "false"
            return table[:first] + new + table[last:]
    at = _place_of(table, key, present, order)
    head = table[:at] if table[:at].endswith("\n") else table[:at] + newline
    return f"{head}{_aligned(present, key)}= {as_toml(key, value)}{newline}{table[at:]}"


def without_key(table: str, key: str) -> str:
    """The text of a table without the key and the lines that it stands on."""
    for pair in pairs(table):
        if pair.key == key:
            first, last = pair.lines
            return table[:first] + table[last:]
    return table


def without_comments(table: str) -> str:
    """The text of a table without the comment lines above its header and below its keys."""
    source = table.encode("utf-8")
    header = next(node for node in parsed(table).children if node.type in HEADERS)
    last = max(child.end_byte for child in header.children if child.type != "comment")
    end = source.find(b"\n", last) + 1 or len(source)
    return source[source.rfind(b"\n", 0, header.start_byte) + 1 : end].decode("utf-8")


def as_toml(key: str, value: Value) -> str:
    """A value as it is written for a key: texts are quoted, but for the one that is a time."""
    return str(value) if key == "expires" else literal(value)


def literal(value: Value) -> str:
    """A value as TOML: a text, a number, or an array of texts."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, int):
        return str(value)
    return f"[{', '.join(map(quoted, value))}]"


def quoted(value: str) -> str:
    """A value as TOML, in single quotes where that saves escapes."""
    if value.isprintable() and ('"' in value or "\\" in value) and "'" not in value:
        return f"'{value}'"
    return str(tomlkit.string(value).as_string())


def newline_of(text: str) -> str:
    """The line end of a file, as its first line has it."""
    first, newline, _ = text.partition("\n")
    return "\r\n" if newline and first.endswith("\r") else "\n"


def _place_of(table: str, key: str, present: list[Pair], order: Sequence[str]) -> int:
    def rank(word: str) -> int:
        return order.index(word) if word in order else len(order)

    before = [pair for pair in present if rank(pair.key) < rank(key)]
    if before:
        return before[-1].lines[1]
    return _after_header(table)


def _after_header(table: str) -> int:
    header = next(node for node in parsed(table).children if node.type in HEADERS)
    lines = table.split("\n")[: header.start_point[0] + 1]
    return min(sum(len(line) + 1 for line in lines), len(table))


def _aligned(present: list[Pair], key: str) -> str:
    """The key, and blanks up to the column in which the other keys have their `=`."""
    columns = {pair.equals - pair.lines[0] for pair in present}
    width = max(columns) if len(columns) == 1 else 0
    return f"{key:<{width}}" if width > len(key) else f"{key} "
