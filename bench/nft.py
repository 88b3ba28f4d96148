# SPDX-License-Identifier: Apache-2.0
"""nftables, for comparison: rules or one set in an output chain, tracked or not."""

from __future__ import annotations

_HEAD = """table inet bench {
  %s
  chain output {
    type filter hook output priority 0; policy accept;
    %s
    %s
  }
}
"""
_TRACKED = "ct state established,related accept"


def address(number: int) -> str:
    """The host of a rule, on both sides of the comparison."""
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def linear(count: int) -> str:
    """So many rules, tried one after the other for each new connection."""
    rules = "\n".join(
        f"ip daddr {address(n)} tcp dport {1 + n % 60_000} reject" for n in range(count)
    )
    return _HEAD % ("", _TRACKED, rules)


def one_set(count: int, tracked: bool = True) -> str:
    """One rule with a set of so many addresses; untracked, every packet is looked up."""
    elements = ", ".join(address(n) for n in range(count))
    named = f"set denied {{ type ipv4_addr; elements = {{ {elements} }} }}"
    return _HEAD % (named, _TRACKED if tracked else "", "ip daddr @denied reject")
