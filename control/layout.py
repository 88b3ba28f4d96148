# SPDX-License-Identifier: Apache-2.0
"""The header and the slots of a generation, as arrays of abi.h's structs."""

from __future__ import annotations

import numpy as np

from . import abi
from .tuples import Tuple


def slots_of(tuples: list[Tuple]) -> np.ndarray:
    """The `sr_slot` of all tables, one table after the other."""
    parts = []
    base = 0
    for one in tuples:
        part = np.zeros(one.slots, abi.dtype("sr_slot"))
        part["end"] = base + one.ends
        part["start"][0] = base
        part["start"][1:] = part["end"][:-1]
        parts.append(part)
        base += len(one.boxes)
    return np.concatenate(parts) if parts else np.zeros(0, abi.dtype("sr_slot"))


def header_of(
    revision: int,
    needs: int,
    defaults: list[int],
    rules: int,
    regions: np.ndarray,
    tuples: list[Tuple],
) -> np.ndarray:
    """One `sr_header`; `defaults` are rule words by server, `rules` counts them without those."""
    header = np.zeros(1, abi.dtype("sr_header"))
    one = header[0]
    one["revision"] = revision
    one["tables"] = len(tuples)
    one["regions"] = np.count_nonzero(regions["count"])
    one["needs"] = needs
    one["rules"] = rules
    one["defaults"] = defaults
    one["region"] = regions
    base = 0
    for number, item in enumerate(tuples):
        one["table"][number] = (item.mask, base, item.shift, item.first, number + 1)
        base += item.slots
    return header
