# SPDX-License-Identifier: Apache-2.0
"""The compiled bytes decide every request as the linear reference does: same rule, same verdict."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rulegen
from judging import judge
from sockrules.control.compile import compile_table
from sockrules.control.model import Request, RuleSet


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(rulegen.rulesets(), st.lists(rulegen.requests(), min_size=1, max_size=12), st.integers())
def test_any_rules_any_requests(ruleset: RuleSet, requests: list[Request], seed: int) -> None:
    table = compile_table(ruleset, ruleset.rules)
    aimed = rulegen.Source(seed).requests(ruleset.rules, 12, aim=1.0)
    judge(ruleset, table, [*requests, *aimed])


@pytest.mark.parametrize("seed", range(60))
def test_small_random_sets(seed: int) -> None:
    source = rulegen.Source(seed)
    ruleset = source.ruleset(1 + seed % 25)
    table = compile_table(ruleset, ruleset.rules)
    judge(ruleset, table, source.requests(ruleset.rules, 80))


def test_two_thousand_access_rules() -> None:
    source = rulegen.Source(2000)
    ruleset = source.ruleset(2000, access=True)
    table = compile_table(ruleset, ruleset.rules)
    judge(ruleset, table, source.requests(ruleset.rules, 5000))
