# SPDX-License-Identifier: Apache-2.0
"""`make bench`: what a decision costs, and what connect() and accept() feel of it.

    python -m bench                                          everything, in a few minutes
    python -m bench decision --sets acl,fw --sizes 10,1000   a part of it
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from . import decision, sets

PARTS = ("decision",)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--sets", help=f"of {','.join(sets.ALL)}")
    parser.add_argument("--sizes", help="numbers of rules, or of prefixes in a list")
    wanted = parser.parse_args()
    if os.geteuid() != 0:
        print("bench: loading BPF programs needs root", file=sys.stderr)
        return 2
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    report: dict[str, Any] = {"kernel": platform.release(), "cpus": os.cpu_count()}
    names = wanted.sets.split(",") if wanted.sets else list(sets.ALL)
    sizes = [int(size) for size in wanted.sizes.split(",")] if wanted.sizes else None
    print(decision.HEADINGS)
    report["decision"] = []
    for row in decision.decisions(names, sizes):
        report["decision"].append(row)
        print(decision.line(row), flush=True)
    Path(__file__).with_name("latest.json").write_text(json.dumps(report, indent=2) + "\n")
    return 0


sys.exit(main())
