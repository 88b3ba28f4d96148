# SPDX-License-Identifier: Apache-2.0
"""A compiler that ends its process ends no agent."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from sockrules.agent.btf import offset_macros
from sockrules.agent.bytecode import Cache
from sockrules.agent.compile_apart import compile_apart
from sockrules.agent.enforcer import mount_bpffs
from sockrules.agent.loader import Capacity, LoadError, pinned_in
from sockrules.control.paths import PINS

pytestmark = pytest.mark.kernel

SMALL = Capacity(steps=96, entries=64, slots=64, bounds=64, rules=64, known=64, listeners=64)


def test_programs_are_left_in_the_cache(tmp_path: Path) -> None:
    mount_bpffs()
    pins = PINS / f"srtest-{os.getpid()}-apart"
    pins.mkdir(parents=True)
    macros = {**offset_macros(), **pinned_in(pins)}
    try:
        compile_apart(SMALL, macros, Cache(tmp_path / "programs"))
        assert len(list((tmp_path / "programs").iterdir())) == 1
    finally:
        shutil.rmtree(pins)


def test_what_does_not_compile_is_an_error_here(tmp_path: Path) -> None:
    macros = pinned_in(Path("/nowhere"))
    with pytest.raises(LoadError, match="the compiler ended with status 1"):
        compile_apart(SMALL, macros, Cache(tmp_path / "programs"))
    assert not (tmp_path / "programs").exists()
