# SPDX-License-Identifier: Apache-2.0
"""From addresses and ports that were seen to the sets that a person would write.

Rules. A value that was not seen gets into a set only by a step that is named:

- WORTH distinct IPv4 addresses of one /24 become that /24; two IPv6 addresses
  of one /64 become that /64, because one host has many there.
- While more than FEW members are left, WORTH /24s of one /16 become that /16,
  then WORTH /16s the /8; IPv6 likewise at /48 and /32.
- Everything else stays written out; so does loopback, always.
- Addresses from ANYWHERE different /8s (IPv6: /32s) become any address.
- More than MANY ports become every port from 32768 on when all lie there (the
  kernel's choice), otherwise any port.

Every step returns its sentence, for the comment of the rule.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from .addresses import LAST_PORT, LOOPBACK_6, MAPPED, format_address, is_ipv4, parse_prefix
from .condition import Range, merge_ranges

WORTH = 4
ANYWHERE = 8
MANY = 16
FEW = 8
EPHEMERAL_FIRST = 32768

_LEVELS_4 = ((24, WORTH), (16, WORTH), (8, WORTH))
_LEVELS_6 = ((64, 2), (48, WORTH), (32, WORTH))
_INSIDE = tuple(
    map(
        parse_prefix,
        ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16",
         "100.64.0.0/10", "::1", "fc00::/7", "fe80::/10"),
    )
)  # fmt: skip
_NAMED = 3  # prefixes that a sentence names


@dataclass(frozen=True, slots=True)
class Generalised:
    """A set of values, `None` for any, and the sentence that says what was not seen of it.

    `texts` are the members as a condition has them; the sentence is empty when
    every member was seen.
    """

    ranges: tuple[Range, ...] | None
    texts: tuple[str, ...] = ()
    sentence: str = ""

    def holds(self, value: int) -> bool:
        return self.ranges is None or any(first <= value <= last for first, last in self.ranges)


ANY = Generalised(None)


def addresses(seen: Iterable[int], what: str) -> Generalised:
    """The set for addresses; `what` is whose they are: `remote.address`."""
    distinct = sorted(set(seen))
    outside = [each for each in distinct if not is_loopback(each)]
    spread_4 = {each >> 24 for each in outside if is_ipv4(each)}
    spread_6 = {each >> 96 for each in outside if not is_ipv4(each)}
    for spread, length in ((spread_4, 8), (spread_6, 32)):
        if len(spread) >= ANYWHERE:
            sentence = (
                f"any {what}: {len(distinct)} were seen, from {len(spread)} different /{length}s"
            )
            return Generalised(None, (), sentence)
    prefixes: list[tuple[int, int, int]] = []  # first address, length of 128, addresses seen
    singles = [each for each in distinct if is_loopback(each)]
    four, six = _split(outside)
    for found, levels, offset in ((four, _LEVELS_4, 96), (six, _LEVELS_6, 0)):
        kept, collapsed = _collapse(found, levels, offset)
        singles += kept
        prefixes += collapsed
    texts = [(first, prefix_text(first, length)) for first, length, _ in prefixes]
    texts += [(each, format_address(each)) for each in singles]
    ranges = [(each, each) for each in singles]
    ranges += [(first, first | (1 << 128 - length) - 1) for first, length, _ in prefixes]
    return Generalised(
        merge_ranges(ranges),
        tuple(text for _, text in sorted(texts)),
        _prefix_sentence(prefixes, what),
    )


def ports(seen: Iterable[Range], what: str, *, folded: bool = False) -> Generalised:
    """The set for ports; `folded`: the kernel chose them, these are the ranges of its choices."""
    ranges = merge_ranges(list(seen))
    lowest, highest = ranges[0][0], ranges[-1][1]
    total = sum(last - first + 1 for first, last in ranges)
    if not folded and total <= MANY:
        singles = [port for first, last in ranges for port in range(first, last + 1)]
        return Generalised(ranges, tuple(map(str, singles)))
    shown = f"{'' if folded else f'{total} '}between {lowest} and {highest} were seen"
    if lowest >= EPHEMERAL_FIRST:
        return Generalised(
            ((EPHEMERAL_FIRST, LAST_PORT),),
            (f"{EPHEMERAL_FIRST}-{LAST_PORT}",),
            f"any {what} of the kernel's choice, {EPHEMERAL_FIRST} and above: {shown}",
        )
    return Generalised(None, (), f"any {what}: {shown}")


def prefix_text(first: int, length: int) -> str:
    """`10.20.0.0/16`, of an address and a length of 128 bits."""
    return f"{format_address(first)}/{length - 96 if is_ipv4(first) else length}"


def is_loopback(address: int) -> bool:
    """Whether it is ::1 or in 127.0.0.0/8."""
    return address == LOOPBACK_6 or address >> 24 == (MAPPED | 127 << 24) >> 24


def is_public(address: int) -> bool:
    """Whether it is none of loopback, link-local, private (RFC 1918, 4193) or shared (RFC 6598)."""
    return not any(first <= address <= last for first, last in _INSIDE)


def _split(seen: list[int]) -> tuple[list[int], list[int]]:
    return [each for each in seen if is_ipv4(each)], [each for each in seen if not is_ipv4(each)]


def _collapse(
    seen: list[int], levels: tuple[tuple[int, int], ...], offset: int
) -> tuple[list[int], list[tuple[int, int, int]]]:
    """Single addresses, and prefixes with how many addresses were seen in them."""
    parts: list[tuple[int, int, int]] = [(each, 128, 1) for each in seen]
    below = 128
    for length, enough in levels:
        if below < 128 and len(parts) <= FEW:
            break
        networks: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
        for part in parts:
            networks[part[0] >> (128 - offset - length)].append(part)
        parts = []
        for network, inside in networks.items():
            distinct = {part[0] >> (128 - below) for part in inside}
            if len(distinct) >= enough:
                first = network << (128 - offset - length)
                parts.append((first, offset + length, sum(part[2] for part in inside)))
            else:
                parts += inside
        below = offset + length
    return (
        [first for first, length, _ in parts if length == 128],
        [part for part in parts if part[1] < 128],
    )


def _prefix_sentence(prefixes: list[tuple[int, int, int]], what: str) -> str:
    if not prefixes:
        return ""
    named = [
        f"{prefix_text(first, length)} ({count} seen)"
        for first, length, count in sorted(prefixes)[:_NAMED]
    ]
    rest = f" and {len(prefixes) - _NAMED} more" if len(prefixes) > _NAMED else ""
    return f"every {what} in {', '.join(named)}{rest}"
