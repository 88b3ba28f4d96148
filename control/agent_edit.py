# SPDX-License-Identifier: Apache-2.0
"""Edits of agent.toml, text to text: comments and layout survive.

Whether the new text makes sense is for parse_agent_config to say.
"""

from __future__ import annotations

import tomlkit
from tomlkit.container import OutOfOrderTableProxy
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import InlineTable, Table

from .model import Mode, Server
from .rules_edit import EditError


def set_mode(text: str, server: Server, mode: Mode) -> str:
    """Set what a server is to do when the agent starts: `[servers]`, key `listen`, say."""
    return set_key(text, "servers", server.word, mode.word)


def set_key(text: str, table: str, key: str, value: str | int) -> str:
    """Set a key of a table, which is made at the end of the file if there is none."""
    try:
        document = tomlkit.parse(text)
    except TOMLKitError as error:
        raise EditError(f"the file cannot be edited as it is: {error}") from None
    if table not in document:
        if text and not text.endswith("\n"):
            text += "\n"
        apart = "\n" if text.strip() and not text.endswith("\n\n") else ""
        added = tomlkit.table()
        added[key] = value
        return text + apart + tomlkit.dumps({table: added})
    inside = document[table]
    if not isinstance(inside, Table | InlineTable | OutOfOrderTableProxy):
        raise EditError(f"the file cannot be edited as it is: {table} is not a table")
    if inside.get(key) == value:
        return text
    inside[key] = value
    return tomlkit.dumps(document)
