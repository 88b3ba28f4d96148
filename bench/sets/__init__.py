# SPDX-License-Identifier: Apache-2.0
"""The rule sets that are measured, by name: each a function of size and seed, always the same.

`size` is a number of rules, for `blocklist` and `crowded` the number of prefixes in one
list.
"""

from __future__ import annotations

from collections.abc import Callable

from sockrules.control.model import RuleSet

from .blocklist import crowded, scattered
from .classbench import access_list, firewall, ip_chain
from .corporate import corporate
from .hostile import (
    address_rectangles,
    deep_boolean,
    long_lists,
    negated,
    nested_prefixes,
    port_rectangles,
)

Maker = Callable[[int, int], RuleSet]

RULES: dict[str, Maker] = {
    "acl": access_list,
    "fw": firewall,
    "ipc": ip_chain,
    "corporate": corporate,
}
LISTS: dict[str, Maker] = {"blocklist": scattered, "crowded": crowded}
HOSTILE: dict[str, Maker] = {
    "rectangles": address_rectangles,
    "port-rectangles": port_rectangles,
    "negated": negated,
    "nested": nested_prefixes,
    "long-lists": long_lists,
    "deep": deep_boolean,
}
ALL: dict[str, Maker] = {**RULES, **LISTS, **HOSTILE}


def make(name: str, size: int, seed: int = 1) -> RuleSet:
    """The rule set of a name. KeyError without one."""
    return ALL[name](size, seed)
