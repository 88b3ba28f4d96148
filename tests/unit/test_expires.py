# SPDX-License-Identifier: Apache-2.0
"""`expires` is a time in the file, not a text, also when a command makes or edits the rule."""

from __future__ import annotations

from datetime import UTC, datetime

from sockrules.control.names import FixedNames
from sockrules.control.rules_edit import add, set_keys
from sockrules.control.rules_file import parse_rules

MOMENT = "2026-12-31T00:00:00Z"


def expires(text: str) -> datetime | None:
    return parse_rules(text, file="rules.toml", names=FixedNames()).ruleset.rules[0].expires


def test_it_is_written_without_quotes() -> None:
    keys = {"name": "r", "server": "listen", "authority": "no", "when": "any"}
    text = add("", keys | {"expires": MOMENT})
    assert f"expires   = {MOMENT}\n" in text
    assert expires(text) == datetime(2026, 12, 31, tzinfo=UTC)
    later = set_keys(text, "r", {"expires": "2027-06-30T12:00:00+02:00"})
    assert expires(later) == datetime(2027, 6, 30, 10, tzinfo=UTC)
    assert expires(set_keys(add("", keys), "r", {"expires": MOMENT})) == expires(text)
