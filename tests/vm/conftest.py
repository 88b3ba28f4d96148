# SPDX-License-Identifier: Apache-2.0
"""The machines of a run: two at a time, begun when the first of their tests is due."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotDone
from dataclasses import dataclass, field

import pytest

from . import machine
from .machine import Outcome
from .plan import Plan, carry_out

AT_A_TIME = 2
SUMMARIES = pytest.StashKey[list[str]]()
_TELL_EVERY = 30  # seconds


@dataclass(slots=True)
class Running:
    """A machine that runs or waits for its turn, and what it has said so far."""

    plan: Plan
    told: list[str] = field(default_factory=list)
    outcome: Future[Outcome] = field(default_factory=Future)

    def progress(self) -> str:
        """`6.1-bpf 45 %`; empty before it has begun and when it is done."""
        if self.outcome.done() or not self.outcome.running():
            return ""
        done = [found[1] for line in self.told[-50:] if (found := re.search(r"\[ *(\d+%)\]", line))]
        return f"{self.plan.name} {done[-1] if done else 'starts'}"


class Machines:
    """All machines that a run of pytest wants."""

    def __init__(self, config: pytest.Config, wanted: list[Plan]) -> None:
        self._config = config
        self._pool = ThreadPoolExecutor(AT_A_TIME)
        self._running = {plan: Running(plan) for plan in wanted}
        for each in self._running.values():
            each.outcome = self._pool.submit(carry_out, each.plan, each.told)

    def wait(self, plan: Plan) -> Outcome:
        """The end of one; meanwhile the terminal is told how far all are.

        Raises:
            CannotBeHad: the kernel or the userland.
        """
        outcome, started = self._running[plan].outcome, time.monotonic()
        while True:
            try:
                return outcome.result(_TELL_EVERY)
            except NotDone:
                parts = [each.progress() for each in self._running.values()]
                seconds = time.monotonic() - started
                self._say(f"  {seconds:.0f} s: {', '.join(filter(None, parts))}")

    def _say(self, text: str) -> None:
        capture = self._config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            print(f"\n{text}", end="", flush=True)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        machine.end_all()
        self._pool.shutdown()


@pytest.fixture(scope="session")
def machines(request: pytest.FixtureRequest) -> Iterator[Machines]:
    """Started here: the tests before have the host for themselves, which some have to."""
    wanted = [
        item.callspec.params["plan"]
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and "machines" in item.fixturenames
        and hasattr(item, "callspec")
    ]
    started = Machines(request.config, wanted)
    try:
        yield started
    finally:
        started.close()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SUMMARIES] = []


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if summaries := config.stash[SUMMARIES]:
        terminalreporter.section("virtual machines")
        for line in summaries:
            terminalreporter.line(line)
