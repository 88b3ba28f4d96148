# SPDX-License-Identifier: Apache-2.0
"""A rules.toml cut into the blocks that an edit may take out, put elsewhere, or change.

Rules. The blocks' texts, one after the other, are the file, byte for byte. A
block of a rule holds what belongs to it: the comment lines directly above its
header, its keys, and the comment lines directly below them that are not
directly above the next header. Blank lines and
comments that stand alone (headings of a section, say) are gaps: they stay where
they are when a rule moves. Everything else is a block that is never touched.

Theory. tree-sitter gives the place of every header, comment and key, which
tomlkit does not, and tomlkit counts a comment above a header as part of the
table before it.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass

import tree_sitter_toml
from tree_sitter import Language, Node, Parser

HEADERS = frozenset({"table", "table_array_element"})
_KEYS = frozenset({"bare_key", "quoted_key", "dotted_key"})


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of the file. `kind` is `rule`, `table`, `gap` or `other`.

    `name` is a rule's name, if it has one, or the header of a table.
    """

    kind: str
    text: str
    name: str | None = None


def cut(text: str) -> list[Block]:
    """The blocks of a file. Raises ValueError when it is not TOML, or in an unusual form of it."""
    tables = tomllib.loads(text).get("rule", [])
    if not isinstance(tables, list):
        raise ValueError("`rule` is not a list of [[rule]] tables")
    names = [_name(table) for table in tables]
    lines = text.encode("utf-8").splitlines(keepends=True)
    root = parsed(text)
    comments = _comment_lines(root)
    headers = {node.start_point[0] for node in root.children if node.type in HEADERS}
    blocks: list[Block] = []
    done = 0
    for node in root.children:
        if node.type == "comment" or node.start_point[0] < done:
            continue
        start, end = node.start_point[0], _last_line(node) + 1
        while start - 1 in comments and start > done:
            start -= 1
        below = end
        while below in comments:
            below += 1
        if below not in headers:
            end = below
        if done < start:
            blocks.append(_block("gap", lines[done:start]))
        is_rule = node.type == "table_array_element" and _header(node) == "rule"
        if is_rule:
            blocks.append(_block("rule", lines[start:end], names.pop(0) if names else None))
        elif node.type == "table":
            blocks.append(_block("table", lines[start:end], _header(node)))
        else:
            blocks.append(_block("other", lines[start:end]))
        done = end
    if done < len(lines):
        blocks.append(_block("gap", lines[done:]))
    if sum(block.kind == "rule" for block in blocks) != len(tables):
        raise ValueError("rules are edited only where each has a [[rule]] header of its own")
    return blocks


def parsed(text: str) -> Node:
    """The root of the syntax tree."""
    return Parser(Language(tree_sitter_toml.language())).parse(text.encode("utf-8")).root_node


def _comment_lines(root: Node) -> set[int]:
    """Lines that hold nothing but a comment. A `#` inside a text is none."""
    found = set()
    for node in (root, *(child for child in root.children if child.type in HEADERS)):
        lines_of_others = {
            line
            for child in node.children
            if child.type != "comment"
            for line in (child.start_point[0], child.end_point[0])
        }
        found |= {
            child.start_point[0]
            for child in node.children
            if child.type == "comment" and child.start_point[0] not in lines_of_others
        }
    return found


def _last_line(node: Node) -> int:
    """The last line of a table that is not a comment below it, or blank."""
    if node.type not in HEADERS:
        return node.end_point[0]
    return max(child.end_point[0] for child in node.children if child.type != "comment")


def _header(node: Node) -> str:
    key = next((child for child in node.children if child.type in _KEYS), None)
    return key.text.decode("utf-8").strip("\"'") if key is not None and key.text else ""


def _name(table: object) -> str | None:
    name = table.get("name") if isinstance(table, dict) else None
    return name if isinstance(name, str) else None


def _block(kind: str, lines: list[bytes], name: str | None = None) -> Block:
    return Block(kind, b"".join(lines).decode("utf-8"), name)
