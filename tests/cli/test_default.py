# SPDX-License-Identifier: Apache-2.0
"""`default` shows and edits what decides when no rule matches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sockrules.control.paths import Paths

Cli = Callable[..., Any]

RULES = """\
# Ours.
[default.accept]
authority = "no" # nobody unasked
audit = "yes"
"""


def test_without_a_rule_file_the_defaults_are_as_shipped(cli: Cli) -> None:
    said = cli("default", "show")
    assert said.code == 0
    assert [line.split()[:2] for line in said.lines] == [
        ["SERVER", "AUTHORITY"],
        ["listen", "yes"],
        ["accept", "yes"],
        ["connect", "yes"],
    ]


def test_effective_values_and_where_they_come_from(
    cli: Cli, paths: Paths, rules: Callable[[str], None]
) -> None:
    rules(RULES)
    paths.agent_config.write_text('[product]\nmessage = "yes"\n')
    [doc] = cli("default", "show", "accept", "--json").json["defaults"]
    assert doc == {
        "name": "default-accept",
        "server": "accept",
        "sequence": 99999,
        "authority": "no",
        "audit": {"set": "yes", "value": "yes", "from": "default"},
        "message": {"set": "inherit", "value": "yes", "from": "product"},
        "capture": {"set": "inherit", "value": "no", "from": "product"},
    }
    assert "yes (product)" in cli("default", "show", "accept").out


def test_keys_are_set_and_the_rest_of_the_file_stays(
    cli: Cli, paths: Paths, rules: Callable[[str], None]
) -> None:
    rules(RULES)
    said = cli("default", "set", "accept", "authority=yes", "message=no")
    assert said.lines == ["changed default-accept", "not yet in force; run `sockrules apply`"]
    assert paths.rules.read_text() == (
        RULES.replace('"no" # nobody', '"yes" # nobody') + 'message = "no"\n'
    )
    assert cli("default", "set", "accept", "message=no").out == "nothing to change\n"


def test_all_servers_at_once(cli: Cli) -> None:
    said = cli("default", "set", "all", "authority=no", "--json")
    assert said.json["defaults"] == ["default-listen", "default-accept", "default-connect"]
    documents = cli("default", "show", "--json").json["defaults"]
    assert [doc["authority"] for doc in documents] == ["no"] * 3


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["accept", "authority=inherit"], "default accept: authority cannot be inherited"),
        (["all", "audit=maybe"], 'default all: audit is "maybe"; use "yes", "no" or "inherit"\n'),
        (["accept", "when=any"], "there is no key when"),
        (["accept"], "nothing to set"),
        (["accpt", "audit=yes"], "accpt"),
    ],
)
def test_what_is_wrong_is_said_once_and_nothing_is_changed(
    cli: Cli, paths: Paths, rules: Callable[[str], None], words: list[str], error: str
) -> None:
    rules(RULES)
    said = cli("default", "set", *words)
    assert said.code == 2
    assert said.err.count(error) == 1
    assert paths.rules.read_text() == RULES
