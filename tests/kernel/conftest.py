# SPDX-License-Identifier: Apache-2.0
"""Kernel tests: the real kernel, real sockets, real programs, in sandboxes of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from .sandbox import Sandbox, sweep


@pytest.fixture(scope="session", autouse=True)
def _no_leftovers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    sweep()
    kept = os.environ.get("SOCKRULES_TEST_PROGRAMS")  # of another run, for slow machines
    Sandbox.programs = Path(kept) if kept else tmp_path_factory.mktemp("programs")
    yield
    sweep()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What asks for Multipath TCP is not run on a kernel that was built without, as Debian's
    5.10 is."""
    asked = getattr(getattr(item, "callspec", None), "params", {}).values()
    without = not Path("/proc/sys/net/mptcp").exists()
    if without and any(isinstance(each, str) and "mptcp" in each for each in asked):
        item.add_marker(pytest.mark.kernel(optional=True), append=False)
        pytest.skip("this kernel has no Multipath TCP")


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox with a running agent, all servers off, shared by a module's tests."""
    box = Sandbox(tmp_path_factory.mktemp("root"))
    box.open()
    try:
        box.start()
        yield box
    finally:
        box.close()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Sandbox]:
    """A sandbox without an agent, for one test that starts and ends agents itself."""
    box = Sandbox(tmp_path)
    box.open()
    try:
        yield box
    finally:
        box.close()
