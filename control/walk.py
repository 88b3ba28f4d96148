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
_ODD = {word: _C[f"SR_ODD_{word}"] for word in range(_C["SR_WORDS"])}
_ENTRY = abi.packer("sr_entry")
_REST = abi.packer("sr_rest")
_SLOT = abi.packer("sr_slot")
_TABLE = abi.packer("sr_table")
_BOUND = abi.packer("sr_bound")
_REGION = abi.packer("sr_region")
_U32 = struct.Struct("=I")
_DEFAULTS_AT = abi.offsetof("sr_header", "defaults")
_REGION_COUNT_AT = abi.offsetof("sr_header", "regions")
_START_AT = abi.offsetof("sr_header", "start")
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
    v4 = w[6] == 0 and w[7] >> 32 == 0xFFFF
    kind = server << 1 | v4
    w[0] |= _C["SR_BIT_REMOTE_V4"] if v4 else 0
    if _U32.unpack_from(table.header, _REGION_COUNT_AT)[0]:
        w[0] |= _memberships(table, w)
    best, at, end, opened = _default(table, server), 0, 0, table.header[_START_AT + kind]
    for step in range(1, table.limits.steps + 1):
        if at < end:
            entry = _ENTRY.unpack_from(table.entries, at * _ENTRY.size)
            at += 1
            if entry[6] >= best:
                end = 0
            elif _matches(entry, w) and (not entry[7] or _rest_matches(table, entry[7], w)):
                best, end = entry[6], 0
            continue
        base, bits, *row = _TABLE.unpack_from(
            table.header, _TABLES_AT + (opened & (_C["SR_MAX_TABLES"] - 1)) * _TABLE.size
        )
        if row[3 + kind] > best >> _C["SR_RULE_SHIFT"]:
            return best, step
        total = _hash(w, row) & _WORD
        at, end = _SLOT.unpack_from(table.slots, (base + (total >> (bits & 63))) * _SLOT.size)
        opened = row[9 + kind]
    return EXHAUSTED, table.limits.steps


def _hash(w: list[int], row: list[int]) -> int:
    """`row` is `sr_table` from its member `ports` on."""
    total = ((w[1] | (w[0] & 3) << 32) & row[0]) * _ODD[1]
    total += (w[2] & row[1]) * _ODD[2] + (w[7] & row[2]) * _ODD[7]
    if row[17]:
        total += (w[3] & row[18]) * _ODD[3] + (w[4] & row[19]) * _ODD[4]
        total += (w[5] & row[20]) * _ODD[5] + (w[6] & row[21]) * _ODD[6]
        total += (w[0] & row[22]) * _ODD[0]
    return total


def _default(table: Table, server: int) -> int:
    word: int = _U32.unpack_from(table.header, _DEFAULTS_AT + server * _U32.size)[0]
    return word


def _memberships(table: Table, w: list[int]) -> int:
    """The word of memberships in the long sets that are asked for."""
    bits, server = 0, w[0] & 3
    if w[0] & _C["SR_BIT_LOCAL_KNOWN"]:
        bits |= _search(table, server, _C["SR_F_LOCAL_ADDRESS"], w[4], w[5])
    if w[0] & _C["SR_BIT_REMOTE_KNOWN"]:
        bits |= _search(table, server, _C["SR_F_REMOTE_ADDRESS"], w[6], w[7])
    bits |= _search(table, server, _C["SR_F_LOCAL_PORT"], 0, w[1] >> 16)
    bits |= _search(table, server, _C["SR_F_REMOTE_PORT"], 0, w[1] & 0xFFFF)
    bits |= _search(table, server, _C["SR_F_UID"], 0, w[2] >> 32)
    bits |= _search(table, server, _C["SR_F_GID"], 0, w[2] & 0xFFFFFFFF)
    return bits


def _search(table: Table, server: int, field: int, hi: int, lo: int) -> int:
    first_hi, first_lo, base, _, index, cells, shift, servers = _REGION.unpack_from(
        table.header, _REGIONS_AT + field * _REGION.size
    )
    if not servers >> server & 1:
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
    local, remote = w[1] >> 16, w[1] & 0xFFFF
    return (
        w[0] & e[0] == e[1]
        and (w[7] - e[2]) & _WORD <= e[3]
        and e[4] >> 32 <= local <= e[5] >> 32 & 0xFFFF
        and e[4] & 0xFFFF <= remote <= e[5] & 0xFFFF
        and e[8] <= w[2] >> 32 <= e[9]
    )


def _rest_matches(table: Table, index: int, w: list[int]) -> bool:
    """Whether the second part of a box holds."""
    r: tuple[int, ...] = _REST.unpack_from(table.rests, index * _REST.size)
    return (
        (w[6] - r[0]) & _WORD <= r[1]
        and (w[4] - r[2]) & _WORD <= r[3]
        and (w[5] - r[4]) & _WORD <= r[5]
        and r[6] <= w[2] & 0xFFFFFFFF <= r[7]
        and r[8] <= w[3] >> 32 <= r[9]
        and r[10] <= w[3] & 0xFFFFFFFF <= r[11]
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
