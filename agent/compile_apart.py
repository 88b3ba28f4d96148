# SPDX-License-Identifier: Apache-2.0
"""Compile programs in a process of their own, into the cache.

clang ends the process that it runs in when it cannot go on (LLVM 19 does so at a
full stack). At a start that is a start that failed; for a running agent it would
be the end, so larger programs are compiled here first.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from .bytecode import Cache
from .loader import Capacity, LoadError, load

_PATIENCE = 120  # seconds; some 2 are needed


def compile_apart(capacity: Capacity, macros: Mapping[str, int | str], cache: Cache) -> None:
    """Leave programs of this capacity in the cache.

    Raises:
        LoadError: they do not compile, or the compiler ended its process.
    """
    order = {
        "capacity": asdict(capacity),
        "macros": dict(macros),
        "cache": str(cache.directory),
    }
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", f"{__package__}.compile_apart"],
            input=json.dumps(order),
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LoadError(f"the compiler was not done in {_PATIENCE} s") from None
    if done.returncode:
        said = done.stderr.strip().splitlines()[-3:] or ["without a word"]
        raise LoadError(f"the compiler ended with status {done.returncode}: " + "\n".join(said))


def main() -> None:
    """Carry out an order that `compile_apart` wrote."""
    order = json.load(sys.stdin)
    load(Capacity(**order["capacity"]), order["macros"], (), Cache(Path(order["cache"]))).close()


if __name__ == "__main__":
    main()
