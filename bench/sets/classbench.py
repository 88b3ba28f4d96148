# SPDX-License-Identifier: Apache-2.0
"""Access list, firewall and IP chain in the style of ClassBench, asked of sockets.

After D. E. Taylor and J. S. Turner, "ClassBench: A Packet Classification
Benchmark", INFOCOM 2005: a seed says how long prefixes are, how they nest
(where the tree of addresses branches, and how evenly), and how often a port is
a wildcard (WC), high (HI), low (LO), an arbitrary range (AR) or exact (EM).
The numbers below are this project's own, after the shapes that the paper
describes; no seed file of theirs is used. Protocols do not apply.

A filter's source and destination become what a server asks: for `connect` the
destination is remote, for `accept` the source is remote and the destination
local, `listen` has the destination alone. To each rule a user, group, program
or service may be added, a tenth of the addresses are IPv6, and narrow rules
stand before wide ones, as in lists that people keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sockrules.control.condition import And, Comparison, Condition, Range
from sockrules.control.model import DefaultRule, Field, Rule, RuleSet, Server

from .people import DIRECTORIES, GROUPS, PROGRAMS, UNITS, USERS

U64 = npt.NDArray[np.uint64]

MAPPED = 0xFFFF << 32
SITE = 0x20010DB8 << 96  # 2001:db8::/32, for documentation (RFC 3849)
PORTS = (22, 25, 53, 80, 88, 123, 143, 389, 443, 445, 636, 993, 1433, 1521, 3306, 3389, 5432, 8080)
_EXACT = (*PORTS, *(1 + 7919 * n % 65535 for n in range(180)))
"""Exact ports, those that are asked for most first: a policy knows some hundred, whatever its
size, and so it does ranges."""

_ARBITRARY: Sequence[Range] = (
    *((20, 21), (137, 139), (6000, 6063), (8000, 8099), (33434, 33600), (49152, 65535)),
    *((5000 + 911 * n, 5000 + 911 * n + (1, 3, 9, 15, 99, 499)[n % 6]) for n in range(54)),
)


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree of IPv4 prefixes: `lengths` and how often; per eight levels of the tree, how
    many nodes have two children, and what share of the addresses the lighter one gets."""

    lengths: dict[int, float]
    branching: tuple[float, float, float, float]
    lighter: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Seed:
    """One kind of rule set. Ports are weights of WC, HI, LO, AR, EM."""

    source: Tree
    destination: Tree
    source_port: tuple[float, ...]
    destination_port: tuple[float, ...]


_ACCESS_LIST = Seed(
    source=Tree(
        {0: 0.08, 8: 0.02, 16: 0.1, 20: 0.05, 22: 0.05, 24: 0.25, 27: 0.1, 28: 0.1, 32: 0.25},
        (0.3, 0.5, 0.6, 0.8),
        (0.2, 0.3, 0.4, 0.4),
    ),
    destination=Tree(
        {0: 0.02, 16: 0.05, 21: 0.03, 24: 0.2, 26: 0.05, 28: 0.1, 30: 0.05, 32: 0.5},
        (0.2, 0.4, 0.7, 0.9),
        (0.2, 0.3, 0.4, 0.5),
    ),
    source_port=(1, 0, 0, 0, 0),
    destination_port=(0.14, 0.04, 0.02, 0.15, 0.65),
)
_FIREWALL = Seed(
    source=Tree(
        {0: 0.35, 8: 0.04, 14: 0.03, 16: 0.1, 24: 0.13, 28: 0.05, 32: 0.3},
        (0.3, 0.5, 0.7, 0.8),
        (0.3, 0.3, 0.4, 0.5),
    ),
    destination=Tree(
        {0: 0.25, 12: 0.03, 16: 0.07, 24: 0.15, 27: 0.05, 30: 0.05, 32: 0.4},
        (0.3, 0.5, 0.7, 0.9),
        (0.3, 0.3, 0.4, 0.5),
    ),
    source_port=(0.72, 0.1, 0.02, 0.03, 0.13),
    destination_port=(0.25, 0.1, 0.05, 0.12, 0.48),
)
_IP_CHAIN = Seed(
    source=Tree(
        {0: 0.12, 8: 0.05, 13: 0.03, 16: 0.12, 19: 0.05, 23: 0.05, 24: 0.2, 29: 0.05, 32: 0.33},
        (0.4, 0.6, 0.7, 0.8),
        (0.3, 0.4, 0.4, 0.4),
    ),
    destination=Tree(
        {0: 0.1, 8: 0.03, 16: 0.12, 20: 0.05, 24: 0.22, 26: 0.08, 32: 0.4},
        (0.4, 0.6, 0.7, 0.8),
        (0.3, 0.4, 0.4, 0.4),
    ),
    source_port=(0.6, 0.08, 0.02, 0.05, 0.25),
    destination_port=(0.3, 0.06, 0.04, 0.12, 0.48),
)


def access_list(size: int, seed: int) -> RuleSet:
    """Mostly from wide sources to narrow destinations and exact ports."""
    return _ruleset(_ACCESS_LIST, size, seed)


def firewall(size: int, seed: int) -> RuleSet:
    """Many wildcards among addresses, ports of every class on both sides."""
    return _ruleset(_FIREWALL, size, seed)


def ip_chain(size: int, seed: int) -> RuleSet:
    """Between the two: pairs of prefixes of every length."""
    return _ruleset(_IP_CHAIN, size, seed)


def _ruleset(seed: Seed, size: int, number: int) -> RuleSet:
    rng = np.random.Generator(np.random.PCG64(number))
    found: dict[tuple[Server, tuple[object, ...]], tuple[float, Condition]] = {}
    while len(found) < size:
        missing = size - len(found)
        for server, scope, parts in _filters(seed, missing + missing // 4 + 8, rng):
            if parts and len(found) < size:
                key = server, tuple((part.field, part.ranges or part.paths) for part in parts)
                when: Condition = parts[0] if len(parts) == 1 else And(tuple(parts))
                found.setdefault((server, (*key, *(p.services for p in parts))), (scope, when))
    kept = [(scope, server, when) for (server, _), (scope, when) in found.items()]
    kept.sort(key=lambda one: one[0])
    allowed = rng.random(size) < 0.5
    rules = tuple(
        Rule(f"r{index}", server, bool(allowed[index]), when, index + 1)
        for index, (_, server, when) in enumerate(kept)
    )
    return RuleSet(rules, {server: DefaultRule(server, False) for server in Server})


def _filters(
    seed: Seed, count: int, rng: np.random.Generator
) -> list[tuple[Server, float, list[Comparison]]]:
    """Server, scope (bits left free, with some chance added) and comparisons of each."""
    servers = rng.choice([Server.LISTEN, Server.ACCEPT, Server.CONNECT], count, p=(0.1, 0.45, 0.45))
    sources, destinations = (
        _prefixes(tree, count, rng) for tree in (seed.source, seed.destination)
    )
    source_ports = _ports(seed.source_port, count, rng)
    ports = _ports(seed.destination_port, count, rng)
    bound = rng.random(count) < 0.05
    who = rng.random((count, 4)) < (0.15, 0.04, 0.08, 0.05)
    chance = rng.random(count) * 12
    picks = rng.integers(1 << 30, size=(count, 4)).tolist()
    made = []
    for n in range(count):
        server = Server(int(servers[n]))
        asked: list[tuple[Field, Range | None]]
        if server is Server.CONNECT:
            asked = [
                (Field.REMOTE_ADDRESS, destinations[n]),
                (Field.REMOTE_PORT, ports[n]),
                (Field.LOCAL_ADDRESS, sources[n] if bound[n] else None),
            ]
        elif server is Server.ACCEPT:
            asked = [
                (Field.REMOTE_ADDRESS, sources[n]),
                (Field.LOCAL_ADDRESS, destinations[n]),
                (Field.LOCAL_PORT, ports[n]),
                (Field.REMOTE_PORT, source_ports[n]),
            ]
        else:
            asked = [(Field.LOCAL_ADDRESS, destinations[n]), (Field.LOCAL_PORT, ports[n])]
        parts = [Comparison(field, ranges=(one,)) for field, one in asked if one is not None]
        scope = chance[n] + sum(
            (last - first + 1).bit_length() for first, last in (p.ranges[0] for p in parts)
        )
        scope += 32 * (3 - min(3, len(parts)))
        made.append((server, scope, [*parts, *_who(who[n], picks[n])]))
    return made


def _who(asked: npt.NDArray[np.bool_], picks: list[int]) -> list[Comparison]:
    parts = []
    if asked[0]:
        user = USERS[picks[0] % len(USERS)]
        parts.append(Comparison(Field.USER, ranges=((user, user),)))
    if asked[1]:
        group = GROUPS[picks[1] % len(GROUPS)]
        parts.append(Comparison(Field.GROUP, ranges=((group, group),)))
    if asked[2]:
        paths = (*PROGRAMS, *DIRECTORIES)
        parts.append(Comparison(Field.PROGRAM, paths=(paths[picks[2] % len(paths)],)))
    if asked[3]:
        parts.append(Comparison(Field.SERVICE, services=(UNITS[picks[3] % len(UNITS)],)))
    return parts


def _prefixes(tree: Tree, count: int, rng: np.random.Generator) -> list[Range | None]:
    """Prefixes as ranges of addresses; `None` for the empty one."""
    weights = np.array(list(tree.lengths.values()))
    lengths = rng.choice(list(tree.lengths), count, p=weights / weights.sum())
    values = _nested(tree, lengths, rng)
    six = rng.random(count) < 0.1
    found: list[Range | None] = []
    for value, length, is_six in zip(values.tolist(), lengths.tolist(), six.tolist(), strict=True):
        if length == 0:
            found.append(None)
        elif is_six:  # the tree stands below the site: /8 becomes /40, a host is a host
            first = SITE | value << 64
            free = 0 if length == 32 else 96 - length
            found.append((first, first | ((1 << free) - 1)))
        else:
            first = MAPPED | value
            found.append((first, first | ((1 << (32 - length)) - 1)))
    return found


def _nested(tree: Tree, lengths: npt.NDArray[np.int64], rng: np.random.Generator) -> U64:
    """A walk down the tree for each length; what a node is follows from its place alone."""
    values = np.zeros(len(lengths), np.uint64)
    for level in range(32):
        node = (values << np.uint64(6) | np.uint64(level)) * np.uint64(0x9E3779B97F4A7C15)
        node ^= node >> np.uint64(29)
        node *= np.uint64(0xBF58476D1CE4E5B9)
        node ^= node >> np.uint64(32)
        heavy = node & np.uint64(1)
        branches = (node >> np.uint64(8) & np.uint64(0xFFFF)) < tree.branching[level // 8] * 65536
        lighter = rng.random(len(values)) < tree.lighter[level // 8]
        bit = heavy ^ (branches & lighter).astype(np.uint64)
        values |= np.where(level < lengths, bit, np.uint64(0)) << np.uint64(31 - level)
    return values


def _ports(weights: Sequence[float], count: int, rng: np.random.Generator) -> list[Range | None]:
    classes = rng.choice(5, count, p=np.array(weights) / sum(weights)).tolist()
    picks = (rng.zipf(1.3, count) - 1).tolist()
    found: list[Range | None] = []
    for kind, pick in zip(classes, picks, strict=True):
        if kind == 0:
            found.append(None)
        elif kind < 3:
            found.append((1024, 65535) if kind == 1 else (1, 1023))
        elif kind == 3:
            found.append(_ARBITRARY[pick % len(_ARBITRARY)])
        else:
            port = _EXACT[pick % len(_EXACT)]
            found.append((port, port))
    return found
