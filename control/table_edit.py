# SPDX-License-Identifier: Apache-2.0
"""Setting and removing keys of named tables, text to text: comments and layout survive.

Rules. Tables are named as in their headers: `servers`, `default.accept`. A table
that is not there is added at the end. Where a table is written inline or with
dotted keys, tomlkit edits it there. Whether the new text makes sense is for its
parser to say.
"""

from __future__ import annotations

import tomllib
from collections.abc import MutableMapping, Sequence
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from .rules_edit import EditError
from .toml_blocks import Block, cut
from .toml_keys import Value, literal, newline_of, with_key, without_key


def set_key(text: str, table: str, key: str, value: Value, order: Sequence[str]) -> str:
    """Set a key of a table; a new key stands after those before it in `order`."""
    blocks = _cut(text)
    newline = newline_of(text)
    if (at := _find(blocks, table)) is not None:
        if _holds(text, table, key) and without_key(blocks[at].text, key) == blocks[at].text:
            return _set_inside(text, table, key, value)  # its key is a table's, or dotted
        changed = with_key(blocks[at].text, key, value, order, newline)
        blocks[at] = Block("table", changed, table)
        return "".join(block.text for block in blocks)
    head = text if not text or text.endswith("\n") else text + newline
    apart = newline if head.strip() and not head.endswith(newline * 2) else ""
    added = f"{head}{apart}[{table}]{newline}{key} = {literal(value)}{newline}"
    if _inside(text, table) is None and _is_toml(added):
        return added
    return _set_inside(text, table, key, value)


def remove_key(text: str, table: str, key: str) -> str:
    """Take a key out of a table, if it is there."""
    blocks = _cut(text)
    if not _holds(text, table, key):
        return text
    if (at := _find(blocks, table)) is not None:
        without = without_key(blocks[at].text, key)
        if without != blocks[at].text:
            blocks[at] = Block("table", without, table)
            return "".join(block.text for block in blocks)
    data = tomlkit.parse(text)
    del _table_of(data, table)[key]
    return tomlkit.dumps(data)


def _cut(text: str) -> list[Block]:
    try:
        blocks = cut(text)
        tomlkit.parse(text)
    except (ValueError, RecursionError, TOMLKitError) as error:
        raise EditError(f"the file cannot be edited as it is: {error}") from None
    return blocks


def _find(blocks: list[Block], table: str) -> int | None:
    found = (at for at, block in enumerate(blocks) if (block.kind, block.name) == ("table", table))
    return next(found, None)


def _inside(text: str, table: str) -> dict[str, Any] | None:
    """What the file says in a table, `None` when there is no such table."""
    data: object = tomllib.loads(text)
    for part in table.split("."):
        data = data.get(part) if isinstance(data, dict) else None
    return data if isinstance(data, dict) else None


def _holds(text: str, table: str, key: str) -> bool:
    return key in (_inside(text, table) or {})


def _is_toml(text: str) -> bool:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True


def _set_inside(text: str, table: str, key: str, value: Value) -> str:
    data = tomlkit.parse(text)
    plain = value if isinstance(value, str | int) else list(value)
    try:
        _table_of(data, table)[key] = plain
    except (TypeError, TOMLKitError):
        raise EditError(f"the file cannot be edited as it is: {table} is not a table") from None
    return tomlkit.dumps(data)


def _table_of(data: MutableMapping[str, Any], table: str) -> MutableMapping[str, Any]:
    for part in table.split("."):
        if part not in data:
            data[part] = tomlkit.inline_table()
        data = data[part]
        if not isinstance(data, MutableMapping):
            raise TypeError
    return data
