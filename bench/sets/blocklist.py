# SPDX-License-Identifier: Apache-2.0
"""One rule that rejects connects to a long list of prefixes, spread evenly or crowded."""

from __future__ import annotations

import numpy as np

from sockrules.control.condition import Comparison, Range, merge_ranges
from sockrules.control.model import Field, Rule, RuleSet, Server

from .classbench import MAPPED

_LENGTHS = (32, 32, 32, 32, 32, 32, 30, 29, 28, 24)


def scattered(size: int, seed: int) -> RuleSet:
    """Prefixes anywhere in IPv4: hosts for the most part, some networks up to a /24."""
    rng = np.random.Generator(np.random.PCG64(seed))
    return _listed(rng.integers(1 << 24, 224 << 24, size * 2).tolist(), size)


def crowded(size: int, seed: int) -> RuleSet:
    """Nine tenths of the prefixes in a few hundred /16, as providers' networks are; the
    thickest tenth of those hold most."""
    rng = np.random.Generator(np.random.PCG64(seed))
    draws = size * 6
    homes = rng.integers(1 << 8, 224 << 8, 400 + size // 500)
    picked = homes[(len(homes) * rng.random(draws) ** 3).astype(np.int64)]
    values = np.where(
        rng.random(draws) < 0.9,
        picked << 16 | rng.integers(0, 1 << 16, draws),
        rng.integers(1 << 24, 224 << 24, draws),
    )
    return _listed(values.tolist(), size)


def _listed(values: list[int], size: int) -> RuleSet:
    """The first `size` values that touch no other, each as a prefix of some length."""
    prefixes: list[Range] = []
    for number, value in enumerate(dict.fromkeys(values)):
        span = (1 << (32 - _LENGTHS[number % len(_LENGTHS)])) - 1
        first = MAPPED | value & ~span
        prefixes.append((first, first | span))
        if len(prefixes) == size:
            break
    when = Comparison(Field.REMOTE_ADDRESS, ranges=merge_ranges(prefixes))
    return RuleSet((Rule("listed", Server.CONNECT, False, when, 10),))
