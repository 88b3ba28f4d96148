# SPDX-License-Identifier: Apache-2.0
"""Points in time as people write and read them. Inside, every time is aware of its offset."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION = re.compile(r"([0-9]{1,9})([smhdw])")
_CLOCK = re.compile(r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?")


def parse_duration(text: str) -> timedelta:
    """`90s`, `15m`, `2h`, `1d`, `1w`. Raises ValueError with a sentence for people."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text} is not a duration; use 60s, 5m or 1h")
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]])


def parse_since(text: str, now: datetime) -> datetime:
    """`90s`, `15m`, `2h`, `1d`, `1w` ago; `14:30`, `today`; a date, or ISO date and time.

    What names no offset is in `now`'s. Raises ValueError with a sentence for people.
    """
    if match := _DURATION.fullmatch(text):
        try:
            return now - timedelta(seconds=int(match[1]) * _UNITS[match[2]])
        except OverflowError:
            raise ValueError(f"{text} ago is before the calendar begins") from None
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if text in ("today", "yesterday"):
        return midnight - timedelta(days=text == "yesterday")
    try:
        if _CLOCK.fullmatch(text):
            return datetime.fromisoformat(f"{now.date().isoformat()} {text:0>5}").replace(
                tzinfo=now.tzinfo
            )
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text} is not a time; use 15m, 2h or 1d (ago), 14:30, today, yesterday,"
            " or 2025-01-31 14:30"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=now.tzinfo)


def parse_utc(text: object) -> datetime | None:
    """A time from JSON, or `None` where there is none. Without an offset it is UTC."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def local_text(moment: datetime) -> str:
    """`2025-01-31 14:30:05+01:00`: local time with its offset."""
    return moment.astimezone().isoformat(sep=" ", timespec="seconds")


def age(moment: datetime, now: datetime) -> str:
    """`12 s ago`, `5 min ago`, `3 h ago`, `2 d ago`."""
    seconds = int((now - moment).total_seconds())
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago" if seconds > 0 else "just now"
