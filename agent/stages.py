# SPDX-License-Identifier: Apache-2.0
"""Events that a CPU has gathered and not handed over yet (bpf/stage.h)."""

from __future__ import annotations

import mmap

import numpy as np

from ..control import abi
from . import libbpf


class Stages:
    """Has them handed over, into rings that have room.

    Args:
        map_fd: `stages`, an element for each CPU.
        program_fd: of the hook FLUSH; it must outlive this.
    """

    def __init__(self, map_fd: int, program_fd: int) -> None:
        cpus = libbpf.possible_cpus()
        self._program = program_fd
        self._memory = mmap.mmap(map_fd, cpus * abi.sizeof("sr_stage"), prot=mmap.PROT_READ)
        self._taken = np.frombuffer(self._memory, abi.dtype("sr_stage"))["taken"]

    def hand_over(self) -> bool:
        """Whether there were any. Where nothing was gathered there is no system call."""
        gathered = self._taken.nonzero()[0].tolist()
        for cpu in gathered:
            libbpf.call(self._program, cpu)
        return bool(gathered)

    def close(self) -> None:
        del self._taken
        self._memory.close()
