# SPDX-License-Identifier: Apache-2.0
"""What older verifiers want of a program's control flow, told from its bytecode."""

from __future__ import annotations

import struct

_INSN = struct.Struct("=BBhi")  # opcode, registers, offset, immediate; include/uapi/linux/bpf.h
_LD_IMM64, _JA, _CALL, _EXIT = 0x18, 0x05, 0x85, 0x95
_JUMPS = {5, 6}  # classes BPF_JMP, BPF_JMP32


def fallen_into(code: bytes) -> list[tuple[int, int]]:
    """Loops that are closed by running on into their first instruction: `back-edge from insn
    72 to 73` in Linux 6.1, whose check_cfg (kernel/bpf/verifier.c) wants a jump there."""
    count = len(code) // _INSN.size
    entered, left, found = {0}, set[int](), []
    path = [(0, iter(_next(code, 0)))]
    while path:
        at, following = path[-1]
        for to, is_jump in following:
            if to in entered:
                if to not in left and not is_jump:
                    found.append((at, to))
                continue
            assert to < count
            entered.add(to)
            path.append((to, iter(_next(code, to))))
            break
        else:
            left.add(at)
            path.pop()
    return found


def _next(code: bytes, at: int) -> list[tuple[int, bool]]:
    """Where an instruction leads, and whether by a jump."""
    opcode, _, offset, _ = _INSN.unpack_from(code, at * _INSN.size)
    if opcode == _EXIT:
        return []
    if opcode == _LD_IMM64:
        return [(at + 2, False)]
    if opcode & 7 not in _JUMPS or opcode == _CALL:
        return [(at + 1, False)]
    if opcode == _JA:
        return [(at + 1 + offset, True)]
    return [(at + 1, True), (at + 1 + offset, True)]
