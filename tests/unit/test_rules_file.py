# SPDX-License-Identifier: Apache-2.0
"""rules.toml and agent.toml: every error at once, in order; no text makes the reader fail."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockrules.control.agent_file import AgentConfig, parse_agent_config
from sockrules.control.model import Mode, Product, Server
from sockrules.control.names import FixedNames
from sockrules.control.problems import InputError
from sockrules.control.rules_file import MOST_RULES, RulesFile, parse_rules, sequence_step

NAMES = FixedNames({"root": 0})


def rule(name: str, when: str = "any") -> str:
    return f'[[rule]]\nname="{name}"\nserver="listen"\nauthority="no"\nwhen="{when}"\n'


def read(text: str) -> RulesFile:
    return parse_rules(text, file="rules.toml", names=NAMES)


def errors_of_agent(text: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        parse_agent_config(text, file="agent.toml")
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(("count", "step"), [(1, 10), (9_999, 10), (10_000, 1), (MOST_RULES, 1)])
def test_sequences_stay_below_the_default_rules(count: int, step: int) -> None:
    assert sequence_step(count) == step
    assert count * step < 99_999


def test_order_in_the_file_is_the_sequence() -> None:
    ruleset = read("".join(rule(name) for name in "cab")).ruleset
    assert [(each.name, each.sequence) for each in ruleset.rules] == [
        ("c", 10),
        ("a", 20),
        ("b", 30),
    ]


def test_more_rules_than_sequences_are_refused() -> None:
    with pytest.raises(InputError, match=rf"at most {MOST_RULES}") as caught:
        read("rule = [" + "{}," * (MOST_RULES + 1) + "]")
    assert len(caught.value.problems) == 1


def test_the_product_configuration_is_carried_along() -> None:
    product = Product(audit=True)
    assert parse_rules("", file="x", names=NAMES, product=product).ruleset.product is product


def test_programs_that_are_not_there_are_warnings_with_places() -> None:
    parsed = parse_rules(
        rule("a", "program == /gone or program == /here"),
        file="rules.toml",
        names=NAMES,
        program_exists=lambda path: path == "/here",
    )
    assert [str(problem) for problem in parsed.warnings] == [
        "rules.toml:5:18: warning: program /gone does not exist; it is matched once it is there"
    ]
    assert read(rule("a", "program == /gone")).warnings == ()


def test_every_rule_with_an_error_is_told_in_the_order_of_the_file() -> None:
    text = "".join(rule(f"r{number}", "local.port == 0") for number in range(300))
    with pytest.raises(InputError) as caught:
        read(text)
    lines = [problem.line for problem in caught.value.problems]
    assert lines == list(range(5, 5 * 300 + 1, 5))


@given(st.text() | st.lists(st.sampled_from([
    "[[rule]]\n", "[rule]\n", "[default.listen]\n", "name", "server", "when", "authority", "=",
    '"yes"', '"any"', "'any'", '"""any"""', '"accept"', "{", "}", "[", "]", ",", "3", "\n", "\r\n",
    "rule.name", "default", "true", '"local.port == 0"', "\\", "é",
])).map("".join))  # fmt: skip
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (read, lambda text: parse_agent_config(text, file="agent.toml")):
        try:
            parse(text)
        except InputError as error:
            assert error.problems


@pytest.mark.parametrize("text", ["a=" + "[" * 20_000, "a=" + "9" * 5_000, "a=1" * 9, "\0", "a='"])
def test_what_is_not_toml_is_one_problem(text: str) -> None:
    with pytest.raises(InputError) as caught:
        read(text)
    assert len(caught.value.problems) == 1


def test_an_empty_agent_file_is_as_shipped() -> None:
    config = parse_agent_config("", file="agent.toml")
    assert config == AgentConfig()
    assert config.modes == dict.fromkeys(Server, Mode.OFF)
    assert config.product == Product(audit=False, message=False, capture=False)


@pytest.mark.parametrize(
    ("value", "right"),
    [
        ('"resett"', 'did you mean reset?'),
        ('"icmp"', 'use "auto", "reset" or "drop"'),
        ("true", 'use "auto", "reset" or "drop"'),
    ],
)
def test_a_wrong_answer_to_peers_is_told(value: str, right: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_agent_config(f"[accept]\nreject_with = {value}\n", file="agent.toml")
    [problem] = caught.value.problems
    assert problem.line == 2
    assert right in str(problem)


def test_every_setting_of_the_agent_file() -> None:
    text = """
    [product]
    audit = "yes"
    capture = true
    [servers]
    listen = "simulate"
    connect = "enforce"
    [accept]
    reject_with = "reset"
    [agent]
    cgroup = "/sys/fs/cgroup/system.slice"
    [audit]
    max_bytes = 1024
    keep = 0
    [events]
    buffer_pages = 128
    """
    assert parse_agent_config(text, file="agent.toml") == AgentConfig(
        product=Product(audit=True, capture=True),
        modes={
            Server.LISTEN: Mode.SIMULATE,
            Server.ACCEPT: Mode.OFF,
            Server.CONNECT: Mode.ENFORCE,
        },
        reject_with="reset",
        cgroup="/sys/fs/cgroup/system.slice",
        audit_max_bytes=1024,
        audit_keep=0,
        buffer_pages=128,
    )


def test_every_error_of_the_agent_file() -> None:
    text = """\
[product]
audit = "inherit"
mesage = 1
[servers]
listen = "enforced"
accept = true
[agent]
cgroup = "x"
[audit]
keep = "8"
max_bytes = 1
[events]
buffer_pages = 65
[evnts]
"""
    why = "nothing stands behind the product configuration"
    assert errors_of_agent(text) == [
        f'agent.toml:2:9: audit cannot be inherited: {why}; use "yes" or "no"',
        "agent.toml:3:1: there is no key mesage; did you mean message?",
        'agent.toml:5:10: the mode of listen is "enforced"; did you mean enforce?',
        'agent.toml:6:10: the mode of accept is true; use "off", "simulate" or "enforce"',
        'agent.toml:8:10: cgroup is "x"; use an absolute path, as in "/sys/fs/cgroup/system.slice"',
        'agent.toml:10:8: keep is "8"; use a number 0-10000',
        "agent.toml:11:13: max_bytes 1 is out of range; use 1024-1125899906842624",
        "agent.toml:13:16: buffer_pages 65 is not a power of two; use 64 or 128",
        "agent.toml:14:1: there is no key evnts; did you mean events?",
    ]
    assert errors_of_agent("product = 1") == [
        "agent.toml:1:11: product is the number 1, not a table; write [product]"
    ]
