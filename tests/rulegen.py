# SPDX-License-Identifier: Apache-2.0
"""Random conditions, rules and requests: from a seed, and as hypothesis strategies.

`Source(seed)` draws everything from one `random.Random`, so a failure is its
seed. Its values come from small pools with their neighbours, so that rules
overlap and requests hit boundaries; `aimed` requests are built from a rule's
own comparisons. The strategies draw from the same pools and shrink.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from hypothesis import strategies as st

from sockrules.control.condition import (
    And,
    Any,
    Comparison,
    Condition,
    Not,
    Or,
    Range,
    merge_ranges,
)
from sockrules.control.model import (
    FIELDS_OF,
    DefaultRule,
    Field,
    Product,
    Request,
    Rule,
    RuleSet,
    Server,
    Switch,
)
from sockrules.control.services import place_of

MAPPED = 0xFFFF << 32
LAST_ADDRESS = (1 << 128) - 1
LAST_ID = 0xFFFFFFFE

PORTS = (1, 2, 22, 80, 443, 1023, 1024, 5432, 8080, 8081, 32767, 32768, 65534, 65535)
IDS = (0, 1, 33, 999, 1000, 1001, 1 << 16, 1 << 31, LAST_ID - 1, LAST_ID)
NETWORKS = (
    MAPPED,
    MAPPED | 10 << 24,
    MAPPED | 10 << 24 | 20 << 16,
    MAPPED | 192 << 24 | 168 << 16,
    MAPPED | 0xFFFFFF00,
    0,
    1,
    0x20010DB8 << 96,
    0x20010DB8 << 96 | 7 << 64,
    0xFE80 << 112,
    ((1 << 64) - 1) << 64,
    LAST_ADDRESS - 0xFF,
)
DIRECTORIES = ("/", "/usr/", "/usr/bin/", "/usr/sbin/", "/opt/app/", "/opt/app/bin/")
PROGRAMS = (
    "/usr/bin/curl",
    "/usr/bin/ssh",
    "/usr/sbin/nginx",
    "/usr/sbin/sshd",
    "/opt/app/bin/server",
    "/opt/app/run",
    "/srv/tool",
    "/usr/binary",
)
UNITS = ("nginx.service", "postgres.service", "session-3.scope", "user@7.service")
SERVICES = (
    *UNITS,
    "system.slice",
    "user-7.slice",
    "-.slice",
    "/",
    "/system.slice/",
    "/system.slice/nginx.service",
    "/system.slice/nginx.service/",
    "/user.slice/user-7.slice/user@7.service/app.slice/",
    "/payload",
)
CGROUPS = (
    *UNITS,
    "other.service",
    "/",
    "/system.slice",
    "/system.slice/nginx.service",
    "/system.slice/nginx.service/worker",
    "/system.slice/other.service",
    "/nginx.service",
    "/user.slice/user-7.slice/session-3.scope",
    "/user.slice/user-7.slice/user@7.service/app.slice/nginx.service",
    "/user.slice/user-7.slice/user@7.service/init.scope",
    "/payload",
    "/payload/system.slice/nginx.service",
)
_ADDRESSES = frozenset({Field.LOCAL_ADDRESS, Field.REMOTE_ADDRESS})
_PORTS = frozenset({Field.LOCAL_PORT, Field.REMOTE_PORT})


def last_of(field: Field) -> int:
    """The largest known value of a numeric field."""
    if field in _ADDRESSES:
        return LAST_ADDRESS
    return 65535 if field in _PORTS else LAST_ID


def first_of(field: Field) -> int:
    """The smallest known value of a numeric field."""
    return 1 if field in _PORTS else 0


def clip(field: Field, value: int) -> int:
    return min(max(value, first_of(field)), last_of(field))


def prefix(address: int, length: int) -> Range:
    """The range of addresses that share the first `length` of 128 bits."""
    span = (1 << (128 - length)) - 1
    first = address & ~span
    return first, first | span


class Source:
    """Random rules and requests from one seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def value(self, field: Field) -> int:
        """A known value of a numeric field: from the pools, near them, or anywhere."""
        rng = self.rng
        if field in _ADDRESSES:
            base = rng.choice(NETWORKS)
            bits = rng.choice((0, 0, 2, 8, 16, 24, 32, 64, 70, 128))
            return clip(field, base ^ rng.getrandbits(bits) if bits else base + rng.choice((-1, 1)))
        if rng.random() < 0.2:
            return rng.randint(first_of(field), last_of(field))
        pool = PORTS if field in _PORTS else IDS
        return clip(field, rng.choice(pool) + rng.choice((-1, 0, 0, 0, 1)))

    def range(self, field: Field) -> Range:
        rng, value = self.rng, self.value(field)
        kind = rng.random()
        if kind < 0.45:
            return value, value
        if field in _ADDRESSES and kind < 0.85:
            lengths = (0, 8, 32, 48, 64, 65, 80, 96, 104, 112, 119, 120, 126, 127, 128)
            return prefix(value, rng.choice(lengths))
        if kind < 0.92:
            return value, clip(field, value + rng.choice((1, 2, 7, 100, 1 << 40)))
        other = self.value(field)
        return min(value, other), max(value, other)

    def comparison(self, server: Server, *, longest: int = 5) -> Comparison:
        rng = self.rng
        field = rng.choice(sorted(FIELDS_OF[server]))
        negated = rng.random() < 0.3
        many = 1 if rng.random() < 0.6 else rng.randint(2, longest)
        if field is Field.PROGRAM:
            paths = tuple(rng.choice((*PROGRAMS, *DIRECTORIES)) for _ in range(many))
            return Comparison(field, paths=paths, negated=negated)
        if field is Field.SERVICE:
            services = tuple(rng.choice(SERVICES) for _ in range(many))
            return Comparison(field, services=services, negated=negated)
        ranges = merge_ranges([self.range(field) for _ in range(many)])
        return Comparison(field, ranges=ranges, negated=negated)

    def condition(self, server: Server, *, depth: int = 3, longest: int = 5) -> Condition:
        rng = self.rng
        kind = rng.random()
        if depth == 0 or kind < 0.35:
            return self.comparison(server, longest=longest)
        if kind < 0.37:
            return Any()
        if kind < 0.5:
            return Not(self.condition(server, depth=depth - 1, longest=longest))
        parts = tuple(
            self.condition(server, depth=depth - 1, longest=longest)
            for _ in range(rng.randint(2, 3))
        )
        return And(parts) if kind < 0.8 else Or(parts)

    def rule(self, index: int, *, depth: int = 3, longest: int = 5) -> Rule:
        """A rule with any condition, of any server."""
        server = self.rng.choice(list(Server))
        when = self.condition(server, depth=depth, longest=longest)
        return self._rule(index, server, when)

    def access_rule(self, index: int) -> Rule:
        """A rule as people write them in access lists: a few positive fields."""
        rng = self.rng
        server = rng.choices(list(Server), (1, 4, 4))[0]
        parts: list[Condition] = []
        if server is not Server.LISTEN and rng.random() < 0.9:
            length = rng.choices((104, 112, 120, 124, 128), (1, 3, 6, 2, 8))[0]
            address = MAPPED | rng.getrandbits(32)
            if rng.random() < 0.1:
                length, address = rng.choice((32, 48, 64, 128)), rng.getrandbits(128)
            where = prefix(address, length)
            parts.append(Comparison(Field.REMOTE_ADDRESS, ranges=(where,)))
        side = Field.REMOTE_PORT if server is Server.CONNECT else Field.LOCAL_PORT
        if not parts or rng.random() < 0.8:
            first = rng.choice((*PORTS, rng.randint(1, 65535)))
            last = first if rng.random() < 0.85 else min(65535, first + rng.choice((1, 9, 999)))
            parts.append(Comparison(side, ranges=((first, last),)))
        if rng.random() < 0.2:
            user = rng.choice((0, 33, 1000 + rng.randrange(50)))
            parts.append(Comparison(Field.USER, ranges=((user, user),)))
        if rng.random() < 0.1:
            path = rng.choice((*PROGRAMS, *DIRECTORIES))
            parts.append(Comparison(Field.PROGRAM, paths=(path,)))
        return self._rule(index, server, And(tuple(parts)) if len(parts) > 1 else parts[0])

    def _rule(self, index: int, server: Server, when: Condition) -> Rule:
        switch = self.rng.choice
        return Rule(
            name=f"r{index}",
            server=server,
            authority=self.rng.random() < 0.5,
            when=when,
            sequence=10 * (index + 1),
            audit=switch(list(Switch)),
            message=switch(list(Switch)),
            capture=switch(list(Switch)),
        )

    def ruleset(self, count: int, *, access: bool = False, depth: int = 3) -> RuleSet:
        make = self.access_rule if access else self.rule
        rules = tuple(
            make(index) if access else self.rule(index, depth=depth) for index in range(count)
        )
        rng = self.rng
        defaults = {
            server: DefaultRule(server, rng.random() < 0.5, *rng.choices(list(Switch), k=3))
            for server in Server
        }
        product = Product(*(rng.random() < 0.5 for _ in range(3)))
        return RuleSet(rules, defaults, product)

    def request(self) -> Request:
        """Any request; about a sixth of each field unknown."""
        server = self.rng.choice(list(Server))
        request = Request(server)
        return self._filled(request, {})

    def aimed(self, rule: Rule) -> Request:
        """A request at or next to the bounds of a rule's comparisons."""
        rng = self.rng
        known: dict[Field, int | str] = {}
        for part in leaves(rule.when):
            if part.field in known and rng.random() < 0.5:
                continue
            if part.paths:
                path = rng.choice(part.paths)
                known[part.field] = path + "deep/tool" if path.endswith("/") else path
            elif part.services:
                known[part.field] = service_of(rng.choice(part.services))
            elif part.ranges:
                first, last = rng.choice(part.ranges)
                near = rng.choice((first, last, first, last, (first + last) // 2))
                step = rng.choice((0, 0, 0, 0, 0, 0, -1, 1))
                known[part.field] = clip(part.field, near + step)
        return self._filled(Request(rule.server), known)

    def requests(self, rules: Sequence[Rule], count: int, *, aim: float = 0.85) -> list[Request]:
        rng = self.rng
        return [
            self.aimed(rng.choice(rules)) if rules and rng.random() < aim else self.request()
            for _ in range(count)
        ]

    def _filled(self, request: Request, known: dict[Field, int | str]) -> Request:
        values: dict[str, object] = {"server": request.server}
        for field in sorted(FIELDS_OF[request.server]):
            value: int | str | None = known.get(field)
            if field not in known and self.rng.random() < 0.85:
                if field is Field.PROGRAM:
                    value = self.rng.choice((*PROGRAMS, "/usr/bin/other", "/usr", "/x"))
                elif field is Field.SERVICE:
                    value = self.rng.choice(CGROUPS)
                else:
                    value = self.value(field)
            values[field.value.replace(".", "_")] = value
        return Request(**values)  # type: ignore[arg-type]


def service_of(member: str) -> str:
    """A request's service that a member of a condition is meant to match."""
    place = place_of(member)
    return member if place is None else place.rstrip("/") or "/"


def leaves(condition: Condition) -> list[Comparison]:
    """All comparisons of a condition, however deep."""
    found: list[Comparison] = []
    todo: list[Condition] = [condition]
    while todo:
        match todo.pop():
            case Comparison() as leaf:
                found.append(leaf)
            case And(parts) | Or(parts):
                todo.extend(reversed(parts))
            case Not(part):
                todo.append(part)
    return found


# The same, as hypothesis strategies.


def values(field: Field) -> st.SearchStrategy[int]:
    """Known values of a numeric field, the pools and their neighbours first."""
    if field in _ADDRESSES:
        near = st.builds(
            lambda base, step: clip(field, base + step),
            st.sampled_from(NETWORKS),
            st.sampled_from((0, 1, -1, 255, 256, 1 << 32, (1 << 64) - 1, 1 << 64)),
        )
        return st.one_of(near, st.integers(0, LAST_ADDRESS))
    pool = PORTS if field in _PORTS else IDS
    near = st.builds(
        lambda base, step: clip(field, base + step),
        st.sampled_from(pool),
        st.sampled_from((0, 1, -1)),
    )
    return st.one_of(near, st.integers(first_of(field), last_of(field)))


def ranges(field: Field) -> st.SearchStrategy[Range]:
    value = values(field)
    choices = [
        st.builds(lambda a: (a, a), value),
        st.builds(lambda a, b: (min(a, b), max(a, b)), value, value),
    ]
    if field in _ADDRESSES:
        choices.append(st.builds(prefix, value, st.integers(0, 128)))
    return st.one_of(choices)


def comparisons(server: Server) -> st.SearchStrategy[Comparison]:
    def of(field: Field) -> st.SearchStrategy[Comparison]:
        if field is Field.PROGRAM:
            paths = st.lists(st.sampled_from((*PROGRAMS, *DIRECTORIES)), min_size=1, max_size=3)
            return st.builds(
                lambda p, n: Comparison(field, paths=tuple(p), negated=n), paths, st.booleans()
            )
        if field is Field.SERVICE:
            members = st.lists(st.sampled_from(SERVICES), min_size=1, max_size=3)
            return st.builds(
                lambda m, n: Comparison(field, services=tuple(m), negated=n), members, st.booleans()
            )
        several = st.lists(ranges(field), min_size=1, max_size=4)
        return st.builds(
            lambda r, n: Comparison(field, ranges=merge_ranges(r), negated=n),
            several,
            st.booleans(),
        )

    return st.sampled_from(sorted(FIELDS_OF[server])).flatmap(of)


def conditions(server: Server) -> st.SearchStrategy[Condition]:
    leaf: st.SearchStrategy[Condition] = st.one_of(comparisons(server), st.just(Any()))

    def deeper(inner: st.SearchStrategy[Condition]) -> st.SearchStrategy[Condition]:
        several = st.lists(inner, min_size=1, max_size=3).map(tuple)
        return st.one_of(st.builds(And, several), st.builds(Or, several), st.builds(Not, inner))

    return st.recursive(leaf, deeper, max_leaves=8)


@st.composite
def rulesets(draw: st.DrawFn, most: int = 8) -> RuleSet:
    rules = []
    switches = st.sampled_from(Switch)
    for index in range(draw(st.integers(0, most))):
        server = draw(st.sampled_from(Server))
        rules.append(
            Rule(
                f"r{index}",
                server,
                draw(st.booleans()),
                draw(conditions(server)),
                10 * (index + 1),
                draw(switches),
                draw(switches),
                draw(switches),
            )
        )
    defaults = {
        server: DefaultRule(server, draw(st.booleans()), draw(switches)) for server in Server
    }
    return RuleSet(tuple(rules), defaults, Product(draw(st.booleans())))


@st.composite
def requests(draw: st.DrawFn) -> Request:
    server = draw(st.sampled_from(Server))
    known: dict[str, object] = {"server": server}
    for field in sorted(FIELDS_OF[server]):
        some: st.SearchStrategy[int | str]
        if field is Field.PROGRAM:
            some = st.sampled_from((*PROGRAMS, "/usr/bin/other", "/usr"))
        elif field is Field.SERVICE:
            some = st.sampled_from(CGROUPS)
        else:
            some = values(field)
        known[field.value.replace(".", "_")] = draw(st.one_of(some, st.none()))
    return Request(**known)  # type: ignore[arg-type]
