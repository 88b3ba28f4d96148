# SPDX-License-Identifier: Apache-2.0
"""`make bench`: what a decision costs, and what connect() and accept() feel of it.

python -m bench                                          everything, in some minutes
python -m bench --quick                                  less of everything
python -m bench decision --sets acl,fw --sizes 10,1000   a part of it
python -m bench plots bench/latest.json docs             the pictures of a run
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import decision, sets

LATEST = Path(__file__).with_name("latest.json")
Report = dict[str, Any]


def _decision(report: Report, wanted: argparse.Namespace) -> None:
    print(
        "decision in the kernel, by test runs; 85 % of the requests aim at a rule; the harness is\n"
        "taken off; `in turn`: mean of 2048 requests that drive each other from the caches\n"
    )
    names = wanted.sets.split(",") if wanted.sets else list(sets.ALL)
    sizes = [int(size) for size in wanted.sizes.split(",")] if wanted.sizes else None
    if wanted.quick and sizes is None:
        sizes = [10, 1_000, 10_000]
    print(decision.HEADINGS)
    rows = report["decision"] = []
    for row in decision.decisions(names, sizes):
        rows.append(row)
        print(decision.line(row), flush=True)


def _connect(report: Report, wanted: argparse.Namespace) -> None:
    """Latency, then the hooks' own count, under the same conditions."""
    from . import hooks, latency
    from .conditions import CONDITIONS, subjects

    cpu = max(os.sched_getaffinity(0))
    with (
        tempfile.TemporaryDirectory(prefix="sockrules-bench-") as directory,
        subjects(Path(directory), CONDITIONS, cpu) as found,
    ):
        print("on loopback; ratios are to both `nothing` of the same pass, medians over all\n")
        print(latency.HEADINGS)
        report["latency"] = latency.latencies(found, 8 if wanted.quick else 45)
        for row in report["latency"]:
            print(latency.line(row), flush=True)
        print("\neach program, as the kernel counts it\n")
        print(hooks.HEADINGS)
        rows = report["hooks"] = []
        for row in hooks.hooks(found):
            rows.append(row)
            print(hooks.line(row), flush=True)


def _compile(report: Report, wanted: argparse.Namespace) -> None:
    """From the text of rules to a table, and from a changed rule to its being in force."""
    from .compile import applies, compiles

    print("rules read and compiled, in a process of its own\n")
    print(f"{'rules':24}{'read s':>9}{'compile s':>11}{'table kB':>10}{'peak MB':>9}")
    rows = report["compile"] = []
    for row in compiles(1 if wanted.quick else 3):
        rows.append(row)
        print(
            f"{row['rules']:24}{row['read_s']:>9.3f}{row['compile_s']:>11.3f}"
            f"{row['kB']:>10}{row['peak_mb']:>9}",
            flush=True,
        )
    print("\none rule changed and applied by a running agent\n")
    print(f"{'rules':24}{'median s':>9}{'longest s':>11}{'peak MB':>10}{'at rest':>9}{'CPU':>8}")
    rows = report["apply"] = []
    with tempfile.TemporaryDirectory(prefix="sockrules-bench-") as directory:
        for row in applies(Path(directory), (10, 10_000)):
            rows.append(row)
            print(
                f"{row['rules']:24}{row['median_s']:>9.3f}{row['longest_s']:>11.3f}"
                f"{row['peak_mb']:>10}{row['rest_mb']:>9}{100 * row['rest_cpu']:>6.1f} %",
                flush=True,
            )


PARTS: dict[str, Callable[[Report, argparse.Namespace], None]] = {
    "connect": _connect,
    "decision": _decision,
    "compile": _compile,
}


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def main() -> int:
    if sys.argv[1:2] == ["plots"]:
        from .plots import plots

        source, target = (*sys.argv[2:], str(LATEST), "docs")[:2]
        return plots(Path(source), Path(target))
    parser = argparse.ArgumentParser(prog="bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--sets", help=f"of {','.join(sets.ALL)}")
    parser.add_argument("--sizes", help="numbers of rules, or of prefixes in a list")
    parser.add_argument("--quick", action="store_true", help="less of everything")
    wanted = parser.parse_args()
    for part in wanted.parts:
        if part not in PARTS:
            parser.error(f"there is no part {part}; use {', '.join(PARTS)} or plots")
    if os.geteuid() != 0:
        print("bench: loading BPF programs needs root", file=sys.stderr)
        return 2
    report: Report = {
        "kernel": platform.release().partition("-")[0],
        "cpus": os.cpu_count(),
        "processor": _processor(),
        "python": platform.python_version(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "load": os.getloadavg()[0],
    }
    start = time.monotonic()
    for part in wanted.parts or PARTS:
        PARTS[part](report, wanted)
        print(flush=True)
    report["seconds"] = round(time.monotonic() - start)
    LATEST.write_text(json.dumps(report, indent=1) + "\n")
    print(f"{report['seconds']} s; the numbers are in {LATEST}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
