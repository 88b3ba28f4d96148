# SPDX-License-Identifier: Apache-2.0
"""Files cut into tables, flat conditions, remembered rules: quick, else as slow reading is.

Compared are results and complaints, with their places, on texts that are mostly right,
a little wrong, or hardly TOML.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sockrules.control import rules_file
from sockrules.control.condition_parser import ConditionError, ConditionReader
from sockrules.control.flat_conditions import FlatConditions
from sockrules.control.model import Server
from sockrules.control.names import FixedNames
from sockrules.control.problems import InputError
from sockrules.control.rule_blocks import Uncut, cut, table_of
from sockrules.control.rules_file import RuleMemory, parse_rules

LISTS = {
    "hosts": "10.0.0.1\n10.1.0.0/16\n2001:db8::/32\n",
    "ports": "80\n443\n8000-8010\n",
    "empty": "# nobody\n",
    "wrong": "10.0.0.1\nnonsense\n300.1.1.1\n",
    "tools": "/usr/bin/curl\n/opt/app/\n",
    "shifts": "mon-fri 08:00-18:00\n",
}
NAMES = FixedNames({"root": 0, "and": 500, "www-data": 33}, {"adm": 4}, LISTS)


def mostly(usual: st.SearchStrategy, other: st.SearchStrategy) -> st.SearchStrategy:
    """One of them, eleven times out of twelve the first."""
    return st.sampled_from((usual,) * 11 + (other,)).flatmap(lambda chosen: chosen)


# -- conditions -----------------------------------------------------------------------------

FIELD = st.sampled_from(
    ("local.port", "remote.port", "local.address", "remote.address", "user", "group")
    + ("program", "service", "time", "port", "in", "not", "any", "LOCAL.PORT")
)
VALUE = st.sampled_from(
    ("80", "443", "8000-8010", "0", "70000", "007", "9-1", "10.0.0.1", "10.0.0.0/8", "10.0.0.1/8")
    + ("::1", "2001:db8::/32", "10.0.0.1-10.0.0.9", "root", "nobody", "www-data", "adm", "and")
    + ("/usr/bin/curl", "/opt/app/", "/gone", "curl", "/a/../b", "nginx.service", "user.slice")
    + ("@hosts", "@ports", "@empty", "@wrong", "@tools", "@missing", "@shifts", "@", "not", "in")
    + ('"root"', "'80'", '"', "mon-fri", "mon-fri 08:00-18:00", "mon 9", "08:00-18:00", "any")
)
BLANK = st.sampled_from((" ",) * 60 + ("", "  ", "\t", "\n", "\r\n", "\x0b", "\xa0"))
SET = st.tuples(st.lists(VALUE, max_size=4), st.sampled_from((", ", ",", " , ", ",\n", " ")))
OPERAND = st.one_of(
    VALUE,
    SET.map(lambda made: "{" + made[1].join(made[0]) + "}"),
    SET.map(lambda made: "{ " + made[1].join(made[0]) + ", }"),
)
OPERATOR = st.sampled_from(
    ("==", "!=", "in", "not in", "<", "<=", ">", ">=", "=", "not  in", "not", "is", "&&")
)
RIGHT = {
    "local.port": ("80", "443", "8000-8010", "@ports", "@empty"),
    "local.address": ("10.0.0.1", "10.0.0.0/8", "2001:db8::/32", "::ffff:1.2.3.4", "@hosts"),
    "user": ("root", "www-data", "33", "1000-1999"),
    "program": ("/usr/bin/curl", "/opt/app/", "/gone", "@tools"),
    "service": ("nginx.service", "user.slice"),
}


def right_comparison(field: str) -> st.SearchStrategy[str]:
    """A comparison in which nothing is wrong but, at times, its blanks."""
    value = st.sampled_from(RIGHT[field])
    one = st.tuples(st.sampled_from(("==", "!=", "in", "not in")), value)
    some = st.tuples(
        st.sampled_from(("in", "not in", "not  in")),
        st.lists(value, min_size=1, max_size=3).map(lambda each: "{" + ", ".join(each) + "}"),
    )
    kinds = [one, some]
    if field == "local.port":
        kinds.append(st.tuples(st.sampled_from(("<", "<=", ">", ">=")), st.just("1024")))
    return st.tuples(st.one_of(*kinds), BLANK, BLANK).map(
        lambda made: field + made[1] + made[0][0] + made[2] + made[0][1]
    )


RIGHT_COMPARISON = st.sampled_from(sorted(RIGHT)).flatmap(right_comparison)
COMPARISON = mostly(
    RIGHT_COMPARISON, st.tuples(FIELD, BLANK, OPERATOR, BLANK, OPERAND).map("".join)
)
QUESTION = mostly(
    mostly(COMPARISON, COMPARISON.map("not {}".format)),
    st.one_of(
        COMPARISON.map("not {}".format),
        COMPARISON.map("({})".format),
        COMPARISON.map("not not {}".format),
        st.just("any"),
    ),
)
JOIN = st.sampled_from(
    (" and ",) * 25 + (" or ",) * 9 + ("\tand\n", "and", " and or ", " AND ", ", ")
)
CONDITION = mostly(
    st.tuples(
        st.sampled_from(("", " ")),
        QUESTION,
        st.lists(st.tuples(JOIN, QUESTION).map("".join), max_size=4),
        BLANK,
    ).map(lambda made: made[0] + made[1] + "".join(made[2]) + made[3]),
    st.text(alphabet="andorti =!<>{}(),\"'@.:/80\n", max_size=20),
)


def read_with(
    texts: list[str], server: Server, exists: Callable[[str], bool] | None
) -> list[object]:
    """What one reader makes of conditions that it reads after one another, notes included."""
    reader, found = ConditionReader(NAMES, exists), []
    for text in texts:
        try:
            condition: object = reader.read(text, server, rule="r")
        except ConditionError as error:
            condition = error.problems
        found.append((condition, reader.notes))
    return found


@given(
    st.lists(CONDITION, min_size=1, max_size=4),
    st.sampled_from(list(Server)),
    st.booleans(),
)
@example(["remote.address in @wrong", "remote.address in @wrong"], Server.CONNECT, False)
@example(["fooin {80}", "local.port in{80}and user==root"], Server.ACCEPT, False)
@example(["user == and", "local.port == 80 and not", "not in {80}"], Server.ACCEPT, False)
def test_flat_conditions_mean_what_the_grammar_says(
    texts: list[str], server: Server, asks: bool
) -> None:
    exists = (lambda path: path != "/gone") if asks else None
    flat = read_with(texts, server, exists)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FlatConditions, "read", lambda *_: None)
        assert flat == read_with(texts, server, exists)


def test_common_conditions_are_flat() -> None:
    reader = ConditionReader(NAMES)
    flat = FlatConditions(reader._values, None)
    reader.read("remote.address in @hosts", Server.CONNECT)  # a list is read by the grammar first
    for text in (
        "any",
        "local.port == 5432 and remote.address in {10.20.0.0/16, @hosts} and not user == root",
        "remote.port < 1024 or user != www-data and program in {/usr/bin/curl, /opt/app/}",
        "remote.address not in @hosts and service == nginx.service",
    ):
        assert flat.read(text, Server.CONNECT) == reader.read(text, Server.CONNECT) is not None


# -- files ----------------------------------------------------------------------------------

KEY = st.sampled_from(
    ("name", "server", "authority", "audit", "active", "description", "expires", "wen", "a.b")
)
TOML = st.sampled_from(
    ('"yes"', '"no"', '"inherit"', "true", "false", "'yes'", '"maybe"', '"a\\tb"', "3", "[1]")
    + ('""', "''", '"ä # no comment"', "2026-12-31T00:00:00Z", "2026-12-31", "[\n[1],\n[2]\n]")
    + ('"open', '"""two\nlines"""', '"x" y', "{a = 1}", "[\n", "]", "truely", '"\x01"', '"\'"')
)
PAIR = st.tuples(KEY, st.sampled_from((" = ", "=", "   =\t")), TOML).map("".join)
TAIL = st.sampled_from(("",) * 6 + ("  # why", "#", " \t", "# \x02"))
LINE = st.one_of(
    st.tuples(PAIR, TAIL).map("".join),
    st.sampled_from(("", "  ", "# a comment", "# [[rule]]", "nonsense")),
)
HEADER = st.sampled_from(
    ("[[rule]]",) * 24
    + ("  [[ rule ]]  # x", "[rule]", "[[rule.more]]", '[["rule"]]', "[default.connect]")
    + ("[default.listen]", "[other]", "[[other]]", "[[rule]] # \x01", "[[rule]] x")
)
END = st.sampled_from(("\n", "\n", "\n", "\r\n"))


def whole_rule(number: int, when: str, server: str) -> list[str]:
    return [f'name = "r{number}"', f'server = "{server}"', 'authority = "no"', f"when = {when!r}"]


RULE = st.builds(
    lambda number, when, server, more: [*whole_rule(number, when, server), *more],
    st.integers(0, 5),
    st.sampled_from(("any", "local.port == 80", "user == root", "local.address in @hosts"))
    | CONDITION,
    st.sampled_from(("listen", "accept", "connect", "conect")),
    st.one_of(st.just([]), st.just(["", "# next"]), st.lists(LINE, max_size=2)),
)
TABLE = st.tuples(HEADER, mostly(RULE, st.lists(LINE, max_size=4))).map(
    lambda made: [made[0], *made[1]]
)
FILE = st.tuples(st.lists(LINE, max_size=1), st.lists(TABLE, max_size=6), END).map(
    lambda made: made[2].join([*made[0], *(line for table in made[1] for line in table)])
)


@given(FILE)
@example("x = [\n[[rule]]\nname = 'a'\n[1]\n]\n")
@example("rule = 1\n[[rule]]\n")
@example("[[rule]]\n[rule.x]\n")
@example('[[rule]]\nname = "a"\nname = "b"\n')
@example('\ufeff[[rule]]\nname = "a"\n')
def test_a_file_that_is_cut_says_what_it_says_as_a_whole(text: str) -> None:
    try:
        blocks, rest = cut(text)
        tables = [table_of(block) for block in blocks]
    except Uncut:
        return
    assert tomllib.loads(text) == rest | ({"rule": tables} if tables else {})


def outcome(text: str, memory: RuleMemory | None = None) -> object:
    try:
        parsed = parse_rules(text, file="rules.toml", names=NAMES, memory=memory)
    except InputError as error:
        return error.problems
    return parsed.ruleset, parsed.warnings


def slow_outcome(text: str) -> object:
    def uncut(_: str) -> None:
        raise Uncut

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules_file, "cut", uncut)
        patch.setattr(FlatConditions, "read", lambda *_: None)
        return outcome(text)


@given(st.lists(FILE, min_size=1, max_size=3), st.randoms())
def test_quick_reading_says_what_slow_reading_says(texts: list[str], rng: random.Random) -> None:
    memory = RuleMemory()
    for text in (*texts, "\n".join(rng.sample(texts, len(texts))), texts[0]):
        expected = slow_outcome(text)
        assert outcome(text) == expected
        assert outcome(text, memory) == expected


GOOD = "\n".join(
    line
    for n in range(40)
    for line in ("[[rule]]", *whole_rule(n, f"local.port == {n + 1}", "accept"), "")
)


def test_what_did_not_change_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    memory, read = RuleMemory(), []
    first = parse_rules(GOOD, file="", names=NAMES, memory=memory).ruleset
    monkeypatch.setattr(rules_file, "table_of", lambda block: read.append(block) or table_of(block))
    changed = GOOD.replace("local.port == 7'", "local.port == 7777'")
    second = parse_rules(changed, file="", names=NAMES, memory=memory).ruleset
    assert len(read) == 1 and second.rules[6].when != first.rules[6].when
    assert all(a is b for a, b in zip(first.rules, second.rules, strict=True) if a.name != "r6")


def test_a_rule_that_asks_the_host_is_read_again() -> None:
    """Users and lists may be others by now."""
    memory = RuleMemory()
    text = "[[rule]]\n" + "\n".join(whole_rule(1, "user == root", "accept"))
    text += "\n[[rule]]\n" + "\n".join(whole_rule(2, "local.port in @ports", "accept"))
    now = FixedNames({"root": 0}, lists={"ports": "80"})
    then = FixedNames({"root": 7}, lists={"ports": "81"})
    before = parse_rules(text, file="", names=now, memory=memory).ruleset
    after = parse_rules(text, file="", names=then, memory=memory).ruleset
    fresh = parse_rules(text, file="", names=then).ruleset
    assert after == fresh and after.rules[0] != before.rules[0] != before.rules[1]
    assert after.rules[1] != before.rules[1]
