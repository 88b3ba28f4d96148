# SPDX-License-Identifier: Apache-2.0
"""A rule file cut into its `[[rule]]` tables, so that each can be read, and remembered, alone.

Rules. What the pieces say is exactly what tomllib says of the whole, or the file is not
cut: `Uncut` sends the reader to the whole text, where every mistake has its words.

Theory. A line that begins with `[` begins a table, but for two cases. In a string of
several lines anything may stand: a text with three quotes in a row is not cut. In an
array of several lines it may be an array: then the piece before it ends inside that array,
and is no TOML. A table that begins with `[[rule]]` stands for itself. So does what lies
between two of them, and all of that is read together, too; if it names `rule` as well,
the file is not cut.
"""

from __future__ import annotations

import re
import tomllib

_HEADER = re.compile(r"^(?=[ \t]*\[)", re.MULTILINE)
_CONTROL = r"\x00-\x08\x0a-\x1f\x7f"
_RULE = re.compile(rf"[ \t]*\[\[[ \t]*rule[ \t]*\]\][ \t]*(?:#[^{_CONTROL}]*)?(?:\n|\Z)")
_LINE = re.compile(
    r"[ \t]*(?:([A-Za-z0-9_-]+)[ \t]*=[ \t]*"
    rf"""(?:"([^"\\{_CONTROL}]*)"|'([^'{_CONTROL}]*)'|(true|false))[ \t]*)?"""
    rf"(?:#[^{_CONTROL}]*)?(?:\n|\Z)"
)
_PLAIN = "[[rule]]\n"


class Uncut(Exception):
    """The text has to be read as a whole."""


def cut(text: str) -> tuple[list[str], dict[str, object]]:
    """The texts of the `[[rule]]` tables in order, and what all the rest says.

    Raises:
        Uncut: it cannot be told apart, or is wrong.
    """
    if '"""' in text or "'''" in text:
        raise Uncut
    blocks: list[str] = []
    between: list[list[str]] = [[]]
    for piece in _HEADER.split(text.replace("\r\n", "\n")):
        if piece.startswith(_PLAIN) or _RULE.match(piece):
            blocks.append(piece)
            if between[-1]:
                between.append([])
        else:
            between[-1].append(piece)
    parts = ["".join(pieces) for pieces in between]
    said = [_loads(part) for part in parts]
    rest = said[0] if len(said) == 1 else _loads("".join(parts))
    if "rule" in rest:
        raise Uncut
    return blocks, rest


def table_of(block: str) -> dict[str, object]:
    """What a `[[rule]]` table says.

    Raises:
        Uncut: it is wrong.
    """
    header = _RULE.match(block)
    at = header.end() if header else 0
    table: dict[str, object] = {}
    while at < len(block):
        line = _LINE.match(block, at)
        if line is None:
            return _read_by_tomllib(block)
        at = line.end()
        key, basic, literal, truth = line.groups()
        if key is None:
            continue
        if key in table:
            raise Uncut
        table[key] = truth == "true" if truth else literal if basic is None else basic
    return table


def _read_by_tomllib(block: str) -> dict[str, object]:
    match _loads(block):
        case {"rule": [dict(table)]}:
            return table
    raise Uncut


def _loads(text: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):  # TOMLDecodeError is one
        raise Uncut from None
