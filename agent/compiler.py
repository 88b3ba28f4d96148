# SPDX-License-Identifier: Apache-2.0
"""From C to bytecode, in a process of its own. The only module that imports bcc.

A process of its own, because clang may end the process that it runs in (LLVM 19
does so at a full stack), and because LLVM stays resident: some 100 MB that an
agent at rest has no use for. What comes back is bytecode and the maps it wants;
loading them is loader.py's.

BCC rewrites map accesses in the main file alone, so the sources are joined into
one text. It compiles against the header stubs in bpf/stubs, not against kernel
headers.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import libbpf
from .bytecode import Compiled, MapSpec, pack, relocate, unpack
from .hooks import FLUSH, HOOKS, PROBE, TRACKERS

BPF_DIR = Path(__file__).parent.parent / "bpf"
SOURCES = (
    *("connect.c", "listen.c", "listeners.c", "accept.c", "mac.c"),
    *("services.c", "probe.c", "flush.c"),
)
MAPS = (
    *("control", "headers", "entries", "rests", "slots", "bounds"),
    *("known", "totals", "hits", "proofs"),
    *("listeners", "owners", "no_listener", "changes", "binds", "passed", "governed"),
    *("overflowed", "places", "namespaces", "arrivals", "paths", "no_path", "events"),
    *("stages", "doorbell", "asleep"),
    *("names", "cgroups", "cgroup_paths", "tracking", "new_cgroup", "no_cgroup"),
)
_PATIENCE = 120  # seconds; some 2 are needed


class CompileError(Exception):
    """BCC is missing or clang refuses the text."""


def source_text(sources: tuple[str, ...] = SOURCES) -> str:
    """The BPF sources as one text, each file once, in the order of their includes."""
    seen: set[str] = set()

    def expand(name: str) -> str:
        if name in seen:
            return ""
        seen.add(name)
        text = (BPF_DIR / name).read_text()
        return re.sub(r'^#include "(.+)"$', lambda m: expand(m.group(1)), text, flags=re.MULTILINE)

    return "".join(expand(name) for name in sources)


def compile_apart(text: str, flags: Sequence[str]) -> Compiled:
    """Compile in a process of its own; `flags` are -D macros.

    Raises:
        CompileError: with the compiler's last words.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", __name__],
            input=json.dumps({"text": text, "flags": list(flags)}).encode(),
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CompileError(f"the compiler was not done in {_PATIENCE} s") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()[-8:]
        raise CompileError("\n".join([f"the compiler ended with status {done.returncode}", *said]))
    return unpack(done.stdout)


def compiler_version() -> str:
    """BCC's version, without importing it.

    Raises:
        CompileError: it is not installed for this interpreter.
    """
    found = importlib.util.find_spec("bcc")
    if found is None or found.origin is None:
        raise CompileError(
            "bcc cannot be imported; install python3-bpfcc and use a virtual environment of"
            " /usr/bin/python3 with system site packages"
        )
    try:
        text = Path(found.origin).with_name("version.py").read_text()
    except OSError:
        text = ""
    written = re.search(r"__version__\s*=\s*['\"]([^'\"]+)", text)
    return written.group(1) if written else f"unknown, {found.origin}"


# -- in the process of its own ------------------------------------------------------------


def main() -> None:
    """Carry out an order of `compile_apart`: JSON on stdin, bytecode on stdout."""
    order = json.load(sys.stdin)
    out, sys.stdout = sys.stdout.buffer, sys.stderr  # what libraries print is no bytecode
    os.environ["BCC_KERNEL_SOURCE"] = str(BPF_DIR / "stubs")
    from bcc import BPF

    module = BPF(text=order["text"].encode(), cflags=[*order["flags"], "-Wno-unused-value"])
    fds = {name: module[name.encode()].map_fd for name in MAPS}
    numbers = {fd: number for number, fd in enumerate(fds.values())}
    out.write(
        pack(
            Compiled(
                {name: _spec(fd) for name, fd in fds.items()},
                {
                    hook.function: relocate(_bytecode(module, hook.function), numbers)
                    for hook in (*HOOKS, *TRACKERS, PROBE, FLUSH)
                },
            )
        )
    )


def _spec(fd: int) -> MapSpec:
    info = libbpf.map_info(fd)
    return MapSpec(info.type, info.key_size, info.value_size, info.max_entries, info.map_flags)


def _bytecode(module: Any, function: str) -> bytes:
    """The instructions that clang made of a function."""
    from bcc.libbcc import lib

    name = function.encode()
    start = lib.bpf_function_start(module.module, name)
    return ctypes.string_at(start, lib.bpf_function_size(module.module, name))


if __name__ == "__main__":
    main()
