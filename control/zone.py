# SPDX-License-Identifier: Apache-2.0
"""The host's clock and time zone: the zone that conditions on the time are read in.

The zone is /etc/localtime's, whatever TZ says: the agent and the person who
asks what it would do must mean the same hour. Without one it is UTC.
"""

from __future__ import annotations

import functools
import os
import re
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

from .week import DAYS

LOCALTIME = Path("/etc/localtime")
_DAY_AND_HOUR = re.compile(rf"(?:({'|'.join(DAYS)}) )?([0-9]{{1,2}}):([0-9]{{2}})")


def host_zone(file: Path = LOCALTIME) -> tzinfo:
    """The zone of a compiled time-zone file; the same object until the file is another one."""
    try:
        found = os.stat(file)
    except OSError:
        return UTC
    return _read(file, (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size))


@functools.lru_cache(maxsize=4)
def _read(file: Path, identity: tuple[int, int, int, int]) -> tzinfo:
    del identity  # of the file, so that another one is read again
    try:
        with file.open("rb") as data:
            return ZoneInfo.from_file(data, key=_name(file))
    except (OSError, ValueError):
        return UTC


def now(file: Path = LOCALTIME) -> datetime:
    """The present moment in the host's zone."""
    return datetime.now(host_zone(file))


def parse_moment(text: str, present: datetime) -> datetime:
    """A moment for a question such as "what if it were ...", in the zone of `present`.

    `2026-12-24 18:00` (with an offset of its own, if it has one), `18:00` today,
    `fri 18:00` from today on. Raises ValueError with a sentence for people.
    """
    words = " ".join(text.lower().split())
    if match := _DAY_AND_HOUR.fullmatch(words):
        hour, minute = int(match[2]), int(match[3])
        if hour > 23 or minute > 59:
            raise ValueError(f"{text} is not on the clock; use 00:00 to 23:59")
        days = 0
        if match[1]:
            days = (DAYS.index(match[1]) - present.weekday()) % 7
        date = present + timedelta(days=days)
        return date.replace(hour=hour, minute=minute, second=0, microsecond=0, fold=0)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        forms = "18:00, fri 18:00, 2026-12-24T18:00 or 2026-12-24T18:00+01:00"
        raise ValueError(f"{text} is not a time; use {forms}") from None
    if moment.tzinfo is None:
        return moment.replace(tzinfo=present.tzinfo)
    return moment.astimezone(present.tzinfo)


def _name(file: Path) -> str:
    """`Europe/Berlin` where the file is a link to it, else the file's path."""
    target = str(file.resolve())
    return target.partition("/zoneinfo/")[2] or target
