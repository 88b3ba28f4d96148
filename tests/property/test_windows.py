# SPDX-License-Identifier: Apache-2.0
"""Windows: whatever the bounds, the cell of a key leads to the key's bound."""

from __future__ import annotations

import bisect

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sockrules.control import abi
from sockrules.control.windows import open_windows

LAST = (1 << 64) - 1
BASE = 5  # other slots stand before

lows = st.one_of(
    st.integers(0, 0xFFFF),
    st.integers(0xFFFF_0A00_0000, 0xFFFF_0A00_FFFF),
    st.integers(0xFFFF_0000_0000, 0xFFFF_FFFF_FFFF),
    st.integers(0, LAST),
)
halves = st.sampled_from((0, 0, 0, 0x2001_0DB8_0000_0000, LAST))


@given(st.sets(st.tuples(halves, lows), max_size=200), st.lists(st.tuples(halves, lows)))
def test_the_bound_of_a_key_is_found(
    found: set[tuple[int, int]], others: list[tuple[int, int]]
) -> None:
    keys = sorted(found | {(0, 0)})
    bounds = np.zeros(len(keys), abi.dtype("sr_bound"))
    bounds["hi"], bounds["lo"] = [hi for hi, _ in keys], [lo for _, lo in keys]
    regions = np.zeros(1, abi.dtype("sr_region"))
    regions["count"] = len(keys)
    slots = open_windows(regions, bounds, BASE)
    for hi, lo in (*keys, *others, *((hi, lo - 1) for hi, lo in keys if lo)):
        assert searched(regions[0], slots, keys, hi, lo) == bisect.bisect(keys, (hi, lo)) - 1


def searched(
    region: np.void, slots: np.ndarray, keys: list[tuple[int, int]], hi: int, lo: int
) -> int:
    """As sr_search (bpf/decide.h) does it; the number of the bound."""
    cell = ((lo - int(region["lo"])) & LAST) >> int(region["shift"])
    inside = hi == int(region["hi"]) and cell < int(region["cells"])
    start, end = slots[int(region["index"]) - BASE + (cell + 1 if inside else 0)].tolist()
    if end & abi.C["SR_FINER"]:
        within = (lo - int(region["lo"])) & ((1 << int(region["shift"])) - 1)
        start, end = slots[start - BASE + (within >> (end & 63))].tolist()
    assert 0 <= start < end <= len(keys)
    return bisect.bisect(keys, (hi, lo), start, end) - 1


def test_a_crowd_is_divided() -> None:
    """Networks far from each other, each with many bounds: none is searched long."""
    keys = [0, *((site << 20) + host for site in range(50, 80) for host in range(0, 4000, 16))]
    bounds = np.zeros(len(keys), abi.dtype("sr_bound"))
    bounds["lo"] = keys
    regions = np.zeros(1, abi.dtype("sr_region"))
    regions["count"] = len(keys)
    slots = open_windows(regions, bounds, BASE)
    plain = slots[slots["end"] < abi.C["SR_FINER"]][1:]
    assert (plain["end"] - plain["start"]).max() <= 3
    assert len(plain) < len(slots) - 1
