# SPDX-License-Identifier: Apache-2.0
"""The agent's programs, compiled on the host for the machine: clang takes seconds here and
a minute there.

The machine asks in a line of its output what it wants, the host puts it where the machine
looks. It is the very bytecode that the same BCC would make in the machine from the same
text and the same offsets; where the versions differ, the machine compiles itself.

    python3 -m vm.programs DIRECTORY    in the machine: ask, and wait for an answer there
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
import time
from pathlib import Path

from sockrules.agent.bytecode import digest, pack
from sockrules.agent.compiler import compile_apart, compiler_version, source_text
from sockrules.agent.features import kernel_macros
from sockrules.agent.kernel import STEP_CLASSES, capacity_for
from sockrules.agent.loader import Capacity
from sockrules.control.compile import compile_table
from sockrules.control.model import RuleSet

ASKED = "programs wanted: "
KEPT = "/run/programs"
"""Where the tests in the machine find them (SOCKRULES_TEST_PROGRAMS)."""
_PATIENCE = 60.0  # seconds; the host needs some 2, and 10 when it is busy


def answer(line: str, directory: Path) -> bool:
    """Compile what a line of the machine's output asks for, if it does; whether it did.

    Raises:
        CompileError: clang refuses the text.
    """
    if not line.startswith(ASKED):
        return False
    wanted = json.loads(line.removeprefix(ASKED))
    done = directory / f"{wanted['key']}"
    if wanted["compiler"] == compiler_version():
        draft = directory / "draft"
        draft.write_bytes(pack(compile_apart(source_text(), wanted["flags"])))
        draft.rename(done)
    else:
        (directory / "other-compiler").touch()
    return True


def capacity() -> Capacity:
    """That of all small rule sets, those of the tests among them."""
    return capacity_for(compile_table(RuleSet(()), ()))


def longest() -> Capacity:
    """The same with the longest walk that there is."""
    return dataclasses.replace(capacity(), steps=STEP_CLASSES[-1])


def flags(wanted: Capacity | None = None) -> list[str]:
    """What the agent gives the compiler on the running kernel; of `capacity`, unless said."""
    macros = {**(wanted or capacity()).macros(), **kernel_macros()}
    return [f"-D{name}={value}" for name, value in macros.items()]


def main() -> None:
    directory = Path(sys.argv[1])
    Path(KEPT).mkdir(exist_ok=True)
    for wanted in (capacity(), longest()):
        _ask(directory, flags(wanted))


def _ask(directory: Path, wanted: list[str]) -> None:
    compiler = compiler_version()
    key = digest(source_text(), sorted(wanted), compiler)
    print(ASKED + json.dumps({"key": key, "flags": wanted, "compiler": compiler}), flush=True)
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        if (directory / key).exists():
            shutil.copy(directory / key, Path(KEPT) / key)
            return
        if (directory / "other-compiler").exists():
            return
        time.sleep(0.2)
    print("the host compiled nothing; the machine does", flush=True)


if __name__ == "__main__":
    main()
