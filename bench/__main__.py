# SPDX-License-Identifier: Apache-2.0
"""`make bench`: what a decision costs, and what a connect() feels of it.

Everything is measured side by side in one run and printed as medians and
ratios; bench/latest.json keeps the numbers. Rules come from tests/rulegen.py.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from .connect import connects
from .decision import decisions


def main() -> int:
    if os.geteuid() != 0:
        print("bench: loading BPF programs needs root", file=sys.stderr)
        return 2
    report: dict[str, Any] = {
        "kernel": platform.release(),
        "cpus": os.cpu_count(),
        "decision": [],
        "connect": [],
    }
    print("decision in the kernel, by test runs; 85 % of the requests aim at a rule\n")
    print(
        f"{'rules':22}{'median ns':>10}{'p90':>7}{'worst':>7}"
        f"{'steps':>7}{'compile s':>11}{'install s':>11}{'kB':>8}"
    )
    for row in decisions():
        report["decision"].append(row)
        print(
            f"{row['rules']:22}{row['median_ns']:>10}{row['p90_ns']:>7}{row['worst_ns']:>7}"
            f"{row['steps']:>7}{row['compile_s']:>11.3f}{row['install_s']:>11.3f}{row['kB']:>8}",
            flush=True,
        )
    print(
        "\nconnect() on loopback, rounds interleaved; the ratio is to the bare call of its round\n"
    )
    directory = Path(tempfile.mkdtemp(prefix="sockrules-bench-"))
    try:
        rows = connects(directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(f"{'with':34}{'median us':>10}{'ratio':>8}{'lowest':>8}{'highest':>8}")
    for row in rows:
        report["connect"].append(row)
        print(
            f"{row['with']:34}{row['median_us']:>10.2f}{row['ratio']:>8.3f}"
            f"{row['lowest']:>8.3f}{row['highest']:>8.3f}"
        )
    Path(__file__).with_name("latest.json").write_text(json.dumps(report, indent=2) + "\n")
    return 0


sys.exit(main())
