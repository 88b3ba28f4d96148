# SPDX-License-Identifier: Apache-2.0
"""Boxes as the kernel reads them: what is asked first in one cache line, the rest apart.

Theory. Few rules ask for more than ports, a user and an IPv4 address. Whether an
address is an IPv4 one is a bit of its own, so the high halves are not looked at; what
else a box asks is in a second part, which boxes share when they ask the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from . import abi
from .boxes import FREE, FULL
from .model import Server

CLASSES = abi.C["SR_CLASSES"]
_V4 = abi.C["SR_BIT_REMOTE_V4"]
_KNOWN = abi.C["SR_BIT_REMOTE_KNOWN"]
_MAPPED, _MAPPED_LAST = 0xFFFF << 32, (0xFFFF << 32) | 0xFFFFFFFF

_REST: dict[str, int] = {
    name: FREE[name] for name in abi.dtype("sr_rest").names or ()
}
"""The members of the second part, and what each is where it asks nothing."""

Bools = npt.NDArray[np.bool_]


def is_v4(boxes: np.ndarray) -> Bools:
    """Which of the boxes only IPv4 remote addresses match."""
    e: Any = boxes
    top = e["remote_lo"] + e["remote_lo_span"]
    inside = (e["remote_lo"] >= np.uint64(_MAPPED)) & (top <= np.uint64(_MAPPED_LAST))
    found: Bools = (e["remote_hi"] == 0) & (e["remote_hi_span"] == 0) & inside & (
        top >= e["remote_lo"]
    )
    return found


def is_never_v4(boxes: np.ndarray) -> Bools:
    """Which of the boxes no IPv4 remote address matches."""
    e: Any = boxes
    unknown = (e["bits_mask"] & np.uint64(_KNOWN) != 0) & (e["bits_value"] & np.uint64(_KNOWN) == 0)
    top = e["remote_lo"] + e["remote_lo_span"]
    apart = (e["remote_lo"] > np.uint64(_MAPPED_LAST)) | (top < np.uint64(_MAPPED))
    found: Bools = unknown | (e["remote_hi"] > 0) | apart
    return found


def classes_of(boxes: np.ndarray) -> npt.NDArray[np.bool_]:
    """Which requests each box (row) can match, by class (column); see SR_CLASSES."""
    server = (boxes["bits_value"] & np.uint64(3)).astype(np.int64)
    found = np.zeros((len(boxes), CLASSES), bool)
    rows = np.arange(len(boxes))
    found[rows, 2 * server] = ~is_v4(boxes)
    found[rows, 2 * server + 1] = ~is_never_v4(boxes)
    return found


def server_of(kind: int) -> Server:
    """The server of a class."""
    return Server(kind >> 1)


def pack(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (of `BOX`) as `sr_entry`, in the same order, and the `sr_rest` that they name.

    Element 0 of the rests is nobody's.
    """
    e: Any = boxes
    v4 = is_v4(boxes)
    entries = np.zeros(len(boxes), abi.dtype("sr_entry"))
    for name in ("bits_mask", "bits_value"):
        entries[name] = e[name] | np.where(v4, np.uint64(_V4), np.uint64(0))
    for name in ("remote_lo", "remote_lo_span", "rule", "uid_lo", "uid_hi"):
        entries[name] = e[name]
    guards = np.uint64(abi.C["SR_GUARDS"])
    for side, guard in (("lo", np.uint64(0)), ("hi", guards)):
        local, remote = e[f"local_port_{side}"], e[f"remote_port_{side}"].astype(np.uint64)
        entries[f"ports_{side}"] = local.astype(np.uint64) << np.uint64(32) | remote | guard
    rests = np.zeros(len(boxes), abi.dtype("sr_rest"))
    for name in _REST:
        rests[name] = e[name]
    rests["remote_hi_span"][v4] = FULL
    rests["remote_hi"][v4] = 0
    asks = np.zeros(len(boxes), bool)
    for name, free in _REST.items():
        asks |= rests[name] != free
    kept, where = _distinct(rests[asks])
    entries["rest"][asks] = 1 + where
    return entries, np.concatenate((np.zeros(1, abi.dtype("sr_rest")), kept))


def _distinct(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct rows, in the order in which they come first, and which of them each is.

    By their bytes in a dictionary: `numpy.unique` sorts such rows field by field, which
    takes longer (docs/performance.md).
    """
    width, data = rows.dtype.itemsize, rows.tobytes()
    cut = [data[at : at + width] for at in range(0, len(data), width)]
    places = {row: place for place, row in enumerate(dict.fromkeys(cut))}
    where = np.fromiter(map(places.__getitem__, cut), np.uint32, len(cut))
    return np.frombuffer(b"".join(places), rows.dtype), where
