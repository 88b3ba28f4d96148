# SPDX-License-Identifier: Apache-2.0
"""Requests for a rule set: most aim at a rule, at a random point of what it asks for."""

from __future__ import annotations

import random
from collections.abc import Iterable

from sockrules.control.condition import And, Any, Comparison, Condition, Not, Or
from sockrules.control.model import FIELDS_OF, Field, Request, RuleSet, Server

from .sets.classbench import MAPPED, PORTS, SITE
from .sets.people import DIRECTORIES, GROUPS, PROGRAMS, UNITS, USERS, cgroup_of

AIMED = 0.85
_TRIES = 12
_ADDRESSES = (Field.LOCAL_ADDRESS, Field.REMOTE_ADDRESS)
_FIELDS = {server: sorted(FIELDS_OF[server]) for server in Server}

Value = int | str | None


class Aim:
    """Requests from one seed."""

    def __init__(self, ruleset: RuleSet, seed: int) -> None:
        self._rules = ruleset.rules
        self._servers = sorted({rule.server for rule in ruleset.rules}) or list(Server)
        self._rng = random.Random(seed)

    def requests(self, count: int, share: float = AIMED) -> list[Request]:
        """`count` of them, the share that aims as given; the rest are of any server that has
        rules and ask for anything."""
        rng = self._rng
        found = []
        for _ in range(count):
            if rng.random() < share:
                rule = rng.choice(self._rules)
                found.append(self._request(rule.server, self._point(rule.when)))
            else:
                found.append(self._request(rng.choice(self._servers), {}))
        return found

    def _request(self, server: Server, known: dict[Field, Value]) -> Request:
        values = {
            field.value.replace(".", "_"): known[field]
            if field in known
            else self._anything(field, server)
            for field in _FIELDS[server]
        }
        return Request(server, **values)  # type: ignore[arg-type]

    def _anything(self, field: Field, server: Server) -> Value:
        rng = self._rng
        local = field in (Field.LOCAL_ADDRESS, Field.LOCAL_PORT)
        if local and server is Server.CONNECT and rng.random() < 0.9:
            return None  # not bound, as clients are
        if field in _ADDRESSES:
            kind = rng.random()
            if kind < 0.1:
                return SITE | rng.getrandbits(96)
            return MAPPED | (10 << 24 | rng.getrandbits(24) if kind < 0.5 else rng.getrandbits(32))
        if field in (Field.LOCAL_PORT, Field.REMOTE_PORT):
            return rng.choice(PORTS) if rng.random() < 0.5 else rng.randint(1, 65535)
        if field is Field.USER:
            return rng.choice(USERS)
        if field is Field.GROUP:
            return rng.choice(GROUPS)
        if field is Field.PROGRAM:
            return rng.choice(PROGRAMS) if rng.random() < 0.7 else "/usr/local/bin/other"
        return cgroup_of(rng.choice(UNITS)) if rng.random() < 0.7 else "/user.slice"

    def _point(self, condition: Condition) -> dict[Field, Value]:
        """Values for which the condition holds, as far as a few tries find some."""
        asked: dict[Field, list[tuple[Comparison, bool]]] = {}
        for leaf, negated in self._leaves(condition):
            asked.setdefault(leaf.field, []).append((leaf, negated))
        return {field: self._value(leaves) for field, leaves in asked.items()}

    def _leaves(self, condition: Condition) -> Iterable[tuple[Comparison, bool]]:
        """Comparisons that together make the condition hold, and whether each must fail;
        of an `or` one part at random."""
        todo = [(condition, False)]
        while todo:
            node, negated = todo.pop()
            match node:
                case Comparison():
                    yield node, node.negated is not negated
                case Not(part):
                    todo.append((part, not negated))
                case And(parts) | Or(parts):
                    if isinstance(node, And) is not negated:
                        todo.extend((part, negated) for part in parts)
                    else:
                        todo.append((self._rng.choice(parts), negated))
                case Any():
                    pass
                case _:
                    raise ValueError("rules to be measured do not ask for the time")

    def _value(self, leaves: list[tuple[Comparison, bool]]) -> Value:
        field = leaves[0][0].field
        asked = [leaf for leaf, negated in leaves if not negated]
        value: Value = None
        for _ in range(_TRIES):
            value = self._inside(asked) if asked else self._anything(field, Server.ACCEPT)
            if all(_contains(leaf, value) is not negated for leaf, negated in leaves):
                break
        return value

    def _inside(self, asked: list[Comparison]) -> Value:
        rng = self._rng
        leaf = rng.choice(asked)
        if leaf.paths:
            path = rng.choice(leaf.paths)
            return path + "tool" if path in DIRECTORIES else path
        if leaf.services:
            return cgroup_of(rng.choice(leaf.services))
        first, last = rng.choice(leaf.ranges)
        return first + rng.randrange(last - first + 1)


def _contains(leaf: Comparison, value: Value) -> bool:
    return leaf._contains(value)
