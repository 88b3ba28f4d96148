# SPDX-License-Identifier: Apache-2.0
"""What to call an executable in the audit: from the kernel's inode to a path."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ..control import abi
from . import libbpf
from .events import ProgramId

_MOST = 4096


class ProgramPaths:
    """Paths by inode, from the map `paths`, which the kernel fills when it first sees a program.

    Args:
        paths_map: the descriptor of the map, asked anew because programs are replaced.
        entered: paths of listeners that were found through /proc instead.
    """

    def __init__(
        self, paths_map: Callable[[], int], entered: Callable[[], Mapping[tuple[int, int], str]]
    ) -> None:
        self._map = paths_map
        self._entered = entered
        self._seen: dict[ProgramId, str] = {}

    def path_of(self, program: ProgramId | None) -> str | None:
        """The path, `None` when it is not known. A part that was too long ends in `…`."""
        if program is None:
            return None
        path = self._seen.get(program)
        if path is None:
            path = self._look_up(program) or self._entered().get((program.number, program.device))
            if path is not None:
                if len(self._seen) >= _MOST:
                    self._seen.clear()
                self._seen[program] = path
        return path

    def _look_up(self, program: ProgramId) -> str | None:
        key = np.zeros(1, abi.dtype("sr_inode"))
        key["number"], key["device"] = program.number, program.device
        key["generation"] = program.generation
        raw = libbpf.lookup(self._map(), key.tobytes(), abi.sizeof("sr_path"))
        if raw is None:
            return None
        entry = np.frombuffer(raw, abi.dtype("sr_path"))[0]
        size, names = abi.C["SR_NAME"], entry["name"].tobytes()
        parts = []
        for index in range(int(entry["depth"])):
            name = names[index * size : (index + 1) * size].split(b"\0", 1)[0]
            cut = "…" if len(name) == size - 1 else ""
            parts.append(name.decode(errors="replace") + cut)
        if not parts:
            return None
        return ("…/" if entry["truncated"] else "/") + "/".join(reversed(parts))
