# SPDX-License-Identifier: Apache-2.0
"""What the programs are compiled for besides capacities: offsets, and what the verifier knows.

That is found by trying, and counts as known when it is in a program of every kind of hook
that runs in a task. What is done without it stands in bpf/, beside its macro.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from . import libbpf
from .btf import offset_macros
from .hooks import HOOKS, SOCKOPS

_TASK_BTF = 158  # enum bpf_func_id (include/uapi/linux/bpf.h)
_TO_TCP_SOCKET = 137
_SOCKOPS_SK = 184  # offset of `sk` in struct bpf_sock_ops
_TASK = ("cgroup", "kernel")
"""Targets of hooks that run in a task (sk_lookup does not)."""
_CALL, _LOAD64, _LOAD32, _MOVE, _EXIT = 0x85, 0x79, 0x61, 0xB7, 0x95
_IF_NOT_EQUAL, _IF_ZERO = 0x5D, 0x15
_STORE_NUMBER, _ATOMIC, _ADD_AND_FETCH = 0x7A, 0xDB, 0x01  # of 64 bits; BPF_ADD | BPF_FETCH
_REALTIME = Path("/sys/kernel/realtime")  # there with PREEMPT_RT
_FRAME = 10  # the register that points behind the stack


class _Kind(NamedTuple):
    """A kind of program: what it is loaded as, and what it returns to let a request be."""

    program_type: int
    attach_type: int
    attach_btf_id: int
    allow: int


def kernel_macros() -> dict[str, int]:
    """SR_OFF_*, SR_HAS_* and SR_IS_*, by name; some 70 ms.

    Raises:
        BtfError: the kernel has no BTF, or not what is looked for in it.
    """
    offsets, kinds = offset_macros(), _kinds()
    typed_task, typed_socket = _of_task(offsets), _of_socket(offsets)
    sockops = [kind for kind in kinds if kind.program_type == SOCKOPS.program_type]
    has_typed_task = all(_takes(kind, typed_task) for kind in kinds)
    has_typed_socket = bool(typed_socket) and all(_takes(kind, typed_socket) for kind in sockops)
    return offsets | {
        "SR_HAS_TYPED_TASK": int(has_typed_task),
        "SR_HAS_TYPED_SOCKET": int(has_typed_task and has_typed_socket),
        "SR_IS_REALTIME": int(_REALTIME.exists()),
        "SR_HAS_FETCH": int(all(_takes(kind, _FETCH) for kind in kinds)),
    }


def _of_task(offsets: Mapping[str, int]) -> bytes:
    """Code for verifiers that know the type of the current task and of what it leads to: its
    user, and the device of the directory of its executable, if that is not the root."""

    def load(to: int, source: int, member: str, code: int = _LOAD64) -> bytes:
        return _instruction(code, to=to, source=source, offset=offsets[f"SR_OFF_{member}"])

    return b"".join(
        (
            _instruction(_CALL, value=_TASK_BTF),
            load(1, 0, "TASK_CRED"),
            load(2, 1, "CRED_UID", _LOAD32),
            load(1, 0, "TASK_MM"),
            load(1, 1, "MM_EXE_FILE"),
            load(2, 1, "FILE_MNT"),
            load(2, 2, "VFSMOUNT_ROOT"),
            load(1, 1, "FILE_DENTRY"),
            _instruction(_IF_NOT_EQUAL, to=1, source=2, offset=0),
            load(1, 1, "DENTRY_PARENT"),
            load(1, 1, "DENTRY_INODE"),
            load(1, 1, "INODE_SB"),
            load(1, 1, "SB_DEV", _LOAD32),
        )
    )


def _of_socket(offsets: Mapping[str, int]) -> bytes:
    """Code that follows a socket to the programs of its cgroup; none where these are unknown."""
    way = ("SR_OFF_SOCK_CGROUP", "SR_OFF_CGROUP_SOCKOPS", "SR_OFF_SECOND_PROGRAM")
    if not all(step in offsets for step in way):
        return b""
    return b"".join(
        (
            _instruction(_LOAD64, to=1, source=1, offset=_SOCKOPS_SK),
            _instruction(_IF_ZERO, to=1, offset=5),  # to the end
            _instruction(_CALL, value=_TO_TCP_SOCKET),
            _instruction(_IF_ZERO, to=0, offset=3),
            *(_instruction(_LOAD64, to=0, source=0, offset=offsets[step]) for step in way),
        )
    )


def _kinds() -> list[_Kind]:
    """The kinds of program that run in a task, as far as the kernel takes any of the kind."""
    hooks = {(hook.program_type, hook.attach_type): hook for hook in HOOKS if hook.target in _TASK}
    found = []
    for types, hook in hooks.items():
        try:
            target = libbpf.btf_id(hook.symbol, hook.attach_type) if hook.symbol else 0
        except OSError:
            continue
        kind = _Kind(*types, target, int(hook.target == "cgroup"))
        if _takes(kind, b""):
            found.append(kind)
    return found


def _takes(kind: _Kind, code: bytes) -> bool:
    """Whether the kernel takes this code in a program."""
    whole = code + _instruction(_MOVE, to=0, value=kind.allow) + _instruction(_EXIT)
    try:
        os.close(libbpf.prog_load("feature", *kind[:2], whole, kind.attach_btf_id))
    except OSError:
        return False
    return True


def _instruction(
    code: int, to: int = 0, source: int = 0, offset: int = 0, value: int = 0
) -> bytes:
    """struct bpf_insn; its registers share a byte, in the order of the host's bit fields."""
    registers = source << 4 | to if sys.byteorder == "little" else to << 4 | source
    return struct.pack("=BBhi", code, registers, offset, value)


_FETCH = b"".join(
    (
        _instruction(_MOVE, to=0, value=1),
        _instruction(_STORE_NUMBER, to=_FRAME, offset=-8, value=0),
        _instruction(_ATOMIC, to=_FRAME, source=0, offset=-8, value=_ADD_AND_FETCH),
    )
)
"""Adding to a word in memory, and getting what was there before."""
