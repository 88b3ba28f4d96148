# SPDX-License-Identifier: Apache-2.0
"""The shapes of boxes: how long a prefix each field shares, and their hash under a mask.

A shape is eight prefix lengths: local and remote port (of 16 bits), uid, gid,
program and service (of 32), local and remote address (of 128).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import abi
from .pack import classes_of

U64 = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]
Lengths = tuple[int, ...]

_PORT = (0, 6, 8, 10, 12, 14, 16)
_ID = (0, 16, 22, 26, 32)
_NUMBER = (0, 32)
_ADDRESS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 96, 104, 108, 112, 116, 120, 124, 128)
_FEW = (0, 32, 48, 64, 96, 104, 112, 120, 128)
_FEWEST = (0, 64, 104, 112, 120, 128)
GRIDS = (
    (_PORT, _PORT, _ID, _ID, _NUMBER, _NUMBER, _ADDRESS, _ADDRESS),
    ((0, 8, 12, 16), (0, 8, 12, 16), (0, 22, 32), (0, 22, 32), _NUMBER, _NUMBER, _FEW, _FEW),
    ((0, 16), (0, 16), (0, 32), (0, 32), _NUMBER, _NUMBER, _FEWEST, _FEWEST),
)
"""Lengths are rounded down to a grid: the first with few enough shapes, or the last."""

_MANY = 250
_SERVER = 3
_HIGH = (3, 5)  # of the local and the remote address, in the words that are hashed
ODD = tuple(abi.C[f"SR_ODD_{word}"] for word in range(1, abi.C["SR_WORDS"]))
"""The multipliers of the words that are hashed: those of a request but for the first."""


@dataclass(frozen=True, slots=True)
class Group:
    """The boxes, in rule order, that have one shape."""

    lengths: Lengths
    boxes: Indices


class Hasher:
    """The tuple hashes of some boxes: a sum over the words, each masked.

    Many masks keep the same of a word: what a word adds under one is computed once.
    """

    def __init__(self, words: list[U64], boxes: Indices) -> None:
        self._all, self._boxes = words, boxes
        self._words: dict[int, U64] = {}
        self._terms: dict[tuple[int, int], U64] = {}

    def under(self, masks: tuple[int, ...]) -> U64:
        """The hashes under the masks of the words, before the shift."""
        total = np.zeros(len(self._boxes), np.uint64)
        for number, keep in enumerate(masks):
            if keep:
                total += self._term(number, keep)
        return total

    def _term(self, number: int, keep: int) -> U64:
        term = self._terms.get((number, keep))
        if term is None:
            word = self._words.get(number)
            if word is None:
                word = self._words[number] = self._all[number][self._boxes]
            term = (word & np.uint64(keep)) * np.uint64(ODD[number])
            self._terms[number, keep] = term
        return term


class Boxes:
    """What hashing needs of all boxes: seven words each, and eight prefix lengths."""

    def __init__(self, entries: np.ndarray) -> None:
        e: Any = entries
        self.entries = entries
        self.rules: Indices = (e["rule"] >> abi.C["SR_RULE_SHIFT"]).astype(np.int64)

        def wide(name: str) -> U64:  # one at a time: all together are most of the memory
            column: U64 = e[name].astype(np.uint64)
            return column

        server = wide("bits_value") & np.uint64(_SERVER)
        ports = wide("local_port_lo") << np.uint64(16) | wide("remote_port_lo")
        self.words: list[U64] = [
            server << np.uint64(32) | ports,
            wide("uid_lo") << np.uint64(32) | wide("gid_lo"),
            wide("program_lo") << np.uint64(32) | wide("service_lo"),
            *(wide(name) for name in ("local_hi", "local_lo", "remote_hi", "remote_lo")),
        ]
        columns = [
            common_prefix(wide(f"{name}_lo"), wide(f"{name}_hi"), 16 if "port" in name else 32)
            for name in ("local_port", "remote_port", "uid", "gid", "program", "service")
        ]
        for side in ("local", "remote"):
            hi, span = wide(f"{side}_hi"), wide(f"{side}_hi_span")
            lo, lo_span = wide(f"{side}_lo"), wide(f"{side}_lo_span")
            inside = common_prefix(lo, lo + lo_span, 64)
            columns.append(np.where(span == 0, 64 + inside, common_prefix(hi, hi + span, 64)))
        self.lengths = np.stack(columns, axis=1)

    def hashes(self, boxes: Indices, masks: tuple[int, ...]) -> U64:
        """The tuple hash of some boxes under the masks of the words, before the shift."""
        return Hasher(self.words, boxes).under(masks)

    def hasher(self, boxes: Indices) -> Hasher:
        """Hashes some boxes under one mask after the other."""
        return Hasher(self.words, boxes)

    def needed(self, boxes: Indices, masks: tuple[int, ...]) -> tuple[int, ...]:
        """The masks without those of high halves that are zero in all the boxes."""
        found = list(masks)
        for word in _HIGH:
            if not self.words[word][boxes].any():
                found[word] = 0
        return tuple(found)

    def groups(self) -> list[Group]:
        """The boxes by shape, on the finest grid that keeps the shapes few."""
        for grid in GRIDS:
            code = np.zeros(len(self.rules), np.int64)
            for place, steps in enumerate(grid):
                rank = np.searchsorted(steps, np.arange(129), side="right") - 1
                code = code * len(steps) + rank[self.lengths[:, place]]
            shapes, where = np.unique(code, return_inverse=True)
            if len(shapes) <= _MANY:
                break
        order = np.argsort(where, kind="stable").astype(np.int64)
        ends = np.cumsum(np.bincount(where, minlength=len(shapes)))
        parts = np.split(order, ends[:-1])
        return [
            Group(_decode(int(shape), grid), part)
            for shape, part in zip(shapes, parts, strict=True)
        ]


def _decode(shape: int, grid: tuple[tuple[int, ...], ...]) -> Lengths:
    lengths = []
    for steps in reversed(grid):
        shape, rank = divmod(shape, len(steps))
        lengths.append(steps[rank])
    return tuple(reversed(lengths))


def firsts_of(entries: np.ndarray) -> tuple[int | None, ...]:
    """The smallest rule index among boxes by class, `None` without one."""
    rules = entries["rule"] >> abi.C["SR_RULE_SHIFT"]
    return tuple(
        int(rules[own].min()) if own.any() else None for own in classes_of(entries).T
    )


def common_prefix(lo: U64, hi: U64, width: int) -> Indices:
    """The length of the prefix that lo and hi, numbers of `width` bits, share."""
    differ = lo ^ hi
    upper, lower = differ >> np.uint64(32), differ & np.uint64(0xFFFFFFFF)
    high = np.frexp(upper.astype(np.float64))[1].astype(np.int64)
    low = np.frexp(lower.astype(np.float64))[1].astype(np.int64)
    return width - np.where(high > 0, 32 + high, low)


def masks_of(lengths: Lengths) -> tuple[int, ...]:
    """The mask of each hashed word that keeps this much of each field, and the server."""
    lport, rport, uid, gid, program, service, local, remote = lengths
    return (
        _SERVER << 32 | _top(lport, 16) << 16 | _top(rport, 16),
        _top(uid, 32) << 32 | _top(gid, 32),
        _top(program, 32) << 32 | _top(service, 32),
        _top(min(local, 64), 64),
        _top(max(local - 64, 0), 64),
        _top(min(remote, 64), 64),
        _top(max(remote - 64, 0), 64),
    )


def _top(length: int, width: int) -> int:
    return ((1 << length) - 1) << (width - length)
