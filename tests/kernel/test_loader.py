# SPDX-License-Identifier: Apache-2.0
"""What the kernel refuses is said in words that help."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sockrules.agent.bytecode import Cache
from sockrules.agent.features import kernel_macros
from sockrules.agent.hooks import CONNECT4, CONNECT6, PROBE, Hook
from sockrules.agent.loader import Capacity, load
from sockrules.agent.longest_walk import is_too_long, longest_walk

pytestmark = pytest.mark.kernel

SMALL = Capacity(
    steps=96, entries=64, rests=64, slots=64, bounds=64, rules=64, known=64, listeners=64
)
ENDLESS = replace(SMALL, steps=9000)


@pytest.fixture
def macros() -> dict[str, int]:
    return kernel_macros()


def test_programs_are_loaded_when_they_are_needed(macros: dict[str, int]) -> None:
    loaded = load(SMALL, macros)
    assert not loaded.programs
    loaded.need((PROBE, CONNECT4))
    first = dict(loaded.programs)
    assert set(first) == {"probe", "connect4"}
    loaded.need((CONNECT4, CONNECT6))
    assert set(loaded.programs) == {*first, "connect6"}
    assert loaded.programs["connect4"] == first["connect4"], "what is loaded is not loaded again"
    loaded.close()


def test_a_refused_program_costs_no_other_and_the_verifier_is_quoted(
    macros: dict[str, int],
) -> None:
    wrong = Hook("wrong", "sr_connect4", 13, 3, "cgroup")  # a sockops program, by its word
    loaded = load(SMALL, macros, (wrong, CONNECT4))
    assert set(loaded.programs) == {"connect4"}
    assert "invalid bpf_context access" in loaded.refused["wrong"]
    loaded.close()


@pytest.mark.slow
def test_a_walk_that_is_too_long_is_told_from_other_refusals(
    macros: dict[str, int], tmp_path: Path
) -> None:
    loaded = load(ENDLESS, macros, (CONNECT4,))
    why = loaded.refused["connect4"]
    loaded.close()
    assert is_too_long(why)
    assert not is_too_long("Operation not permitted")
    said = longest_walk(1234, ENDLESS, macros, ["connect4"], Cache(tmp_path))
    assert said.startswith("the rules need a walk of 1234 steps")
    assert "accepts at most 900;" in said
