# SPDX-License-Identifier: Apache-2.0
"""Paths that are one file are one program, in every rule that names any of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rulegen
from judging import judge
from sockrules.control.compile import compile_table
from sockrules.control.condition import And, Comparison, Not, Or
from sockrules.control.evaluate import deciding_rule
from sockrules.control.model import Field, Request, Rule, RuleSet, Server
from sockrules.control.same import (
    grouped,
    identified,
    identified_set,
    named,
    program_run,
    same_files,
)


def about(*paths: str, negated: bool = False, name: str = "r", authority: bool = False) -> Rule:
    when = Comparison(Field.PROGRAM, paths=paths, negated=negated)
    return Rule(name, Server.CONNECT, authority, when, 10)


def deciding(*rules: Rule, program: str | None) -> str:
    request = Request(Server.CONNECT, program=program_run(program))
    ruleset = identified_set(RuleSet(rules))
    judge(ruleset, compile_table(ruleset, ruleset.rules), [request])
    return deciding_rule(ruleset, ruleset.rules, request).name


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """python3 -> python3.11, a hard link python3-hard, and lib -> lib64 with a tool in it."""
    (tmp_path / "python3.11").write_text("x")
    (tmp_path / "python3").symlink_to("python3.11")
    os.link(tmp_path / "python3.11", tmp_path / "python3-hard")
    (tmp_path / "lib64").mkdir()
    (tmp_path / "lib").symlink_to("lib64")
    (tmp_path / "lib64" / "tool").write_text("y")
    return tmp_path


@pytest.mark.parametrize("asked", ["python3", "python3.11"])
@pytest.mark.parametrize("run", ["python3", "python3.11"])
def test_a_link_and_what_it_names_are_one_program(python: Path, asked: str, run: str) -> None:
    first, second = about(str(python / asked)), about(str(python / "python3"), name="later")
    assert deciding(first, second, program=str(python / run)) == "r"
    other = about(str(python / asked), negated=True)
    assert deciding(other, program=str(python / run)) == "default-connect"


def test_both_named_in_one_rule_set_hold_in_both_rules(python: Path) -> None:
    link, file = str(python / "python3"), str(python / "python3.11")
    for first, second in ((link, file), (file, link)):
        rules = (about(first, name="first"), about(second, name="second"))
        assert deciding(*rules, program=link) == deciding(*rules, program=file) == "first"


def test_hard_links_that_are_named_are_one_program(python: Path) -> None:
    hard, file = str(python / "python3-hard"), str(python / "python3.11")
    rules = (about(hard, name="hard"), about(file, name="file"))
    assert deciding(*rules, program=file) == "hard"
    assert deciding(*rules, program=hard) == "hard"


def test_a_folder_and_a_link_to_it_are_one(python: Path) -> None:
    for asked in ("lib", "lib64"):
        for run in ("lib", "lib64"):
            rule = about(f"{python / asked}/")
            assert deciding(rule, program=str(python / run / "tool")) == "r"


def test_a_file_is_no_folder_and_what_is_not_there_is_itself(python: Path) -> None:
    gone = str(python / "gone")
    same = same_files([gone, f"{gone}/", str(python / "lib64" / "tool")])
    assert same == {}
    assert deciding(about(gone), program=gone) == "r"


def test_rules_that_name_no_such_path_are_the_same_objects(python: Path) -> None:
    rules = (about("/nowhere"), about(str(python / "python3")))
    joined = identified(rules, same_files(named(rules)))
    assert joined[0] is rules[0]
    assert isinstance(joined[1].when, Comparison)
    assert joined[1].when.paths == (str(python / "python3"), str(python / "python3.11"))


def test_deep_conditions_are_joined_throughout(python: Path) -> None:
    link, file = str(python / "python3"), str(python / "python3.11")
    asked = Comparison(Field.PROGRAM, paths=(link,))
    rule = Rule("r", Server.CONNECT, True, Not(And((Or((asked,)), Not(Not(asked))))), 10)
    assert deciding(rule, program=file) == "default-connect"


@given(st.integers(), st.lists(st.sampled_from(rulegen.PROGRAMS), unique=True, max_size=5))
def test_programs_that_are_one_file_are_decided_alike(seed: int, one: list[str]) -> None:
    """Whatever the rules: the kernel knows the file, and any of its numbers will do."""
    source = rulegen.Source(seed)
    ruleset = source.ruleset(8)
    rules = identified(ruleset.rules, grouped(dict.fromkeys(one, "a file")))
    joined = RuleSet(rules, ruleset.defaults, ruleset.product)
    table = compile_table(joined, rules)
    requests = source.requests(rules, 30)
    judge(joined, table, requests)
    folder = {path: path.rpartition("/")[0] for path in one}
    for request in requests:
        decided = {
            deciding_rule(joined, rules, Request(**{**fields(request), "program": path})).name
            for path in one
            if len({*folder.values()}) == 1
        }
        assert len(decided) <= 1


def fields(request: Request) -> dict[str, object]:
    return {name: getattr(request, name) for name in Request.__slots__}
