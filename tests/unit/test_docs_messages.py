# SPDX-License-Identifier: Apache-2.0
"""docs/messages.md says what is so."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

from sockrules.control.agent_file import MessageSettings, known_keys, parse_agent_config
from sockrules.control.messages import KINDS, REQUESTS, SEVERITIES, filled

PAGE = (Path(__file__).parents[2] / "docs" / "messages.md").read_text(encoding="utf-8")


def block(mark: str) -> str:
    found = re.search(rf"<!-- {re.escape(mark)} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    assert found
    return found[1]


def test_the_settings_are_all_there_and_as_shipped() -> None:
    text = block("agent.toml")
    assert set(tomllib.loads(text)["messages"]) == set(known_keys()["messages"])
    assert parse_agent_config(text, file="agent.toml").messages == MessageSettings()


def test_every_identifier_is_explained_with_its_severity() -> None:
    rows = dict(re.findall(r"^\| `(SR\w+)` \| (\w+) \|", PAGE, re.MULTILINE))
    assert rows == {name: SEVERITIES[kind.severity] for name, kind in KINDS.items()}


def test_the_example_is_a_message() -> None:
    example = json.loads(block("message"))
    kind = REQUESTS["connect", "rejected"]
    assert example["identifier"] == kind.identifier
    assert example["text"] == filled(kind.template, example["data"])
    assert example["text"] in PAGE.partition("## What")[0]
