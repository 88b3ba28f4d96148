# SPDX-License-Identifier: Apache-2.0
"""What the programs are compiled for besides capacities: offsets, and helpers found by trying.

A helper counts as there when a program of every kind of hook that runs in a task may
call it. What is done without one stands in bpf/, beside its macro.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Mapping

from . import libbpf
from .btf import offset_macros
from .hooks import HOOKS

_TASK_BTF, _COARSE_CLOCK = 158, 160  # enum bpf_func_id (include/uapi/linux/bpf.h)
_CALL, _LOAD64, _LOAD32, _MOVE, _EXIT = 0x85, 0x79, 0x61, 0xB7, 0x95


def kernel_macros() -> dict[str, int]:
    """SR_OFF_* and SR_HAS_*, by name; some 25 ms.

    Raises:
        BtfError: the kernel has no BTF, or not what is looked for in it.
    """
    offsets = offset_macros()
    return offsets | {
        "SR_HAS_TYPED_TASK": int(_has_typed_task(offsets)),
        "SR_HAS_COARSE_CLOCK": int(_loads(_instruction(_CALL, value=_COARSE_CLOCK))),
    }


def _has_typed_task(offsets: Mapping[str, int]) -> bool:
    """Whether the verifier knows the type of the current task and of what it leads to."""
    to_user = (
        _instruction(_CALL, value=_TASK_BTF),
        _instruction(_LOAD64, to=1, source=0, offset=offsets["SR_OFF_TASK_CRED"]),
        _instruction(_LOAD32, to=2, source=1, offset=offsets["SR_OFF_CRED_UID"]),
    )
    return _loads(b"".join(to_user))


def _loads(code: bytes) -> bool:
    """Whether every kind of program that is attached to a cgroup may do this, and return 1."""
    whole = code + _instruction(_MOVE, to=0, value=1) + _instruction(_EXIT)
    kinds = {(one.program_type, one.attach_type) for one in HOOKS if one.target == "cgroup"}
    try:
        for kind, attach in sorted(kinds):
            os.close(libbpf.prog_load("feature", kind, attach, whole))
    except OSError:
        return False
    return True


def _instruction(
    code: int, to: int = 0, source: int = 0, offset: int = 0, value: int = 0
) -> bytes:
    """struct bpf_insn; its registers share a byte, in the order of the host's bit fields."""
    registers = source << 4 | to if sys.byteorder == "little" else to << 4 | source
    return struct.pack("=BBhi", code, registers, offset, value)
