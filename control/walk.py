# SPDX-License-Identifier: Apache-2.0
"""The walk of bpf/decide.h in Python, over the very bytes that the kernel is given.

Theory. This is the second of three judges: the linear reference, this walk, and
the kernel's. It follows decide.h line by line, in plain integers, so that
`sockrules test` says what the kernel does and a difference has one place to be.
"""

from __future__ import annotations

import struct

from . import abi
from .model import Request, Server, Verdict, verdict_of
from .services import places_above, unit_named
from .table import Table

EXHAUSTED = 0xFFFFFFFF
"""The walk ran out of steps, or the table is not one; the kernel rejects and counts it."""

_C = abi.C
_WORD = (1 << 64) - 1
_BEST = _C["SR_NO_RULE"] << _C["SR_RULE_SHIFT"] | 0xFF
_ODD = tuple(_C[f"SR_ODD_{word}"] for word in range(_C["SR_WORDS"]))
_ENTRY = abi.packer("sr_entry")
_SLOT = abi.packer("sr_slot")
_TABLE = abi.packer("sr_table")
_BOUND = abi.packer("sr_bound")
_REGION = abi.packer("sr_region")
_DEFAULT = struct.Struct("=I")
_DEFAULTS_AT = abi.offsetof("sr_header", "defaults")
_COUNTS = struct.Struct("=II")
_COUNTS_AT = abi.offsetof("sr_header", "tables")
_REGIONS_AT = abi.offsetof("sr_header", "region")
_TABLES_AT = abi.offsetof("sr_header", "table")


def request_words(table: Table, request: Request) -> list[int]:
    """The request as the kernel would gather it: SR_WORDS words, set bits not yet searched."""
    bits = int(request.server)
    local, remote = request.local_address, request.remote_address
    if local is not None:
        bits |= _C["SR_BIT_LOCAL_KNOWN"]
    if remote is not None:
        bits |= _C["SR_BIT_REMOTE_KNOWN"]
    program = 0
    if request.program is not None:
        program = table.programs.get(request.program, 1)
        for at, letter in enumerate(request.program):
            if letter == "/":
                bit = table.directories.get(request.program[: at + 1])
                bits |= 0 if bit is None else 1 << bit
    service, places = service_words(table, request.service)
    uid = 0xFFFFFFFF if request.user is None else request.user
    gid = 0xFFFFFFFF if request.group is None else request.group
    return [
        bits | places,
        (request.local_port or 0) << 16 | (request.remote_port or 0),
        uid << 32 | gid,
        program << 32 | service,
        (local or 0) >> 64,
        (local or 0) & _WORD,
        (remote or 0) >> 64,
        (remote or 0) & _WORD,
    ]


def service_words(table: Table, service: str | None) -> tuple[int, int]:
    """A service's number and its bits in SR_W_BITS: what sr_services (bpf/services.c) finds."""
    if service is None:
        return 0, 0
    unit = unit_named(service)
    places = places_above(service) if service.startswith("/") else ()
    bits = sum(1 << table.cgroups[place] for place in places if place in table.cgroups)
    return 1 if unit is None else table.units.get(unit, 1), bits


def walk(table: Table, words: list[int]) -> int:
    """The rule word that decides these words, or `EXHAUSTED`. `words` is left alone."""
    return counted_walk(table, words)[0]


def counted_walk(table: Table, words: list[int]) -> tuple[int, int]:
    """The rule word and the steps (iterations of sr_decide's loop) it took."""
    w = list(words)
    server = w[0] & 3
    tables, regions = _COUNTS.unpack_from(table.header, _COUNTS_AT)
    if regions:
        w[0] |= _memberships(table, w)
    shift = _C["SR_RULE_SHIFT"]
    best, at, end, opened = _BEST, 0, 0, 0
    for step in range(1, table.limits.steps + 1):
        if at < end:
            entry = _ENTRY.unpack_from(table.entries, at * _ENTRY.size)
            at += 1
            if entry[2] >= best:
                end = 0
            elif _matches(entry, w):
                best, end = entry[2], 0
            continue
        row = _TABLE.unpack_from(
            table.header, _TABLES_AT + (opened & (_C["SR_MAX_TABLES"] - 1)) * _TABLE.size
        )
        *mask, base, bits, first, following = row
        if opened >= tables or first > best >> shift:
            if best >> shift != _C["SR_NO_RULE"]:
                return best, step
            return (_default(table, server) if server < _C["SR_SERVERS"] else EXHAUSTED), step
        total = sum((x & m) * odd for x, m, odd in zip(w, mask, _ODD, strict=True)) & _WORD
        at, end = _SLOT.unpack_from(table.slots, (base + (total >> (bits & 63))) * _SLOT.size)
        opened = following
    return EXHAUSTED, table.limits.steps


def _default(table: Table, server: int) -> int:
    word: int = _DEFAULT.unpack_from(table.header, _DEFAULTS_AT + server * _DEFAULT.size)[0]
    return word


def _memberships(table: Table, w: list[int]) -> int:
    """The word of memberships in all long sets; an unknown address is in none."""
    bits = 0
    if w[0] & _C["SR_BIT_LOCAL_KNOWN"]:
        bits |= _search(table, _C["SR_F_LOCAL_ADDRESS"], w[4], w[5])
    if w[0] & _C["SR_BIT_REMOTE_KNOWN"]:
        bits |= _search(table, _C["SR_F_REMOTE_ADDRESS"], w[6], w[7])
    bits |= _search(table, _C["SR_F_LOCAL_PORT"], 0, w[1] >> 16)
    bits |= _search(table, _C["SR_F_REMOTE_PORT"], 0, w[1] & 0xFFFF)
    bits |= _search(table, _C["SR_F_UID"], 0, w[2] >> 32)
    bits |= _search(table, _C["SR_F_GID"], 0, w[2] & 0xFFFFFFFF)
    return bits


def _search(table: Table, field: int, hi: int, lo: int) -> int:
    first_hi, first_lo, base, count, index, cells, shift, _ = _REGION.unpack_from(
        table.header, _REGIONS_AT + field * _REGION.size
    )
    if not count:
        return 0
    cell = ((lo - first_lo) & _WORD) >> (shift & 63)
    index += cell + 1 if hi == first_hi and cell < cells else 0
    start, end = _SLOT.unpack_from(table.slots, index * _SLOT.size)
    if end & _C["SR_FINER"]:
        within = ((lo - first_lo) & _WORD) & ((1 << (shift & 63)) - 1)
        start, end = _SLOT.unpack_from(
            table.slots, (start + (within >> (end & 63))) * _SLOT.size
        )
    base, n = base + start, end - start
    for _ in range(_C["SR_MAX_SEARCH"]):
        if n <= 1:
            break
        half = n >> 1
        if _BOUND.unpack_from(table.bounds, (base + half) * _BOUND.size)[:2] <= (hi, lo):
            base += half
        n -= half
    mask: int = _BOUND.unpack_from(table.bounds, base * _BOUND.size)[2]
    return mask


def _matches(e: tuple[int, ...], w: list[int]) -> bool:
    """Whether the box holds for the words; `e` is `sr_entry` in the order of its members."""
    return (
        w[0] & e[0] == e[1]
        and e[3] <= w[1] >> 16 <= e[4]
        and e[5] <= w[1] & 0xFFFF <= e[6]
        and (w[6] - e[8]) & _WORD <= e[9]
        and (w[7] - e[10]) & _WORD <= e[11]
        and (w[4] - e[12]) & _WORD <= e[13]
        and (w[5] - e[14]) & _WORD <= e[15]
        and e[16] <= w[2] >> 32 <= e[17]
        and e[18] <= w[2] & 0xFFFFFFFF <= e[19]
        and e[20] <= w[3] >> 32 <= e[21]
        and e[22] <= w[3] & 0xFFFFFFFF <= e[23]
    )


def verdict(table: Table, word: int) -> Verdict:
    """What a rule word means; raises ValueError for `EXHAUSTED`."""
    if word == EXHAUSTED:
        raise ValueError("the walk ran out of steps: no rule decided")
    return verdict_of(table.ruleset, table.rules[word >> _C["SR_RULE_SHIFT"]])


def decide(table: Table, request: Request) -> Verdict:
    """The verdict on a request, by the compiled table."""
    return verdict(table, walk(table, request_words(table, request)))


def default_word(table: Table, server: Server) -> int:
    """The rule word of a server's default rule."""
    return _default(table, int(server))
