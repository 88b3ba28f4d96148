# SPDX-License-Identifier: Apache-2.0
"""Edits of agent.toml, text to text: comments and layout survive.

Whether the new text makes sense is for parse_agent_config to say.
"""

from __future__ import annotations

import tomlkit
from tomlkit.exceptions import TOMLKitError

from .model import Mode, Server
from .rules_edit import EditError
from .toml_blocks import Block, cut
from .toml_keys import newline_of, with_key

_SERVERS = tuple(server.word for server in Server)


def set_mode(text: str, server: Server, mode: Mode) -> str:
    """Set what a server is to do when the agent starts: `[servers]`, key `listen`, say."""
    try:
        blocks = cut(text)
        data = tomlkit.parse(text)
    except (ValueError, RecursionError, TOMLKitError) as error:
        raise EditError(f"the file cannot be edited as it is: {error}") from None
    for at, block in enumerate(blocks):
        if block.kind == "table" and block.name == "servers":
            changed = with_key(block.text, server.word, mode.word, _SERVERS, newline_of(text))
            blocks[at] = Block("table", changed, "servers")
            return "".join(block.text for block in blocks)
    if "servers" in data:
        return _set_inside(data, server, mode)
    newline = newline_of(text)
    head = text if not text or text.endswith("\n") else text + newline
    apart = newline if head.strip() and not head.endswith(newline * 2) else ""
    return f'{head}{apart}[servers]{newline}{server.word} = "{mode.word}"{newline}'


def _set_inside(data: tomlkit.TOMLDocument, server: Server, mode: Mode) -> str:
    """`servers` as an inline table, or as dotted keys."""
    servers = data["servers"]
    try:
        servers[server.word] = mode.word
    except (TypeError, TOMLKitError):
        raise EditError("the file cannot be edited as it is: servers is not a table") from None
    return tomlkit.dumps(data)
