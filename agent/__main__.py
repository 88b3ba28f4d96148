# SPDX-License-Identifier: Apache-2.0
"""`python -m sockrules.agent run|doctor|demo`: what `sockrules agent run` and `doctor` start."""

from __future__ import annotations

import argparse
import json
import os
import sys
from sqlite3 import Error

from ..control.paths import Paths
from ..control.problems import InputError
from .btf import BtfError
from .compiler import CompileError
from .daemon import AgentRunning, run
from .doctor import examine
from .enforcer import EnforcerError
from .kernel import AbiMismatch

_EXPECTED = (AgentRunning, EnforcerError, CompileError, BtfError, AbiMismatch, OSError, Error)


def main() -> int:
    """Exit 0 done, 1 the answer is no, 2 the input was wrong."""
    parser = argparse.ArgumentParser(prog="sockrules agent")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("run", "doctor", "demo"):
        command = commands.add_parser(name)
        command.add_argument("--root", default=None)
        if name == "run":
            command.add_argument("--detach", action="store_true", help="leave nothing behind")
        if name == "doctor":
            command.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    paths = Paths.from_option(chosen.root)
    if os.geteuid() != 0:
        print("sockrules: the agent loads BPF programs and must run as root", file=sys.stderr)
        return 2
    try:
        if chosen.command == "run":
            run(paths, chosen.detach)
        elif chosen.command == "doctor":
            print(json.dumps(examine(paths)))
        else:
            from .demo import demo

            return demo()
    except InputError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return 2
    except _EXPECTED as error:
        print(f"sockrules: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
