# SPDX-License-Identifier: Apache-2.0
"""Boxes that can never decide, because one box before them covers them.

Theory. The first match decides, so a box inside another of the same or an
earlier rule is dead and may be left out of the table anywhere. Equal boxes are
found by sorting; the rest is looked for where it costs: inside the largest
buckets, pair by pair, within a budget of pairs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .tuples import Tuple

_PAIRS = 40_000_000  # some seconds at most
_LARGE = 16  # buckets of fewer boxes are left as they are
_ROWS = 256  # boxes compared with a whole bucket at a time

_SCALARS = ("remote_port", "local_port", "uid", "gid", "program", "service")
_HALVES = ("remote_hi", "remote_lo", "local_hi", "local_lo")


def distinct(entries: np.ndarray) -> np.ndarray:
    """The entries without those equal, but for the rule, to one before them."""
    if len(entries) < 2:
        return entries
    names = [name for name in entries.dtype.names or () if name != "rule"]
    digest = np.zeros(len(entries), np.uint64)
    for name in names:
        digest = digest * np.uint64(0x9E3779B97F4A7C15) + entries[name].astype(np.uint64)
        digest ^= digest >> np.uint64(29)
    _, first, where = np.unique(digest, return_index=True, return_inverse=True)
    leader = first[where]
    same = leader != np.arange(len(entries))
    if not same.any():
        return entries
    for name in names:  # equal digests are a hint, equal boxes are a fact
        same &= entries[name] == entries[name][leader]
    kept: np.ndarray = entries[~same]
    return kept


def covered(entries: np.ndarray, tuples: list[Tuple]) -> npt.NDArray[np.bool_]:
    """Which entries an earlier one of the same large bucket covers."""
    dead = np.zeros(len(entries), bool)
    buckets: list[npt.NDArray[np.int64]] = []
    for one in tuples:
        starts = one.ends - one.sizes
        for slot in np.nonzero(one.sizes > _LARGE)[0].tolist():
            buckets.append(one.boxes[int(starts[slot]) : int(one.ends[slot])])
    left = _PAIRS
    for bucket in sorted(buckets, key=len, reverse=True):
        left -= len(bucket) * len(bucket)
        if left < 0:
            break
        dead[bucket] = _covered(entries[bucket])
    return dead


def _covered(bucket: np.ndarray) -> npt.NDArray[np.bool_]:
    """Which boxes, in rule order, an earlier one covers."""
    dead = np.zeros(len(bucket), bool)
    e: Any = bucket
    for start in range(0, len(bucket), _ROWS):
        rows = slice(start, start + _ROWS)
        later = e[rows][:, None]
        # A box that is dead itself is covered by one that is not, so it may cover too.
        covers = np.arange(len(bucket))[None, :] < np.arange(len(bucket))[rows][:, None]
        covers &= (e["bits_mask"] & ~later["bits_mask"]) == 0
        covers &= (later["bits_value"] & e["bits_mask"]) == e["bits_value"]
        for name in _SCALARS:
            covers &= e[f"{name}_lo"] <= later[f"{name}_lo"]
            covers &= e[f"{name}_hi"] >= later[f"{name}_hi"]
        for name in _HALVES:
            covers &= e[name] <= later[name]
            covers &= e[name] + e[f"{name}_span"] >= later[name] + later[f"{name}_span"]
        dead[rows] = covers.any(axis=1)
    return dead
