# SPDX-License-Identifier: Apache-2.0
"""A compiled table: the very bytes the kernel walks, and what they mean in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from .model import DefaultRule, Rule, RuleSet
from .problems import InputError, Problem


@dataclass(frozen=True, slots=True)
class Limits:
    """What one generation may hold, in elements; `steps` is the walk's loop bound.

    `steps` is what Linux 6.18 verifies in every hook with room to spare (530 000 of
    1 000 000 instructions in the longest), and Linux 6.1 with little (945 000).
    `boxes_per_rule` caps what a single rule may become. The kernel's maps are sized by
    capacity class, so these are the largest class, not an allocation.
    """

    steps: int = 900
    entries: int = 1 << 20
    slots: int = 1 << 22
    bounds: int = 1 << 22
    tables: int = 31
    boxes_per_rule: int = 4096


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a table needs of each limit, in elements."""

    entries: int
    rests: int
    slots: int
    bounds: int
    steps: int
    tables: int


@dataclass(frozen=True, slots=True)
class Table:
    """One generation, as loaded. The byte fields are arrays of abi.h's structs, host order.

    `programs` maps an exact path to its number, `directories` a path ending in
    `/` to its bit number in SR_W_BITS; `units` maps a unit's name to its number,
    `cgroups` a path, with a `/` at its end for everything below, to its bit.
    `rules` is indexed by a rule word's index: the rules in order, then the three
    defaults. `steps` is the proven worst case of the walk, the returning iteration
    included. `moment` is when its conditions on the time were as the table has them.
    """

    revision: int
    header: bytes
    entries: bytes
    rests: bytes
    slots: bytes
    bounds: bytes
    programs: dict[str, int]
    directories: dict[str, int]
    units: dict[str, int]
    cgroups: dict[str, int]
    rules: tuple[Rule | DefaultRule, ...]
    steps: int
    needs: int
    ruleset: RuleSet
    required: Capacity
    limits: Limits = field(default_factory=Limits)
    moment: datetime | None = None

    @property
    def size(self) -> int:
        """Bytes of all five parts."""
        return sum(map(len, (self.header, self.entries, self.rests, self.slots, self.bounds)))


class CompileError(InputError):
    """Rules that cannot be compiled within the limits; `rules` are the names of the dearest."""

    def __init__(self, message: str, hint: str, rules: tuple[Rule, ...]) -> None:
        self.rules = tuple(rule.name for rule in rules)
        places = [f'rule "{rule.name}"' for rule in rules] or ["rules"]
        super().__init__(Problem(place, None, None, message, hint) for place in places)
