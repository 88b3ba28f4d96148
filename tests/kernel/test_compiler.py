# SPDX-License-Identifier: Apache-2.0
"""The compiler works in a process of its own, and what it made is kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sockrules.agent import compiler
from sockrules.agent.bytecode import Cache
from sockrules.agent.compiler import CompileError, compile_apart
from sockrules.agent.features import kernel_macros
from sockrules.agent.hooks import FLUSH, HOOKS, PROBE, TRACKERS
from sockrules.agent.loader import PINNED, Capacity, compiled, load

from .control_flow import fallen_into
from .sandbox import Sandbox

pytestmark = pytest.mark.kernel

SMALL = Capacity(
    steps=96, entries=64, rests=64, slots=64, bounds=64, rules=64, known=64, listeners=64
)


def test_what_was_kept_is_what_was_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, offsets = Cache(tmp_path / "programs"), kernel_macros()
    fresh = compiled(SMALL, offsets, cache)
    assert set(fresh.programs) == {hook.function for hook in (*HOOKS, *TRACKERS, PROBE, FLUSH)}
    monkeypatch.setattr("sockrules.agent.loader.compile_apart", None)
    assert compiled(SMALL, offsets, cache) == fresh


def test_loops_are_closed_by_jumps() -> None:
    """Others are refused by kernels up to 6.1 at least, whatever the loop does."""
    programs = compiled(SMALL, kernel_macros(), None).programs
    assert {name: found for name, code in programs.items() if (found := fallen_into(code))} == {}


def test_a_loop_that_is_fallen_into_is_found() -> None:
    jump_ahead, run_on, back, leave = (
        bytes.fromhex(text)
        for text in ("0500010000000000", "b700000000000000", "1500feff00000000", "9500000000000000")
    )
    assert fallen_into(jump_ahead + run_on + back + leave) == [(1, 2)]
    assert fallen_into(run_on + back + leave) == []


def test_a_spoiled_file_is_compiled_anew(tmp_path: Path) -> None:
    cache, offsets = Cache(tmp_path / "programs"), kernel_macros()
    fresh = compiled(SMALL, offsets, cache)
    (kept,) = cache.directory.iterdir()
    kept.write_bytes(kept.read_bytes()[:-100])
    assert compiled(SMALL, offsets, cache) == fresh


def test_what_does_not_compile_is_an_error_here(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="the compiler ended with status 1"):
        compiled(SMALL, {}, Cache(tmp_path / "programs"))
    assert not (tmp_path / "programs").exists()


def test_a_compiler_that_dies_is_an_error_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(CompileError, match="the compiler ended with status 1"):
        compile_apart("", [])


def test_without_bcc_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CompileError, match="install python3-bpfcc"):
        compiler.compiler_version()


def test_the_version_is_the_one_that_bcc_gives_itself() -> None:
    said = subprocess.run(
        [sys.executable, "-c", "import bcc; print(bcc.__version__)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert compiler.compiler_version() == said.stdout.strip()


def test_pinned_maps_are_shared_and_others_are_not(fresh: Sandbox) -> None:
    fresh.paths.pins.mkdir(parents=True)
    first, second = (load(SMALL, kernel_macros(), (), pins=fresh.paths.pins) for _ in range(2))
    try:
        from sockrules.agent import libbpf

        for name in first.maps:
            same = libbpf.map_info(first.maps[name]).id == libbpf.map_info(second.maps[name]).id
            assert same == (name in PINNED), name
    finally:
        first.close()
        second.close()


def test_an_agent_at_rest_has_no_compiler_in_memory(sandbox: Sandbox) -> None:
    assert sandbox.agent
    mapped = Path(f"/proc/{sandbox.agent.pid}/maps").read_text()
    assert "libbpf" in mapped
    assert "LLVM" not in mapped
    assert "libbcc" not in mapped
