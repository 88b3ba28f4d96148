# SPDX-License-Identifier: Apache-2.0
"""Offsets of kernel structures, from the running kernel's BTF.

libbpf (a dependency of libbcc) parses /sys/kernel/btf/vmlinux; this module asks
it for struct members by name and looks into anonymous structs and unions, where
newer kernels keep some of them. Source: include/uapi/linux/btf.h, Linux 6.18.
"""

from __future__ import annotations

import contextlib
import ctypes
from dataclasses import dataclass

from .libbpf import libbpf

KIND_STRUCT = 4
KIND_UNION = 5
KIND_ENUM = 6


class _Type(ctypes.Structure):
    _fields_ = [
        ("name_off", ctypes.c_uint32),
        ("info", ctypes.c_uint32),
        ("size_or_type", ctypes.c_uint32),
    ]


class _Member(ctypes.Structure):
    _fields_ = [
        ("name_off", ctypes.c_uint32),
        ("type", ctypes.c_uint32),
        ("offset", ctypes.c_uint32),
    ]


class _Enumerator(ctypes.Structure):
    _fields_ = [("name_off", ctypes.c_uint32), ("value", ctypes.c_int32)]


class BtfError(Exception):
    """The kernel has no BTF, or a structure or member is not in it."""


@dataclass(frozen=True, slots=True)
class Offset:
    """A macro for the BPF programs: the byte offset of a member path in a struct."""

    macro: str
    struct: str
    members: tuple[str, ...]


OFFSETS = (
    Offset("SR_OFF_TASK_MM", "task_struct", ("mm",)),
    Offset("SR_OFF_TASK_NSPROXY", "task_struct", ("nsproxy",)),
    Offset("SR_OFF_TASK_TGID", "task_struct", ("tgid",)),
    Offset("SR_OFF_TASK_COMM", "task_struct", ("comm",)),
    Offset("SR_OFF_TASK_CRED", "task_struct", ("cred",)),
    Offset("SR_OFF_CRED_USER_NS", "cred", ("user_ns",)),
    Offset("SR_OFF_CRED_UID", "cred", ("uid",)),
    Offset("SR_OFF_CRED_GID", "cred", ("gid",)),
    Offset("SR_OFF_MM_EXE_FILE", "mm_struct", ("exe_file",)),
    Offset("SR_OFF_FILE_INODE", "file", ("f_inode",)),
    Offset("SR_OFF_FILE_DENTRY", "file", ("f_path", "dentry")),
    Offset("SR_OFF_FILE_MNT", "file", ("f_path", "mnt")),
    Offset("SR_OFF_INODE_INO", "inode", ("i_ino",)),
    Offset("SR_OFF_INODE_SB", "inode", ("i_sb",)),
    Offset("SR_OFF_INODE_GENERATION", "inode", ("i_generation",)),
    Offset("SR_OFF_SB_DEV", "super_block", ("s_dev",)),
    Offset("SR_OFF_DENTRY_PARENT", "dentry", ("d_parent",)),
    Offset("SR_OFF_DENTRY_INODE", "dentry", ("d_inode",)),
    Offset("SR_OFF_DENTRY_NAME", "dentry", ("d_name", "name")),
    Offset("SR_OFF_DENTRY_HASH", "dentry", ("d_name", "hash_len")),
    Offset("SR_OFF_VFSMOUNT_ROOT", "vfsmount", ("mnt_root",)),
    Offset("SR_OFF_MOUNT_MNT", "mount", ("mnt",)),
    Offset("SR_OFF_MOUNT_NS", "mount", ("mnt_ns",)),
    Offset("SR_OFF_MNT_NS_USER", "mnt_namespace", ("user_ns",)),
    Offset("SR_OFF_USER_NS_LEVEL", "user_namespace", ("level",)),
    Offset("SR_OFF_MOUNT_PARENT", "mount", ("mnt_parent",)),
    Offset("SR_OFF_MOUNT_MOUNTPOINT", "mount", ("mnt_mountpoint",)),
    Offset("SR_OFF_TASK_CGROUPS", "task_struct", ("cgroups",)),
    Offset("SR_OFF_CSS_SET_DFL_CGRP", "css_set", ("dfl_cgrp",)),
    Offset("SR_OFF_CGROUP_KN", "cgroup", ("kn",)),
    Offset("SR_OFF_CGROUP_ROOT", "cgroup", ("root",)),
    Offset("SR_OFF_HIERARCHY_ID", "cgroup_root", ("hierarchy_id",)),
    Offset("SR_OFF_KERNFS_ID", "kernfs_node", ("id",)),
    Offset("SR_OFF_NSPROXY_NET", "nsproxy", ("net_ns",)),
    Offset("SR_OFF_NSPROXY_MNT", "nsproxy", ("mnt_ns",)),
    Offset("SR_OFF_SK_NET", "sock", ("__sk_common", "skc_net", "net")),
    Offset("SR_OFF_SK_PROTOCOL", "sock", ("sk_protocol",)),
    Offset("SR_OFF_SOCKET_SK", "socket", ("sk",)),
    Offset("SR_OFF_SOCKET_TYPE", "socket", ("type",)),
    Offset("SR_OFF_COMMON_FAMILY", "sock_common", ("skc_family",)),
    Offset("SR_OFF_COMMON_STATE", "sock_common", ("skc_state",)),
    Offset("SR_OFF_COMMON_NUM", "sock_common", ("skc_num",)),
    Offset("SR_OFF_COMMON_DPORT", "sock_common", ("skc_dport",)),
    Offset("SR_OFF_COMMON_DADDR", "sock_common", ("skc_daddr",)),
    Offset("SR_OFF_COMMON_RCV_SADDR", "sock_common", ("skc_rcv_saddr",)),
    Offset("SR_OFF_COMMON_V6_DADDR", "sock_common", ("skc_v6_daddr",)),
    Offset("SR_OFF_COMMON_V6_RCV_SADDR", "sock_common", ("skc_v6_rcv_saddr",)),
    Offset("SR_OFF_COMMON_COOKIE", "sock_common", ("skc_cookie",)),
    Offset("SR_OFF_REQUEST_OPS", "request_sock", ("rsk_ops",)),
    Offset("SR_OFF_REQUEST_OPS_FAMILY", "request_sock_ops", ("family",)),
    Offset("SR_OFF_NET_INUM", "net", ("ns", "inum")),
    Offset("SR_OFF_NET_COOKIE", "net", ("net_cookie",)),
)


class Btf:
    """The running kernel's types. Close it when done: it holds several megabytes."""

    def __init__(self) -> None:
        lib = libbpf()
        lib.btf__load_vmlinux_btf.restype = ctypes.c_void_p
        lib.btf__type_by_id.restype = ctypes.c_void_p
        lib.btf__type_by_id.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
        lib.btf__name_by_offset.restype = ctypes.c_char_p
        lib.btf__name_by_offset.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
        lib.btf__find_by_name_kind.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint32]
        lib.btf__resolve_type.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
        lib.btf__resolve_size.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
        lib.btf__resolve_size.restype = ctypes.c_int64
        lib.btf__free.argtypes = [ctypes.c_void_p]
        self._lib = lib
        self._btf: int | None = lib.btf__load_vmlinux_btf()
        if not self._btf:
            raise BtfError(
                "this kernel has no BTF (/sys/kernel/btf/vmlinux); it needs CONFIG_DEBUG_INFO_BTF=y"
            )

    def close(self) -> None:
        if self._btf:
            self._lib.btf__free(self._btf)
            self._btf = None

    def __enter__(self) -> Btf:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def offset(self, struct: str, members: tuple[str, ...]) -> int:
        """Byte offset of `members[0].members[1]...` in `struct`.

        Raises:
            BtfError: the struct or a member does not exist in this kernel.
        """
        type_id = self._find("struct", struct, KIND_STRUCT)
        bits = 0
        for member in members:
            found = self._member(type_id, member)
            if found is None:
                raise BtfError(
                    f"struct {struct} has no member {'.'.join(members)} in this kernel's BTF"
                )
            bits += found[0]
            type_id = found[1]
        return bits // 8

    def size(self, struct: str) -> int:
        """Bytes of `struct`.

        Raises:
            BtfError: it does not exist in this kernel.
        """
        type_id = self._find("struct", struct, KIND_STRUCT)
        return int(self._lib.btf__resolve_size(self._btf, type_id))

    def enumerator(self, enum: str, name: str) -> int:
        """The number of `name` in `enum`.

        Raises:
            BtfError: one of them does not exist in this kernel.
        """
        address = self._lib.btf__type_by_id(self._btf, self._find("enum", enum, KIND_ENUM))
        count = _Type.from_address(address).info & 0xFFFF
        each = (_Enumerator * count).from_address(address + ctypes.sizeof(_Type))
        for one in each:
            if self._lib.btf__name_by_offset(self._btf, one.name_off).decode() == name:
                return int(one.value)
        raise BtfError(f"enum {enum} has no {name} in this kernel's BTF")

    def _find(self, what: str, name: str, kind: int) -> int:
        type_id = int(self._lib.btf__find_by_name_kind(self._btf, name.encode(), kind))
        if type_id < 0:
            raise BtfError(f"{what} {name} is not in this kernel's BTF")
        return type_id

    def _member(self, type_id: int, name: str) -> tuple[int, int] | None:
        """Bit offset and type of a member, looking into anonymous members."""
        type_id = self._lib.btf__resolve_type(self._btf, type_id)
        address = self._lib.btf__type_by_id(self._btf, type_id)
        info = _Type.from_address(address).info
        if (info >> 24) & 0x1F not in (KIND_STRUCT, KIND_UNION):
            return None
        bitfields = info >> 31
        members = (_Member * (info & 0xFFFF)).from_address(address + ctypes.sizeof(_Type))
        for member in members:
            offset = member.offset & 0xFFFFFF if bitfields else member.offset
            label = self._lib.btf__name_by_offset(self._btf, member.name_off).decode()
            if label == name:
                return offset, member.type
            if not label:
                inner = self._member(member.type, name)
                if inner is not None:
                    return offset + inner[0], inner[1]
        return None


def offset_macros() -> dict[str, int]:
    """Every offset that the BPF programs need, by macro name; about 20 ms.

    Without those of `_sockops_array` where the kernel keeps it otherwise.
    """
    with Btf() as btf:
        found = {each.macro: btf.offset(each.struct, each.members) for each in OFFSETS}
        with contextlib.suppress(BtfError):  # before Linux 5.15
            found |= _sockops_array(btf)
        return found


def _sockops_array(btf: Btf) -> dict[str, int]:
    """The way from a socket to the second sockops program of its cgroup
    (include/linux/bpf-cgroup-defs.h)."""
    effective = btf.offset("cgroup", ("bpf", "effective"))
    which = btf.enumerator("cgroup_bpf_attach_type", "CGROUP_SOCK_OPS")
    first = btf.offset("bpf_prog_array", ("items",)) + btf.offset("bpf_prog_array_item", ("prog",))
    return {
        "SR_OFF_SOCK_CGROUP": btf.offset("sock", ("sk_cgrp_data", "cgroup")),
        "SR_OFF_CGROUP_SOCKOPS": effective + which * ctypes.sizeof(ctypes.c_void_p),
        "SR_OFF_SECOND_PROGRAM": first + btf.size("bpf_prog_array_item"),
    }
