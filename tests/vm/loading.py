# SPDX-License-Identifier: Apache-2.0
"""Load every program of the agent by itself, and print what came of it.

    python3 -m vm.loading [longest]    in the machine or on the host, as root

`longest` is with the longest walk that there is, else that of small rule sets.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from sockrules.agent import libbpf
from sockrules.agent.bytecode import Cache
from sockrules.agent.features import kernel_macros
from sockrules.agent.hooks import FLUSH, HOOKS, TRACKERS
from sockrules.agent.loader import Capacity, load

from .programs import KEPT, capacity, longest


@dataclass(frozen=True, slots=True)
class Load:
    """A program as the kernel took it: instructions that the verifier went through, and the
    time that the load took. `refused` says why it did not."""

    hook: str
    instructions: int = 0
    milliseconds: float = 0.0
    refused: str = ""


def loads(wanted: Capacity | None = None) -> list[Load]:
    """What the running kernel makes of each program, at the capacity of small rule sets
    unless another is wanted."""
    loaded = load(wanted or capacity(), kernel_macros(), cache=Cache(Path(KEPT)))
    found = []
    for hook in (*HOOKS, *TRACKERS, FLUSH):
        code = loaded.code[hook.function]
        try:
            target = libbpf.btf_id(hook.symbol, hook.attach_type) if hook.symbol else 0
            program = (hook.name, hook.program_type, hook.attach_type, code, target)
            started = time.perf_counter()
            os.close(libbpf.prog_load(*program))
            milliseconds = (time.perf_counter() - started) * 1000
            found.append(Load(hook.name, libbpf.verified(*program), milliseconds))
        except libbpf.ProgramRefused as error:
            end = "\n".join(error.log.strip().splitlines()[-12:])
            found.append(Load(hook.name, refused=f"{error.strerror}\n{end}"))
        except OSError as error:
            found.append(Load(hook.name, refused=str(error)))
    loaded.close()
    return found


if __name__ == "__main__":
    for each in loads(longest() if "longest" in sys.argv else None):
        print(each.hook, each.instructions, f"{each.milliseconds:.0f} ms", each.refused, flush=True)
