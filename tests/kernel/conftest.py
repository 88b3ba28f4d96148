# SPDX-License-Identifier: Apache-2.0
"""Kernel tests: the real kernel, real sockets, real programs, in sandboxes of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from .processes import PATIENCE
from .sandbox import Sandbox, sweep


@pytest.fixture(scope="session", autouse=True)
def _no_leftovers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    sweep()
    kept = os.environ.get("SOCKRULES_TEST_PROGRAMS")  # of another run, for slow machines
    Sandbox.programs = Path(kept) if kept else tmp_path_factory.mktemp("programs")
    yield
    sweep()


def _how_long(fixture_name: str, config: pytest.Config) -> Literal["session", "module"]:
    """Where the verifier takes a second for each program, one agent serves all modules."""
    return "session" if PATIENCE > 1 else "module"


@pytest.fixture(scope=_how_long)
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox with a running agent."""
    box = Sandbox(tmp_path_factory.mktemp("root"))
    box.open()
    try:
        box.start()
        yield box
    finally:
        box.close()


@pytest.fixture(scope="module")
def sandbox(shared: Sandbox) -> Iterator[Sandbox]:
    """A sandbox with a running agent, all servers off, shared by a module's tests."""
    yield shared
    if shared.agent and shared.agent.poll() is None:
        shared.activate("off")


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Sandbox]:
    """A sandbox without an agent, for one test that starts and ends agents itself."""
    box = Sandbox(tmp_path)
    box.open()
    try:
        yield box
    finally:
        box.close()
