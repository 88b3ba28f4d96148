# SPDX-License-Identifier: Apache-2.0
"""python -m vm, with tests/ in PYTHONPATH: machines by hand.

    run NAME COMMAND     run a shell command in one machine, in a copy of the checkout
    measure [NAME...]    what each kernel pays for each hook, this host's first
    fetch                get kernels and userland into the cache, run nothing

NAME is that of a test: 5.10-no-bpf, 6.1-bpf, ...; with SOCKRULES_VM_KERNEL own-no-bpf.
"""

from __future__ import annotations

import argparse
import sys

from . import machine, measure, plan, userland
from .cache import CannotBeHad
from .debian import why_not_here


def _say(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    plans = {each.name: each for each in plan.plans()}
    parser = argparse.ArgumentParser(prog="python -m vm")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run a shell command in one machine")
    run.add_argument("name", choices=plans)
    run.add_argument("shell", metavar="COMMAND")
    costs = commands.add_parser("measure", help="what each kernel pays for each hook")
    costs.add_argument("names", nargs="*", metavar="NAME", help=", ".join(plans))
    commands.add_parser("fetch", help="get kernels and userland into the cache")
    given = parser.parse_args()
    try:
        if reason := why_not_here():
            raise CannotBeHad(reason)
        if given.command == "fetch":
            print(userland.image(), *(each.machine() for each in plans.values()), sep="\n")
            return 0
        if given.command == "measure":
            names = given.names or [name for name in plans if not name.endswith("no-bpf")]
            print(measure.page([plans[name] for name in names]))
            return 0
        wanted = plans[given.name].machine()
        outcome = machine.run(wanted, userland.image(), given.shell, plan.PATIENCE, _say)
        return 124 if outcome.status is None else outcome.status
    except (CannotBeHad, measure.NotMeasured) as error:
        print(f"vm: {error}", file=sys.stderr)
        return 1


sys.exit(main())
