# SPDX-License-Identifier: Apache-2.0
"""The sockops program is called back for listeners alone, unless others want more."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator

import pytest

from sockrules.agent import libbpf
from sockrules.agent.features import kernel_macros
from sockrules.agent.hooks import SOCKOPS

from .run_stats import counted, programs, since
from .sandbox import Sandbox

pytestmark = [pytest.mark.kernel, pytest.mark.matrix]

CONNECTS = 20
LETS_BE = struct.pack("=BBhiBBhi", 0xB7, 0, 0, 1, 0x95, 0, 0, 0)  # r0 = 1; exit


@contextlib.contextmanager
def another(sandbox: Sandbox) -> Iterator[None]:
    """A sockops program that is not of sockrules, on the same sockets meanwhile."""
    program = libbpf.prog_load("another", SOCKOPS.program_type, SOCKOPS.attach_type, LETS_BE)
    cgroup = os.open(sandbox.cgroup, os.O_RDONLY)
    link = libbpf.link_create(program, cgroup, SOCKOPS.attach_type)
    try:
        yield
    finally:
        for fd in (link, cgroup, program):
            os.close(fd)


def runs_by_connection(sandbox: Sandbox) -> dict[str, float]:
    """How often sockops programs ran, by name."""
    with counted(), sandbox.listener("plain", "127.0.0.1", 6000):
        before = programs()
        for _ in range(CONNECTS):
            assert sandbox.client("connect", "plain", "127.0.0.1", 6000) == "ok"
        return {name: ran.count / CONNECTS for name, ran in since(before).items()}


def test_accepted_sockets_call_back_only_where_somebody_else_may_want_it(
    sandbox: Sandbox,
) -> None:
    sandbox.activate("simulate", "accept")
    alone = runs_by_connection(sandbox)["sockops"]
    with another(sandbox):
        together = runs_by_connection(sandbox)
    assert together["another"] == together["sockops"]
    spared = together["sockops"] - alone
    if kernel_macros()["SR_HAS_TYPED_SOCKET"]:
        assert spared >= 2, "established, and closed"
    else:
        assert spared == 0
    assert runs_by_connection(sandbox)["sockops"] == alone
