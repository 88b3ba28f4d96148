# SPDX-License-Identifier: Apache-2.0
"""Exchange one's own /proc/self/exe, as any user may in a user namespace of his own.

prctl(PR_SET_MM, PR_SET_MM_MAP) takes a new executable from whoever has
CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN in his user namespace, once the old one
is mapped no more (prctl(2); replace_mm_exe_file, kernel/fork.c). So Python is
run through ld.so, whose few mappings are replaced by copies.
"""

import ctypes
import os
import struct
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
POINTER = LIBC.mmap.restype = LIBC.mremap.restype = LIBC.sbrk.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [POINTER, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
LIBC.mremap.argtypes = [POINTER, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, POINTER]
LIBC.mprotect.argtypes = [POINTER, ctypes.c_size_t, ctypes.c_int]
LIBC.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]

CLONE_NEWUSER, PR_SET_MM, PR_SET_MM_MAP = 0x10000000, 35, 14
READ_WRITE, PRIVATE_ANONYMOUS, MAYMOVE_FIXED = 3, 0x22, 3


def checked(result):
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def unmap_executable():
    exe = os.readlink("/proc/self/exe")
    with open("/proc/self/maps") as maps:
        lines = [line.split() for line in maps]
    for place, rights, *_, name in (fields for fields in lines if len(fields) == 6):
        if name == exe:
            start, end = (int(part, 16) for part in place.split("-"))
            size = end - start
            copy = LIBC.mmap(None, size, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0)
            if "r" in rights:
                ctypes.memmove(copy, start, size)
            protection = sum(1 << bit for bit, right in enumerate("rwx") if right in rights)
            LIBC.mprotect(copy, size, protection)
            LIBC.mremap(copy, size, size, MAYMOVE_FIXED, start)


def become(program):
    checked(LIBC.unshare(CLONE_NEWUSER))
    unmap_executable()
    with open("/proc/self/stat") as stat:
        field = [0, 0, 0, *stat.read().rpartition(")")[2].split()]  # numbered as in proc(5)
    code, data, (stack, heap) = field[26:28], field[45:47], (field[28], field[47])
    file = os.open(program, os.O_RDONLY)
    places = [*code, *data, heap, LIBC.sbrk(0), stack, *field[48:52]]
    raw = struct.pack("=11QQIi", *map(int, places), 0, 0, file)  # struct prctl_mm_map
    buffer = ctypes.create_string_buffer(raw, len(raw))
    checked(LIBC.prctl(PR_SET_MM, PR_SET_MM_MAP, ctypes.addressof(buffer), len(raw), 0))


become(sys.argv.pop(1))
