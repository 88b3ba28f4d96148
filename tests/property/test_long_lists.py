# SPDX-License-Identifier: Apache-2.0
"""Lists read in arrays are what they are line by line: the same members, the same complaints."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockrules.control import condition_values, long_lists, ranges
from sockrules.control.condition import Range, merge_ranges
from sockrules.control.condition_values import ValueProblem, Values
from sockrules.control.model import Field
from sockrules.control.names import FixedNames
from sockrules.control.ranges import PackedRanges, merge_long, merge_packed, packed

RA = Field.REMOTE_ADDRESS
OCTET = st.sampled_from(("0", "1", "7", "10", "128", "255", "256", "01", "", "1000", "x"))
V4 = st.lists(OCTET, min_size=4, max_size=4).map(".".join)
GOOD_V4 = st.tuples(*[st.integers(0, 255)] * 4).map(lambda four: ".".join(map(str, four)))
LENGTH = st.sampled_from(("", "/0", "/8", "/24", "/32", "/33", "/08", "/", "/x", "/1/2", "/128"))
WORD = st.one_of(
    GOOD_V4,
    st.tuples(st.one_of(V4, GOOD_V4), LENGTH).map("".join),
    st.sampled_from(("0.0.0.0/0", "10.0.0.0/8", "10.0.0.1-10.0.0.9", "1.2.3", "1.2.3.4.5", "::1")),
    st.sampled_from(("2001:db8::/32", "::ffff:10.0.0.5", "::/0", "@other", "a#b", "1.2.3.4;")),
    st.text(alphabet="0123456789./:# \t\xa0ä-", max_size=12),
)
LINE = st.tuples(
    st.sampled_from(("", " ", "\t", "# ", "  #")),
    WORD,
    st.sampled_from(("", "", " ", "  # why", "\t#", "#1", " # a # b", "\xa0# c", " \x0b")),
).map("".join)
END = st.sampled_from(("\n", "\n", "\n", "\n\n", "\r\n", "\x85"))
TEXT = st.tuples(
    st.sampled_from(("", "\ufeff")),
    st.one_of(
        st.lists(LINE, max_size=12).map("\n".join),
        st.lists(st.tuples(LINE, END).map("".join), max_size=12).map("".join),
    ),
).map("".join)


def outcome(text: str) -> object:
    values = Values(FixedNames(lists={"big": text}))
    try:
        return list(values.ranges_of(RA, "big"))
    except ValueProblem as problem:
        return problem.problems, list(values.ranges_of(RA, "big"))


@given(TEXT, st.sampled_from((1, 7, 40, 1 << 22)))
def test_a_list_in_arrays_is_what_its_lines_are(text: str, piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(condition_values, "_LONG_TEXT", 1 << 60)
        slow = outcome(text)
        patch.setattr(condition_values, "_LONG_TEXT", -1)
        patch.setattr(long_lists, "_PIECE", piece)
        patch.setattr(ranges, "LONG", 2)
        assert outcome(text) == slow


NUMBER = st.one_of(
    st.integers(0, 40),
    st.integers((1 << 64) - 5, (1 << 64) + 5),
    st.integers((1 << 128) - 5, (1 << 128) - 1),
)
RANGE = st.tuples(NUMBER, NUMBER).map(lambda pair: (min(pair), max(pair)))


@given(st.lists(RANGE, max_size=12), st.lists(st.integers(0, 60), max_size=12))
def test_merging_in_arrays_is_merging(more: list[Range], low: list[int]) -> None:
    expected = merge_ranges([*more, *((n, n + 1) for n in low)])
    firsts, lasts = ranges.halves(low)[1], ranges.halves([n + 1 for n in low])[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "LONG", 0)
        assert list(merge_packed(firsts, lasts, more)) == list(expected)


def test_packed_ranges_are_a_sequence() -> None:
    rng = random.Random(1)
    pairs = [(n << 70 | rng.getrandbits(60), n << 70 | 1 << 65) for n in range(5000)]
    made = merge_long(pairs)
    assert isinstance(made, PackedRanges)
    assert list(made) == pairs == list(made[:]) and made[7] == pairs[7] and made[-1] == pairs[-1]
    assert made[3:9] == tuple(pairs[3:9]) and len(made) == 5000
    assert made == packed(pairs) and hash(made) == hash(packed(pairs))
    assert made != packed(pairs[1:]) and made != packed([*pairs[:-1], (pairs[-1][0],) * 2])
