# SPDX-License-Identifier: Apache-2.0
"""Rule sets that are made to hurt: nobody writes such, and a compiler must bear them.

All rules are of `connect`, so that none is spared by the server it asks for.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from sockrules.control.condition import (
    And,
    Comparison,
    Condition,
    Not,
    Or,
    Range,
    merge_ranges,
)
from sockrules.control.model import Field, Rule, RuleSet, Server

from .classbench import MAPPED
from .people import PROGRAMS

RA, LA, RP, LP = (
    Field.REMOTE_ADDRESS,
    Field.LOCAL_ADDRESS,
    Field.REMOTE_PORT,
    Field.LOCAL_PORT,
)


def _ruleset(conditions: Iterable[Condition]) -> RuleSet:
    return RuleSet(
        tuple(
            Rule(f"r{n}", Server.CONNECT, n % 2 == 0, when, n + 1)
            for n, when in enumerate(conditions)
        )
    )


def _between(rng: random.Random, field: Field, first: int, last: int) -> Comparison:
    a, b = sorted((rng.randint(first, last), rng.randint(first, last)))
    return Comparison(field, ranges=((a, b),))


def _prefix(address: int, length: int) -> Range:
    span = (1 << (128 - length)) - 1
    return address & ~span, address | span


def address_rectangles(size: int, seed: int) -> RuleSet:
    """Random overlapping rectangles over both IPv4 addresses, their sides as long as it takes
    for each to lie over some twenty others, whatever the number of rules."""
    rng = random.Random(seed)
    side = max(1, int((1 << 32) * (20 / max(20, size)) ** 0.5))

    def some(field: Field) -> Comparison:
        first = MAPPED | rng.getrandbits(32)
        last = min(first + rng.randint(0, side), MAPPED | 0xFFFFFFFF)
        return Comparison(field, ranges=((first, last),))

    return _ruleset(And((some(RA), some(LA))) for _ in range(size))


def port_rectangles(size: int, seed: int) -> RuleSet:
    """Boxes over both ports and the user with random corners: each lies over most others."""
    rng = random.Random(seed)
    return _ruleset(
        And(
            (
                _between(rng, RP, 1, 65535),
                _between(rng, LP, 1, 65535),
                _between(rng, Field.USER, 0, 1 << 31),
            )
        )
        for _ in range(size)
    )


def negated(size: int, seed: int) -> RuleSet:
    """Every rule with a negation beside what it asks for."""
    rng = random.Random(seed)

    def one(n: int) -> Condition:
        host = MAPPED | rng.getrandbits(32)
        port = rng.randint(1, 65535)
        user = rng.choice((0, 33, 1000 + n % 40))
        asked = Comparison(RP, ranges=((port, port),))
        others: list[Comparison] = [
            Comparison(RA, ranges=(_prefix(host, 120),), negated=True),
            Comparison(Field.USER, ranges=((user, user),), negated=True),
            Comparison(Field.PROGRAM, paths=(PROGRAMS[n % len(PROGRAMS)],), negated=True),
        ]
        return And((asked, *rng.sample(others, 1 + n % 2)))

    return _ruleset(one(n) for n in range(size))


def nested_prefixes(size: int, seed: int) -> RuleSet:
    """Chains of prefixes, each inside the one before, of every length; a chain every 129
    rules, wide ones last, each with a range of ports."""
    rng = random.Random(seed)
    made: list[Condition] = []
    while len(made) < size:
        base = rng.getrandbits(128)
        for length in range(128, 0, -1):
            low = rng.randint(1, 60000)
            port = Comparison(RP, ranges=((low, low + rng.randint(0, 500)),))
            made.append(And((Comparison(RA, ranges=(_prefix(base, length),)), port)))
    return _ruleset(made[:size])


def long_lists(size: int, seed: int) -> RuleSet:
    """Rules that differ by ports and users while their addresses are one of 32 long lists,
    from single hosts to /0, half of them negated."""
    rng = random.Random(seed)
    hosts = [_prefix(MAPPED | rng.getrandbits(32), rng.choice((112, 120, 128))) for _ in range(400)]
    lists = [merge_ranges(rng.sample(hosts, 200)) for _ in range(31)]
    lists.append(((0, (1 << 128) - 1),))

    def one(n: int) -> Condition:
        port = rng.randint(1, 65535)
        user = rng.randint(0, 60000)
        return And(
            (
                Comparison(RA, ranges=lists[n % 32], negated=n % 64 >= 32 and n % 32 != 31),
                Comparison(RP, ranges=((port, port),))
                if n % 3
                else Comparison(Field.USER, ranges=((user, user),)),
            )
        )

    return _ruleset(one(n) for n in range(size))


def deep_boolean(size: int, seed: int) -> RuleSet:
    """Trees of `and`, `or` and `not`, five deep, over a few exact values and ranges each."""
    rng = random.Random(seed)

    def leaf(port: int) -> Condition:
        kind = rng.randrange(4)
        if kind == 0:
            return Comparison(RP, ranges=((port, port),))
        if kind == 1:
            host = MAPPED | rng.getrandbits(32)
            return Comparison(RA, ranges=(_prefix(host, rng.choice((112, 120, 128))),))
        if kind == 2:
            user = rng.randint(0, 60000)
            return Comparison(Field.USER, ranges=((user, user),))
        return Comparison(RP, ranges=((port, min(65535, port + 7)),))

    def build(depth: int, port: int) -> Condition:
        if depth == 0:
            return leaf(port)
        pair = (build(depth - 1, port), build(depth - 1, port + 1))
        if depth % 3 == 0:
            return Not(And((Not(pair[0]), Not(pair[1]))))
        return Or(pair) if depth % 2 else And(pair)

    def one() -> Condition:
        port = rng.randint(1, 65000)
        return And((Comparison(RP, ranges=((port, port + 40),)), build(5, port)))

    return _ruleset(one() for _ in range(size))
