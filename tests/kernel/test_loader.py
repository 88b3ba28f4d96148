# SPDX-License-Identifier: Apache-2.0
"""What the kernel refuses is said in words that help."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from sockrules.agent import libbpf
from sockrules.agent.bytecode import Cache
from sockrules.agent.enforcer import mount_bpffs
from sockrules.agent.features import kernel_macros
from sockrules.agent.hooks import CONNECT4, CONNECT6, PROBE, Hook
from sockrules.agent.loader import Capacity, load
from sockrules.agent.longest_walk import is_too_long, longest_walk
from sockrules.control import abi

pytestmark = pytest.mark.kernel

SMALL = Capacity(
    steps=96, entries=64, rests=64, slots=64, bounds=64, rules=64, known=64, listeners=64
)
PERCPU_ARRAY = 6  # enum bpf_map_type
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


def test_a_pinned_map_of_another_version_is_replaced(
    macros: dict[str, int], tmp_path: Path
) -> None:
    mount_bpffs()
    pins = Path("/sys/fs/bpf") / f"srtest-{os.getpid()}-loader"
    pins.mkdir()
    try:
        old = libbpf.map_create("totals", PERCPU_ARRAY, 4, 8, 3, 0)
        libbpf.pin(old, str(pins / "totals"))
        os.close(old)
        for _ in range(2):  # then it has the right shape, and is kept
            loaded = load(SMALL, macros, (CONNECT4,), pins=pins)
            refused, info = loaded.refused, libbpf.map_info(loaded.maps["totals"])
            libbpf.update(loaded.maps["changes"], bytes(4), b"kept" + bytes(4))
            loaded.close()
            assert not refused
            assert info.value_size == abi.sizeof("sr_totals")
        again = libbpf.get_pinned(str(pins / "changes"))
        assert again is not None
        assert libbpf.lookup(again, bytes(4), 8) == b"kept" + bytes(4)
        os.close(again)
    finally:
        shutil.rmtree(pins)


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
