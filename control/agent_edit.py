# SPDX-License-Identifier: Apache-2.0
"""Edits of agent.toml, text to text: comments and layout survive.

Whether the new text makes sense is for parse_agent_config to say.
"""

from __future__ import annotations

from .model import Mode, Server
from .table_edit import set_key

_SERVERS = tuple(server.word for server in Server)


def set_mode(text: str, server: Server, mode: Mode) -> str:
    """Set what a server is to do when the agent starts: `[servers]`, key `listen`, say."""
    return set_key(text, "servers", server.word, mode.word, _SERVERS)
