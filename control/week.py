# SPDX-License-Identifier: Apache-2.0
"""Times of the week as conditions write them: `mon-fri 08:00-18:00`, `sat`, `22:00-06:00`.

Rules. A week is 10 080 minutes of the clock on the wall, Monday 00:00 the first
(minute 0). A period begins at its first minute and ends before its second one;
days stand for the days it begins on, and one that ends before it begins ends
on the day after. Without days it is every day, without hours the whole day.
"""

from __future__ import annotations

import re
from datetime import datetime

from .condition import Range, merge_ranges
from .problems import did_you_mean

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY = 24 * 60
WEEK = 7 * DAY
EXAMPLE = "as in mon-fri 08:00-18:00"

_LONG = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_NUMBER_OF = {name: number for names in (DAYS, _LONG) for number, name in enumerate(names)}
_HOURS = re.compile(r"([0-9]{1,2})(?::([0-9]{2}))?-([0-9]{1,2})(?::([0-9]{2}))?")


class PeriodProblem(ValueError):
    """A period that cannot be read: what is wrong, what would be right."""

    def __init__(self, message: str, hint: str) -> None:
        self.message, self.hint = message, hint
        super().__init__(f"{message}; {hint}")


def minutes_of(text: str) -> tuple[Range, ...]:
    """The minutes of the week of one period, merged. Raises PeriodProblem."""
    words = text.split()
    if not words or len(words) > 2:
        raise PeriodProblem(f'time "{text}" is not days and hours', f"write them {EXAMPLE}")
    if words[0][0] not in "0123456789":
        days = _days(words[0])
        first, last = _hours(words[1]) if len(words) == 2 else (0, DAY)
    elif len(words) == 2:
        raise PeriodProblem(f"time {text} begins with hours", f"the days come first, {EXAMPLE}")
    else:
        days, (first, last) = list(range(7)), _hours(words[0])
    found: list[Range] = []
    for day in days:
        start, end = day * DAY + first, day * DAY + last - 1
        found.append((start, min(end, WEEK - 1)))
        if end >= WEEK:
            found.append((0, end - WEEK))
    return merge_ranges(found)


def minute_of_week(local: datetime) -> int:
    """Which minute of the week the clock shows; seconds are left off."""
    return local.weekday() * DAY + local.hour * 60 + local.minute


def minute_text(minute: int) -> str:
    """`fri 18:05`."""
    day, rest = divmod(minute, DAY)
    return f"{DAYS[day]} {rest // 60:02}:{rest % 60:02}"


def _days(word: str) -> list[int]:
    first, dash, last = word.lower().partition("-")
    start, end = _day(first), _day(last) if dash else _day(first)
    return [day % 7 for day in range(start, (end if end >= start else end + 7) + 1)]


def _day(word: str) -> int:
    number = _NUMBER_OF.get(word)
    if number is None:
        near = did_you_mean(word, _NUMBER_OF)
        hint = near or f"the days are {', '.join(DAYS)}; write {EXAMPLE.removeprefix('as in ')}"
        raise PeriodProblem(f"{word or '-'} is not a day", hint)
    return number


def _hours(word: str) -> Range:
    """Minutes after midnight: the first one, and the first one that is not in it any more."""
    match = _HOURS.fullmatch(word)
    if not match:
        raise PeriodProblem(f"time {word} is not a range of hours", "write them as in 08:00-18:00")
    from_hour, from_minute, to_hour, to_minute = match.groups()
    if from_minute is None or to_minute is None:
        right = f"{_clock(from_hour, from_minute)}-{_clock(to_hour, to_minute)}"
        raise PeriodProblem(f"time {word} has no minutes", f"use {right}")
    first = int(from_hour) * 60 + int(from_minute)
    last = int(to_hour) * 60 + int(to_minute)
    if int(from_minute) > 59 or int(to_minute) > 59 or first >= DAY or last > DAY:
        raise PeriodProblem(f"time {word} is not on the clock", "use 00:00-24:00")
    if first == last:
        hint = "for the whole day use 00:00-24:00, or the day alone"
        raise PeriodProblem(f"time {word} begins when it ends", hint)
    return first, last if last > first else last + DAY


def _clock(hour: str, minute: str | None) -> str:
    return f"{int(hour):02}:{minute or '00'}"
