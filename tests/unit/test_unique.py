# SPDX-License-Identifier: Apache-2.0
"""Each value once, as numpy has it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sockrules.control.unique import unique_values


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 3)))
def test_values_are_those_of_numpy(values: list[int]) -> None:
    array = np.array(values, np.uint64)
    assert unique_values(array).tolist() == np.unique(array).tolist()
