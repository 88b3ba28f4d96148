# SPDX-License-Identifier: Apache-2.0
"""Rules to a table: condition -> cubes -> boxes -> tuples -> bytes.

Rules. The table decides every request as the linear reference does, or there is
no table: what does not fit the limits is a `CompileError` that names the rules
that cost most. Time and memory are bounded for any input. The same rules give
the same bytes.

Theory. Each stage only bounds the next: `cubes` caps a rule's cubes and the
work for them, `regions` takes long sets out of the product, `boxes` are counted
before they are made, `tuples` finds places for them, and the steps of the worst
walk are added up from the buckets that were really built.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import numpy as np

from . import abi, zone
from .boxes import Bits, CubeBoxes, any_asks, count
from .cubes import FREE, Budget, Cube, TooComplex
from .garbage import uncollected
from .grid import lay
from .layout import asked_by, header_of, slots_of, steps_of
from .model import DefaultRule, Field, Rule, RuleSet, Server, verdict_of
from .normal import Vocabulary, cubes_of
from .pack import pack
from .plain import PlainBoxes
from .prune import covered, distinct
from .regions import MOST_BOUNDS, ROOM, WORTH, any_searched, ask_for, build, choose_bits
from .schedule import rule_at
from .table import Capacity, CompileError, Limits, Table
from .tuples import Tuple, choose, without
from .unique import unique_values
from .windows import open_windows

_WORK = 4_000_000  # cubes looked at in one compilation: some ten seconds
_RULE_WORK = 200_000  # and for one rule
_FEW_STEPS = 64  # with more in the worst case, dead boxes are looked for
_MANY_DEAD = 8  # with more than an eighth of them, tables are chosen anew
_NAMED = 5  # rules named by an error
_AT_ONCE = 1 << 14  # boxes made before they are put into an array


def compile_table(
    ruleset: RuleSet,
    rules: tuple[Rule, ...],
    *,
    revision: int = 0,
    limits: Limits | None = None,
    moment: datetime | None = None,
) -> Table:
    """Compile `rules` (first match decides) and the set's three defaults.

    The table is right at `moment` (in the host's zone; now, when left out) and until
    `schedule.next_boundary` after it. Its rules are those given, in their places.
    Raises `CompileError` when the rules do not fit the limits.
    """
    moment = moment or zone.now()
    with uncollected():
        return _compile(ruleset, rules, revision, limits or Limits(), moment)


def _compile(
    ruleset: RuleSet, rules: tuple[Rule, ...], revision: int, limits: Limits, moment: datetime
) -> Table:
    vocabulary = Vocabulary()
    plain, cubes = _normal(rules, vocabulary, limits, moment)
    if vocabulary.places > ROOM:
        named = [(at, each.bit_count()) for at, each in zip(plain.rules, plain.within, strict=True)]
        named += [(at, cube.within.bit_count() + cube.without.bit_count()) for at, cube in cubes]
        raise CompileError(
            f"{vocabulary.places} directories, slices and cgroups are named in all, {ROOM} can be",
            "name their common parents, or the programs and units themselves",
            _dearest(rules, named),
        )
    everything: tuple[Rule | DefaultRule, ...] = (
        *rules,
        *(ruleset.defaults[server] for server in Server),
    )
    words = _words(ruleset, everything)
    bits = _bits(rules, plain, cubes, vocabulary.places, limits)
    entries = distinct(_entries(rules, plain, cubes, words, bits, limits))
    tuples = choose(entries, limits.tables - 1)  # one is left for a grid
    if steps_of(tuples) > _FEW_STEPS:
        dead = covered(entries, tuples)
        if dead.sum() > len(dead) // _MANY_DEAD:
            entries = entries[~dead]
            tuples = choose(entries, limits.tables - 1)
        else:
            tuples = without(tuples, dead, entries)
    if steps_of(tuples) > _FEW_STEPS:
        free = abi.C["SR_FIRST_SET_BIT"] + vocabulary.places + len(bits)
        laid = lay(entries, tuples, free, steps=limits.steps)
        if laid and steps_of(laid.tables) < steps_of(tuples):
            tuples = laid.tables
            bits = {**bits, **laid.digits}
    steps = steps_of(tuples)
    if steps > limits.steps:
        raise _too_many_steps(rules, entries, tuples, steps, limits)
    regions, bounds = build(bits)
    ask_for(regions, bits, asked_by(entries, tuples))
    _check_regions(rules, plain, cubes, regions, bounds, limits)
    hashed = slots_of(tuples)
    slots = np.concatenate((hashed, open_windows(regions, bounds, len(hashed))))
    if len(slots) > limits.slots:
        raise CompileError(
            f"{len(slots)} slots are needed, {limits.slots} fit; these rules cost most",
            "shorten their sets, or let several rules share one @list",
            _most_boxes(rules, entries),
        )
    needs = (
        (abi.C["SR_NEED_PROGRAM"] if vocabulary.programs or vocabulary.directories else 0)
        | (abi.C["SR_NEED_DIRECTORIES"] if vocabulary.directories else 0)
        | (abi.C["SR_NEED_SERVICE"] if vocabulary.units or vocabulary.cgroups else 0)
        | (abi.C["SR_NEED_IDS"] if _ask_who(entries, regions) else 0)
    )
    header = header_of(revision, needs, words[-3:], len(rules), regions, tuples)
    order = [one.boxes for one in tuples]
    placed, rests = pack(entries[np.concatenate(order)] if order else entries)
    first = abi.C["SR_FIRST_SET_BIT"]
    return Table(
        revision=revision,
        header=header.tobytes(),
        entries=placed.tobytes(),
        rests=rests.tobytes(),
        slots=slots.tobytes(),
        bounds=bounds.tobytes(),
        programs=dict(vocabulary.programs),
        directories={path: first + bit for path, bit in vocabulary.directories.items()},
        units=dict(vocabulary.units),
        cgroups={path: first + bit for path, bit in vocabulary.cgroups.items()},
        rules=everything,
        steps=steps,
        needs=needs,
        ruleset=ruleset,
        required=Capacity(len(placed), len(rests), len(slots), len(bounds), steps, len(tuples)),
        limits=limits,
        moment=moment,
    )


def _ask_who(entries: np.ndarray, regions: np.ndarray) -> bool:
    """Whether any box asks for the user or the group of whoever makes a request."""
    who = (Field.USER, Field.GROUP)
    return any(any_asks(entries, name) or any_searched(regions, name) for name in who)


def _words(ruleset: RuleSet, rules: Sequence[Rule | DefaultRule]) -> list[int]:
    """Every rule's word; few combinations of switches occur."""
    known: dict[tuple[object, ...], int] = {}
    found = []
    for index, rule in enumerate(rules):
        switches = (rule.server, rule.authority, rule.audit, rule.message, rule.capture)
        flags = known.get(switches)
        if flags is None:
            verdict = verdict_of(ruleset, rule)
            flags = known[switches] = (
                (0 if verdict.authority else abi.C["SR_REJECT"])
                | (abi.C["SR_AUDIT"] if verdict.audit else 0)
                | (abi.C["SR_MESSAGE"] if verdict.message else 0)
                | (abi.C["SR_CAPTURE"] if verdict.capture else 0)
            )
        found.append(index << abi.C["SR_RULE_SHIFT"] | flags)
    return found


def _normal(
    rules: Sequence[Rule], words: Vocabulary, limits: Limits, moment: datetime
) -> tuple[PlainBoxes, list[tuple[int, Cube]]]:
    """What the rules come to at a moment, in order: boxes of those that are plain, cubes of the
    others.

    What stands behind an `any` of its server is left out.
    """
    plain = PlainBoxes()
    found: list[tuple[int, Cube]] = []
    closed: set[Server] = set()
    tangled: list[Rule] = []
    left, boxes = _WORK, 0
    for index, rule in enumerate(rules):
        if rule.server in closed:
            continue
        if rule.expires is None and plain.take(index, rule.server, rule.when, words):
            left -= 1
            boxes += 1
        else:
            budget = Budget(limits.boxes_per_rule, _RULE_WORK)
            try:
                cubes = cubes_of(rule_at(rule, moment).when, words, budget)
            except TooComplex:
                tangled.append(rule)
                cubes = []
            if cubes == [FREE]:
                closed.add(rule.server)
            found.extend((index, cube) for cube in cubes)
            left -= _RULE_WORK - budget.work
            boxes += len(cubes)
        if left < 0 or len(tangled) == _NAMED or boxes > limits.entries:
            break
    if tangled:
        raise CompileError(
            f"the condition needs more than {limits.boxes_per_rule} combinations",
            "split the rule in several, or name each field once, with `in {...}`",
            tuple(tangled),
        )
    if left < 0 or boxes > limits.entries:
        raise CompileError(
            "the conditions together combine too much to be compiled",
            "name each field once in these, with `in {...}`; they cost most",
            _dearest(rules, _ones(plain) + [(at, 1) for at, _ in found]),
        )
    return plain, found


def _ones(plain: PlainBoxes) -> list[tuple[int, int]]:
    return [(at, 1) for at in plain.rules]


def _bits(
    rules: Sequence[Rule],
    plain: PlainBoxes,
    cubes: list[tuple[int, Cube]],
    places: int,
    limits: Limits,
) -> Bits:
    """Which sets have a bit. A plain rule has no set that could save anything by one."""
    only = [cube for _, cube in cubes]
    for worth in (WORTH, WORTH // 16):
        bits = choose_bits(only, places, most_boxes=limits.boxes_per_rule, worth=worth)
        counts = [count(cube, bits) for cube in only]
        boxes_needed = len(plain) + sum(counts)
        if boxes_needed <= limits.entries:
            break
    per_rule: dict[int, int] = {}
    for (index, _), boxes in zip(cubes, counts, strict=True):
        per_rule[index] = per_rule.get(index, 0) + boxes
    hint = "shorten their sets"
    if places + len(bits) >= ROOM:
        hint += (
            f", or let several rules share one @list: "
            f"all {ROOM} places for directories, cgroups and long sets are taken"
        )
    if any(boxes > limits.boxes_per_rule for boxes in per_rule.values()):
        worst = sorted(per_rule, key=lambda index: (-per_rule[index], index))[:_NAMED]
        raise CompileError(
            f"more than {limits.boxes_per_rule} boxes are needed",
            hint,
            tuple(rules[index] for index in worst if per_rule[index] > limits.boxes_per_rule),
        )
    if boxes_needed > limits.entries:
        raise CompileError(
            f"the rules need {boxes_needed} boxes, {limits.entries} fit; these cost most",
            hint,
            _dearest(rules, [*_ones(plain), *per_rule.items()]),
        )
    return bits


def _dearest(rules: Sequence[Rule], costs: Iterable[tuple[int, int]]) -> tuple[Rule, ...]:
    """The rules that cost most; `costs` are indices of rules, each with a part of its cost."""
    total: dict[int, int] = {}
    for index, cost in costs:
        total[index] = total.get(index, 0) + cost
    worst = sorted(total, key=lambda index: (-total[index], index))[:_NAMED]
    return tuple(rules[index] for index in worst)


def _entries(
    rules: Sequence[Rule],
    plain: PlainBoxes,
    cubes: list[tuple[int, Cube]],
    words: list[int],
    bits: Bits,
    limits: Limits,
) -> np.ndarray:
    """All boxes in the order of their rules."""
    waiting = CubeBoxes()
    parts = [plain.entries(words, bits)]
    counts: list[tuple[int, int]] = []
    made = len(plain)
    for index, cube in cubes:
        before = len(waiting)
        waiting.add(cube, index, int(rules[index].server), bits)
        counts.append((index, len(waiting) - before))
        made += counts[-1][1]
        if made > 2 * limits.entries:
            break
        if len(waiting) > _AT_ONCE:  # an array takes less memory
            parts.append(waiting.entries(words))
            waiting = CubeBoxes()
    if made > limits.entries:
        raise CompileError(
            f"the rules need more than {limits.entries} boxes; these cost most",
            "shorten their sets, or let several rules share one @list",
            _dearest(rules, counts + _ones(plain)),
        )
    found = np.concatenate([*parts, waiting.entries(words)])
    if len(plain) and counts:
        found = found[np.argsort(found["rule"], kind="stable")]
    return found


def _check_regions(
    rules: Sequence[Rule],
    plain: PlainBoxes,
    cubes: list[tuple[int, Cube]],
    regions: np.ndarray,
    bounds: np.ndarray,
    limits: Limits,
) -> None:
    most = int(regions["count"].max())
    if most <= MOST_BOUNDS and len(bounds) <= limits.bounds:
        return
    costs = [
        (at, sum(len(values.ranges) for part in cube.parts for values in part))
        for at, cube in cubes
    ]
    raise CompileError(
        f"the long sets have {most} bounds in one field and {len(bounds)} in all, "
        f"{MOST_BOUNDS} and {limits.bounds} fit; these cost most",
        "join neighbouring prefixes, or drop lists",
        _dearest(rules, costs + _ones(plain)),
    )


def _too_many_steps(
    rules: Sequence[Rule],
    entries: np.ndarray,
    tuples: list[Tuple],
    steps: int,
    limits: Limits,
) -> CompileError:
    heavy = max(tuples, key=lambda one: max(one.worst))
    starts = heavy.ends - heavy.sizes
    at = int(np.argmax(heavy.sizes))
    bucket = entries[heavy.boxes[int(starts[at]) : int(heavy.ends[at])]]
    count = len(unique_values(bucket["rule"]))
    return CompileError(
        f"a request could take {steps} steps, {limits.steps} are allowed: "
        f"{len(bucket)} boxes of {count} rules cannot be told apart by any exact field",
        "name a port, user, program or address in these rules, or put those with `not` in a list",
        _most_boxes(rules, bucket),
    )


def _most_boxes(rules: Sequence[Rule], entries: np.ndarray) -> tuple[Rule, ...]:
    """The rules that have most of these boxes."""
    found, times = np.unique(entries["rule"] >> abi.C["SR_RULE_SHIFT"], return_counts=True)
    return tuple(rules[int(found[i])] for i in np.argsort(-times, kind="stable")[:_NAMED])
