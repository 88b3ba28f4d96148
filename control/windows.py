# SPDX-License-Identifier: Apache-2.0
"""Windows on the bounds of a field: cells of equal width that say where to search.

Theory. A binary search over n bounds waits for memory log2(n) times. A window lays
cells of equal width, a power of two, over the stretch of keys where the bounds are, and
a cell names the bounds that are left to look at: one or two of them where the bounds
are spread evenly. Where they crowd, as the addresses of one network do, the cell is
divided once more. A key outside costs what it did, and a step more.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from . import abi

_CELLS_PER_BOUND = 4
_FEWEST, _MOST = 1 << 9, 1 << 18
_CROWD = 3  # bounds in a cell that is divided
_DIVIDED = 1 << 12  # cells at most that are divided, the most crowded first
_FINEST = 1 << 20  # finer cells of one region, about

_LAST = (1 << 64) - 1

U64 = npt.NDArray[np.uint64]


def open_windows(regions: np.ndarray, bounds: np.ndarray, base: int) -> np.ndarray:
    """Fill in the windows of `sr_region`s; the `sr_slot`s of their cells, to stand at `base`."""
    parts: list[np.ndarray] = [np.zeros(0, abi.dtype("sr_slot"))]
    for region in regions:
        if region["count"]:
            first = int(region["base"])
            own = bounds[first : first + int(region["count"])]
            region["index"] = base
            for part in _window(region, own):
                base += len(part)
                parts.append(part)
    return np.concatenate(parts)


def _window(region: np.ndarray, own: np.ndarray) -> list[np.ndarray]:
    """Choose one region's window; its slots, the one for all bounds first."""
    halves, counts = np.unique(own["hi"][1:], return_counts=True)
    hi = halves[counts.argmax()] if len(halves) else np.uint64(0)
    begin = int(np.searchsorted(own["hi"], hi))
    end = int(np.searchsorted(own["hi"], hi, side="right"))
    begin += begin == 0 and end > 1  # the first bound is zero, and no set's
    keys = own["lo"][begin:end]
    span = int(keys[-1]) - int(keys[0])
    shift = _shift(span, min(max(_CELLS_PER_BOUND * len(keys), _FEWEST), _MOST))
    low = int(keys[0]) >> shift << shift  # a cell's multiple: no key below wraps into the window
    number = (int(keys[-1]) - low >> shift) + 1
    region["hi"], region["lo"], region["cells"], region["shift"] = hi, low, number, shift
    whole = np.zeros(1, abi.dtype("sr_slot"))
    whole["end"] = len(own)
    cells = _cells(keys, begin, low, number, shift)
    base = int(region["index"]) + 1 + number
    return [whole, cells, *_divided(cells, keys, begin, low, shift, base)]


def _shift(span: int, most: int) -> int:
    """The narrowest cells of which `most`, a power of two or more, reach over `span`."""
    return max(span.bit_length() - (most.bit_length() - 1), 0)


def _cells(keys: U64, begin: int, low: int, number: int, shift: int) -> np.ndarray:
    """Neighbouring cells from `low` on, each with the bounds that can be its keys'."""
    cells = np.arange(number + 1, dtype=np.uint64)
    beyond = cells > (_LAST - low) >> shift  # the end of the last cell may be that of all keys
    edges = np.uint64(low) + (np.where(beyond, np.uint64(0), cells) << np.uint64(shift))
    below = np.searchsorted(keys, edges, side="left")
    slots = np.zeros(number, abi.dtype("sr_slot"))
    slots["start"] = begin + np.searchsorted(keys, edges[:-1], side="right") - 1
    slots["end"] = begin + np.where(beyond, len(keys), below)[1:]
    return slots


def _divided(
    cells: np.ndarray, keys: U64, begin: int, low: int, shift: int, base: int
) -> list[np.ndarray]:
    """The finer cells of the most crowded, to stand at `base`; `cells` then name them."""
    crowds = cells["end"] - cells["start"]
    crowded = np.flatnonzero(crowds > _CROWD)
    if len(crowded) > _DIVIDED:
        crowded = crowded[np.argsort(-crowds[crowded].astype(np.int64), kind="stable")[:_DIVIDED]]
    wanted = _CELLS_PER_BOUND * int(crowds[crowded].sum())
    coarser = max(wanted.bit_length() - _FINEST.bit_length(), 0)
    parts = []
    for at in crowded.tolist() if shift else ():
        start, end = max(int(cells["start"][at]) - begin, 0), int(cells["end"][at]) - begin
        digits = (_CELLS_PER_BOUND * (end - start)).bit_length() - coarser
        finer = max(shift - max(digits, 0), 0)
        first = low + (at << shift)
        part = _cells(keys[start:end], begin + start, first, 1 << (shift - finer), finer)
        cells[at] = (base, abi.C["SR_FINER"] | finer)
        base += len(part)
        parts.append(part)
    return parts
