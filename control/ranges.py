# SPDX-License-Identifier: Apache-2.0
"""Ranges of numbers, ascending, disjoint and not adjacent: a tuple, or packed where they are many.

Rules. What conditions name is a tuple up to `LONG` ranges and `PackedRanges` beyond: four
arrays instead of millions of objects. Both are sequences of (first, last). A long set is
equal to another long set only, which is enough, as equal ones are packed alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, overload

from .condition import Range, merge_ranges

if TYPE_CHECKING:  # numpy takes a while to load, and short sets do without
    import numpy as np
    import numpy.typing as npt

    U64 = npt.NDArray[np.uint64]

LONG = 4096
"""Sets of more ranges are packed."""

_WORD = (1 << 64) - 1
_PIECE = 1 << 14


class PackedRanges(Sequence[Range]):
    """Many ranges of numbers of up to 128 bits, in arrays of their high and low halves."""

    __slots__ = ("_hash", "first_hi", "first_lo", "last_hi", "last_lo")

    def __init__(self, first_hi: U64, first_lo: U64, last_hi: U64, last_lo: U64) -> None:
        self.first_hi, self.first_lo = first_hi, first_lo
        self.last_hi, self.last_lo = last_hi, last_lo
        sums = (int(each.sum()) for each in (first_hi, first_lo, last_hi, last_lo))
        self._hash = hash((len(first_lo), *sums))

    def __len__(self) -> int:
        return len(self.first_lo)

    @overload
    def __getitem__(self, at: int) -> Range: ...

    @overload
    def __getitem__(self, at: slice) -> tuple[Range, ...]: ...

    def __getitem__(self, at: int | slice) -> Range | tuple[Range, ...]:
        if isinstance(at, slice):
            return tuple(self._pairs(at))
        return (
            int(self.first_hi[at]) << 64 | int(self.first_lo[at]),
            int(self.last_hi[at]) << 64 | int(self.last_lo[at]),
        )

    def __iter__(self) -> Iterator[Range]:
        for start in range(0, len(self), _PIECE):
            yield from self._pairs(slice(start, start + _PIECE))

    def _pairs(self, at: slice) -> Iterator[Range]:
        arrays = (self.first_hi, self.first_lo, self.last_hi, self.last_lo)
        for a, b, c, d in zip(*(each[at].tolist() for each in arrays), strict=True):
            yield a << 64 | b, c << 64 | d

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PackedRanges):
            return NotImplemented
        return self is other or (
            self._hash == other._hash
            and len(self) == len(other)
            and bool((self.first_lo == other.first_lo).all())
            and bool((self.last_lo == other.last_lo).all())
            and bool((self.first_hi == other.first_hi).all())
            and bool((self.last_hi == other.last_hi).all())
        )

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"<{len(self)} ranges, {self[0]} to {self[-1]}>"


Ranges = tuple[Range, ...] | PackedRanges


def merge_long(ranges: list[Range]) -> Ranges:
    """The same members as ascending, disjoint ranges, neighbours joined; packed if many."""
    merged = merge_ranges(ranges)
    return packed(merged) if len(merged) > LONG else merged


def packed(ranges: Sequence[Range]) -> PackedRanges:
    """Ranges that are merged already, packed."""
    firsts, lasts = halves([first for first, _ in ranges]), halves([last for _, last in ranges])
    return PackedRanges(*firsts, *lasts)


def merge_packed(firsts: U64, lasts: U64, more: list[Range]) -> Ranges:
    """As `merge_long`: of ranges below 2**64 in two arrays, and some more."""
    import numpy as np

    zeros = np.zeros(len(firsts), np.uint64)
    firsts_more, lasts_more = halves([a for a, _ in more]), halves([b for _, b in more])
    first_hi, last_hi = (np.concatenate((zeros, each[0])) for each in (firsts_more, lasts_more))
    first_lo = np.concatenate((firsts, firsts_more[1]))
    last_lo = np.concatenate((lasts, lasts_more[1]))
    if not len(first_lo):
        return ()
    if last_hi.any():
        merged = _merge(first_hi, first_lo, last_hi, last_lo)
    else:
        merged = _merge_low(first_lo, last_lo)
    return merged if len(merged) > LONG else merged[:]


def _merge_low(first: U64, last: U64) -> PackedRanges:
    import numpy as np

    if not (first[1:] >= first[:-1]).all():
        order = np.argsort(first, kind="stable")
        first, last = first[order], last[order]
    last = np.maximum.accumulate(last)
    new = (first[1:] > last[:-1]) & (first[1:] - last[:-1] > 1)
    starts = np.concatenate(([0], np.flatnonzero(new) + 1))
    ends = np.concatenate((starts[1:] - 1, [len(last) - 1]))
    zeros = np.broadcast_to(np.uint64(0), len(starts))
    return PackedRanges(zeros, first[starts], zeros, last[ends])


def _merge(first_hi: U64, first_lo: U64, last_hi: U64, last_lo: U64) -> PackedRanges:
    import numpy as np

    order = np.lexsort((first_lo, first_hi))
    by_last = np.lexsort((last_lo, last_hi))
    rank = np.empty(len(order), np.int64)
    rank[by_last] = np.arange(len(order))
    furthest = by_last[np.maximum.accumulate(rank[order])]  # the last of all up to here
    hi, lo = last_hi[furthest], last_lo[furthest]
    first_hi, first_lo = first_hi[order], first_lo[order]
    after_lo = lo[:-1] + np.uint64(1)
    after_hi = hi[:-1] + (after_lo == 0)
    new = first_hi[1:] > after_hi
    new |= (first_hi[1:] == after_hi) & (first_lo[1:] > after_lo)
    new &= (after_lo > 0) | (after_hi > 0)  # nothing is beyond the last number
    starts = np.concatenate(([0], np.flatnonzero(new) + 1))
    ends = np.concatenate((starts[1:] - 1, [len(lo) - 1]))
    return PackedRanges(first_hi[starts], first_lo[starts], hi[ends], lo[ends])


def halves(keys: list[int]) -> tuple[U64, U64]:
    """Numbers of up to 128 bits as arrays of their high and low halves."""
    import numpy as np

    if not keys or max(keys) <= _WORD:
        return np.zeros(len(keys), np.uint64), np.array(keys, np.uint64)
    joined = b"".join([key.to_bytes(16, "big") for key in keys])
    pairs = np.frombuffer(joined, ">u8").reshape(-1, 2).astype(np.uint64)
    return pairs[:, 0].copy(), pairs[:, 1].copy()
