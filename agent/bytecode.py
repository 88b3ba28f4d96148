# SPDX-License-Identifier: Apache-2.0
"""Compiled programs, kept so that a later start need not compile them again.

Rules. A kept program is used only for the very text, macros, compiler and
machine that it was made from: their digest is its file's name. Whatever is
wrong with a kept file, the programs are compiled. The verifier judges kept
bytecode as it judges any other.

Theory. clang takes a second and more for these programs, the maps alone a
fifth of that. Bytecode refers to maps by descriptor (`ld_imm64` with
BPF_PSEUDO_MAP_FD; include/uapi/linux/bpf.h), so each reference is kept with
the map's name and gets the descriptor of this start.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgpack

_INSN = struct.Struct("=BBhi")  # opcode, registers, offset, immediate
_LD_IMM64 = 0x18
_PSEUDO_MAP_FD = 1
_KEPT = 8  # files; each capacity and kernel has its own


def digest(text: str, flags: Sequence[str], compiler: str) -> str:
    """What the bytecode follows from, in hexadecimal."""
    parts = (text, *flags, compiler, platform.machine(), platform.release())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def relocate(code: bytes, fds: Mapping[int, int]) -> bytes:
    """The same instructions with each map descriptor exchanged by `fds`.

    Raises:
        KeyError: the code refers to a descriptor that is not in `fds`.
    """
    out = bytearray(code)
    for at in range(0, len(code), _INSN.size):
        opcode, registers, offset, immediate = _INSN.unpack_from(code, at)
        if opcode == _LD_IMM64 and registers >> 4 == _PSEUDO_MAP_FD:
            _INSN.pack_into(out, at, opcode, registers, offset, fds[immediate])
    return bytes(out)


class Cache:
    """A directory of kept bytecode, a file a digest."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def get(self, key: str, maps: Mapping[str, int]) -> dict[str, bytes] | None:
        """The programs by name, referring to `maps` (name -> descriptor); `None` without them."""
        try:
            kept = msgpack.unpackb((self.directory / key).read_bytes())
            numbers = {number: maps[name] for number, name in enumerate(kept["maps"])}
            return {name: relocate(code, numbers) for name, code in kept["programs"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
            return None

    def put(self, key: str, maps: Mapping[str, int], programs: Mapping[str, bytes]) -> None:
        """Keep programs that refer to `maps`; a disk that refuses costs nothing but the time."""
        names = list(maps)
        numbers = {maps[name]: number for number, name in enumerate(names)}
        kept = {
            "maps": names,
            "programs": {name: relocate(code, numbers) for name, code in programs.items()},
        }
        with contextlib.suppress(OSError):
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            draft = self.directory / f".{key}.{os.getpid()}"
            draft.write_bytes(msgpack.packb(kept))
            draft.rename(self.directory / key)
            files = sorted(self.directory.iterdir(), key=lambda file: file.stat().st_mtime)
            for old in files[:-_KEPT]:
                old.unlink()
