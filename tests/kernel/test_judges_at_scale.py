# SPDX-License-Identifier: Apache-2.0
"""Ten thousand rules, a hundred thousand requests: kernel, walk and reference say the same.

The kernel is asked about every request, and so is a linear oracle that knows nothing of
tables (linear.py); the walk in Python about many; the reference itself, which takes
some ten milliseconds for each, about a sample.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bench import sets
from bench.aim import Aim

from linear import Linear
from sockrules.agent.features import kernel_macros
from sockrules.agent.hooks import PROBE
from sockrules.agent.kernel import Kernel
from sockrules.agent.loader import Capacity, load
from sockrules.control import abi, evaluate, walk
from sockrules.control.compile import compile_table
from sockrules.control.model import verdict_of
from sockrules.control.table import CompileError, Limits

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

WALKED = 5_000
REFERRED = 60


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    """The probe alone, with room for all of them; nothing is attached."""
    capacity = Capacity(
        steps=Limits().steps,
        entries=1 << 19,
        rests=1 << 15,
        slots=1 << 20,
        bounds=1 << 18,
        rules=1 << 14,
    )
    loaded = load(capacity, kernel_macros(), (PROBE,))
    try:
        assert not loaded.refused, loaded.refused
        yield Kernel(loaded, capacity)
    finally:
        loaded.close()


@pytest.mark.parametrize(
    ("name", "size", "count"),
    [
        ("acl", 10_000, 100_000),
        ("fw", 10_000, 10_000),
        ("ipc", 10_000, 10_000),
        ("corporate", 10_000, 10_000),
        ("blocklist", 100_000, 10_000),
        ("crowded", 100_000, 10_000),
        ("negated", 10_000, 10_000),
        ("nested", 10_000, 30_000),
        ("long-lists", 10_000, 10_000),
        ("rectangles", 10_000, 10_000),
        ("port-rectangles", 10_000, 10_000),
        ("deep", 1_000, 10_000),
    ],
)
def test_the_three_judges_agree(kernel: Kernel, name: str, size: int, count: int) -> None:
    ruleset = sets.make(name, size)
    requests = Aim(ruleset, size).requests(count)
    table = compile_table(ruleset, ruleset.rules)
    kernel.install(table, ())
    shift = abi.C["SR_RULE_SHIFT"]
    deciding = Linear(requests).deciding(ruleset.rules)
    decided: set[int] = set()
    for number, (request, first) in enumerate(zip(requests, deciding.tolist(), strict=True)):
        words = walk.request_words(table, request)
        word = kernel.decide(words)
        place = first if first >= 0 else len(ruleset.rules) + request.server
        assert word >> shift == place, request
        if number < WALKED:
            walked, steps = walk.counted_walk(table, words)
            assert walked == word, request
            assert steps <= table.steps
        if number < REFERRED:
            rule = evaluate.deciding_rule(ruleset, ruleset.rules, request)
            assert rule is table.rules[place], request
            assert walk.verdict(table, word) == verdict_of(ruleset, rule)
        decided.add(place)
    assert len(decided) > min(size, 1000) // 20 or len(ruleset.rules) == 1  # the aim is true


def test_what_is_too_much_is_refused_by_naming_rules() -> None:
    ruleset = sets.make("port-rectangles", 1_000)
    with pytest.raises(CompileError) as raised:
        compile_table(ruleset, ruleset.rules, limits=Limits(steps=20))
    named = {rule.name for rule in ruleset.rules}
    assert raised.value.rules
    assert set(raised.value.rules) <= named
