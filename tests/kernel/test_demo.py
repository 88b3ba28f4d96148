# SPDX-License-Identifier: Apache-2.0
"""The demonstration takes everything away when it ends, whatever ends it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sockrules.agent.enforcer import cgroup_mount
from sockrules.control.paths import Paths

from .processes import PATIENCE

pytestmark = [pytest.mark.kernel, pytest.mark.slow]


@pytest.mark.parametrize("killed", ["the agent", "the demonstration"])
def test_nothing_is_left_of_a_demonstration(killed: str) -> None:
    number = signal.SIGKILL if killed == "the agent" else signal.SIGTERM
    with subprocess.Popen(
        [sys.executable, "-m", "sockrules.agent", "demo"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as demo:  # fmt: skip
        assert demo.stdout
        said = []
        for line in demo.stdout:
            said.append(line)
            if "Ctrl-C ends it" in line:
                break
        found = re.search(r"--root (\S+) status", "".join(said))
        assert found, "".join(said)
        root = Path(found[1])
        assert Paths(root).pins.exists()
        os.kill(_agent_of(demo.pid) if killed == "the agent" else demo.pid, number)
        demo.stdout.read()
        demo.wait(60 * PATIENCE)
    left = (root, Paths(root).pins, cgroup_mount() / root.name, Path("/run/netns") / root.name)
    assert [str(place) for place in left if place.exists()] == []


def _agent_of(demo: int) -> int:
    """The process that the demonstration waits for."""
    children = Path(f"/proc/{demo}/task/{demo}/children").read_text().split()
    [agent] = [
        int(child)
        for child in children
        if b"run\0--root" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]
    return agent
