# SPDX-License-Identifier: Apache-2.0
"""The reference: the first rule that matches decides, and a trace says why."""

from __future__ import annotations

from sockrules.control.evaluate import decide, trace
from sockrules.control.model import Request, Server
from sockrules.control.names import FixedNames
from sockrules.control.rules_file import parse_rules

RULESET = parse_rules(
    """
[default.accept]
authority = "no"
[[rule]]
name = "first"
server = "accept"
authority = "yes"
when = "local.port == 80 and not (user != 33 or remote.port < 1024)"
[[rule]]
name = "elsewhere"
server = "connect"
authority = "no"
when = "any"
[[rule]]
name = "second"
server = "accept"
authority = "no"
when = "local.port in {80-90}"
[[rule]]
name = "rehearsed"
server = "accept"
authority = "yes"
active = "no"
when = "any"
""",
    file="rules.toml",
    names=FixedNames(),
).ruleset


def test_the_first_match_decides() -> None:
    request = Request(Server.ACCEPT, local_port=80, user=33, remote_port=5000)
    assert decide(RULESET, RULESET.rules, request).rule == "first"
    request = Request(Server.ACCEPT, local_port=80, user=0, remote_port=5000)
    verdict = decide(RULESET, RULESET.rules, request)
    assert (verdict.rule, verdict.sequence, verdict.authority) == ("second", 30, False)
    assert verdict.audit  # rejections always are


def test_no_match_is_the_default_rule() -> None:
    request = Request(Server.ACCEPT, local_port=443)
    verdict = decide(RULESET, RULESET.active(), request)
    assert (verdict.rule, verdict.sequence, verdict.authority) == ("default-accept", 99999, False)
    assert decide(RULESET, RULESET.in_test(), request).rule == "rehearsed"


def test_a_rule_of_another_server_never_decides() -> None:
    assert decide(RULESET, RULESET.rules, Request(Server.LISTEN)).rule == "default-listen"


def test_the_trace_ends_with_the_rule_that_decides() -> None:
    request = Request(Server.ACCEPT, local_port=443, user=33)
    steps = trace(RULESET, RULESET.active(), request)
    assert [(step.rule.name, step.matched) for step in steps] == [
        ("first", False),
        ("second", False),
        ("default-accept", True),
    ]
    assert [
        (asked.comparison.text, asked.actual, asked.held) for asked in steps[0].comparisons
    ] == [
        ("local.port == 80", 443, False),
        ("user != 33", 33, False),
        ("remote.port < 1024", None, False),
    ]
    assert steps[-1].comparisons == ()
    request = Request(Server.ACCEPT, local_port=81)
    assert trace(RULESET, RULESET.active(), request)[-1].rule.name == "second"
