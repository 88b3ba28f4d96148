# SPDX-License-Identifier: Apache-2.0
"""Which tuple masks to hash under, and which boxes go where.

Rules. A box is put under a mask no longer than its own prefixes: then every
request that it matches agrees with it under the mask and hashes to its slot.
So the choice made here costs or saves time and can never change a verdict.

Theory. This is a facility location problem. Boxes of one shape stay together.
Opening a table is a step for every request; a group under a mask costs what
it adds to the bucket that a request finds, requests being drawn from the rules.
Begin with the empty mask alone (a list walked from its start), open the mask
that saves most, again and again, until none saves the step that it costs or
there are enough; then close those that later ones made needless.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import numpy.typing as npt

from .shapes import ODD, Boxes, Group, Indices, Lengths, firsts_of, masks_of

_CANDIDATES = 150
_COMMON = 24  # the most frequent shapes, from which further candidates are derived
_SAMPLE = 1 << 15  # boxes looked at to judge a mask, about
_FEW = 64  # of every group so many at least
_EMPTY: Lengths = (0,) * 8
_NEVER = 1e18
_OPEN = 1.5  # what opening a table costs, in entries checked


@dataclass(frozen=True, slots=True)
class Tuple:
    """One table. `mask` has SR_W_PORTS first, `bits` is that of SR_W_BITS; `firsts` is the
    smallest rule index by class, `None` without one; `boxes` stand in slot order, rules
    ascending in each; `ends` is where each slot's run ends; `worst` the largest bucket a
    request of each server can find."""

    mask: tuple[int, ...]
    shift: int
    firsts: tuple[int | None, ...]
    boxes: Indices
    ends: Indices
    worst: tuple[int, int, int]
    bits: int = 0

    @property
    def first(self) -> int:
        """The smallest rule index in it."""
        return min(rule for rule in self.firsts if rule is not None)

    @property
    def slots(self) -> int:
        return 1 << (64 - self.shift)

    @property
    def sizes(self) -> Indices:
        """The size of each slot's bucket."""
        return np.diff(self.ends, prepend=0)


def choose(entries: np.ndarray, tables: int) -> list[Tuple]:
    """Put every entry into one of at most `tables` tuples, ordered by their first rule."""
    if not len(entries):
        return []
    boxes = Boxes(entries)
    groups = boxes.groups()
    masks = _candidates(groups)
    prices = _prices(boxes, groups, masks)
    home = _locate(prices, tables)
    built = []
    for mask in sorted(set(home)):
        members = [group for group, where in zip(groups, home, strict=True) if where == mask]
        # Nothing is lost by the longest mask that the members share.
        lengths = tuple(min(sizes) for sizes in zip(*(g.lengths for g in members), strict=True))
        together = np.sort(np.concatenate([group.boxes for group in members]))
        built.append(_tuple(boxes, together, lengths))
    return sorted(built, key=lambda one: (one.first, one.mask))


def without(tuples: list[Tuple], gone: npt.NDArray[np.bool_], entries: np.ndarray) -> list[Tuple]:
    """The tuples without the boxes that are gone, those with none left out; masks stay."""
    left = [_thinned(one, gone, entries) for one in tuples]
    return sorted((one for one in left if one), key=lambda one: (one.first, one.mask))


def _thinned(one: Tuple, gone: npt.NDArray[np.bool_], entries: np.ndarray) -> Tuple | None:
    kept = ~gone[one.boxes]
    if kept.all():
        return one
    if not kept.any():
        return None
    slot = np.repeat(np.arange(one.slots), one.sizes)[kept]
    counts = np.bincount(slot, minlength=one.slots)
    largest = int(counts.max())
    left = one.boxes[kept]
    first, second, third = (min(largest, worst) for worst in one.worst)
    return replace(
        one,
        firsts=firsts_of(entries[left]),
        boxes=left,
        ends=np.cumsum(counts),
        worst=(first, second, third),
    )


def _candidates(groups: list[Group]) -> list[Lengths]:
    """The empty mask, what the frequent shapes share, and all shapes, while there is room."""
    common = sorted(groups, key=lambda group: -len(group.boxes))
    shapes = [group.lengths for group in common]
    found = dict.fromkeys([_EMPTY, *shapes[: _CANDIDATES // 2]])
    for a, b in combinations(shapes[:_COMMON], 2):
        found[tuple(map(min, a, b))] = None
    for shape in shapes[:_COMMON]:
        for place in range(len(shape)):
            found[(*shape[:place], 0, *shape[place + 1 :])] = None
            found[tuple(size if at == place else 0 for at, size in enumerate(shape))] = None
    found.update(dict.fromkeys(shapes))
    return list(found)[:_CANDIDATES]


def _prices(boxes: Boxes, groups: list[Group], masks: list[Lengths]) -> npt.NDArray[np.float64]:
    """What each group (row) costs under each mask (column); `_NEVER` where it cannot lie.

    The price is the number of its boxes that a request from the corner of any
    box finds, on average. Prices add up.
    """
    share = max(_FEW, _SAMPLE // len(groups))
    thin = [-(-len(group.boxes) // share) for group in groups]
    picked = [group.boxes[::step] for group, step in zip(groups, thin, strict=True)]
    sample = np.concatenate(picked)
    sizes = [len(part) for part in picked]
    owner = np.repeat(np.arange(len(groups)), sizes)
    weight = np.repeat([len(g.boxes) / size for g, size in zip(groups, sizes, strict=True)], sizes)
    shapes = np.array([group.lengths for group in groups])
    width = _width(len(sample))
    prices = np.full((len(groups), len(masks)), _NEVER)
    hasher = boxes.hasher(sample)
    for column, mask in enumerate(masks):
        fits = (shapes >= np.array(mask)).all(axis=1)
        slot = (hasher.under(masks_of(mask)) >> np.uint64(64 - width)).astype(np.int64)
        found = np.bincount(slot, weight)[slot] - weight + 1
        price = np.bincount(owner, found * weight, len(groups)) / weight.sum()
        prices[fits, column] = price[fits]
    return prices


def _locate(prices: npt.NDArray[np.float64], tables: int) -> list[int]:
    """The mask (column) for each group (row), of at most `tables` different ones."""
    opened = [0]
    best = prices[:, 0]
    while len(opened) < tables:
        gains = np.maximum(best[:, None] - prices, 0).sum(axis=0)
        gains[opened] = 0
        column = int(np.argmax(gains))
        if gains[column] <= _OPEN:
            break
        opened.append(column)
        best = np.minimum(best, prices[:, column])
    while True:
        home = np.array(opened)[np.argmin(prices[:, opened], axis=1)]
        opened = sorted(set(home.tolist()))
        if len(opened) == 1:
            return [int(column) for column in home]
        losses = []
        for column in opened:
            own = prices[home == column]
            others = own[:, [other for other in opened if other != column]]
            losses.append((float((others.min(axis=1) - own[:, column]).sum()), column))
        if min(losses)[0] >= _OPEN:
            return [int(column) for column in home]
        opened.remove(min(losses)[1])


def _width(count: int) -> int:
    """Bits of a slot number for so many boxes: at most half full, and never fewer than 4."""
    return max(4, (2 * count - 1).bit_length())


def _tuple(boxes: Boxes, members: Indices, lengths: Lengths) -> Tuple:
    mask = boxes.needed(members, masks_of(lengths))
    hashes = boxes.hashes(members, mask)
    narrow = _width(len(members))
    width = narrow
    if narrow < 32 and _largest(hashes, narrow + 1) < _largest(hashes, narrow) - 1:
        width += 1  # for one step less a larger table would not be a good use of the cache
    slot = (hashes >> np.uint64(64 - width)).astype(np.int64)
    counts = np.bincount(slot, minlength=1 << width)
    largest = int(counts.max())
    worst = (largest, largest, largest)
    if lengths == _EMPTY:  # then the server alone says which slot a request finds
        found = [
            int(counts[((server << 32) * ODD[0] % (1 << 64)) >> (64 - width)])
            for server in range(3)
        ]
        worst = (found[0], found[1], found[2])
    return Tuple(
        mask=mask,
        shift=64 - width,
        firsts=firsts_of(boxes.entries[members]),
        boxes=members[np.argsort(slot, kind="stable")],
        ends=np.cumsum(counts),
        worst=worst,
    )


def _largest(hashes: npt.NDArray[np.uint64], width: int) -> int:
    return int(np.bincount((hashes >> np.uint64(64 - width)).astype(np.int64)).max())
