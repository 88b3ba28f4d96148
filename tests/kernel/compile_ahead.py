# SPDX-License-Identifier: Apache-2.0
"""Compile the agent's programs as the tests' rule sets want them, before the tests.

    PYTHONPATH=tests python -m kernel.compile_ahead DIRECTORY

Tests find them there with SOCKRULES_TEST_PROGRAMS=DIRECTORY. clang takes seconds on a
real machine and minutes on an emulated one, longer than an agent waits for it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sockrules.agent import compiler
from sockrules.agent.btf import offset_macros
from sockrules.agent.bytecode import Cache
from sockrules.agent.kernel import capacity_for
from sockrules.agent.loader import compiled
from sockrules.control.compile import compile_table
from sockrules.control.model import RuleSet

if __name__ == "__main__":
    compiler._PATIENCE = 3600
    capacity = capacity_for(compile_table(RuleSet(()), ()))
    compiled(capacity, offset_macros(), Cache(Path(sys.argv[1])))
