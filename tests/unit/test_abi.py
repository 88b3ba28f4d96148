# SPDX-License-Identifier: Apache-2.0
"""bpf/abi.h is the one definition of the layout, and Python reads it as a C compiler does."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from sockrules.control import abi

HEADER = """
#ifndef X_H
#define X_H
#define COUNT 3 /* things */
#define MASK 0xff
#define SAME COUNT
struct inner {
	u32 a; // a line
	u16 b[2];
};
/* struct ghost { u8 nothing; }; */
struct outer {
	u64 first;
	struct inner many[COUNT];
	s32 last[2];
};
#endif
"""


def test_constants_and_layouts() -> None:
    parsed = abi.parse(HEADER)
    assert parsed.constants == {"COUNT": 3, "MASK": 255, "SAME": 3}
    outer = parsed.layouts["outer"]
    assert set(parsed.layouts) == {"inner", "outer"}
    assert outer.dtype.itemsize == 8 + 3 * 8 + 8
    assert outer.dtype["many"].shape == (3,)
    assert outer.dtype.fields is not None
    assert outer.dtype.fields["last"][1] == 32
    assert outer.alignment == 8
    assert outer.format == "Q" + "IHH" * 3 + "ii"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("struct s {\n u8 a;\n u32 b;\n};", "write the 3 bytes of padding before it"),
        ("struct s {\n u64 a;\n u32 b;\n};", "write the padding at its end"),
        ("struct s {\n int a;\n};", "unknown type int"),
        ("struct s {\n u32 a[MANY];\n};", "the length MANY"),
        ("struct s {\n u32 a, b;\n};", "cannot read 'u32 a, b'"),
        ("struct s {\n struct t {\n u8 a;\n } b;\n};", "cannot read"),
        ("#define A (1 << 3)", "write a plain number"),
        ("struct s {\n struct t b;\n};\nstruct t {\n u8 a;\n};", "unknown type t"),
    ],
)
def test_what_is_outside_the_subset_is_refused(text: str, message: str) -> None:
    with pytest.raises(abi.AbiError, match=message.replace("(", r"\(").replace("[", r"\[")):
        abi.parse(text)


def test_the_header_is_found_beside_the_package() -> None:
    assert Path(abi.__file__).parent.parent / "bpf" / "abi.h" == abi.PATH
    assert len(abi.digest) == 64
    assert abi.sizeof("sr_entry") == 64
    assert abi.sizeof("sr_table") == 128


def test_arrays_are_as_long_as_their_constants_say() -> None:
    header = abi.dtype("sr_header")
    assert header["table"].shape == (abi.C["SR_MAX_TABLES"],)
    assert header["region"].shape == (abi.C["SR_MAX_REGIONS"],)
    assert header["defaults"].shape == (abi.C["SR_SERVERS"] + 1,)
    assert abi.dtype("sr_table")["first"].shape == (abi.C["SR_CLASSES"],)
    assert abi.C["SR_NO_TABLE"] == abi.C["SR_MAX_TABLES"] - 1


def test_packer_agrees_with_the_dtype() -> None:
    raw = bytes(range(64))
    values = abi.packer("sr_entry").unpack(raw)
    row = np.frombuffer(raw, abi.dtype("sr_entry"))[0]
    assert list(values) == [int(value) for value in row.item()]


def test_the_walk_reads_members_in_this_order() -> None:
    """control/walk.py unpacks these by position."""

    def names(struct: str) -> tuple[str, ...]:
        return abi.dtype(struct).names or ()

    assert names("sr_entry") == (
        *("bits_mask", "bits_value", "remote_lo", "remote_lo_span", "ports_lo", "ports_hi"),
        *("rule", "rest", "uid_lo", "uid_hi"),
    )
    assert names("sr_rest") == (
        *("remote_hi", "remote_hi_span", "local_hi", "local_hi_span", "local_lo", "local_lo_span"),
        *("gid_lo", "gid_hi", "program_lo", "program_hi", "service_lo", "service_hi"),
    )
    assert names("sr_slot") == ("start", "end")
    assert names("sr_table") == (
        *("base", "shift", "ports", "ids", "remote_lo", "first", "next"),
        *("wide", "program", "local_hi", "local_lo", "remote_hi", "bits", "pad"),
    )
    assert names("sr_bound") == ("hi", "lo", "mask")
    assert names("sr_region") == (
        *("hi", "lo", "base", "count", "index", "cells", "shift", "servers"),
    )


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc) on this host")
def test_a_c_compiler_lays_every_struct_out_alike(tmp_path: Path) -> None:
    lines = ["#include <stdint.h>"]
    lines += [f"typedef uint{bits}_t u{bits}; typedef int{bits}_t s{bits};" for bits in (8, 16)]
    lines += [f"typedef uint{bits}_t u{bits}; typedef int{bits}_t s{bits};" for bits in (32, 64)]
    lines.append(f'#include "{abi.PATH}"')
    for name, layout in abi.ABI.layouts.items():
        size = layout.dtype.itemsize
        lines.append(f'_Static_assert(sizeof(struct {name}) == {size}, "{name}");')
        for member in layout.dtype.names or ():
            offset = abi.offsetof(name, member)
            lines.append(
                f"_Static_assert(__builtin_offsetof(struct {name}, {member}) == {offset},"
                f' "{name}.{member}");'
            )
    source = tmp_path / "layout.c"
    source.write_text("\n".join(lines) + "\n")
    done = subprocess.run(
        ["cc", "-fsyntax-only", str(source)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
