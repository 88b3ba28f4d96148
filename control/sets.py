# SPDX-License-Identifier: Apache-2.0
"""Sets of a field's values, the unknown value included.

Rules. A field's domain is a run of integers. The unknown value is one of them:
port 0, user and group 0xffffffff, program and service 0 (abi.h's encoding), and for an
address -1, just below the first one. So complements need no special case: the
complement of a positive set holds the unknown value because the domain does.

Theory. A set is `ranges` or, with `inside` false, everything else. `ranges`
never holds the first value of the domain; of a set and its complement exactly
one qualifies, so equal sets are equal objects and a set and its complement
share their ranges. That is what lets them share a membership bit, and, for
addresses, what makes the kernel's "unknown yields no bits" exact.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from .condition import Range, merge_ranges
from .model import Field
from .ranges import Ranges

SMALL = 64
"""Sets of more ranges are not combined while distributing: that keeps hostile input cheap."""

ADDRESS_LAST = (1 << 128) - 1


class Domain(NamedTuple):
    """All values of a field, both ends included, and the part that is known."""

    first: int
    last: int
    known: Range


_PORT = Domain(0, 0xFFFF, (1, 0xFFFF))
_ID = Domain(0, 0xFFFFFFFF, (0, 0xFFFFFFFE))
_NUMBERED = Domain(0, 0xFFFFFFFF, (1, 0xFFFFFFFF))
_ADDRESS = Domain(-1, ADDRESS_LAST, (0, ADDRESS_LAST))

DOMAINS: dict[Field, Domain] = {
    Field.LOCAL_PORT: _PORT,
    Field.REMOTE_PORT: _PORT,
    Field.USER: _ID,
    Field.GROUP: _ID,
    Field.PROGRAM: _NUMBERED,
    Field.SERVICE: _NUMBERED,
    Field.LOCAL_ADDRESS: _ADDRESS,
    Field.REMOTE_ADDRESS: _ADDRESS,
}


class ValueSet(NamedTuple):
    """`ranges` (ascending, disjoint, not adjacent), or everything else if not `inside`."""

    ranges: Ranges
    inside: bool

    @property
    def empty(self) -> bool:
        return self.inside and not self.ranges

    @property
    def everything(self) -> bool:
        return not self.inside and not self.ranges


EMPTY = ValueSet((), True)
EVERYTHING = ValueSet((), False)


def positive(ranges: Ranges, domain: Domain) -> ValueSet:
    """The set of exactly these values; what is not a known value of the domain is dropped."""
    if ranges and (ranges[0][0] < domain.known[0] or ranges[-1][1] > domain.known[1]):
        ranges = intersect_ranges(ranges, (domain.known,))
    if ranges and ranges[0][0] == domain.first:
        return ValueSet(complement_ranges(ranges, domain), False)
    return ValueSet(ranges, True)


def complement(values: ValueSet) -> ValueSet:
    return ValueSet(values.ranges, not values.inside)


def intersect(a: ValueSet, b: ValueSet) -> ValueSet:
    """What lies in both."""
    if a == b:
        return a
    if a.inside and b.inside:
        return ValueSet(intersect_ranges(a.ranges, b.ranges), True)
    if a.inside:
        return ValueSet(subtract_ranges(a.ranges, b.ranges), True)
    if b.inside:
        return ValueSet(subtract_ranges(b.ranges, a.ranges), True)
    return ValueSet(merge_ranges([*a.ranges, *b.ranges]), False)


def unite(a: ValueSet, b: ValueSet) -> ValueSet:
    """What lies in either."""
    return complement(intersect(complement(a), complement(b)))


def covers(a: ValueSet, b: ValueSet) -> bool:
    """Whether every value of b lies in a."""
    return a == b or intersect(a, b) == b


def explicit(values: ValueSet, domain: Domain) -> Ranges:
    """The set's values as ranges of the whole domain, the unknown value among them."""
    return values.ranges if values.inside else complement_ranges(values.ranges, domain)


def width(values: ValueSet, domain: Domain) -> int:
    """How many ranges `explicit` would give."""
    if values.inside or not values.ranges:
        return max(1, len(values.ranges))
    return len(values.ranges) + (values.ranges[-1][1] != domain.last)


def intersect_ranges(a: Ranges, b: Ranges) -> tuple[Range, ...]:
    if len(a) < len(b):
        a, b = b, a
    found: list[Range] = []
    starts = [first for first, _ in a] if len(a) > SMALL else None
    at = 0
    for first, last in b:  # b is the shorter: skip along a by bisection when it is long
        if starts is not None:
            at = max(at, bisect_right(starts, first) - 1)
        while at < len(a) and a[at][1] < first:
            at += 1
        while at < len(a) and a[at][0] <= last:
            found.append((max(first, a[at][0]), min(last, a[at][1])))
            if a[at][1] > last:
                break
            at += 1
    return tuple(found)


def subtract_ranges(a: Ranges, b: Ranges) -> Ranges:
    if not a or not b:
        return a
    gaps: list[Range] = []
    start = min(a[0][0], b[0][0])
    for first, last in b:
        if first > start:
            gaps.append((start, first - 1))
        start = last + 1
    if a[-1][1] >= start:
        gaps.append((start, a[-1][1]))
    return intersect_ranges(a, tuple(gaps))


def complement_ranges(ranges: Ranges, domain: Domain) -> Ranges:
    return subtract_ranges(((domain.first, domain.last),), ranges)
