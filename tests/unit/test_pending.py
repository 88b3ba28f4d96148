# SPDX-License-Identifier: Apache-2.0
"""A confirmation that is awaited survives everything, and is never awaited for longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from sockrules.agent.pending import Pending


class Clock:
    """Two clocks that a test sets."""

    def __init__(self) -> None:
        self.wall, self.monotonic = 1_000_000.0, 50.0

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds

    def open(self, path: Path) -> Pending:
        return Pending(path / "state.db", lambda: self.wall, lambda: self.monotonic)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_nothing_waits_at_first(clock: Clock, tmp_path: Path) -> None:
    pending = clock.open(tmp_path)
    assert pending.waiting is None
    assert pending.held_lists() is None


def test_the_countdown_runs(clock: Clock, tmp_path: Path) -> None:
    pending = clock.open(tmp_path)
    pending.begin(7, 5, 60, "alice")
    assert pending.left() == 60
    clock.pass_by(59)
    assert pending.left() == 1
    clock.pass_by(1)
    assert pending.left() <= 0


def test_it_goes_on_after_the_agent_died(clock: Clock, tmp_path: Path) -> None:
    clock.open(tmp_path).begin(7, 5, 60, "alice")  # not closed: it died
    clock.pass_by(20)
    after = clock.open(tmp_path)
    assert after.waiting is not None
    assert (after.waiting.revision, after.waiting.previous, after.waiting.user) == (7, 5, "alice")
    assert after.left() == 40


def test_it_is_over_when_the_host_was_down_for_longer(clock: Clock, tmp_path: Path) -> None:
    clock.open(tmp_path).begin(7, 5, 60, "alice")
    clock.wall += 3600
    clock.monotonic = 1  # booted again
    assert clock.open(tmp_path).left() <= 0


@pytest.mark.parametrize("jump", [-100_000, 100_000])
def test_a_clock_that_is_set_never_prolongs_it(clock: Clock, tmp_path: Path, jump: float) -> None:
    pending = clock.open(tmp_path)
    pending.begin(7, 5, 60, "alice")
    clock.wall += jump
    assert pending.left() <= 60
    assert clock.open(tmp_path).left() <= 60
    clock.pass_by(60)
    assert pending.left() <= 0


def test_confirmed_is_confirmed(clock: Clock, tmp_path: Path) -> None:
    pending = clock.open(tmp_path)
    pending.begin(7, 5, 60, "alice")
    pending.clear()
    assert pending.waiting is None
    assert clock.open(tmp_path).waiting is None


def test_what_waited_before_goes_on_with_its_own_deadline(clock: Clock, tmp_path: Path) -> None:
    pending = clock.open(tmp_path)
    pending.begin(7, 5, 60, "alice")
    before = pending.waiting
    clock.pass_by(30)
    pending.begin(8, 5, 600, "alice")
    pending.put_back(before)
    assert pending.waiting == before
    assert pending.left() == 30


def test_held_lists_are_remembered(clock: Clock, tmp_path: Path) -> None:
    pending = clock.open(tmp_path)
    pending.hold_lists(3)
    pending.hold_lists(9)
    assert clock.open(tmp_path).held_lists() == 9
