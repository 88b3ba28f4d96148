# SPDX-License-Identifier: Apache-2.0
"""The longest walk that a rule set may need, in front of the running kernel's verifier."""

from __future__ import annotations

import dataclasses

import pytest

from sockrules.agent.bytecode import Cache
from sockrules.agent.features import kernel_macros
from sockrules.agent.hooks import CONNECT6, POST_BIND6, SK_LOOKUP, SOCKOPS
from sockrules.agent.kernel import STEP_CLASSES, capacity_for
from sockrules.agent.loader import load
from sockrules.control.compile import compile_table
from sockrules.control.model import RuleSet

from .sandbox import Sandbox

pytestmark = [pytest.mark.kernel, pytest.mark.matrix]

LONGEST = (SOCKOPS, POST_BIND6, CONNECT6, SK_LOOKUP)
"""The programs that verifiers go longest through (Linux 6.18, 6.1, and 6.18 by LLVM 19), and
the one that has most to look up before the walk."""


def test_the_verifier_accepts_the_longest_walk() -> None:
    small = capacity_for(compile_table(RuleSet(()), ()))
    assert Sandbox.programs
    loaded = load(
        dataclasses.replace(small, steps=STEP_CLASSES[-1]),
        kernel_macros(),
        LONGEST,
        cache=Cache(Sandbox.programs),
    )
    refused = dict(loaded.refused)
    loaded.close()
    assert refused == {}
