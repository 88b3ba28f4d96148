# SPDX-License-Identifier: Apache-2.0
"""Times as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from sockrules.control.times import age, parse_since, parse_utc

HERE = timezone(timedelta(hours=2))
NOW = datetime(2025, 1, 31, 14, 30, 5, tzinfo=HERE)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90s", datetime(2025, 1, 31, 14, 28, 35, tzinfo=HERE)),
        ("15m", datetime(2025, 1, 31, 14, 15, 5, tzinfo=HERE)),
        ("2h", datetime(2025, 1, 31, 12, 30, 5, tzinfo=HERE)),
        ("1d", datetime(2025, 1, 30, 14, 30, 5, tzinfo=HERE)),
        ("1w", datetime(2025, 1, 24, 14, 30, 5, tzinfo=HERE)),
        ("today", datetime(2025, 1, 31, tzinfo=HERE)),
        ("yesterday", datetime(2025, 1, 30, tzinfo=HERE)),
        ("9:05", datetime(2025, 1, 31, 9, 5, tzinfo=HERE)),
        ("09:05:06", datetime(2025, 1, 31, 9, 5, 6, tzinfo=HERE)),
        ("2025-01-02", datetime(2025, 1, 2, tzinfo=HERE)),
        ("2025-01-02 03:04", datetime(2025, 1, 2, 3, 4, tzinfo=HERE)),
        ("2025-01-02T03:04:05Z", datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2025-01-02T03:04+05:00", datetime(2025, 1, 1, 22, 4, tzinfo=UTC)),
    ],
)
def test_since(text: str, moment: datetime) -> None:
    assert parse_since(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "soon", "15", "m", "25:00", "9:5:", "-5m", "999999999w"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="15m|calendar"):
        parse_since(text, NOW)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "just now"), (0, "just now"), (119, "119 s ago"), (120, "2 min ago"),
     (3 * 3600, "3 h ago"), (50 * 3600, "2 d ago")],
)  # fmt: skip
def test_age(seconds: int, text: str) -> None:
    assert age(NOW - timedelta(seconds=seconds), NOW) == text


def test_a_time_in_json_without_an_offset_is_utc() -> None:
    assert parse_utc("2025-01-31T12:30:05") == datetime(2025, 1, 31, 12, 30, 5, tzinfo=UTC)
    assert parse_utc("2025-01-31T12:30:05Z") == NOW
    assert parse_utc("never") is None
    assert parse_utc(None) is None
