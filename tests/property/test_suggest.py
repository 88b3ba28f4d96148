# SPDX-License-Identifier: Apache-2.0
"""Suggestions accept what was captured, and nothing that they do not say."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from capturing import NAMES
from sockrules.control.addresses import MAPPED
from sockrules.control.captured import FOLDED_FIELD, Captured
from sockrules.control.condition import value_of
from sockrules.control.evaluate import deciding_rule
from sockrules.control.generalise import ANYWHERE, MANY, WORTH
from sockrules.control.model import DefaultRule, Field, Request, RuleSet, Server
from sockrules.control.proposals import ADDRESS_OF, NEVER_ASKED, PORT_OF, Proposal
from sockrules.control.replay import cut_points, judge_of, replay, runs
from sockrules.control.rules_file import parse_rules
from sockrules.control.suggest import suggest

PROGRAMS = ("/usr/sbin/nginx", "/usr/bin/curl", "/usr/bin/python3.11", "…/deep/tool", None)
USERS = (0, 33, 110, 1000, 4711, None)
PORTS = (None, 22, 23, 80, 443, 6379, 8080, *range(9000, 9020), 40000)
NETWORKS = (MAPPED | 10 << 24, MAPPED | 10 << 24 | 20 << 16, MAPPED | 93 << 24, 0x20010DB8 << 96)

EXISTING = """\
[[rule]]
name = "no-telnet"
server = "connect"
authority = "no"
when = "remote.port == 23"

[[rule]]
name = "nginx-inside"
server = "accept"
authority = "yes"
when = "program == /usr/sbin/nginx and remote.address in 10.20.0.0/16 and remote.port >= 1024"

[[rule]]
name = "not-those"
server = "accept"
authority = "no"
when = "remote.port in 40000-40010 or user == 110"
"""
LEARN = """
[[rule]]
name = "learn"
server = "{server}"
authority = "{authority}"
when = "any"

[[rule]]
name = "never-reached"
server = "{server}"
authority = "no"
when = "local.port == 80"
"""
DEFAULT = '\n[default.{server}]\nauthority = "no"\n'


def addresses() -> st.SearchStrategy[int]:
    near = st.builds(lambda base, bits: base | bits, st.sampled_from(NETWORKS), st.integers(0, 6))
    public = st.builds(lambda first: MAPPED | first << 24 | 5, st.integers(1, 220))
    sparse = st.builds(
        lambda net, at: MAPPED | 10 << 24 | net << 8 | at, st.integers(0, 70), st.integers(1, 9)
    )
    return st.one_of(near, public, sparse, st.sampled_from((0, MAPPED, 1, MAPPED | 127 << 24 | 1)))


@st.composite
def transactions(draw: st.DrawFn) -> Captured:
    server = draw(st.sampled_from(Server))
    remote = server is not Server.LISTEN
    request = Request(
        server,
        draw(st.one_of(st.none(), addresses())),
        draw(st.sampled_from(PORTS)),
        draw(st.one_of(addresses(), addresses(), addresses(), st.none())) if remote else None,
        draw(st.sampled_from(PORTS)) if remote else None,
        draw(st.sampled_from(USERS)),
        draw(st.sampled_from(USERS)),
        draw(st.sampled_from(PROGRAMS)),
    )
    folded = None
    if server is Server.ACCEPT or draw(st.integers(0, 5)) == 0:
        low = draw(st.sampled_from((800, 33000, 40003, 50000)))
        folded = (low, low + draw(st.sampled_from((0, 3, 9000))))
        field = FOLDED_FIELD[server].value.replace(".", "_")
        request = replace(request, **{field: None})
    day = "2025-01-01T00:00:00Z"
    return Captured(request, True, "rule", draw(st.integers(1, 9)), day, day, folded)


@st.composite
def similar(draw: st.DrawFn) -> list[Captured]:
    """Transactions of which many differ in their peers and ports only, as on a host."""
    found = draw(st.lists(transactions(), min_size=1, max_size=6))
    for one in list(found):
        for _ in range(draw(st.sampled_from((0, 0, 4, 12)))):
            request = one.request
            if request.server is not Server.LISTEN:
                request = replace(request, remote_address=draw(addresses()))
            if draw(st.booleans()) and request.server is not Server.LISTEN:
                field = "remote_port" if request.server is Server.CONNECT else "local_port"
                request = replace(request, **{field: draw(st.sampled_from(PORTS))})
            found.append(replace(one, request=request))
    return found


@st.composite
def files(draw: st.DrawFn) -> str:
    text = draw(st.sampled_from(("", EXISTING)))
    if draw(st.booleans()):
        server = draw(st.sampled_from(Server)).word
        text += LEARN.format(server=server, authority=draw(st.sampled_from(("yes", "yes", "no"))))
    if draw(st.integers(0, 3)) == 0:
        text += DEFAULT.format(server=draw(st.sampled_from(Server)).word)
    return text


def ruleset_of(text: str) -> RuleSet:
    return parse_rules(text, file="rules.toml", names=NAMES).ruleset


def requests_of(one: Captured, *rulesets: RuleSet) -> list[Request]:
    points = cut_points(rulesets, one.request.server)
    return [request for _, request in runs(one, points)]


@settings(max_examples=60)
@given(similar(), files(), st.booleans(), st.booleans())
def test_what_is_accepted_today_stays_accepted(
    found: list[Captured], text: str, deny_rest: bool, include_rejected: bool
) -> None:
    suggestion = suggest(found, text, NAMES, deny_rest=deny_rest, include_rejected=include_rejected)
    before, after = ruleset_of(text), ruleset_of(suggestion.text)
    result = replay(found, before, after)
    assert not result.rejected
    if not include_rejected:
        assert not result.changes
    old, new = judge_of(before), judge_of(after)
    for one in found:
        for request in requests_of(one, before, after):
            decided = old(request)
            if decided.authority:
                assert new(request).authority, request
            elif not include_rejected:
                assert not new(request).authority, request
            if decided.name in ("no-telnet", "nginx-inside", "not-those"):
                assert new(request).name == decided.name  # nothing stands before them


@settings(max_examples=60)
@given(similar(), files(), st.lists(transactions(), max_size=30))
def test_nothing_is_accepted_beyond_what_is_said(
    found: list[Captured], text: str, others: list[Captured]
) -> None:
    suggestion = suggest(found, text, NAMES, deny_rest=True)
    after = ruleset_of(suggestion.text)
    proposed = {one.name: one for one in suggestion.proposals}
    servers = {one.request.server for one in found}
    mixed = [
        replace(one.request, user=other.request.user, program=other.request.program)
        for one in found
        for other in others
        if one.request.server is other.request.server
    ]
    mixed += [
        replace(one.request, remote_address=one.request.remote_address ^ bits)
        for one in found
        if one.request.remote_address is not None
        for bits in (8, 200)
    ]
    for request in [
        *mixed,
        *(each for one in (*others, *found) for each in requests_of(one, after)),
    ]:
        decided = deciding_rule(after, after.active(), request)
        if isinstance(decided, DefaultRule) or decided.name == "learn":
            assert not decided.authority or request.server not in servers
            continue
        if decided.name in proposed:
            _is_said(proposed[decided.name], request)
        else:
            assert decided.name in text
    for one in suggestion.proposals:
        _is_evident(one)


def _seen(one: Proposal, field: Field) -> set[int | str | None]:
    values = set()
    for each in one.captured:
        values.add(value_of(each.request, field))
    return values


def _is_said(one: Proposal, request: Request) -> None:
    """Every value is one that was seen, or its field is said to be broader."""
    assert one.allows(request)
    asked = set(Field) - NEVER_ASKED[one.server]
    if one.server is Server.LISTEN:
        asked -= {Field.REMOTE_ADDRESS, Field.REMOTE_PORT}
    exact = [field for field in asked if field not in one.broader]
    for field in exact:
        assert value_of(request, field) in _seen(one, field), (field, one.when)
    if None not in one.broader:
        here = tuple(value_of(request, field) for field in exact)
        assert here in {
            tuple(value_of(each.request, field) for field in exact) for each in one.captured
        }, one.when


def _is_evident(one: Proposal) -> None:
    """A generalisation rests on as many values as it claims to need."""
    for chosen, field in (
        (one.addresses, ADDRESS_OF[one.server]),
        (one.ports, PORT_OF[one.server]),
    ):
        seen = {value for value in _seen(one, field) if isinstance(value, int)}
        if chosen.ranges is None:
            assert one.broader[field]
            unknown = None in _seen(one, field)
            wildcard = one.server is Server.LISTEN and bool(seen & {0, MAPPED})
            assert unknown or wildcard or len(seen) >= min(ANYWHERE, MANY)
            continue
        for text in chosen.texts:
            if "/" not in text:
                continue
            [rule] = parse_rules(
                f'[[rule]]\nname="x"\nserver="accept"\nauthority="yes"\n'
                f'when="remote.address in {text}"\n',
                file="x",
                names=NAMES,
            ).ruleset.rules
            first, last = rule.when.ranges[0]  # type: ignore[union-attr]
            inside = [value for value in seen if first <= value <= last]
            assert len(inside) >= (WORTH if first >> 32 == 0xFFFF else 2)
            assert f"{field}" in one.broader[field]
