# SPDX-License-Identifier: Apache-2.0
"""A condition in normal form: a union of cubes.

Rules. The union of the cubes holds exactly where `condition.holds` does.
Work is bounded whatever the condition: every intersection of two cubes is paid
from a budget, and `TooComplex` is raised when a rule's is spent.

Theory. Negation is pushed down to the comparisons (negation normal form);
`or` joins cube lists, `and` multiplies them, and after each step the list is
simplified, which keeps what people write at one or a few cubes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .condition import And, Any, Comparison, Condition, Not, Or, Time, merge_ranges
from .cubes import FIELDS, FREE, Budget, Cube, Part, all_of, simplify
from .model import Field
from .ranges import PackedRanges, Ranges, packed
from .services import place_of
from .sets import DOMAINS, SMALL, Domain, ValueSet, complement, positive

_PLACE = {name: place for place, name in enumerate(FIELDS)}
_PROGRAM = _PLACE[Field.PROGRAM]
_SERVICE = _PLACE[Field.SERVICE]


@dataclass(slots=True)
class Vocabulary:
    """What the conditions of a rule set name, each numbered or kept once.

    Program 0 is unknown and 1 is one that no rule names; named ones follow in order of
    appearance, and so it is with units. Directories and the paths of cgroups are places,
    numbered together from 0. Long sets that are
    equal are one object, so that comparing them costs nothing.
    """

    programs: dict[str, int] = field(default_factory=dict)
    directories: dict[str, int] = field(default_factory=dict)
    units: dict[str, int] = field(default_factory=dict)
    cgroups: dict[str, int] = field(default_factory=dict)
    _long: dict[tuple[Domain, Ranges], ValueSet] = field(default_factory=dict)
    _seen: dict[tuple[Domain, int], ValueSet] = field(default_factory=dict)

    def program(self, path: str) -> int:
        return self.programs.setdefault(path, len(self.programs) + 2)

    def directory(self, path: str) -> int:
        return self.directories.setdefault(path, self.places)

    def unit(self, name: str) -> int:
        return self.units.setdefault(name, len(self.units) + 2)

    def cgroup(self, path: str) -> int:
        return self.cgroups.setdefault(path, self.places)

    @property
    def places(self) -> int:
        """How many places are named."""
        return len(self.directories) + len(self.cgroups)

    def values(self, node: Comparison) -> ValueSet:
        """The set of a numeric comparison's members, not yet negated."""
        domain = DOMAINS[node.field]
        if len(node.ranges) <= SMALL:
            return positive(node.ranges, domain)
        known = self._seen.get((domain, id(node.ranges)))  # the rules keep it alive
        if known is None:
            values = positive(node.ranges, domain)
            ranges = values.ranges
            if not isinstance(ranges, PackedRanges):
                ranges = packed(ranges)  # hashed once: it may stand in many rules
            known = self._long.setdefault((domain, ranges), ValueSet(ranges, values.inside))
            self._seen[domain, id(node.ranges)] = known
        return known


def cubes_of(condition: Condition, words: Vocabulary, budget: Budget) -> list[Cube]:
    """The condition's cubes; none if it can never hold. Raises `TooComplex`."""
    if isinstance(condition, And) and (single := _conjunction(condition.parts, words)):
        budget.spend(len(condition.parts))
        return [single]
    # Post-order over an explicit stack: nesting is bounded by memory, not by recursion.
    done: list[list[Cube]] = []
    todo: list[tuple[Condition, bool, int]] = [(condition, False, -1)]
    while todo:
        node, negated, arity = todo.pop()
        if arity >= 0:
            lists = done[len(done) - arity :]
            del done[len(done) - arity :]
            conjunction = isinstance(node, And) is not negated
            done.append(_product(lists, budget) if conjunction else _union(lists, budget))
            continue
        match node:
            case Any():
                done.append([] if negated else [FREE])
            case Comparison():
                done.append(_comparison(node, negated, words))
            case Time():
                raise ValueError(f"`{node.text}`: schedule.at comes before compiling")
            case Not(part):
                todo.append((part, not negated, -1))
            case And(parts) | Or(parts):
                todo.append((node, negated, len(parts)))
                todo.extend((part, negated, -1) for part in reversed(parts))
    return done[0]


def _conjunction(asked: tuple[Condition, ...], words: Vocabulary) -> Cube | None:
    """The cube of what most people write, comparisons of one number each, all of another
    field; None of anything else. It is what the general way makes of it, in less time."""
    parts: list[Part] = [()] * len(FIELDS)
    for one in asked:
        if type(one) is not Comparison or not one.ranges or parts[_PLACE[one.field]]:
            return None
        values = words.values(one)
        if one.negated:
            values = complement(values)
        if values.empty or values.everything:
            return None
        parts[_PLACE[one.field]] = (values,)
    return Cube(tuple(parts))


def _comparison(node: Comparison, negated: bool, words: Vocabulary) -> list[Cube]:
    negated = node.negated is not negated
    place = _PLACE[node.field]
    if place == _PROGRAM:
        return _program(node, negated, words)
    if place == _SERVICE:
        return _service(node, negated, words)
    values = words.values(node)
    return _single(place, complement(values) if negated else values)


def _single(place: int, values: ValueSet) -> list[Cube]:
    if values.empty:
        return []
    if values.everything:
        return [FREE]
    parts: list[Part] = [()] * len(FIELDS)
    parts[place] = (values,)
    return [Cube(tuple(parts))]


def _program(node: Comparison, negated: bool, words: Vocabulary) -> list[Cube]:
    folders = sorted({path for path in node.paths if path.endswith("/")})
    folders = [f for f in folders if not any(f != g and f.startswith(g) for g in folders)]
    exact = [
        path
        for path in dict.fromkeys(node.paths)
        if not path.endswith("/") and not any(path.startswith(folder) for folder in folders)
    ]
    numbers = [words.program(path) for path in exact]
    return _named(_PROGRAM, numbers, [words.directory(folder) for folder in folders], negated)


def _service(node: Comparison, negated: bool, words: Vocabulary) -> list[Cube]:
    places: dict[str, None] = {}
    units: list[int] = []
    for member in dict.fromkeys(node.services):
        place = place_of(member)
        if place is None:
            units.append(words.unit(member))
        else:
            places[place] = None
    return _named(_SERVICE, units, [words.cgroup(place) for place in places], negated)


def _named(place: int, numbers: list[int], bits: list[int], negated: bool) -> list[Cube]:
    """What has one of these numbers, or one of these bits; or, negated, none of them."""
    values = positive(merge_ranges([(n, n) for n in numbers]), DOMAINS[FIELDS[place]])
    masks = [1 << bit for bit in bits]
    if not negated:
        return _single(place, values) + [Cube(FREE.parts, within=mask) for mask in masks]
    return [Cube(cube.parts, without=sum(masks)) for cube in _single(place, complement(values))]


def _union(lists: list[list[Cube]], budget: Budget) -> list[Cube]:
    if len(lists) == 1:
        return lists[0]
    cubes = [cube for one in lists for cube in one]
    budget.spend(len(cubes))
    return budget.hold(simplify(cubes, budget))


def _product(lists: list[list[Cube]], budget: Budget) -> list[Cube]:
    if all(len(one) == 1 for one in lists):
        budget.spend(len(lists))
        cube = all_of([one[0] for one in lists])
        return [] if cube is None else [cube]
    lists = sorted(lists, key=len)
    result = lists[0] if lists else [FREE]
    for factor in lists[1:]:
        budget.spend(len(result) * len(factor))
        both = (all_of((a, b)) for a in result for b in factor)
        result = [cube for cube in both if cube is not None]
        if len(result) > 1:
            result = budget.hold(simplify(result, budget))
    return result
