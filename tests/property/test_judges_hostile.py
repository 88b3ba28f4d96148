# SPDX-License-Identifier: Apache-2.0
"""Hostile rule sets: each compiles to a table that agrees with the reference, or is refused."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

import rulegen
from judging import judge
from rulegen import MAPPED, prefix
from sockrules.control.compile import compile_table
from sockrules.control.condition import And, Comparison, Condition, Not, Or, merge_ranges
from sockrules.control.model import Field, Rule, RuleSet, Server
from sockrules.control.table import CompileError, Limits

RA, LA, RP, LP = (
    Field.REMOTE_ADDRESS,
    Field.LOCAL_ADDRESS,
    Field.REMOTE_PORT,
    Field.LOCAL_PORT,
)
ROOMY = Limits(steps=100_000)
"""The walk must be right whatever its length; whether it fits the kernel is asked apart."""


def rules_of(conditions: list[Condition]) -> tuple[Rule, ...]:
    return tuple(
        Rule(f"r{n}", Server.CONNECT, n % 2 == 0, when, n) for n, when in enumerate(conditions)
    )


def rectangles(rng: random.Random) -> list[Condition]:
    def some(field: Field, last: int) -> Comparison:
        a, b = sorted((rng.randint(1, last), rng.randint(1, last)))
        return Comparison(field, ranges=((a, b),))

    return [And((some(RP, 65535), some(LP, 65535), some(Field.USER, 1 << 31))) for _ in range(300)]


def address_rectangles(rng: random.Random) -> list[Condition]:
    def some(field: Field, bits: int) -> Comparison:
        a, b = sorted((rng.getrandbits(bits), rng.getrandbits(bits)))
        return Comparison(field, ranges=((a, b),))

    return [And((some(RA, bits), some(LA, bits))) for bits in (128, 66, 64, 34) for _ in range(50)]


def all_negated(rng: random.Random) -> list[Condition]:
    return [
        And(
            (
                Comparison(RA, ranges=(prefix(MAPPED | rng.getrandbits(32), 120),), negated=True),
                Comparison(RP, ranges=((n % 80 + 1,) * 2,), negated=n % 3 == 0),
                Comparison(Field.USER, ranges=((n % 5, n % 5 + n % 2),), negated=True),
            )
        )
        for n in range(150)
    ]


def nested_prefixes(rng: random.Random) -> list[Condition]:
    base = rng.getrandbits(128)
    return [
        And(
            (
                Comparison(RA, ranges=(prefix(base, 128 - n % 129),)),
                Comparison(RP, ranges=((1, 1 + n),)),
            )
        )
        for n in range(400)
    ]


def slash_zero_of_long_lists(rng: random.Random) -> list[Condition]:
    hosts = [prefix(MAPPED | rng.getrandbits(32), rng.choice((0, 96, 120, 128))) for _ in range(90)]
    lists = [merge_ranges(hosts[1:][n : n + 70]) for n in range(12)]
    whole = ((0, (1 << 128) - 1),)
    return [
        Comparison(field, ranges=ranges, negated=negated)
        if n % 2
        else And((Comparison(field, ranges=ranges, negated=negated), Comparison(RP, ranges=one)))
        for n, ranges in enumerate([*lists, whole])
        for field in (RA, LA)
        for negated in (True, False)
        for one in [((n + 1, n + 1),)]
    ]


def more_lists_than_bits(rng: random.Random) -> list[Condition]:
    made: list[Condition] = []
    for n in range(80):
        field = rng.choice((RA, LA, Field.USER, Field.GROUP, RP, LP))
        top = 60000 if field in (RP, LP) else 1 << 31
        values = merge_ranges([(v, v + n % 3) for v in rng.sample(range(1, top), 70)])
        less = merge_ranges([(v, v) for v in rng.sample(range(1, top), 70)])
        made.append(
            And(
                (
                    Comparison(field, ranges=values),
                    Comparison(field, ranges=less, negated=True),
                    Comparison(Field.PROGRAM, paths=(f"/opt/d{n % 20}/",), negated=n % 2 == 0),
                )
            )
        )
    return made


def deep_boolean(rng: random.Random) -> list[Condition]:
    source = rulegen.Source(rng.getrandbits(32))

    def build(depth: int) -> Condition:
        if depth == 0:
            return source.comparison(Server.CONNECT)
        pair = (build(depth - 1), build(depth - 1))
        return Not(And(pair)) if depth % 3 == 0 else Or(pair) if depth % 2 else And(pair)

    return [build(depth) for depth in (5, 5, 5, 6, 6)]


FAMILIES = [
    rectangles,
    address_rectangles,
    all_negated,
    nested_prefixes,
    slash_zero_of_long_lists,
    more_lists_than_bits,
    deep_boolean,
]


@pytest.mark.parametrize("seed", (1, 2))
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_hostile_rules_are_decided_alike(
    family: Callable[[random.Random], list[Condition]], seed: int
) -> None:
    rules = rules_of(family(random.Random(seed)))
    ruleset = RuleSet(rules)
    table = compile_table(ruleset, rules, limits=ROOMY)
    judge(ruleset, table, rulegen.Source(seed).requests(rules, 250))


def test_a_table_that_fits_no_kernel_is_refused() -> None:
    rules = rules_of(nested_prefixes(random.Random(1)))
    with pytest.raises(CompileError, match="a request could take 4[0-9]{2} steps, 300 are allowed"):
        compile_table(RuleSet(rules), rules, limits=Limits(steps=300))
