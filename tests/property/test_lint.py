# SPDX-License-Identifier: Apache-2.0
"""What lint says of random rules is true, judged by the linear reference.

A rule said never to be reached decides none of many requests aimed at it. A
rule of which that is not said decides the very request that is its witness.
Without a redundant rule every request gets the same verdict.
"""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rulegen
from sockrules.control.condition import And, Condition, Not, Or, Time
from sockrules.control.evaluate import deciding_rule, matches
from sockrules.control.lint import Finding, lint
from sockrules.control.model import Rule, RuleSet, verdict_of
from sockrules.control.reach import examine
from sockrules.control.week import minutes_of

NEVER_REACHED = {"impossible", "shadowed", "unreachable"}
MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
PERIODS = ("mon-fri", "08:00-18:00", "18:00-08:00", "sat-sun", "sun 23:00-01:00", "fri-mon")


def check(ruleset: RuleSet, seed: int, requests: int = 60) -> list[Finding]:
    """Judge every finding about a set; the findings."""
    findings = lint(ruleset)
    source, rng = rulegen.Source(seed), random.Random(seed)
    never = {finding.rule: finding for finding in findings if finding.kind in NEVER_REACHED}
    rules = {rule.name: rule for rule in ruleset.rules}
    for rule in ruleset.rules:
        aimed = [source.aimed(rule) for _ in range(requests)]
        for request in [*aimed, *source.requests(ruleset.rules, 5)]:
            moment = MONDAY + timedelta(minutes=rng.randrange(10080))
            decided = deciding_rule(ruleset, ruleset.rules, request, moment)
            assert decided.name not in never, f"{never.get(decided.name)} decides {request}"
            if rule.name in never and request.server is rule.server:
                by = {rules[name] for name in never[rule.name].by}
                assert not matches(rule, request, moment) or any(
                    matches(each, request, moment) for each in by
                ), f"{never[rule.name]}: not {request}"
    check_redundant(ruleset, findings, source, rng)
    for finding in findings:
        if finding.kind == "overlap":
            assert finding.example
    reach = examine(ruleset, ruleset.rules, 1 << 40)
    witnessed = {rule.name for rule, _, _ in reach.witnesses}
    assert witnessed | set(never) | {rule.name for rule in reach.unproven} == set(rules)
    assert not witnessed & set(never)
    for rule, request, moment in reach.witnesses:
        assert deciding_rule(ruleset, ruleset.rules, request, moment).name == rule.name
    for rule, before, request in reach.overlaps:
        assert any(matches(rule, request, moment_) for moment_ in week())
        assert before[0].authority is not rule.authority
    return findings


def week() -> list[datetime]:
    return [MONDAY + timedelta(minutes=30 * half) for half in range(336)]


def check_redundant(
    ruleset: RuleSet, findings: list[Finding], source: rulegen.Source, rng: random.Random
) -> None:
    rules = {rule.name: rule for rule in ruleset.rules}
    for finding in findings:
        if finding.kind != "redundant":
            continue
        fewer = tuple(rule for rule in ruleset.rules if rule.name != finding.rule)
        for _ in range(40):
            request = source.aimed(rules[finding.rule])
            moment = MONDAY + timedelta(minutes=rng.randrange(10080))
            was = verdict_of(ruleset, deciding_rule(ruleset, ruleset.rules, request, moment))
            now = verdict_of(ruleset, deciding_rule(ruleset, fewer, request, moment))
            assert replace(was, rule="", sequence=0) == replace(now, rule="", sequence=0), finding


def with_times(ruleset: RuleSet, rng: random.Random) -> RuleSet:
    def timed(rule: Rule) -> Rule:
        asked: Condition = Time(minutes_of(rng.choice(PERIODS)), rng.random() < 0.3, "time")
        match rng.randrange(5):
            case 0:
                return replace(rule, when=And((rule.when, asked)))
            case 1:
                return replace(rule, when=Or((rule.when, And((asked, rule.when)))))
            case 2:
                return replace(rule, when=Not(Or((asked, rule.when))))
            case _:
                return rule

    return replace(ruleset, rules=tuple(timed(rule) for rule in ruleset.rules))


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(rulegen.rulesets(), st.integers(0, 1 << 30))
def test_any_rules(ruleset: RuleSet, seed: int) -> None:
    check(ruleset, seed, 15)


@pytest.mark.parametrize("seed", range(40))
def test_random_sets(seed: int) -> None:
    check(rulegen.Source(seed).ruleset(1 + seed, depth=1 + seed % 3), seed)


@pytest.mark.parametrize("seed", range(40))
def test_random_sets_with_times(seed: int) -> None:
    rng = random.Random(seed)
    check(with_times(rulegen.Source(seed).ruleset(12, depth=1 + seed % 2), rng), seed)


@pytest.mark.parametrize("seed", range(20))
def test_rules_cut_in_pieces_are_seen_to_cover(seed: int) -> None:
    """A rule behind the pieces of its own condition is never reached, however it was cut."""
    rng, source = random.Random(seed), rulegen.Source(seed)
    whole = source.rule(0, depth=1)
    parts: list[Condition] = [whole.when]
    for _ in range(4):
        at = rng.randrange(len(parts))
        cut = source.comparison(whole.server)
        parts[at : at + 1] = [And((parts[at], cut)), And((parts[at], Not(cut)))]
    rng.shuffle(parts)
    pieces = [replace(whole, name=f"p{n}", when=part) for n, part in enumerate(parts)]
    last = replace(whole, name="last")
    findings = check(RuleSet((*pieces, last)), seed)
    [said] = [finding for finding in findings if finding.rule == "last"]
    assert said.kind in NEVER_REACHED
    for missing in said.by if said.kind == "unreachable" else ():  # none is named without need
        named = [piece for piece in pieces if piece.name in said.by and piece.name != missing]
        kinds = {f.kind for f in lint(RuleSet((*named, last))) if f.rule == "last"}
        assert not kinds & NEVER_REACHED


def test_hundreds_of_access_rules() -> None:
    findings = check(rulegen.Source(7).ruleset(400, access=True), 7, 3)
    assert {"redundant", "overlap"} <= {finding.kind for finding in findings}


@pytest.mark.parametrize("seed", range(10))
def test_rules_that_expire(seed: int) -> None:
    rng = random.Random(seed)
    ruleset = rulegen.Source(seed).ruleset(20, depth=1)
    rules = tuple(
        replace(rule, expires=MONDAY + timedelta(days=rng.randrange(-3, 9)))
        if rng.random() < 0.5
        else rule
        for rule in ruleset.rules
    )
    ruleset = replace(ruleset, rules=rules)
    findings = lint(ruleset, now=MONDAY)
    never = {finding.rule for finding in findings if finding.kind in NEVER_REACHED}
    expired = {finding.rule for finding in findings if finding.kind == "expired"}
    assert expired == {rule.name for rule in rules if rule.expired(MONDAY)}
    source = rulegen.Source(seed)
    for request in source.requests(rules, 1500):
        moment = MONDAY + timedelta(minutes=rng.randrange(14 * 1440))
        assert deciding_rule(ruleset, rules, request, moment).name not in never | expired
