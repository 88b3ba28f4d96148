# SPDX-License-Identifier: Apache-2.0
"""Edits of rules.toml: what was asked for happens, and every other byte stays."""

from __future__ import annotations

import tomllib
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockrules.control.rules_edit import (
    EditError,
    Place,
    add,
    disable,
    enable,
    move,
    remove,
    rule_names,
    set_keys,
)

FILE = """\
# Rules of this host.

[default.accept]
authority = "no"   # nobody, unless

# The web.
# Ask the team first.
[[rule]]   # public
name      = "web"
server    = "accept"
authority = "yes"  # for now
when      = '''
local.port in {80, 443} and
program == "/usr/sbin/nginx"
'''
# (and no more)

# ---- lab ----

[[rule]]
name = "lab"
server = "accept"
authority = "no"
active = false
when = "remote.address in 10.9.0.0/16"

# Backups.
[[rule]]
name = "backup"
server = "connect"
authority = "yes"
when = "remote.port == 873"
"""

ANY = {"server": "connect", "authority": "no", "when": "any"}


def rules(text: str) -> list[dict[str, Any]]:
    return list(tomllib.loads(text)["rule"])


def rule(text: str, name: str) -> dict[str, Any]:
    return next(rule for rule in rules(text) if rule["name"] == name)


class TestAdd:
    def test_to_an_empty_file(self) -> None:
        assert add("", {"name": "a", **ANY}) == (
            '[[rule]]\nname      = "a"\nserver    = "connect"\n'
            'authority = "no"\nwhen      = "any"\n'
        )

    def test_goes_last_after_a_blank_line(self) -> None:
        after = add(FILE, {"name": "a", **ANY})
        assert after.startswith(FILE + "\n[[rule]]\n")
        assert rule_names(after) == ["web", "lab", "backup", "a"]

    def test_goes_first_above_the_comments_of_the_first(self) -> None:
        after = add(FILE, {"name": "a", **ANY}, Place("first"))
        assert rule_names(after) == ["a", "web", "lab", "backup"]
        assert 'when      = "any"\n\n# The web.\n' in after

    @pytest.mark.parametrize(
        ("place", "order"),
        [
            (Place("before", rule="lab"), ["web", "a", "lab", "backup"]),
            (Place("after", rule="web"), ["web", "a", "lab", "backup"]),
            (Place("after", rule="backup"), ["web", "lab", "backup", "a"]),
            (Place("to", sequence=20), ["web", "a", "lab", "backup"]),
        ],
    )
    def test_goes_where_it_was_told(self, place: Place, order: list[str]) -> None:
        assert rule_names(add(FILE, {"name": "a", **ANY}, place)) == order

    def test_everything_else_stays(self) -> None:
        for place in (Place("first"), Place("before", rule="backup"), Place("last")):
            after = add(FILE, {"name": "a", **ANY}, place)
            assert not Counter(FILE.splitlines()) - Counter(after.splitlines())
            new = Counter(after.splitlines()) - Counter(FILE.splitlines())
            assert sorted(line for line in new if line) == [
                "[[rule]]",
                'authority = "no"',
                'name      = "a"',
                'server    = "connect"',
                'when      = "any"',
            ]

    def test_before_the_default_rules_that_follow_the_last_rule(self) -> None:
        text = '[[rule]]\nname = "x"\n[default.listen]\nauthority = "no"\n'
        after = add(text, {"name": "a", **ANY})
        assert rule_names(after) == ["x", "a"]
        assert after.endswith('\n\n[default.listen]\nauthority = "no"\n')

    def test_a_taken_name_is_refused(self) -> None:
        with pytest.raises(EditError, match="a rule is named lab already"):
            add(FILE, {"name": "lab", **ANY})

    @given(st.text(st.characters(codec="utf-8")))
    def test_any_text_comes_back_as_it_was(self, value: str) -> None:
        after = add(FILE, {"name": "a", "description": value, **ANY})
        assert rule(after, "a")["description"] == value

    def test_quotes_are_chosen_to_be_read(self) -> None:
        after = add("", {"name": "a", **ANY, "when": 'program == "/opt/our app/x"'})
        assert """when      = 'program == "/opt/our app/x"'\n""" in after


class TestRemove:
    def test_takes_the_rule_and_the_comments_that_belong_to_it(self) -> None:
        after = remove(FILE, "web")
        assert rule_names(after) == ["lab", "backup"]
        assert "The web" not in after
        assert "and no more" not in after
        assert "# ---- lab ----" in after

    def test_leaves_the_other_bytes_alone(self) -> None:
        before, _, rest = FILE.partition("# Backups.\n")
        assert rest
        assert remove(FILE, "backup") == before.removesuffix("\n")

    def test_the_last_one(self) -> None:
        assert remove('[[rule]]\nname = "a"\n', "a") == ""

    def test_an_unknown_name_is_refused_with_the_nearest(self) -> None:
        with pytest.raises(EditError, match="no rule is named labb; did you mean lab?"):
            remove(FILE, "labb")

    def test_default_rules_are_not_removed(self) -> None:
        with pytest.raises(EditError, match=r"edited in the file, in \[default.accept\]"):
            remove(FILE, "default-accept")

    def test_two_of_one_name_are_not_guessed_between(self) -> None:
        with pytest.raises(EditError, match="2 rules are named a"):
            remove('[[rule]]\nname = "a"\n[[rule]]\nname = "a"\n', "a")


class TestMove:
    @pytest.mark.parametrize(
        ("name", "place", "order"),
        [
            ("backup", Place("first"), "backup web lab"),
            ("web", Place("last"), "lab backup web"),
            ("web", Place("after", rule="lab"), "lab web backup"),
            ("backup", Place("before", rule="lab"), "web backup lab"),
            ("web", Place("to", sequence=30), "lab backup web"),
            ("web", Place("to", sequence=20), "lab web backup"),
            ("backup", Place("to", sequence=10), "backup web lab"),
            ("backup", Place("to", sequence=15), "web backup lab"),
            ("web", Place("to", sequence=25), "lab web backup"),
            ("web", Place("to", sequence=5000), "lab backup web"),
            ("backup", Place("to", sequence=1), "backup web lab"),
        ],
    )
    def test_goes_where_it_was_told(self, name: str, place: Place, order: str) -> None:
        assert rule_names(move(FILE, name, place)) == order.split()

    @pytest.mark.parametrize(
        ("name", "place"),
        [
            ("web", Place("first")),
            ("backup", Place("last")),
            ("lab", Place("after", rule="web")),
            ("lab", Place("to", sequence=20)),
        ],
    )
    def test_to_where_it_is_changes_nothing(self, name: str, place: Place) -> None:
        assert move(FILE, name, place) == FILE

    def test_comments_go_along_and_headings_stay(self) -> None:
        after = move(FILE, "web", Place("last"))
        head, lab, rest = after.partition('name = "lab"')
        assert lab
        assert "# ---- lab ----" in head
        assert "The web" not in head
        assert "# The web.\n# Ask the team first.\n[[rule]]   # public\n" in rest
        assert rest.endswith("'''\n# (and no more)\n")

    def test_before_itself_is_refused(self) -> None:
        with pytest.raises(EditError, match="before itself"):
            move(FILE, "lab", Place("before", rule="lab"))

    def test_next_to_nobody_is_refused(self) -> None:
        with pytest.raises(EditError, match="no rule is named nobody"):
            move(FILE, "lab", Place("before", rule="nobody"))

    @given(st.permutations("abcde"), st.integers(0, 4), st.integers(1, 60), st.booleans())
    def test_every_rule_and_comment_survives_any_move(
        self, names: list[str], which: int, sequence: int, apart: bool
    ) -> None:
        gap = "\n" if apart else ""
        text = gap.join(f'# of {name}\n[[rule]]\nname = "{name}"\n' for name in names)
        after = move(text, names[which], Place("to", sequence=sequence))
        assert sorted(filter(None, after.splitlines())) == sorted(filter(None, text.splitlines()))
        others = [name for name in names if name != names[which]]
        assert [name for name in rule_names(after) if name != names[which]] == others
        for name in names:
            assert f'# of {name}\n[[rule]]\nname = "{name}"\n' in after
        if sequence % 10 == 0:
            at = min(sequence // 10, len(names)) - 1
            assert rule_names(after)[at] == names[which]

    def test_there_and_back_is_the_same_file(self) -> None:
        text = "\n".join(f'# of {name}\n[[rule]]\nname = "{name}"\n' for name in "abc")
        assert move(move(text, "a", Place("last")), "a", Place("first")) == text


class TestSet:
    def test_a_value_changes_and_its_comment_stays(self) -> None:
        after = set_keys(FILE, "web", {"authority": "no"})
        assert after == FILE.replace('"yes"  # for now', '"no"  # for now')

    def test_a_value_of_several_lines(self) -> None:
        after = set_keys(FILE, "web", {"when": "any"})
        assert rule(after, "web")["when"] == "any"
        assert 'when      = "any"\n# (and no more)\n' in after

    def test_a_new_key_stands_in_line_with_the_others(self) -> None:
        after = set_keys(FILE, "web", {"audit": "yes"})
        assert 'authority = "yes"  # for now\naudit     = "yes"\nwhen      =' in after

    def test_a_long_key_breaks_no_line(self) -> None:
        after = set_keys(FILE, "backup", {"description": "to the vault"})
        assert 'name = "backup"\ndescription = "to the vault"\nserver' in after

    def test_in_a_file_without_a_last_newline(self) -> None:
        after = set_keys('[[rule]]\nname = "a"', "a", {"audit": "no"})
        assert after == '[[rule]]\nname = "a"\naudit = "no"\n'

    @given(st.text(st.characters(codec="utf-8")))
    def test_any_text_comes_back_as_it_was(self, value: str) -> None:
        after = set_keys(FILE, "lab", {"description": value, "when": value})
        assert rule(after, "lab")["description"] == value
        assert rule(after, "lab")["when"] == value
        assert rule(after, "web") == rule(FILE, "web")


class TestEnableAndDisable:
    def test_disable_touches_one_line(self) -> None:
        after = disable(FILE, "backup")
        lines = [line for line in after.splitlines() if line not in FILE.splitlines()]
        assert lines == ['active = "no"']

    def test_a_toml_boolean_stays_one(self) -> None:
        assert enable(FILE, "lab") == FILE.replace("active = false", "active = true")

    def test_what_is_active_by_default_is_left_alone(self) -> None:
        assert enable(FILE, "web") == FILE

    def test_test_is_independent(self) -> None:
        text = set_keys(FILE, "web", {"test": "yes"})
        assert rule(disable(text, "web"), "web")["test"] == "yes"

    def test_there_and_back(self) -> None:
        once = disable(FILE, "web")
        assert disable(once, "web") == once
        assert rule(enable(once, "web"), "web")["active"] == "yes"


class TestForms:
    def test_line_ends_are_kept(self) -> None:
        text = FILE.replace("\n", "\r\n")
        for after in (
            add(text, {"name": "a", **ANY}),
            set_keys(text, "web", {"audit": "no"}),
            move(text, "web", Place("last")),
            disable(text, "backup"),
        ):
            assert after.count("\n") == after.count("\r\n")

    def test_headers_inside_texts_are_no_headers(self) -> None:
        text = '[[rule]]\nname = "a"\ndescription = """\n[[rule]]\n# x"""\n[[rule]]\nname = "b"\n'
        assert rule_names(text) == ["a", "b"]
        assert remove(text, "b") == text.removesuffix('[[rule]]\nname = "b"\n')

    def test_rules_without_blank_lines_stay_so(self) -> None:
        text = '[[rule]]\nname = "a"\n# of b\n[[rule]]\nname = "b"\n'
        assert move(text, "b", Place("first")) == (
            '# of b\n[[rule]]\nname = "b"\n[[rule]]\nname = "a"\n'
        )

    @pytest.mark.parametrize(
        "text", ["[[rule]\n", 'rule = [{name = "a"}]\n', "name = 1\nname = 2\n", "rule = 3\n"]
    )
    def test_what_cannot_be_edited_is_refused(self, text: str) -> None:
        with pytest.raises(EditError, match="cannot be edited"):
            disable(text, "a")
