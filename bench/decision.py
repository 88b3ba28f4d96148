# SPDX-License-Identifier: Apache-2.0
"""Nanoseconds of one decision: test runs of the loaded program, each request many times.

A test run repeats one request, so its part of the table is in the processor's
cache; the harness itself costs some 20 to 30 ns, which are in the numbers.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import rulegen
from sockrules.agent.btf import offset_macros
from sockrules.agent.hooks import PROBE
from sockrules.agent.kernel import Kernel, capacity_for
from sockrules.agent.loader import load
from sockrules.control import walk
from sockrules.control.compile import compile_table
from sockrules.control.condition import Comparison
from sockrules.control.model import Field, Rule, RuleSet, Server
from sockrules.control.table import Table

REPEAT = 3000
REQUESTS = 300


def decisions() -> Iterator[dict[str, Any]]:
    """A row for each rule set, sizes ascending."""
    for count in (10, 1_000, 10_000, 100_000):
        source = rulegen.Source(count)
        yield _row(f"{count} access rules", source.ruleset(count, access=True), source)
    for count in (10, 100, 300):
        source = rulegen.Source(count)
        yield _row(f"{count} tangled rules", source.ruleset(count), source)
    for count in (10_000, 500_000):
        yield _row(f"a list of {count}", _blocklist(count), rulegen.Source(count))


def _blocklist(count: int) -> RuleSet:
    """One rule that rejects `count` scattered addresses."""
    first = rulegen.MAPPED | 11 << 24
    step = 2 * (0x20000000 // count // 2) + 1
    ranges = tuple((first + n * step, first + n * step) for n in range(count))
    when = Comparison(Field.REMOTE_ADDRESS, ranges)
    return RuleSet((Rule("listed", Server.CONNECT, False, when, 10),))


def _row(name: str, ruleset: RuleSet, source: rulegen.Source) -> dict[str, Any]:
    start = time.perf_counter()
    table = compile_table(ruleset, ruleset.rules)
    compiled = time.perf_counter() - start
    kernel, installed = _loaded(table)
    try:
        requests = source.requests(ruleset.rules, REQUESTS, aim=0.85)
        times = sorted(
            kernel.time_decision(walk.request_words(table, request), REPEAT) for request in requests
        )
    finally:
        kernel.close()
    return {
        "rules": name,
        "median_ns": statistics.median_low(times),
        "p90_ns": times[len(times) * 9 // 10],
        "worst_ns": times[-1],
        "steps": table.steps,
        "compile_s": compiled,
        "install_s": installed,
        "kB": table.size // 1024,
    }


def _loaded(table: Table) -> tuple[Kernel, float]:
    """The probe with the table in force, and the seconds that putting it in force took."""
    capacity = capacity_for(table)
    kernel = Kernel(load(capacity, offset_macros(), (PROBE,)), capacity)
    start = time.perf_counter()
    kernel.install(table, {})
    return kernel, time.perf_counter() - start
