# SPDX-License-Identifier: Apache-2.0
"""No rule set makes the compiler run away: hostile ones cost in proportion, or are refused.

Work is counted as calls of functions, memory as bytes allocated, so that a busy machine
fails nothing. Whatever is refused names the rules that cost most and what is cheaper.
"""

from __future__ import annotations

import random
import sys
import tracemalloc
from collections.abc import Callable
from types import FrameType

import pytest

import rulegen
from rulegen import MAPPED, prefix
from sockrules.control import compile as compiler
from sockrules.control.compile import compile_table
from sockrules.control.condition import And, Comparison, Condition, Not, Or, merge_ranges
from sockrules.control.model import Field, Rule, RuleSet, Server
from sockrules.control.table import CompileError, Limits

RA, LA, RP, LP, USER = (
    Field.REMOTE_ADDRESS,
    Field.LOCAL_ADDRESS,
    Field.REMOTE_PORT,
    Field.LOCAL_PORT,
    Field.USER,
)


def one(field: Field, value: int, *, negated: bool = False) -> Comparison:
    return Comparison(field, ranges=((value, value),), negated=negated)


def nested_prefixes(count: int, rng: random.Random) -> list[Condition]:
    base = rng.getrandbits(128)
    return [
        And((Comparison(RA, ranges=(prefix(base, 128 - n % 129),)), one(RP, 1 + n % 65535)))
        for n in range(count)
    ]


def every_rule_negated(count: int, rng: random.Random) -> list[Condition]:
    def outside() -> Comparison:
        return Comparison(RA, ranges=(prefix(MAPPED | rng.getrandbits(32), 120),), negated=True)

    return [And((outside(), one(RP, 1 + n % 65535, negated=True))) for n in range(count)]


def rectangles(count: int, rng: random.Random) -> list[Condition]:
    def some(field: Field, last: int) -> Comparison:
        a, b = sorted((rng.randint(1, last), rng.randint(1, last)))
        return Comparison(field, ranges=((a, b),))

    return [And((some(RP, 65535), some(LP, 65535), some(USER, 1 << 31))) for _ in range(count)]


def all_wildcards_of_long_lists(count: int, rng: random.Random) -> list[Condition]:
    hosts = [prefix(MAPPED | rng.getrandbits(32), rng.choice((96, 104, 120))) for _ in range(600)]
    lists = [merge_ranges(rng.sample(hosts, 200)) for _ in range(30)]
    return [
        And(
            (
                Comparison(rng.choice((RA, LA)), ranges=rng.choice(lists), negated=n % 2 == 0),
                one(RP, 1 + n % 65535),
            )
        )
        for n in range(count)
    ]


def a_list_for_every_rule(count: int, rng: random.Random) -> list[Condition]:
    return [
        And((Comparison(RA, ranges=merge_ranges(hosts)), one(RP, 1 + n % 65535)))
        for n in range(count)
        for hosts in [[(MAPPED | host, MAPPED | host) for host in rng.sample(range(1 << 32), 90)]]
    ]


def deep_booleans(count: int, rng: random.Random) -> list[Condition]:
    source = rulegen.Source(rng.getrandbits(32))

    def build(depth: int) -> Condition:
        if depth == 0:
            return source.comparison(Server.CONNECT)
        pair = (build(depth - 1), build(depth - 1))
        return Not(And(pair)) if depth % 3 == 0 else Or(pair) if depth % 2 else And(pair)

    return [build(4) for _ in range(count)]


FAMILIES: list[tuple[Callable[[int, random.Random], list[Condition]], int]] = [
    (nested_prefixes, 1000),
    (every_rule_negated, 1000),
    (rectangles, 1000),
    (all_wildcards_of_long_lists, 1000),
    (a_list_for_every_rule, 200),
    (deep_booleans, 60),
]


def rules_of(conditions: list[Condition]) -> tuple[Rule, ...]:
    return tuple(Rule(f"r{n}", Server.CONNECT, True, c, n) for n, c in enumerate(conditions))


def outcome(rules: tuple[Rule, ...], limits: Limits | None = None) -> CompileError | None:
    try:
        compile_table(RuleSet(rules), rules, limits=limits)
    except CompileError as error:
        return error
    return None


def calls(rules: tuple[Rule, ...]) -> int:
    count = 0

    def called(_: FrameType, event: str, __: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(called)
    try:
        outcome(rules)
    finally:
        sys.setprofile(None)
    return count


def allocated(rules: tuple[Rule, ...]) -> int:
    tracemalloc.start()
    try:
        outcome(rules)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("family", "count"), FAMILIES, ids=lambda each: getattr(each, "__name__", "")
)
def test_twice_the_rules_cost_about_twice(
    family: Callable[[int, random.Random], list[Condition]], count: int
) -> None:
    once, twice = (rules_of(family(many, random.Random(1))) for many in (count, 2 * count))
    outcome(once)  # what is computed once in a process
    assert calls(twice) < 2.5 * calls(once) + 20_000
    assert allocated(twice) < 2.5 * allocated(once) + (4 << 20)


@pytest.mark.parametrize(
    ("family", "count"), FAMILIES, ids=lambda each: getattr(each, "__name__", "")
)
def test_what_does_not_fit_is_refused_by_name(
    family: Callable[[int, random.Random], list[Condition]], count: int
) -> None:
    """Whichever limit is reached first: the error has rules of the set, and a remedy."""
    rules = rules_of(family(count, random.Random(1)))
    names = {rule.name for rule in rules}
    for limits in (Limits(entries=40), Limits(steps=2), Limits(slots=8), Limits(bounds=20)):
        error = outcome(rules, limits)
        if error is None:
            assert limits.bounds == 20  # there are none in this family
            continue
        assert error.rules and len(error.rules) <= 5 and set(error.rules) <= names
        assert all(problem.hint for problem in error.problems)


def test_boxes_are_counted_over_all_rules() -> None:
    wide = [
        Comparison(RP, ranges=tuple((p, p) for p in range(100 * n, 100 * n + 24, 2)))
        for n in range(1, 10)
    ]
    rules = rules_of([*(one(RP, n + 1) for n in range(9)), *wide])
    error = outcome(rules, Limits(entries=100))
    assert error is not None and error.rules == ("r9", "r10", "r11", "r12", "r13")
    assert "the rules need" in str(error) and "shorten their sets" in str(error)


def test_the_bounds_of_long_sets_are_counted() -> None:
    hosts = tuple((MAPPED | 2 * n, MAPPED | 2 * n) for n in range(300))
    rules = rules_of([one(RP, 80), Comparison(RA, ranges=hosts)])
    error = outcome(rules, Limits(bounds=500))
    assert error is not None and error.rules[0] == "r1"
    assert "600 bounds in one field" in str(error) or "601 bounds in one field" in str(error)
    assert "join neighbouring prefixes" in str(error)


def test_the_work_for_all_conditions_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many conditions, each just about bearable: the compiler stops at a sum, not after all."""
    monkeypatch.setattr(compiler, "_WORK", 20_000)
    looked_at = 0
    cubes_of = compiler.cubes_of

    def counted(*arguments: object) -> object:
        nonlocal looked_at
        looked_at += 1
        return cubes_of(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(compiler, "cubes_of", counted)
    rules = rules_of(deep_booleans(2000, random.Random(1)))
    error = outcome(rules)
    assert error is not None and "together combine too much" in str(error)
    assert 0 < len(error.rules) <= 5
    assert looked_at < 1000


def test_tangled_conditions_are_given_up_after_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "_RULE_WORK", 500)
    tangle = And(
        tuple(Or((one(RP, n, negated=True), one(LP, n, negated=True))) for n in range(1, 60, 2))
    )
    error = outcome(rules_of([tangle] * 5000))
    assert error is not None and error.rules == ("r0", "r1", "r2", "r3", "r4")
    assert "split the rule" in str(error)
