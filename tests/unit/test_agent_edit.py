# SPDX-License-Identifier: Apache-2.0
"""Modes are written into agent.toml, and nothing else in it moves."""

from __future__ import annotations

import pytest

from sockrules.control.agent_edit import set_mode
from sockrules.control.agent_file import parse_agent_config
from sockrules.control.model import Mode, Server
from sockrules.control.rules_edit import EditError

FILE = """\
# This host.
[servers]
listen = "off"      # later

# The log is small here.
[audit]
keep = 3
"""


def test_a_mode_changes_and_its_comment_stays() -> None:
    after = set_mode(FILE, Server.LISTEN, Mode.ENFORCE)
    assert after == FILE.replace('"off"      # later', '"enforce"      # later')


def test_a_new_server_stands_among_the_others() -> None:
    after = set_mode(FILE, Server.CONNECT, Mode.SIMULATE)
    assert after == FILE.replace("# later\n", '# later\nconnect = "simulate"\n')


def test_the_same_mode_changes_nothing() -> None:
    assert set_mode(FILE, Server.LISTEN, Mode.OFF) == FILE


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", '[servers]\nconnect = "enforce"\n'),
        ("[audit]\nkeep = 1", '[audit]\nkeep = 1\n\n[servers]\nconnect = "enforce"\n'),
        ("# empty\n\n", '# empty\n\n[servers]\nconnect = "enforce"\n'),
        ("[servers]\n# none\n", '[servers]\nconnect = "enforce"\n# none\n'),
        ("[audit]\r\n", '[audit]\r\n\r\n[servers]\r\nconnect = "enforce"\r\n'),
    ],
)
def test_a_table_is_made_where_there_is_none(text: str, expected: str) -> None:
    assert set_mode(text, Server.CONNECT, Mode.ENFORCE) == expected


@pytest.mark.parametrize(
    "text",
    [
        'servers = {listen = "off"}\n',
        'servers.listen = "off"\n',
        '[servers]\n"listen" = "off"\n',
        "[ servers ]\nlisten = 'off'\n",
    ],
)
def test_unusual_forms_are_understood(text: str) -> None:
    for server in Server:
        text = set_mode(text, server, Mode.SIMULATE)
    modes = parse_agent_config(text, file="agent.toml").modes
    assert modes == dict.fromkeys(Server, Mode.SIMULATE)


@pytest.mark.parametrize("text", ["servers = 3\n", "[servers\n"])
def test_what_cannot_be_edited_is_refused(text: str) -> None:
    with pytest.raises(EditError, match="cannot be edited"):
        set_mode(text, Server.LISTEN, Mode.OFF)
