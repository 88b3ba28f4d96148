# SPDX-License-Identifier: Apache-2.0
"""Where a key, a value, or a character inside a string stands in a TOML file.

Rules. tomllib says what a file means, this module only where; it is asked when
there is something to report, and reads of the syntax tree only the tables that
it is asked about. A path names a thing as tomllib's result does:
("rule", 2, "when") is the condition of the third rule. Lines and columns count
from 1, columns in characters. A thing that is not found has no place, `None`.
"""

from __future__ import annotations

import re
import tomllib
from typing import NamedTuple

import tree_sitter_toml
from tree_sitter import Language, Node, Parser

Path = tuple[str | int, ...]

DEEPEST = 32
"""Inline tables inside one another that are searched; our files have none."""

_ESCAPE = re.compile(r"\\(?:u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|x[0-9A-Fa-f]{2}|[ \t]*\n[ \t\n]*|.)")
_KEYS = frozenset({"bare_key", "quoted_key", "dotted_key"})


class Place(NamedTuple):
    line: int
    column: int


class TomlPositions:
    """The places of one file that tomllib has accepted."""

    def __init__(self, text: str) -> None:
        # As tomllib does; columns and lines stay what they are.
        source = text.replace("\r\n", "\n").encode("utf-8", "replace")
        self._lines = source.split(b"\n")
        self._keys: dict[Path, Node] = {}
        self._values: dict[Path, Node] = {}
        self._unread: dict[Path, list[Node]] = {}
        parser = Parser(Language(tree_sitter_toml.language()))
        self._tree = parser.parse(source)
        self._read_headers(self._tree.root_node)

    def key(self, path: Path) -> Place | None:
        """Where a key, or the header of a table, begins."""
        return self._place(self._find(path, self._keys))

    def value(self, path: Path) -> Place | None:
        """Where a value begins; a table's is its header."""
        return self._place(self._find(path, self._values)) or self.key(path)

    def inside(self, path: Path, offset: int) -> Place | None:
        """Where the character `offset` (from 0) of a string value is written.

        An offset of the string's length is the place right after its last character.
        """
        node = self._find(path, self._values)
        if node is None or node.text is None:
            return None
        if node.type != "string":
            return self._place(node)
        literal = node.text.decode("utf-8", "replace")
        before = literal[: source_index(literal, offset)]
        start = self._place(node)
        assert start is not None
        if newlines := before.count("\n"):
            return Place(start.line + newlines, len(before) - before.rindex("\n"))
        return Place(start.line, start.column + len(before))

    def _place(self, node: Node | None) -> Place | None:
        if node is None:
            return None
        row, column = node.start_point
        return Place(row + 1, len(self._lines[row][:column].decode("utf-8", "replace")) + 1)

    def _find(self, path: Path, among: dict[Path, Node]) -> Node | None:
        for length in range(len(path) + 1):
            for node in self._unread.pop(path[:length], ()):
                self._read_pairs(node, path[:length], 0)
        return among.get(path)

    def _read_headers(self, root: Node) -> None:
        counts: dict[Path, int] = {}
        self._unread[()] = [root]
        for node in root.children:
            if node.type not in {"table", "table_array_element"}:
                continue
            path: Path = ()
            parts = [
                part for child in node.children if child.type in _KEYS for part in _parts(child)
            ]
            for number, (name, part) in enumerate(parts):
                path += (name,)
                last = number == len(parts) - 1
                if last and node.type == "table_array_element":
                    self._keys.setdefault(path, node)
                    counts[path] = counts.get(path, -1) + 1
                if path in counts:
                    path += (counts[path],)
                self._keys.setdefault(path, node if last else part)
            self._unread.setdefault(path, []).append(node)

    def _read_pairs(self, table: Node, path: Path, depth: int) -> None:
        for pair in table.children:
            if pair.type != "pair":
                continue
            key, *values = (child for child in pair.children if child.is_named)
            inner = path
            for name, part in _parts(key):
                inner += (name,)
                self._keys.setdefault(inner, part)
            if values:  # a comment may follow
                self._read_value(values[0], inner, depth)

    def _read_value(self, node: Node, path: Path, depth: int) -> None:
        self._values.setdefault(path, node)
        if depth >= DEEPEST:
            return
        if node.type == "inline_table":
            self._read_pairs(node, path, depth + 1)
        elif node.type == "array":
            items = (child for child in node.children if child.is_named and child.type != "comment")
            for number, item in enumerate(items):
                self._read_value(item, (*path, number), depth + 1)


def source_index(literal: str, offset: int) -> int:
    """The index in a string literal, quotes included, at which its character `offset` is written.

    `literal` is any of TOML's four kinds of string, with `\\n` for line ends.
    """
    quotes = 3 if literal[:3] in {'"""', "'''"} else 1
    at = quotes
    if quotes == 3 and literal[at : at + 1] == "\n":
        at += 1
    last = max(at, len(literal) - quotes)
    escapes = literal[0] == '"'
    while at < last:
        escape = _ESCAPE.match(literal, at, last) if escapes and literal[at] == "\\" else None
        if escape and escape[0][1] in " \t\n":  # a line that goes on: nothing is written here
            at = escape.end()
            continue
        if offset == 0:
            return at
        offset -= 1
        at = escape.end() if escape else at + 1
    return last


def _parts(key: Node) -> list[tuple[str, Node]]:
    """The parts of a key, dotted or not, with their nodes."""
    if key.type == "dotted_key":
        return [part for child in key.children if child.type in _KEYS for part in _parts(child)]
    text = (key.text or b"").decode("utf-8", "replace")
    if key.type == "quoted_key":
        try:
            text = next(iter(tomllib.loads(f"{text} = 0")))
        except (tomllib.TOMLDecodeError, StopIteration):
            text = text.strip("\"'")
    return [(text, key)]
