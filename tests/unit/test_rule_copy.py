# SPDX-License-Identifier: Apache-2.0
"""A copied rule says the same under another name; the original stays as it was."""

from __future__ import annotations

import tomllib

import pytest

from sockrules.control.rules_edit import EditError, Place, copy, rule_names

TEXT = """\
# Ours.

# Telnet is for
# the lab.
[[rule]]
name   = "no-telnet" # by order
server = "connect"
# of the board
authority = "no"
when = '''
remote.port == 23'''
# until further notice

[[rule]]
name = "last"
server = "listen"
authority = "yes"
when = "any"
"""


def test_a_copy_follows_its_original_without_the_comments_around_it() -> None:
    after = copy(TEXT, "no-telnet", "no-rlogin")
    added = """\
[[rule]]
name   = "no-rlogin" # by order
server = "connect"
# of the board
authority = "no"
when = '''
remote.port == 23'''
"""
    assert after == TEXT.replace("notice\n\n", f"notice\n\n{added}\n")


@pytest.mark.parametrize(
    ("place", "order"),
    [
        (None, ["no-telnet", "new", "last"]),
        (Place("first"), ["new", "no-telnet", "last"]),
        (Place("last"), ["no-telnet", "last", "new"]),
        (Place("before", rule="last"), ["no-telnet", "new", "last"]),
        (Place("after", rule="last"), ["no-telnet", "last", "new"]),
        (Place("to", sequence=30), ["no-telnet", "last", "new"]),
    ],
)
def test_a_copy_goes_where_it_is_told(place: Place | None, order: list[str]) -> None:
    after = copy(TEXT, "no-telnet", "new", place)
    assert rule_names(after) == order
    rules = {rule["name"]: rule for rule in tomllib.loads(after)["rule"]}
    assert rules["new"] == {**rules["no-telnet"], "name": "new"}
    without = [rule for rule in tomllib.loads(after)["rule"] if rule["name"] != "new"]
    assert without == tomllib.loads(TEXT)["rule"]


def test_the_last_rule_of_a_file_that_ends_in_mid_line() -> None:
    after = copy(TEXT.removesuffix("\n"), "last", "new")
    assert rule_names(after) == ["no-telnet", "last", "new"]


def test_line_ends_are_kept() -> None:
    text = TEXT.replace("\n", "\r\n")
    after = copy(text, "no-telnet", "new")
    assert after.count("\r\n") == after.count("\n")


@pytest.mark.parametrize(
    ("name", "new", "why"),
    [
        ("no-telent", "new", "did you mean no-telnet"),
        ("no-telnet", "last", "a rule is named last already"),
    ],
)
def test_what_cannot_be_copied(name: str, new: str, why: str) -> None:
    with pytest.raises(EditError, match=why):
        copy(TEXT, name, new)
