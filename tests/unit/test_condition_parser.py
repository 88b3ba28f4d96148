# SPDX-License-Identifier: Apache-2.0
"""Conditions: what is accepted means what it says, anything else ends in a ConditionError.

The messages themselves are in golden/rules; here are the promises behind them.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockrules.control.condition import Comparison, Condition, Not, Or, holds
from sockrules.control.condition_parser import ConditionError, ConditionReader, parse_condition
from sockrules.control.condition_syntax import DEEPEST, LONGEST
from sockrules.control.model import FIELDS_OF, Field, Request, Server
from sockrules.control.names import FixedNames

NAMES = FixedNames({"root": 0, "www-data": 33}, {"adm": 4}, {"ports": "80\n443\n", "none": ""})
WORDS = st.sampled_from(
    """and or not in any ( ) { } , == != < <= > >= = && " ' # - @ @ports @none @missing é
    local.port remote.port local.address remote.address user group program service 80 0 70000
    80-90 10.0.0.1 10.0.0.0/8 10.0.0.1/8 ::1 ::/0 root 'root' /usr/bin/x /usr/""".split()  # noqa: SIM905
)


def read(text: str, server: Server = Server.ACCEPT) -> Condition:
    return parse_condition(text, server=server, names=NAMES)


def problems(text: str, server: Server = Server.ACCEPT) -> list[tuple[int, str, str]]:
    with pytest.raises(ConditionError) as caught:
        read(text, server)
    return caught.value.problems


@given(st.text() | st.lists(WORDS).map(" ".join), st.sampled_from(Server))
def test_any_text_is_read_or_refused_with_places_inside_it(text: str, server: Server) -> None:
    try:
        condition = read(text, server)
    except ConditionError as error:
        assert error.problems
        for offset, message, _ in error.problems:
            assert 0 <= offset <= len(text)
            assert message
    else:
        assert holds(condition, Request(server)) in (True, False)


@given(st.text(alphabet="()notandryi \"'{}=,0", max_size=400))
def test_no_token_names_reach_people(text: str) -> None:
    try:
        read(text)
    except ConditionError as error:
        for name in ("LPAR", "RPAR", "$END", "WORD", "QUOTED", "_AND", "OPERATOR", "Token("):
            assert name not in str(error)


@given(st.integers(1, 65535), st.integers(1, 65535))
def test_order_agrees_with_the_numbers(port: int, limit: int) -> None:
    request = Request(Server.ACCEPT, local_port=port)
    for operator, expected in (
        ("==", port == limit),
        ("!=", port != limit),
        ("<=", port <= limit),
        (">=", port >= limit),
    ):
        assert holds(read(f"local.port {operator} {limit}"), request) is expected
    if limit > 1:
        assert holds(read(f"local.port < {limit}"), request) is (port < limit)
    if limit < 65535:
        assert holds(read(f"local.port > {limit}"), request) is (port > limit)


@pytest.mark.parametrize("field", Field)
def test_unknown_matches_no_positive_and_every_negated_comparison(field: Field) -> None:
    value = {"address": "::/0", "program": "/", "service": "/"}.get(field.rpartition(".")[2], "100")
    unknown = Request(Server.ACCEPT)
    positive = ["==", "in"]
    if value == "100":
        positive += ["<", "<=", ">", ">="]
    for operator in positive:
        assert not holds(read(f"{field} {operator} {value}"), unknown)
        assert holds(read(f"not {field} {operator} {value}"), unknown)
    for operator in ("!=", "not in"):
        assert holds(read(f"{field} {operator} {value}"), unknown)
        assert not holds(read(f"not {field} {operator} {value}"), unknown)


@pytest.mark.parametrize("server", Server)
@pytest.mark.parametrize("field", Field)
def test_a_server_has_its_fields_and_no_others(server: Server, field: Field) -> None:
    value = {"address": "::1", "program": "/x", "service": "/x"}.get(field.rpartition(".")[2], "1")
    text = f"{field} == {value}"
    if field in FIELDS_OF[server]:
        assert isinstance(read(text, server), Comparison)
    else:
        with pytest.raises(ConditionError) as caught:
            ConditionReader(NAMES).read(text, server, rule="web")
        message = str(caught.value)
        for told in ("web", field, "accept and connect"):
            assert told in message


def test_precedence_and_layout() -> None:
    a, b, c = "local.port == 1", "local.port == 2", "local.port == 3"
    assert read(f"{a} or {b} and not {c}") == read(f"({a}) or (({b}) and (not ({c})))")
    assert read(f"  {a}\n\tor\r\n{b} ") == read(f"{a} or {b}")
    dense, loose = read("not(local.port in{80,443})"), read("not ( local.port in { 443, 80, } )")
    assert isinstance(dense, Not) and isinstance(loose, Not)
    assert isinstance(dense.part, Comparison) and isinstance(loose.part, Comparison)
    assert dense.part.ranges == loose.part.ranges == ((80, 80), (443, 443))
    assert isinstance(read("not user not in {1}"), Not)


def test_the_source_is_kept_as_written() -> None:
    condition = read("any or ( local.port   in { 80,\n443 } )")
    assert isinstance(condition, Or) and isinstance(condition.parts[1], Comparison)
    assert condition.parts[1].text == "local.port   in { 80,\n443 }"


def test_keywords_inside_words_are_words() -> None:
    names = FixedNames({"android": 1, "notary": 2, "in": 3})
    condition = parse_condition(
        "user in {android, notary, 'in'}", server=Server.LISTEN, names=names
    )
    assert isinstance(condition, Comparison) and condition.ranges == ((1, 3),)


def test_all_mistakes_of_meaning_are_told_in_order() -> None:
    found = problems("local.prot == 1 or user == rot and not (local.port in {0, 70000})")
    assert [offset for offset, _, _ in found] == [0, 27, 55, 58]


@pytest.mark.parametrize(
    "text",
    [
        "(" * 10_000 + "any" + ")" * 10_000,
        "not " * 10_000 + "any",
        "not (" * 10_000 + "any" + ")" * 10_000,
        "(" * 10_000,
        "(any or " * 8_000 + "any",
    ],
    ids=["parentheses", "not", "both", "open", "or"],
)
def test_deep_nesting_is_an_error(text: str) -> None:
    ((_, message, _),) = problems(text)
    assert f"more than {DEEPEST} deep" in message


def test_nesting_at_the_limit_is_read_and_evaluated() -> None:
    text = "(any and not any or " * (DEEPEST // 2) + "any" + ")" * (DEEPEST // 2)
    assert holds(read(text), Request(Server.ACCEPT))
    assert holds(read("not " * DEEPEST + "any"), Request(Server.ACCEPT))


def test_many_negations_side_by_side_are_not_nested() -> None:
    text = " and ".join(["not (local.port == 1)", "user not in {1}"] * 200)
    assert holds(read(text), Request(Server.ACCEPT))


def test_a_huge_condition_is_an_error_and_a_large_one_is_not() -> None:
    ((_, message, hint),) = problems("any or " * 150_000 + "any")
    assert str(LONGEST) in message and "list" in hint
    addresses = ", ".join(f"10.0.{i // 256}.{i % 256}" for i in range(4_000))
    condition = read(f"remote.address in {{{addresses}}}")
    assert isinstance(condition, Comparison) and len(condition.ranges) == 1


def test_a_flood_of_mistakes_is_cut_short_and_counted() -> None:
    found = problems(f"local.port in {{{', '.join(['0'] * 1000)}}}")
    assert len(found) == 51
    assert found[-1][1] == "950 more problems"


def test_a_list_is_read_once_and_its_ranges_are_shared() -> None:
    reader = ConditionReader(NAMES)
    one = reader.read("local.port in @ports", Server.ACCEPT)
    two = reader.read("not (local.port not in @ports)", Server.ACCEPT)
    assert isinstance(one, Comparison) and isinstance(two, Not)
    assert isinstance(two.part, Comparison) and two.part.ranges is one.ranges


def test_a_list_that_cannot_be_read_is_an_error() -> None:
    class Denied(FixedNames):
        def read_list(self, name: str) -> str:
            raise PermissionError(13, "Permission denied", f"{name}.txt")

    with pytest.raises(ConditionError, match="@secret cannot be read: Permission denied"):
        parse_condition("user in @secret", server=Server.LISTEN, names=Denied())


def test_names_without_suggestions_will_do() -> None:
    class Bare:
        def uid(self, name: str) -> int | None:
            return None

        gid = uid

        def user_name(self, uid: int) -> str | None:
            return None

        group_name = user_name

        def read_list(self, name: str) -> str:
            raise FileNotFoundError(2, "No such file or directory")

    with pytest.raises(ConditionError, match="no user is named root") as caught:
        parse_condition("user == root or group in @x", server=Server.LISTEN, names=Bare())
    assert len(caught.value.problems) == 2


def test_programs_are_looked_for_only_when_asked() -> None:
    asked = []

    def exists(path: str) -> bool:
        asked.append(path)
        return path == "/bin/sh"

    text = "program in {/bin/sh, '/opt/gone/', @none}"
    reader = ConditionReader(NAMES, exists)
    reader.read(text, Server.CONNECT)
    assert asked == ["/bin/sh", "/opt/gone/"]
    assert [(offset, message) for offset, message, _ in reader.notes] == [
        (35, "the list @none is empty and matches nothing"),
        (21, "program /opt/gone/ does not exist"),
    ]
    reader.read("any", Server.CONNECT)
    assert reader.notes == []
