# SPDX-License-Identifier: Apache-2.0
"""What `apply` and `history` say has changed: everything that did, and nothing else."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from sockrules.control.difference import (
    LISTS_CHANGED,
    compare,
    condition_text,
    document,
    text_difference,
)
from sockrules.control.model import Product, RuleSet, Server
from sockrules.control.names import FixedNames
from sockrules.control.rules_file import parse_rules


def rules(text: str, lists: dict[str, str] | None = None) -> RuleSet:
    names = FixedNames({"root": 0, "www-data": 33}, {}, lists or {})
    return parse_rules(text, file="rules.toml", names=names).ruleset


def rule(name: str, when: str = "any", **more: str) -> str:
    fields = {"name": name, "server": "accept", "authority": "no", "when": when, **more}
    return "[[rule]]\n" + "".join(f'{key} = "{value}"\n' for key, value in fields.items())


def listed(*names: str) -> RuleSet:
    return rules("".join(rule(name) for name in names))


def test_the_same_rules_do_not_differ() -> None:
    difference = compare(listed("a", "b"), listed("a", "b"))
    assert difference.empty
    assert document(difference)["same"] is True


def test_a_rule_in_front_moves_nothing() -> None:
    difference = compare(listed("a", "b"), listed("new", "a", "b"))
    assert [each.name for each in difference.added] == ["new"]
    assert not difference.moved
    assert not difference.changed
    assert not difference.empty


def test_a_removed_rule_moves_nothing() -> None:
    difference = compare(listed("a", "b", "c"), listed("b", "c"))
    assert [each.name for each in difference.removed] == ["a"]
    assert not difference.moved


def test_the_rule_that_was_moved_is_named_and_no_other() -> None:
    [moved] = compare(listed("a", "b", "c", "d"), listed("b", "c", "d", "a")).moved
    assert (moved.name, moved.before, moved.after) == ("a", 10, 40)


def test_fields_that_changed_are_told_with_both_values() -> None:
    before = rules(rule("a", "local.port == 22"))
    after = rules(rule("a", "local.port in {22, 80}", active="no", audit="yes"))
    [changed] = compare(before, after).changed
    assert changed.fields == {
        "when": ("local.port == 22", "local.port in {22, 80}"),
        "active": ("yes", "no"),
        "audit": ("inherit", "yes"),
    }


def test_a_list_that_changed_changes_the_rules_that_name_it() -> None:
    text = rule("a", "remote.address in @x") + rule("b")
    [changed] = compare(rules(text, {"x": "10.0.0.1"}), rules(text, {"x": "10.0.0.2"})).changed
    assert changed.name == "a"
    assert changed.fields == {"when": ("remote.address in @x", LISTS_CHANGED)}


def test_defaults_and_product_configuration_are_compared() -> None:
    before = listed("a")
    after = rules(rule("a") + '[default.connect]\nauthority = "no"\n')
    after = dataclasses.replace(after, product=Product(audit=True))
    difference = compare(before, after)
    [default] = difference.defaults
    assert (default.name, default.fields) == ("default-connect", {"authority": ("yes", "no")})
    assert difference.product == {"audit": ("no", "yes")}
    assert document(difference)["product"] == {"audit": ["no", "yes"]}


def test_conditions_read_as_they_were_written() -> None:
    text = "local.port == 22 and not (user == root or remote.address == ::1) and not user == 33"
    [only] = rules(rule("a", text)).rules
    assert condition_text(only.when) == text
    [again] = rules(rule("a", condition_text(only.when))).rules
    assert again.when == only.when


@given(st.permutations(list("abcdefg")), st.sets(st.sampled_from("abcdefg")))
def test_what_did_not_move_is_in_order_and_the_rest_is_told(
    order: list[str], gone: set[str]
) -> None:
    before = listed(*"abcdefg")
    after = listed(*(name for name in order if name not in gone))
    difference = compare(before, after)
    moved = {each.name for each in difference.moved}
    kept = [each.name for each in after.rules if each.name not in moved]
    assert kept == sorted(kept)
    assert {each.name for each in difference.removed} == gone
    assert difference.empty == (not gone and order == sorted(order))


@given(st.lists(st.sampled_from("abc")), st.lists(st.sampled_from("abc")))
def test_the_text_difference_rebuilds_either_text(old: list[str], new: list[str]) -> None:
    lines = text_difference("\n".join(old), "\n".join(new), ("old", "new"))
    assert bool(lines) == (old != new)
    rebuilt, at = [], 0
    for line in lines[2:]:
        if line.startswith("@@"):
            start = int(line.split()[1][1:].partition(",")[0])
            count = line.split()[1].partition(",")[2]
            start -= 0 if count == "0" else 1
            rebuilt += old[at:start]
            at = start
        elif line[0] == "+":
            rebuilt.append(line[1:])
        else:
            assert old[at] == line[1:]
            at += 1
            if line[0] == " ":
                rebuilt.append(line[1:])
    assert rebuilt + old[at:] == new


def test_servers_are_worded() -> None:
    before, after = rules(rule("a")), rules(rule("a", server="listen"))
    [changed] = compare(before, after).changed
    assert changed.fields == {"server": ("accept", Server.LISTEN.word)}
