# SPDX-License-Identifier: Apache-2.0
"""Plain rules, read straight into columns, become the very bytes that cubes would make of them."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

import rulegen
from sockrules.control.compile import compile_table
from sockrules.control.condition import Comparison, Not
from sockrules.control.model import Field, RuleSet, Server
from sockrules.control.plain import PlainBoxes
from sockrules.control.table import CompileError, Limits, Table

ROOMY = Limits(steps=100_000)


def parts(table: Table) -> tuple[object, ...]:
    numbers = (table.programs, table.directories, table.units, table.cgroups)
    return (table.header, table.entries, table.slots, table.bounds, *numbers, table.required)


def outcome(ruleset: RuleSet) -> object:
    try:
        return parts(compile_table(ruleset, ruleset.rules, limits=ROOMY))
    except CompileError as error:
        return str(error)


def with_negations(ruleset: RuleSet, rng: random.Random) -> RuleSet:
    """Some rules ask for the opposite of others' ranges, so that these ranges get a bit."""
    rules = list(ruleset.rules)
    for rule in rng.sample(rules, 20):
        for asked in rulegen.leaves(rule.when):
            if asked.field is not Field.PROGRAM:
                rules.append(replace(rule, name=f"not-{len(rules)}", when=Not(asked)))
    return replace(ruleset, rules=tuple(rules))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("kind", ("access", "any", "negated"))
def test_plain_rules_become_the_same_bytes(
    kind: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ruleset = rulegen.Source(seed).ruleset(150, access=kind != "any", depth=1)
    if kind == "negated":
        ruleset = with_negations(ruleset, random.Random(seed))
    fast = outcome(ruleset)
    monkeypatch.setattr(PlainBoxes, "take", lambda *_: False)
    assert fast == outcome(ruleset)


@pytest.mark.parametrize("field", [Field.USER, Field.REMOTE_ADDRESS, Field.LOCAL_PORT])
def test_what_is_hardly_plain(field: Field, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ends of a field's domain, more than it has, ranges that are three boxes."""
    first, last = rulegen.first_of(field), rulegen.last_of(field)
    ends = (first, last, first - 1, last + 1, first + 1, last - 1, (1 << 64) + 7, 5)
    asked = [Comparison(field, ranges=((a, b),)) for a in ends for b in ends if a <= b]
    rules = tuple(
        replace(rulegen.Source(1).access_rule(n), server=Server.ACCEPT, when=when)
        for n, when in enumerate([*asked, *map(Not, asked[::3])])
    )
    fast = outcome(RuleSet(rules))
    monkeypatch.setattr(PlainBoxes, "take", lambda *_: False)
    assert fast == outcome(RuleSet(rules))
