# SPDX-License-Identifier: Apache-2.0
"""libbpf: maps, programs, links, pins, batches and test runs.

Every call returns or raises OSError with the kernel's errno; descriptors are
plain integers that the caller closes.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import re
import sys
from array import array
from functools import cache

_BATCH = 65536
_LOG_SIZE = 1 << 20
_LOG_STATS = 4  # BPF_LOG_STATS of include/linux/bpf_verifier.h (Linux 5.2): the end alone
_NOEXIST = 1  # BPF_NOEXIST


@cache
def libbpf() -> ctypes.CDLL:
    """The shared library, the one that libbcc loads too."""
    return ctypes.CDLL("libbpf.so.1", use_errno=True)


@cache
def libbpf_undisturbed() -> ctypes.PyDLL:
    """The same library, called without letting go of the interpreter: for short calls that
    come back to Python many times, and would wait for it each time beside a busy thread."""
    return ctypes.PyDLL("libbpf.so.1", use_errno=True)


class _TestRunOpts(ctypes.Structure):
    """struct bpf_test_run_opts, libbpf 1.1 (bpf.h); later versions only add members."""

    _fields_ = [
        ("sz", ctypes.c_size_t),
        ("data_in", ctypes.c_void_p),
        ("data_out", ctypes.c_void_p),
        ("data_size_in", ctypes.c_uint32),
        ("data_size_out", ctypes.c_uint32),
        ("ctx_in", ctypes.c_void_p),
        ("ctx_out", ctypes.c_void_p),
        ("ctx_size_in", ctypes.c_uint32),
        ("ctx_size_out", ctypes.c_uint32),
        ("retval", ctypes.c_uint32),
        ("repeat", ctypes.c_int),
        ("duration", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
        ("batch_size", ctypes.c_uint32),
    ]


class _MapCreateOpts(ctypes.Structure):
    """struct bpf_map_create_opts, libbpf 1.1 (bpf.h)."""

    _fields_ = [
        ("sz", ctypes.c_size_t),
        ("btf_fd", ctypes.c_uint32),
        ("btf_key_type_id", ctypes.c_uint32),
        ("btf_value_type_id", ctypes.c_uint32),
        ("btf_vmlinux_value_type_id", ctypes.c_uint32),
        ("inner_map_fd", ctypes.c_uint32),
        ("map_flags", ctypes.c_uint32),
        ("map_extra", ctypes.c_uint64),
        ("numa_node", ctypes.c_uint32),
        ("map_ifindex", ctypes.c_uint32),
    ]


class _ProgLoadOpts(ctypes.Structure):
    """struct bpf_prog_load_opts, libbpf 1.1 (bpf.h)."""

    _fields_ = [
        ("sz", ctypes.c_size_t),
        ("attempts", ctypes.c_int),
        ("expected_attach_type", ctypes.c_int),
        ("prog_btf_fd", ctypes.c_uint32),
        ("prog_flags", ctypes.c_uint32),
        ("prog_ifindex", ctypes.c_uint32),
        ("kern_version", ctypes.c_uint32),
        ("attach_btf_id", ctypes.c_uint32),
        ("attach_prog_fd", ctypes.c_uint32),
        ("attach_btf_obj_fd", ctypes.c_uint32),
        ("fd_array", ctypes.c_void_p),
        ("func_info", ctypes.c_void_p),
        ("func_info_cnt", ctypes.c_uint32),
        ("func_info_rec_size", ctypes.c_uint32),
        ("line_info", ctypes.c_void_p),
        ("line_info_cnt", ctypes.c_uint32),
        ("line_info_rec_size", ctypes.c_uint32),
        ("log_level", ctypes.c_uint32),
        ("log_size", ctypes.c_uint32),
        ("log_buf", ctypes.c_void_p),
    ]


class MapInfo(ctypes.Structure):
    """The head of struct bpf_map_info (include/uapi/linux/bpf.h)."""

    _fields_ = [
        ("type", ctypes.c_uint32),
        ("id", ctypes.c_uint32),
        ("key_size", ctypes.c_uint32),
        ("value_size", ctypes.c_uint32),
        ("max_entries", ctypes.c_uint32),
        ("map_flags", ctypes.c_uint32),
        ("name", ctypes.c_char * 16),
    ]


class ProgramRefused(OSError):
    """The kernel refused a program; `log` is the verifier's."""

    def __init__(self, code: int, log: str) -> None:
        super().__init__(code, os.strerror(code))
        self.log = log


def _check(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno() or -result
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def map_create(
    name: str, kind: int, key_size: int, value_size: int, max_entries: int, flags: int
) -> int:
    """A new map's descriptor; the name is cut to what the kernel takes, 15 bytes."""
    opts = _MapCreateOpts(sz=ctypes.sizeof(_MapCreateOpts), map_flags=flags)
    label = name.encode()[:15]
    return _check(
        libbpf().bpf_map_create(
            kind, label, key_size, value_size, max_entries, ctypes.byref(opts)
        ),
        f"make the map {name}",
    )


def map_info(fd: int) -> MapInfo:
    """What the kernel says of a map."""
    info, size = MapInfo(), ctypes.c_uint32(ctypes.sizeof(MapInfo))
    _check(
        libbpf().bpf_obj_get_info_by_fd(fd, ctypes.byref(info), ctypes.byref(size)), "ask a map"
    )
    return info


def prog_load(name: str, kind: int, attach_type: int, code: bytes, attach_btf_id: int = 0) -> int:
    """A loaded program's descriptor.

    Raises:
        ProgramRefused: with the verifier's log, where it has something to say.
    """
    fd, _ = _try_to_load(name, kind, attach_type, code, attach_btf_id, 0)
    if fd >= 0:
        return fd
    if -fd in (errno.EPERM, errno.E2BIG):  # the verifier had no look, or came to no end
        raise ProgramRefused(-fd, "")
    again, log = _try_to_load(name, kind, attach_type, code, attach_btf_id, _LOG_SIZE)
    if again >= 0:
        return again
    # ENOSPC: the log found no room, before Linux 6.4
    raise ProgramRefused(-fd, "" if -again == errno.ENOSPC else log)


def verified(name: str, kind: int, attach_type: int, code: bytes, attach_btf_id: int = 0) -> int:
    """How many instructions the verifier goes through until it accepts a program.

    Raises:
        ProgramRefused: it does not.
    """
    fd, log = _try_to_load(name, kind, attach_type, code, attach_btf_id, _LOG_SIZE, _LOG_STATS)
    if fd < 0:
        raise ProgramRefused(-fd, log)
    os.close(fd)
    return int(re.findall(r"processed (\d+) insns", log)[-1])


def _try_to_load(
    name: str,
    kind: int,
    attach_type: int,
    code: bytes,
    attach_btf_id: int,
    log_size: int,
    log_level: int = 1,
) -> tuple[int, str]:
    """The descriptor or the negative errno, and the verifier's log if there is room for it."""
    log = ctypes.create_string_buffer(max(log_size, 1))
    opts = _ProgLoadOpts(
        sz=ctypes.sizeof(_ProgLoadOpts),
        expected_attach_type=max(attach_type, 0),
        attach_btf_id=attach_btf_id,
        log_level=log_level if log_size else 0,
        log_size=log_size,
        log_buf=ctypes.addressof(log) if log_size else None,
    )
    label = name.replace("-", "_").encode()[:15]  # what the kernel takes in a name
    fd: int = libbpf().bpf_prog_load(
        kind, label, b"GPL", code, ctypes.c_size_t(len(code) // 8), ctypes.byref(opts)
    )
    if fd < 0:
        fd = -(ctypes.get_errno() or -fd)
    return fd, log.value.decode(errors="replace")


def btf_id(function: str, attach_type: int) -> int:
    """The number by which a program is attached to a function of the kernel.

    libbpf puts before the name what the attach type wants: `bpf_lsm_` for an LSM hook.
    """
    found = libbpf().libbpf_find_vmlinux_btf_id(function.encode(), attach_type)
    return _check(found, f"find {function} in the kernel's BTF")


def pin(fd: int, path: str) -> None:
    """Make a link or map outlive this process (bpf_obj_pin)."""
    _check(libbpf().bpf_obj_pin(fd, path.encode()), f"pin {path}")


def get_pinned(path: str) -> int | None:
    """The descriptor of a pinned object, `None` when nothing is pinned there."""
    fd = libbpf().bpf_obj_get(path.encode())
    if fd < 0 and ctypes.get_errno() == errno.ENOENT:
        return None
    return _check(fd, f"open {path}")


def link_create(program_fd: int, target_fd: int, attach_type: int) -> int:
    """Attach a program to a cgroup or network namespace by a link (Linux 5.7)."""
    return _check(libbpf().bpf_link_create(program_fd, target_fd, attach_type, None), "attach")


def link_to_kernel(program_fd: int) -> int:
    """Attach an fmod_ret or LSM program to the function it was loaded for (Linux 5.7)."""
    return _check(libbpf().bpf_raw_tracepoint_open(None, program_fd), "attach")


def raw_tracepoint_open(name: str, program_fd: int) -> int:
    """Attach a program to a raw tracepoint; the link's descriptor."""
    return _check(
        libbpf().bpf_raw_tracepoint_open(name.encode(), program_fd), f"attach to {name}"
    )


def link_update(link_fd: int, program_fd: int) -> None:
    """Replace a link's program atomically; no request in between goes unjudged."""
    _check(libbpf().bpf_link_update(link_fd, program_fd, None), "replace the program of a link")


def link_detach(link_fd: int) -> None:
    """Detach now, whoever else holds the link (Linux 5.9)."""
    _check(libbpf().bpf_link_detach(link_fd), "detach")


def lookup(map_fd: int, key: bytes, size: int) -> bytes | None:
    """The value of a key, `None` without one. `size` counts all CPUs of a per-CPU map."""
    value = ctypes.create_string_buffer(size)
    if libbpf().bpf_map_lookup_elem(map_fd, key, value) < 0:
        if ctypes.get_errno() == errno.ENOENT:
            return None
        _check(-1, "look up")
    return value.raw


def update(map_fd: int, key: bytes, value: bytes, flags: int = 0) -> None:
    libbpf().bpf_map_update_elem.argtypes = [
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_char_p,
        ctypes.c_uint64,
    ]
    _check(libbpf().bpf_map_update_elem(map_fd, key, value, flags), "update a map")


def insert(map_fd: int, key: bytes, value: bytes) -> bool:
    """Make an entry of a hash map; False when the key is there already."""
    try:
        update(map_fd, key, value, _NOEXIST)
    except FileExistsError:
        return False
    return True


def delete(map_fd: int, key: bytes) -> None:
    """Remove a key; it is no error when it is not there."""
    if libbpf().bpf_map_delete_elem(map_fd, key) < 0 and ctypes.get_errno() != errno.ENOENT:
        _check(-1, "delete from a map")


def keys(map_fd: int, size: int) -> list[bytes]:
    """All keys of a hash map, as they were seen one after the other."""
    found: list[bytes] = []
    key: bytes | None = None
    following = ctypes.create_string_buffer(size)
    while libbpf().bpf_map_get_next_key(map_fd, key, following) == 0:
        key = following.raw
        found.append(key)
        if len(found) > 1 << 22:
            break
    return found


def fill_array(map_fd: int, size: int, at: int, values: bytes) -> None:
    """Write into an array map of `size` bytes in all, from byte `at` on, as into memory.

    The map is one of BPF_F_MMAPABLE (Linux 5.5). Nobody may be reading these elements.
    """
    if values:
        with mmap.mmap(map_fd, size) as memory:
            memory[at : at + len(values)] = values


def update_array(map_fd: int, first: int, values: bytes, size: int) -> None:
    """Write consecutive elements of an array map, `size` bytes each, from index `first` on.

    Uses BPF_MAP_UPDATE_BATCH (Linux 5.6), a few system calls whatever the number.
    `size` counts all CPUs of a per-CPU array (Linux 5.13).
    """
    count = len(values) // size
    lib = libbpf()
    lib.bpf_map_update_batch.argtypes = [
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.POINTER(ctypes.c_uint32),
        ctypes.c_void_p,
    ]
    for start in range(0, count, _BATCH):
        n = min(_BATCH, count - start)
        numbers = array("I", range(first + start, first + start + n))
        indexes = (ctypes.c_uint32 * n).from_buffer(numbers)
        done = ctypes.c_uint32(n)
        chunk = values[start * size : (start + n) * size]
        _check(
            lib.bpf_map_update_batch(
                map_fd,
                indexes,
                ctypes.cast(ctypes.c_char_p(chunk), ctypes.c_void_p),
                ctypes.byref(done),
                None,
            ),
            f"write {n} elements",
        )


def lookup_array(map_fd: int, first: int, count: int, size: int) -> bytes:
    """Consecutive elements of an array map, `size` bytes each (counting all CPUs), from `first` on.

    Uses BPF_MAP_LOOKUP_BATCH; kernels without it for the kind of map (per CPU: before
    Linux 5.13) are asked one by one.
    """
    lib = libbpf()
    lib.bpf_map_lookup_batch.argtypes = [ctypes.c_int, *[ctypes.c_void_p] * 6]
    values = ctypes.create_string_buffer(count * size)
    indexes = (ctypes.c_uint32 * count)()
    before, after = ctypes.c_uint32(first - 1), ctypes.c_uint32()
    number = ctypes.c_uint32(count)
    done = lib.bpf_map_lookup_batch(
        map_fd,
        ctypes.byref(before) if first else None,
        ctypes.byref(after),
        indexes,
        values,
        ctypes.byref(number),
        None,
    )
    # ENOENT says that the map ended, perhaps just behind the last element
    if number.value == count and (done == 0 or ctypes.get_errno() == errno.ENOENT):
        return values.raw
    keys_asked = (index.to_bytes(4, sys.byteorder) for index in range(first, first + count))
    return b"".join(lookup(map_fd, key, size) or bytes(size) for key in keys_asked)


def test_run(program_fd: int, data: bytes, repeat: int = 1) -> tuple[int, bytes, int]:
    """Run a program on a frame: (return value, frame afterwards, mean ns a run)."""
    frame = ctypes.create_string_buffer(data, len(data))
    out = ctypes.create_string_buffer(len(data))
    opts = _TestRunOpts(
        sz=ctypes.sizeof(_TestRunOpts),
        data_in=ctypes.addressof(frame),
        data_out=ctypes.addressof(out),
        data_size_in=len(data),
        data_size_out=len(data),
        repeat=repeat,
    )
    _check(libbpf().bpf_prog_test_run_opts(program_fd, ctypes.byref(opts)), "test run")
    return opts.retval, out.raw[: opts.data_size_out], opts.duration


def call(program_fd: int, argument: int) -> None:
    """Run a raw tracepoint's program once, with one argument (Linux 5.10)."""
    context = ctypes.c_uint64(argument)
    opts = _TestRunOpts(
        sz=ctypes.sizeof(_TestRunOpts),
        ctx_in=ctypes.addressof(context),
        ctx_size_in=ctypes.sizeof(context),
    )
    _check(libbpf().bpf_prog_test_run_opts(program_fd, ctypes.byref(opts)), "run a program")


def possible_cpus() -> int:
    """How many values a per-CPU map has."""
    return _check(libbpf().libbpf_num_possible_cpus(), "count the CPUs")
