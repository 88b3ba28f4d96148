# SPDX-License-Identifier: Apache-2.0
"""What lint says in words, where it points, and what it leaves unsaid."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sockrules.control.condition import And, Comparison, Or
from sockrules.control.lint import Finding, as_problems, hits_of, lint
from sockrules.control.model import Field, Rule, RuleSet, Server
from sockrules.control.names import FixedNames
from sockrules.control.rules_file import parse_rules

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def rules(*lines: str) -> str:
    """Rules of accept, each `NAME yes|no CONDITION`, perhaps with ` ; KEY = VALUE` at its end."""
    text = ""
    for line in lines:
        name, authority, when = line.split(" ", 2)
        when, _, more = when.partition(" ; ")
        text += f'[[rule]]\nname = "{name}"\nserver = "accept"\nauthority = "{authority}"\n'
        text += f'when = "{when}"\n{more}\n'
    return text


def parsed(text: str) -> RuleSet:
    names = FixedNames({"root": 0}, {}, {})
    return parse_rules(text, file="rules.toml", names=names).ruleset


def said(*lines: str, **more: object) -> list[str]:
    """`KIND: message; hint` of every finding."""
    found = lint(parsed(rules(*lines)), **more)  # type: ignore[arg-type]
    return [f"{each.kind}: {each.message}; {each.hint}" for each in found]


def kinds(*lines: str, **more: object) -> set[tuple[str, str]]:
    found = lint(parsed(rules(*lines)), **more)  # type: ignore[arg-type]
    return {(each.kind, each.rule) for each in found}


DENY = '[default.accept]\nauthority = "no"\n'


def test_one_rule_decides_all_that_another_could_match() -> None:
    assert said("web no local.port in {80, 443}", "http yes local.port == 80 and user == root") == [
        "shadowed: rule http is never reached because web decides all it could match; "
        "to allow what it names, move it before web; else remove it"
    ]


def test_several_rules_decide_it_together() -> None:
    assert (
        "unreachable: rule mid is never reached because low and high decide all it could match; "
        "remove it"
    ) in said(
        "else no local.port == 9",
        "low no local.port < 512",
        "high no local.port in 400-1023",
        "mid no local.port in 300-600",
    )


def test_both_halves_of_a_day_and_both_answers_of_a_question() -> None:
    assert ("unreachable", "all") in kinds(
        "nights no time in 22:00-06:00", "days yes time in 06:00-22:00", "all no any"
    )
    assert ("unreachable", "all") in kinds(
        "root no user == root", "not yes user != root", "all no any"
    )
    assert ("unreachable", "all") not in kinds(
        "root no user == 0", "not yes user > 0", "all no any"
    )


def test_a_folder_holds_more_than_the_programs_that_are_named() -> None:
    lines = ["in no program in /usr/bin/", "out no program != /usr/", "rest no program == /usr/x"]
    assert not {kind for kind in kinds(*lines) if kind[0] == "unreachable"}
    assert ("shadowed", "curl") in kinds(
        "in no program in /usr/", "curl yes program == /usr/bin/curl"
    )
    assert ("unreachable", "sbin") in kinds(
        "one no program == /usr/sbin/a",
        "rest yes program != /usr/sbin/a",
        "sbin no program in /usr/sbin/",
    )


def test_contradictions() -> None:
    assert said("x no local.port == 80 and local.port > 100") == [
        "impossible: rule x never matches: its conditions exclude each other; "
        "correct its condition, or remove it"
    ]
    assert ("impossible", "x") in kinds("x no time in mon and time in tue")


def test_what_changes_nothing() -> None:
    assert said("web yes local.port == 80", "all yes local.port < 1024") == [
        "redundant: rule web changes no verdict: "
        "what it decides, all would decide likewise; "
        "remove it, unless its name is wanted",
        "redundant: rule all changes no verdict: "
        "what it decides, default-accept would decide likewise; "
        "remove it, unless its name is wanted",
    ]
    assert ("redundant", "web") not in kinds(
        "web yes local.port == 80 ; capture = true", "all yes any"
    )
    assert ("redundant", "web") not in kinds(
        "web yes local.port == 80", "root no user == root", "all yes local.port < 1024"
    )


def test_of_two_equal_rules_only_one_is_to_go() -> None:
    found = lint(parsed(DENY + rules("a yes local.port == 80", "b yes local.port == 80")))
    assert [(each.kind, each.rule) for each in found] == [("shadowed", "b")]


def test_partial_overlap_with_the_opposite_authority_has_an_example() -> None:
    ruleset = parsed(rules("lab no remote.address in 10.0.0.0/8", "web yes local.port == 80"))
    [found] = (each for each in lint(ruleset) if each.kind == "overlap")
    assert found.message == (
        "rule web and lab before it overlap and disagree: what both match is rejected"
    )
    assert found.example and found.example.local_port == 80
    general = ("web yes local.port == 80", "all no any")
    assert not {
        kind for kind in kinds(*general) if kind[0] == "overlap"
    }  # an exception is no quarrel


def test_a_rule_that_rejects_everything_before_others_that_allow() -> None:
    assert said("none no any", "web yes local.port == 80", "ssh yes local.port == 22")[0] == (
        "deny-all: rule none rejects every accept, so web and ssh behind it never allow any; "
        "put what is allowed before it"
    )
    assert ("deny-all", "none") not in kinds("web yes local.port == 80", "none no any")
    disguised = "none no user == root or user != root"
    assert ("deny-all", "none") in kinds(disguised, "web yes local.port == 80")


def test_expiry() -> None:
    lines = ["old no any ; expires = 2026-05-01T00:00:00Z", "web no local.port == 80"]
    assert ("shadowed", "web") not in kinds(*lines)  # it is reached once old has gone
    assert kinds(*lines, now=NOW) == {("expired", "old")}
    longer = [
        "a no any ; expires = 2027-05-01T00:00:00Z",
        "b no user == 1 ; expires = 2027-01-01T00:00:00Z",
    ]
    assert ("shadowed", "b") in kinds(*longer, now=NOW)


def test_hits() -> None:
    lines = ("a no user == 1", "b no user == 2", "c no user == 3")
    hits = {"a": (5, NOW), "b": (5, NOW - timedelta(days=40))}
    assert said(*lines, hits=hits, now=NOW) == [
        "never-hit: rule b has decided nothing in 30 days, last on 2026-04-22; "
        "remove it if it is not needed any more",
        "never-hit: rule c has never decided anything; remove it if it is not needed any more",
    ]
    since = NOW - timedelta(days=3)  # too short a time to say
    assert kinds(*lines, hits={}, now=NOW, counted_since=since) == set()
    assert ("never-hit", "c") in kinds(
        *lines, hits=hits, now=NOW, counted_since=since, never_hit_days=2
    )


def test_hits_as_the_agent_tells_them() -> None:
    answer = {
        "rules": {"a": {"hits": 5, "last": "2026-06-01T00:00:00Z"}, "b": {"hits": 0, "last": None}}
    }
    assert hits_of(answer) == {"a": (5, NOW), "b": (0, None)}


def test_programs() -> None:
    lines = ("a no program in {/bin/there, /bin/gone}",)
    assert said(*lines, program_exists=lambda path: path != "/bin/gone") == [
        "unknown-program: rule a: program /bin/gone does not exist; it is matched once it is there"
    ]


def test_a_rehearsed_rule_is_judged_by_the_list_it_is_rehearsed_in() -> None:
    lines = ["new no any ; active = false", "web no local.port == 80"]
    assert ("shadowed", "web") not in kinds(*lines)  # the active list does not hold new
    assert ("shadowed", "new") in kinds("web no any", "new no user == 1 ; active = false")


def test_what_costs_too_much_is_counted_not_guessed() -> None:
    ruleset = parsed(rules("web no local.port in {80, 443}", "http yes local.port == 80"))
    assert lint(ruleset, work=0) == [
        Finding(
            "unproven",
            "",
            0,
            ("web", "http"),
            "of 2 rules not everything could be found out at a bearable cost",
        )
    ]

    def not_port(number: int) -> Comparison:
        return Comparison(Field.LOCAL_PORT, ranges=((number, number),), negated=True)

    def not_user(number: int) -> Comparison:
        return Comparison(Field.USER, ranges=((number, number),), negated=True)

    pairs = [Or((not_port(2 * n + 1), not_user(2 * n))) for n in range(30)]
    tangled = Rule("tangled", Server.ACCEPT, False, And(tuple(pairs)), 5)
    found = lint(replace(ruleset, rules=(tangled, *ruleset.rules)))
    assert ("shadowed", "http") in {(each.kind, each.rule) for each in found}
    assert found[-1].kind == "unproven" and "tangled" in found[-1].by


def test_places() -> None:
    text = "# first\n" + rules("web no local.port in {80, 443}", "http yes local.port == 80")
    ruleset = parsed(text)
    [problem] = as_problems(lint(ruleset), ruleset, text, "my.toml")
    assert str(problem).startswith("my.toml:9:8: warning: rule http is never reached because web")
    assert as_problems([], ruleset, text, "my.toml") == []
