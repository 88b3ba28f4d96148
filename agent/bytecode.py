# SPDX-License-Identifier: Apache-2.0
"""Compiled programs, kept so that a later start need not compile them again.

Rules. A kept program is used only for the very text, macros, compiler and
machine that it was made from: their digest is its file's name. Whatever is
wrong with a kept file, the programs are compiled. The verifier judges kept
bytecode as it judges any other.

Theory. Bytecode refers to maps by descriptor (`ld_imm64` with
BPF_PSEUDO_MAP_FD; include/uapi/linux/bpf.h), so each reference is kept as the
map's number in the order of `Compiled.maps` and gets a descriptor when loaded.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

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


def stamped(code: bytes, mark: int, number: int) -> bytes:
    """The same instructions with `number` wherever they load the 64-bit constant `mark`.

    Raises:
        ValueError: they nowhere do.
    """
    out, found = bytearray(code), False
    words = tuple(struct.unpack("=ii", struct.pack("=Q", mark)))
    for at in range(0, len(code) - _INSN.size, _INSN.size):
        opcode, registers, offset, low = _INSN.unpack_from(code, at)
        high = _INSN.unpack_from(code, at + _INSN.size)[3]
        if opcode == _LD_IMM64 and not registers >> 4 and (low, high) == words:
            _INSN.pack_into(out, at, opcode, registers, offset, number)
            _INSN.pack_into(out, at + _INSN.size, 0, 0, 0, 0)
            found = True
    if not found:
        raise ValueError(f"no instruction loads {mark:#x}")
    return bytes(out)


class MapSpec(NamedTuple):
    """What bpf(2) BPF_MAP_CREATE is asked for."""

    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int


class Compiled(NamedTuple):
    """Maps and programs by name; a program refers to a map by its place among the maps."""

    maps: dict[str, MapSpec]
    programs: dict[str, bytes]


def pack(compiled: Compiled) -> bytes:
    maps = list(compiled.maps.items())
    return bytes(msgpack.packb({"maps": maps, "programs": compiled.programs}))


def unpack(raw: bytes) -> Compiled:
    """What `pack` packed.

    Raises:
        ValueError, KeyError, TypeError: it is something else.
    """
    kept = msgpack.unpackb(raw)
    return Compiled({name: MapSpec(*spec) for name, spec in kept["maps"]}, dict(kept["programs"]))


class Cache:
    """A directory of kept bytecode, a file a digest."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def get(self, key: str) -> Compiled | None:
        """What was kept, `None` without it."""
        try:
            return unpack((self.directory / key).read_bytes())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def put(self, key: str, compiled: Compiled) -> None:
        """Keep it; a disk that refuses costs nothing but the time."""
        with contextlib.suppress(OSError):
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            draft = self.directory / f".{key}.{os.getpid()}"
            draft.write_bytes(pack(compiled))
            draft.rename(self.directory / key)
            files = sorted(self.directory.iterdir(), key=lambda file: file.stat().st_mtime)
            for old in files[:-_KEPT]:
                old.unlink()
