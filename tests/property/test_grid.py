# SPDX-License-Identifier: Apache-2.0
"""Boxes that overlap lie in a grid, and every request is decided as the reference decides it."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rulegen
from sockrules.control import abi, walk
from sockrules.control.compile import compile_table
from sockrules.control.condition import And, Comparison, Condition, Not, Range
from sockrules.control.evaluate import decide
from sockrules.control.model import Field, Request, Rule, RuleSet, Server
from sockrules.control.table import Table

FIELDS = (
    Field.REMOTE_ADDRESS,
    Field.LOCAL_ADDRESS,
    Field.REMOTE_PORT,
    Field.LOCAL_PORT,
    Field.USER,
)
LAST = {Field.REMOTE_PORT: 65535, Field.LOCAL_PORT: 65535, Field.USER: 5000}
EDGES = (0, 1, rulegen.MAPPED, rulegen.MAPPED | 0xFFFFFFFF, (1 << 128) - 1)


def value(rng: random.Random, field: Field, wide: bool) -> int:
    if field in LAST:
        return rng.randint(1, LAST[field])
    if wide and rng.random() < 0.3:
        return rng.choice((*EDGES, rng.getrandbits(128)))
    return rulegen.MAPPED | rng.getrandbits(32)


def overlapping(rng: random.Random, count: int, fields: tuple[Field, ...], wide: bool) -> RuleSet:
    """Boxes with random corners, some of them negated, some with a field left out."""

    def one() -> Condition:
        parts: list[Condition] = []
        for field in fields:
            if parts and rng.random() < 0.1:
                continue
            low, high = sorted((value(rng, field, wide), value(rng, field, wide)))
            ranges: tuple[Range, ...] = ((low, high),)
            made: Condition = Comparison(field, ranges=ranges)
            parts.append(Not(made) if rng.random() < 0.1 else made)
        return And(tuple(parts)) if len(parts) > 1 else parts[0]

    rules = tuple(
        Rule(f"r{n}", rng.choice((Server.CONNECT, Server.CONNECT, Server.ACCEPT)),
             rng.random() < 0.5, one(), n + 1)
        for n in range(count)
    )  # fmt: skip
    return RuleSet(rules)


def asked(rng: random.Random) -> Request:
    def maybe(field: Field) -> int | None:
        return None if rng.random() < 0.1 else value(rng, field, True)

    return Request(
        rng.choice((Server.CONNECT, Server.ACCEPT)),
        local_address=maybe(Field.LOCAL_ADDRESS),
        remote_address=maybe(Field.REMOTE_ADDRESS),
        local_port=maybe(Field.LOCAL_PORT),
        remote_port=maybe(Field.REMOTE_PORT),
        user=maybe(Field.USER),
    )


def grids(table: Table) -> int:
    header = np.frombuffer(table.header, abi.dtype("sr_header"))[0]
    return int(np.count_nonzero(header["table"]["bits"]))


@settings(max_examples=40)
@given(
    st.integers(0, 1 << 32),
    st.integers(30, 150),
    st.sets(st.sampled_from(FIELDS), min_size=2, max_size=4),
    st.booleans(),
)
def test_any_overlap(seed: int, count: int, fields: set[Field], wide: bool) -> None:
    rng = random.Random(seed)
    ruleset = overlapping(rng, count, tuple(sorted(fields)), wide)
    table = compile_table(ruleset, ruleset.rules)
    for _ in range(150):
        request = asked(rng)
        assert walk.decide(table, request) == decide(ruleset, ruleset.rules, request), request


def tiled(rng: random.Random, count: int, fields: tuple[Field, ...]) -> RuleSet:
    """Boxes of which each lies over some twenty others."""
    share = (20 / count) ** (1 / len(fields))

    def one(field: Field) -> Comparison:
        low, last = value(rng, field, False), LAST.get(field, rulegen.MAPPED | 0xFFFFFFFF)
        side = int(share * (last - (0 if field in LAST else rulegen.MAPPED)))
        return Comparison(field, ranges=((low, min(last, low + side)),))

    conditions = (And(tuple(one(field) for field in fields)) for _ in range(count))
    return RuleSet(
        tuple(
            Rule(f"r{n}", Server.CONNECT, n % 2 > 0, when, n + 1)
            for n, when in enumerate(conditions)
        )
    )


@pytest.mark.parametrize("fields", [FIELDS[:2], FIELDS[2:4], FIELDS[2:], FIELDS[1:4]], ids=str)
def test_what_overlaps_is_laid_in_a_grid(fields: tuple[Field, ...]) -> None:
    """A walk a tenth as long as the list, and the same verdicts."""
    rng = random.Random(2)
    ruleset = tiled(rng, 1500, fields)
    table = compile_table(ruleset, ruleset.rules)
    assert grids(table) == 1
    assert table.steps < 150
    for _ in range(300):
        request = asked(rng)
        assert walk.decide(table, request) == decide(ruleset, ruleset.rules, request), request
