# SPDX-License-Identifier: Apache-2.0
"""Long lists of addresses, read in arrays: a million lines in a fraction of a second.

Rules. Only lines that are an IPv4 address or prefix and nothing else are read here, with
a comment behind it at most; all others are handed back with their numbers. So what is
wrong with a line is found and told in one place, condition_values.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from .addresses import MAPPED

_PIECE = 1 << 22
"""Bytes that are looked at together: what is needed besides is some twenty times as much."""

_OTHER_ENDS = re.compile("[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
"""What str.splitlines takes for the end of a line besides a newline."""

_COMMENT = re.compile(r"(?<![ \t])[ \t]++#.*|^#.*", re.MULTILINE)
_NEWLINE, _DOT, _SLASH, _ZERO = b"\n./0"

U64 = npt.NDArray[np.uint64]
Line = tuple[int, str]


def addresses_of(text: str) -> tuple[U64, U64, list[Line]] | None:
    """First and last mapped address of every plain line, and the other lines with their numbers.

    Blank lines are left out. `None` when the lines do not end in newlines alone.
    """
    if _OTHER_ENDS.search(text):
        return None
    if "#" in text:
        text = _COMMENT.sub("", text)
    data = text.encode("utf-8", "surrogatepass")
    firsts: list[U64] = []
    lasts: list[U64] = []
    others: list[Line] = []
    line, start = 1, 0
    while start < len(data):
        end = data.rfind(b"\n", start, start + _PIECE) + 1
        if not end or len(data) - start <= _PIECE:
            end = data.find(b"\n", start + _PIECE) + 1 or len(data)
        piece = data[start:end]
        first, last, lines, rest = _read(piece if piece.endswith(b"\n") else piece + b"\n")
        firsts.append(first)
        lasts.append(last)
        others.extend((line + number, words) for number, words in rest)
        line, start = line + lines, end
    none = np.zeros(0, np.uint64)
    return np.concatenate([none, *firsts]), np.concatenate([none, *lasts]), others


def _read(piece: bytes) -> tuple[U64, U64, int, Iterator[Line]]:
    """The plain lines' ends, how many lines there are, and the other ones counted from 0."""
    data = np.frombuffer(piece, np.uint8)
    marks = np.flatnonzero((data < _ZERO) | (data > _ZERO + 9))  # all that is no digit
    kinds = data[marks]
    lengths = np.diff(marks, prepend=-1) - 1  # digits right before each mark
    ends = np.flatnonzero(kinds == _NEWLINE)
    begins = np.concatenate(([0], ends[:-1] + 1))
    count = ends - begins + 1
    has_length = count == 5
    plain = (count == 4) | has_length
    at = np.where(plain, begins, 0)
    fits = len(marks) > 4
    value = np.zeros(len(at), np.uint64)
    for place in range(4 if fits else 0):
        octet, good = _number(data, marks, lengths, at + place, 255)
        plain &= good
        if place < 3:
            plain &= kinds[at + place] == _DOT
        value = value << np.uint64(8) | octet
    plain &= ~has_length | (kinds[np.minimum(at + 3, len(kinds) - 1)] == _SLASH)
    if fits:
        length, good = _number(data, marks, lengths, np.where(has_length, at + 4, at), 32)
        plain &= ~has_length | good
        span = np.uint64(1 << 32) >> np.where(has_length & plain, length, np.uint64(32))
        span -= np.uint64(1)
        plain &= value & span == 0
    else:
        plain &= False
        span = value
    starts = np.concatenate(([0], marks[ends[:-1]] + 1))
    blank = (count == 1) & (lengths[ends] == 0)
    rest = np.flatnonzero(~plain & ~blank)
    bounds = zip(rest.tolist(), starts[rest].tolist(), marks[ends[rest]].tolist(), strict=True)
    others = ((number, piece[a:b].decode("utf-8", "surrogatepass")) for number, a, b in bounds)
    first = value[plain] | np.uint64(MAPPED)
    return first, first | span[plain], len(ends), others


def _number(
    data: npt.NDArray[np.uint8],
    marks: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
    at: npt.NDArray[np.int64],
    most: int,
) -> tuple[U64, npt.NDArray[np.bool_]]:
    """The numbers right before some marks, and which of them are as people write them."""
    length, end = lengths[at], marks[at]
    value = np.zeros(len(at), np.int64)
    for back, ten in ((1, 1), (2, 10), (3, 100)):
        value += np.where(length >= back, (data[end - back].astype(np.int64) - _ZERO) * ten, 0)
    zero_first = (length > 1) & (data[end - np.clip(length, 1, 3)] == _ZERO)
    good = (length >= 1) & (length <= 3) & ~zero_first & (value <= most)
    return value.astype(np.uint64), good
