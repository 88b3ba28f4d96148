# SPDX-License-Identifier: Apache-2.0
"""The linear reference, and what it means that a table agrees with it."""

from __future__ import annotations

from collections.abc import Iterable

from sockrules.control import abi, walk
from sockrules.control.condition import holds
from sockrules.control.model import DefaultRule, Request, Rule, RuleSet, verdict_of
from sockrules.control.table import Table


def reference(ruleset: RuleSet, request: Request) -> Rule | DefaultRule:
    """The first rule that holds, or the server's default."""
    for rule in ruleset.rules:
        if rule.server is request.server and holds(rule.when, request):
            return rule
    return ruleset.defaults[request.server]


def judge(ruleset: RuleSet, table: Table, requests: Iterable[Request]) -> None:
    for request in requests:
        expected = reference(ruleset, request)
        word, steps = walk.counted_walk(table, walk.request_words(table, request))
        assert word != walk.EXHAUSTED, request
        decided = table.rules[word >> abi.C["SR_RULE_SHIFT"]]
        assert decided is expected, f"{request}: {decided.name} instead of {expected.name}"
        assert walk.verdict(table, word) == verdict_of(ruleset, expected)
        assert bool(word & abi.C["SR_REJECT"]) is not expected.authority
        assert bool(word & abi.C["SR_AUDIT"]) is verdict_of(ruleset, expected).audit
        assert bool(word & abi.C["SR_MESSAGE"]) is verdict_of(ruleset, expected).message
        assert bool(word & abi.C["SR_CAPTURE"]) is verdict_of(ruleset, expected).capture
        assert steps <= table.steps
