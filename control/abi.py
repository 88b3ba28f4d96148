# SPDX-License-Identifier: Apache-2.0
"""bpf/abi.h, read as text: the constants and layouts that cross the kernel boundary.

Rules. abi.h is the only definition; nothing here repeats a number of it. It is
written in a small subset of C (see its head), and anything outside the subset
is an `AbiError` at import rather than a guess.

Theory. In the subset a C compiler pads nothing: every member lies at a multiple
of its own alignment and every struct is a multiple of its largest, or the
parser refuses. So a packed numpy dtype in host byte order is the C layout.
"""

from __future__ import annotations

import hashlib
import re
import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

_SCALARS = {
    "u8": "B",
    "u16": "H",
    "u32": "I",
    "u64": "Q",
    "s8": "b",
    "s16": "h",
    "s32": "i",
    "s64": "q",
}
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_DEFINE = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(\w+)[ \t]*(.*?)[ \t]*$", re.MULTILINE)
_STRUCT = re.compile(r"\bstruct\s+(\w+)\s*\{(.*?)\}\s*;", re.DOTALL)
_MEMBER = re.compile(r"(?:struct\s+)?(\w+)\s+(\w+)\s*(?:\[\s*(\w+)\s*\])?")
_NUMBER = re.compile(r"\(?\s*(0[xX][0-9a-fA-F]+|0|[1-9][0-9]*)[uUlL]*\s*\)?")


class AbiError(ValueError):
    """abi.h steps outside the subset, or a layout would need hidden padding."""


@dataclass(frozen=True, slots=True)
class Layout:
    """One struct: its numpy dtype (host order, no padding) and its alignment in bytes."""

    dtype: np.dtype[Any]
    alignment: int
    format: str


@dataclass(frozen=True, slots=True)
class Abi:
    """What a header defines. `digest` is the SHA-256 of its text, in hexadecimal."""

    constants: dict[str, int]
    layouts: dict[str, Layout]
    digest: str


def parse(text: str) -> Abi:
    """Read a header written in the subset; raises `AbiError` for anything else."""
    bare = _COMMENT.sub(" ", text)
    constants: dict[str, int] = {}
    for name, value in _DEFINE.findall(bare):
        if not value:
            continue  # an include guard
        number = _NUMBER.fullmatch(value)
        if number:
            constants[name] = int(number[1], 0)
        elif value in constants:
            constants[name] = constants[value]
        else:
            raise AbiError(f"#define {name} {value}: not an integer; write a plain number")
    layouts: dict[str, Layout] = {}
    for name, body in _STRUCT.findall(bare):
        layouts[name] = _layout(name, body, constants, layouts)
    leftover = [w for w in re.findall(r"\bstruct\s+(\w+)\s*\{", bare) if w not in layouts]
    if leftover:
        raise AbiError(f"struct {leftover[0]}: not closed, or nested in another")
    return Abi(constants, layouts, hashlib.sha256(text.encode()).hexdigest())


def _layout(name: str, body: str, constants: dict[str, int], layouts: dict[str, Layout]) -> Layout:
    fields: list[tuple[Any, ...]] = []
    form, offset, widest = "", 0, 1
    for piece in filter(None, (piece.strip() for piece in body.split(";"))):
        member = _MEMBER.fullmatch(piece)
        if not member:
            raise AbiError(f"struct {name}: cannot read {piece!r}; write `type name[length];`")
        kind, label, length = member.groups()
        if kind in _SCALARS:
            item: np.dtype[Any] = np.dtype("=" + _SCALARS[kind])
            alignment, letters = item.itemsize, _SCALARS[kind]
        elif kind in layouts:
            item, alignment, letters = (
                layouts[kind].dtype,
                layouts[kind].alignment,
                layouts[kind].format,
            )
        else:
            raise AbiError(f"struct {name}: {label} has the unknown type {kind}")
        if offset % alignment:
            raise AbiError(
                f"struct {name}: {label} at byte {offset} is not at a multiple of {alignment}; "
                f"write the {alignment - offset % alignment} bytes of padding before it"
            )
        count = 1 if length is None else _length(name, label, length, constants)
        fields.append((label, item) if length is None else (label, item, (count,)))
        form += letters * count
        offset += item.itemsize * count
        widest = max(widest, alignment)
    if not fields or offset % widest:
        raise AbiError(
            f"struct {name}: its {offset} bytes are not a multiple of {widest}; "
            "write the padding at its end"
        )
    dtype = np.dtype(fields)
    if dtype.itemsize != offset:
        raise AbiError(f"struct {name}: numpy lays it out in {dtype.itemsize} bytes, not {offset}")
    return Layout(dtype, widest, form)


def _length(name: str, label: str, length: str, constants: dict[str, int]) -> int:
    count = constants.get(length) if not length[0].isdigit() else int(length, 0)
    if not count:
        raise AbiError(f"struct {name}: {label} has the length {length}, not a positive number")
    return count


PATH = Path(__file__).parent.parent / "bpf" / "abi.h"
"""Found beside this package, in the source tree and in an installed wheel alike."""

ABI = parse(PATH.read_text(encoding="utf-8"))

C: dict[str, int] = ABI.constants
"""Every integer #define by name: `C["SR_WORDS"]`."""

digest: str = ABI.digest
"""SHA-256 of the header's text, hexadecimal."""


def dtype(name: str) -> np.dtype[Any]:
    """The numpy dtype of a struct, host byte order; raises KeyError for an unknown name."""
    return ABI.layouts[name].dtype


def sizeof(name: str) -> int:
    """The size of a struct in bytes."""
    return ABI.layouts[name].dtype.itemsize


def offsetof(name: str, member: str) -> int:
    """The offset in bytes of a struct's member."""
    fields = ABI.layouts[name].dtype.fields
    assert fields is not None
    return int(fields[member][1])


@cache
def packer(name: str) -> struct.Struct:
    """Packs and unpacks one struct as plain integers, arrays and nested structs flattened."""
    return struct.Struct("=" + ABI.layouts[name].format)
