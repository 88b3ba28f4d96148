# SPDX-License-Identifier: Apache-2.0
"""What a parsed condition is, and when it holds: the reference for compiler and kernel.

Rules. A condition is a tree of And, Or and Not over comparisons, or Any. A
comparison asks whether a field's value lies in a set of members and is, with
`negated`, the opposite of that. Logic has two values: on an unknown field the
positive question is false and so its negation true, which is all that
"unknown matches no positive comparison and every negated one" says.

Operators are folded into members when a condition is parsed: `port < 1024` is
the member range 1-1023, `!=` and `not in` are `==` and `in` negated, a prefix
is a range of addresses, a name is its number, a list is the ranges of its lines.

The time is no property of the request but of the moment at which it is decided,
and always known: `time not in X` holds exactly when `time in X` does not. What
counts is the clock on the wall where the host is. An hour that it skips does
not occur, one that it shows twice holds twice. The kernel knows no clock: for a
table, schedule.py puts ALWAYS or NEVER in the place of every `Time`.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import TYPE_CHECKING

from .model import Field, Request
from .services import service_matches

if TYPE_CHECKING:
    from .ranges import Ranges

Range = tuple[int, int]
"""First and last value, both included."""

_first = itemgetter(0)


@dataclass(frozen=True, slots=True)
class Any:
    """`any`: every request, whatever is unknown about it."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One question about one field.

    `ranges` (ascending, disjoint, not adjacent; packed where they are many, see
    ranges.py) hold the members of a numeric field: ports 1-65535, addresses as
    128-bit integers, users and groups 0-4294967294. `paths` hold the members of
    `program`: absolute paths, a trailing `/` meaning everything below. `services`
    hold those of `service`, see services.py. `text` is the source as written.
    """

    field: Field
    ranges: Ranges = ()
    paths: tuple[str, ...] = ()
    negated: bool = False
    text: str = ""
    services: tuple[str, ...] = ()

    def holds(self, request: Request) -> bool:
        return self._contains(value_of(request, self.field)) is not self.negated

    def _contains(self, value: int | str | None) -> bool:
        if value is None:
            return False
        if isinstance(value, str):
            if self.field is Field.SERVICE:
                return any(service_matches(member, value) for member in self.services)
            return any(path_matches(path, value) for path in self.paths)
        at = bisect_right(self.ranges, value, key=_first) - 1
        return at >= 0 and value <= self.ranges[at][1]


@dataclass(frozen=True, slots=True)
class Time:
    """Whether the clock on the wall shows one of these minutes.

    `minutes` (ascending, disjoint, not adjacent) are minutes of the week, both
    ends included: Monday 00:00 is 0, Sunday 23:59 is 10 079. `text` is the
    source as written.
    """

    minutes: tuple[Range, ...]
    negated: bool = False
    text: str = ""

    @property
    def field(self) -> str:
        """What is asked for, as the field of a comparison is."""
        return "time"

    def holds(self, moment: datetime) -> bool:
        """`moment` is read as it shows itself: its own zone's clock."""
        minute = (moment.weekday() * 24 + moment.hour) * 60 + moment.minute
        return self.holds_in(minute)

    def holds_in(self, minute: int) -> bool:
        """Whether it holds in a minute of the week."""
        return any(first <= minute <= last for first, last in self.minutes) is not self.negated


@dataclass(frozen=True, slots=True)
class And:
    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Not:
    part: Condition


Condition = Any | Comparison | Time | And | Or | Not

ALWAYS = Any()
NEVER = Not(ALWAYS)


def holds(condition: Condition, request: Request, moment: datetime | None = None) -> bool:
    """Whether the condition holds for the request, decided at a moment in the host's zone.

    Without a moment a condition on the time is an error: ValueError.
    """
    match condition:
        case Any():
            return True
        case Comparison():
            return condition.holds(request)
        case Time():
            if moment is None:
                raise ValueError(f"whether `{condition.text}` holds is a question of the moment")
            return condition.holds(moment)
        case And(parts):
            return all(holds(part, request, moment) for part in parts)
        case Or(parts):
            return any(holds(part, request, moment) for part in parts)
        case Not(part):
            return not holds(part, request, moment)


def value_of(request: Request, which: Field) -> int | str | None:
    """The request's value of a field, `None` when it is unknown."""
    value: int | str | None = getattr(request, which.value.replace(".", "_"))
    return value


def path_matches(pattern: str, path: str) -> bool:
    """Whether an executable's path is the pattern, or lies below one that ends in `/`."""
    return path.startswith(pattern) if pattern.endswith("/") else path == pattern


def merge_ranges(ranges: list[Range]) -> tuple[Range, ...]:
    """The same members as ascending, disjoint ranges, neighbours joined."""
    merged: list[Range] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return tuple(merged)
