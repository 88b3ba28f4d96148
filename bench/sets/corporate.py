# SPDX-License-Identifier: Apache-2.0
"""The policy of an invented company: tiers, sites, bastions, databases, lists, deny-alls.

Every site has the same tiers in networks of its own, and a rule for each thing
that may talk to each other; services reach their databases and partners by name;
operators come from the bastions. What is left is rejected, with a rule for each
port that matters, so that the log says which policy it was.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from sockrules.control.condition import And, Comparison, Condition, Range, merge_ranges
from sockrules.control.model import DefaultRule, Field, Rule, RuleSet, Server, Switch

from .classbench import MAPPED, SITE
from .people import DIRECTORIES, PROGRAMS, UNITS

RA, LA, RP, LP = (
    Field.REMOTE_ADDRESS,
    Field.LOCAL_ADDRESS,
    Field.REMOTE_PORT,
    Field.LOCAL_PORT,
)
DATABASES = (1433, 1521, 3306, 5432, 6379, 9042, 9200, 27017)
TIERS = ("edge", "web", "app", "data", "cache", "queue", "batch", "admin")
Draft = tuple[str, Server, bool, Condition]
"""Name, server, authority, condition."""


def corporate(size: int, seed: int) -> RuleSet:
    rng = random.Random(seed)
    last = list(_deny_alls())[-max(1, min(size // 3, 40)) :]
    drafts = _company(rng)
    first = [next(drafts) for _ in range(size - len(last))]
    rules = tuple(
        Rule(name, server, authority, when, n + 1, audit=Switch.INHERIT)
        for n, (name, server, authority, when) in enumerate((*first, *last))
    )
    return RuleSet(rules, {server: DefaultRule(server, False) for server in Server})


def _is(field: Field, *ranges: Range) -> Comparison:
    return Comparison(field, ranges=merge_ranges(list(ranges)))


def _port(field: Field, *ports: int) -> Comparison:
    return _is(field, *((port, port) for port in ports))


def _all(*parts: Condition) -> Condition:
    return And(parts)


def _four(*octets: int, length: int) -> Range:
    first = MAPPED | int.from_bytes(bytes(octets), "big")
    return first, first | ((1 << (32 - length)) - 1)


def _network(site: int, tier: str) -> Range:
    """10.x.y.0/24 by site and tier; a fifth of the sites have IPv6 alone."""
    number = site * len(TIERS) + TIERS.index(tier)
    if site % 5 == 4:
        first = SITE | (number & 0xFFFFFF) << 64
        return first, first | ((1 << 64) - 1)
    number &= 0xFFFF
    return _four(10, number >> 8, number & 255, 0, length=24)


def _host(network: Range, rng: random.Random) -> Range:
    first, last = network
    address = first + rng.randint(1, min(250, last - first))
    return address, address


def _company(rng: random.Random) -> Iterator[Draft]:
    """Rules without end, site by site; what all share comes first."""
    bastions = merge_ranges([_host(_four(10, 255, n, 0, length=24), rng) for n in range(80)])
    monitors = merge_ranges([_host(_four(10, 254, n, 0, length=24), rng) for n in range(12)])
    partners = merge_ranges(
        [_four(203, n % 256, rng.randrange(256), 0, length=24) for n in range(300)]
    )
    feed = merge_ranges(
        [_four(*rng.getrandbits(32).to_bytes(4, "big"), length=32) for _ in range(2000)]
    )
    yield "feed-out", Server.CONNECT, False, Comparison(RA, ranges=feed)
    yield "feed-in", Server.ACCEPT, False, Comparison(RA, ranges=feed)
    yield (
        "ssh-from-bastions",
        Server.ACCEPT,
        True,
        _all(_port(LP, 22), Comparison(RA, ranges=bastions)),
    )
    yield (
        "monitoring",
        Server.ACCEPT,
        True,
        _all(_port(LP, 9100, 9090, 161), Comparison(RA, ranges=monitors)),
    )
    yield (
        "partners",
        Server.CONNECT,
        True,
        _all(_port(RP, 443), Comparison(RA, ranges=partners), _user(33)),
    )
    yield (
        "resolvers",
        Server.CONNECT,
        True,
        _all(_port(RP, 53, 853), _is(RA, _four(10, 0, 0, 0, length=22))),
    )
    yield (
        "no-mail-from-people",
        Server.CONNECT,
        False,
        _all(_port(RP, 25, 465), _is(Field.USER, (1000, 59999))),
    )
    site = 0
    while True:
        yield from _site(site, rng)
        site += 1


def _user(number: int) -> Comparison:
    return _is(Field.USER, (number, number))


def _site(site: int, rng: random.Random) -> Iterator[Draft]:
    """What one site may do: 27 rules and a few more."""
    at = f"s{site}"
    edge, web, app, data, cache, queue, batch, admin = (_network(site, tier) for tier in TIERS)
    ways = (("edge", web, edge, 8443), ("web", app, web, 8080), ("app", cache, app, 6379))
    for name, to, source, port in ways:
        yield (
            f"{at}-from-{name}",
            Server.ACCEPT,
            True,
            _all(_port(LP, port), _is(RA, source), _is(LA, to)),
        )
        yield f"{at}-{name}-out", Server.CONNECT, True, _all(_port(RP, port), _is(RA, to))
    for port in rng.sample(DATABASES, 4):
        server = _host(data, rng)
        unit = rng.choice(UNITS)
        yield (
            f"{at}-db-{port}-out",
            Server.CONNECT,
            True,
            _all(_port(RP, port), _is(RA, server), Comparison(Field.SERVICE, services=(unit,))),
        )
        yield (
            f"{at}-db-{port}-in",
            Server.ACCEPT,
            True,
            _all(_port(LP, port), _is(RA, app, batch), _is(LA, server)),
        )
        yield f"{at}-db-{port}-other", Server.ACCEPT, False, _all(_port(LP, port), _is(LA, server))
    for number in range(4):
        program = rng.choice(PROGRAMS)
        ports = (9000 + number, 9000 + number + rng.randint(0, 40))
        yield (
            f"{at}-agent-{number}",
            Server.CONNECT,
            True,
            _all(
                _is(RA, _host(admin, rng)),
                _is(RP, ports),
                Comparison(Field.PROGRAM, paths=(program,)),
            ),
        )
    for number in range(3):
        one = rng.randint(1024, 40000)
        yield (
            f"{at}-listen-{number}",
            Server.LISTEN,
            True,
            _all(_port(LP, one), _is(LA, web), _user(rng.choice((33, 999, 1000 + number)))),
        )
    yield (
        f"{at}-queue",
        Server.CONNECT,
        True,
        _all(
            _is(RA, queue),
            _is(RP, (5671, 5672)),
            Comparison(Field.PROGRAM, paths=(rng.choice(DIRECTORIES),)),
        ),
    )
    yield (
        f"{at}-admins",
        Server.CONNECT,
        True,
        _all(_is(RA, edge, web, app, data), _port(RP, 22), _is(Field.GROUP, (27, 27))),
    )
    yield (
        f"{at}-no-cross",
        Server.CONNECT,
        False,
        _all(_is(RA, data), Comparison(RP, ranges=((5432, 5432),), negated=True)),
    )
    yield (
        f"{at}-backup",
        Server.ACCEPT,
        True,
        _all(_is(RA, batch), _is(LP, (873, 873), (10000, 10100))),
    )


def _deny_alls() -> Iterator[Draft]:
    for port in (22, 23, 25, 111, 135, 137, 139, 445, 512, 513, 514, 2049, 3389, 5900, 6000):
        yield f"no-{port}-in", Server.ACCEPT, False, _port(LP, port)
        yield f"no-{port}-out", Server.CONNECT, False, _port(RP, port)
    for port in DATABASES:
        yield f"no-db-{port}-in", Server.ACCEPT, False, _port(LP, port)
    yield "listen-high", Server.LISTEN, True, _is(LP, (32768, 60999))
    yield "loopback", Server.CONNECT, True, _is(RA, _four(127, 0, 0, 0, length=8))
