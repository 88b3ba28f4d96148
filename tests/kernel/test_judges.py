# SPDX-License-Identifier: Apache-2.0
"""The third judge: the decision loaded into the kernel, by test runs of its own program."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rulegen
from sockrules.agent.features import kernel_macros
from sockrules.agent.hooks import PROBE
from sockrules.agent.kernel import Kernel
from sockrules.agent.loader import Capacity, load
from sockrules.control import evaluate, walk
from sockrules.control.compile import compile_table
from sockrules.control.model import Request, RuleSet
from sockrules.control.table import Limits, Table

pytestmark = pytest.mark.kernel

LIMITS = Limits()


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    """The probe alone, with room for large tables; nothing is attached."""
    capacity = Capacity(
        steps=LIMITS.steps,
        entries=1 << 16,
        rests=1 << 14,
        slots=1 << 19,
        bounds=1 << 18,
        rules=1 << 14,
    )
    loaded = load(capacity, kernel_macros(), (PROBE,))
    try:
        assert not loaded.refused, loaded.refused
        yield Kernel(loaded, capacity)
    finally:
        loaded.close()


def judge(kernel: Kernel, ruleset: RuleSet, requests: list[Request]) -> Table:
    """Reference, walk and kernel name the same rule and verdict for every request."""
    table = compile_table(ruleset, ruleset.rules, limits=LIMITS)
    kernel.install(table, ())
    for request in requests:
        words = walk.request_words(table, request)
        word = kernel.decide(words)
        assert word == walk.walk(table, words), request
        assert walk.verdict(table, word) == evaluate.decide(ruleset, ruleset.rules, request), (
            request
        )
    return table


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(rulegen.rulesets(), st.lists(rulegen.requests(), min_size=1, max_size=12), st.integers())
def test_any_rules_any_requests(
    kernel: Kernel, ruleset: RuleSet, requests: list[Request], seed: int
) -> None:
    aimed = rulegen.Source(seed).requests(ruleset.rules, 12, aim=1.0)
    judge(kernel, ruleset, [*requests, *aimed])


@pytest.mark.parametrize("seed", range(20))
def test_random_sets(kernel: Kernel, seed: int) -> None:
    source = rulegen.Source(seed)
    ruleset = source.ruleset(1 + 3 * seed)
    judge(kernel, ruleset, source.requests(ruleset.rules, 200))


def test_two_thousand_access_rules(kernel: Kernel) -> None:
    source = rulegen.Source(2000)
    ruleset = source.ruleset(2000, access=True)
    judge(kernel, ruleset, source.requests(ruleset.rules, 2000))


def test_long_lists_are_searched(kernel: Kernel) -> None:
    source = rulegen.Source(7)
    ruleset = source.ruleset(300)
    table = judge(kernel, ruleset, source.requests(ruleset.rules, 1000))
    assert table.bounds


def test_a_walk_that_runs_out_of_steps_is_a_rejection_not_a_guess(
    kernel: Kernel, tmp_path: Path
) -> None:
    """The compiler forbids it; the kernel does not rely on that."""
    source = rulegen.Source(3)
    ruleset = source.ruleset(400, access=True)
    table = compile_table(ruleset, ruleset.rules, limits=LIMITS)
    capacity = Capacity(
        steps=2, entries=1 << 14, rests=1 << 14, slots=1 << 16, bounds=1 << 14, rules=1 << 10
    )
    short = Kernel(load(capacity, kernel_macros(), (PROBE,)), capacity)
    try:
        short.install(table, ())
        words = [
            short.decide(walk.request_words(table, request))
            for request in source.requests(ruleset.rules, 200)
        ]
        assert 0xFFFFFFFF in words
        longer = [kernel for kernel in words if kernel != 0xFFFFFFFF]
        assert all(word >> 8 < len(table.rules) for word in longer)
    finally:
        short.close()
