# SPDX-License-Identifier: Apache-2.0
"""Which rules of a list decide anything, which change anything, and which disagree.

Rules. Each answer is proven or not given: a rule whose proof went over the
budget is `unproven`, and so is one whose condition is too tangled to be laid
out as areas; the answers about other rules do not rest on either.

Theory. A rule is reached where its areas are not covered by those of rules
before it. Rules that are never reached themselves cover nothing new and are left
out, so that an answer names rules that really decide.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from .areas import Area, Space, overlap, overlaps, point_of
from .cover import Index, Owned, owned, uncovered
from .cubes import Budget, TooComplex
from .model import DefaultRule, Request, Rule, RuleSet, Server, verdict_of

_PER_RULE = 15_000  # work for one question about one rule
_CUBES = 1024  # cubes of one rule
_AREAS = 200_000  # of one server; with more nothing is proven
_RIVALS = 8  # earlier rules of the opposite authority that are compared with one rule
_FOREVER = datetime.max.replace(tzinfo=UTC)
_BEGINNING = datetime.min.replace(tzinfo=UTC)


@dataclass(slots=True)
class Reach:
    """The answers, each in the order of the list."""

    impossible: list[Rule] = field(default_factory=list)
    unreached: list[tuple[Rule, tuple[Rule, ...]]] = field(default_factory=list)
    redundant: list[tuple[Rule, tuple[Rule, ...], bool]] = field(default_factory=list)
    deny_all: list[tuple[Rule, tuple[Rule, ...]]] = field(default_factory=list)
    overlaps: list[tuple[Rule, tuple[Rule, ...], Request]] = field(default_factory=list)
    witnesses: list[tuple[Rule, Request, datetime]] = field(default_factory=list)
    """A request that the rule decides, and a moment, later than any expiry before 2400."""
    unproven: list[Rule] = field(default_factory=list)


def examine(ruleset: RuleSet, rules: tuple[Rule, ...], work: int) -> Reach:
    """All answers about a list, of which `work` areas may be looked at."""
    reach = Reach()
    space = Space(rules)
    total = Budget(_CUBES, work)
    for server in Server:
        mine = [rule for rule in rules if rule.server is server]
        if mine:
            _Server(ruleset, mine, space, total, reach).examine()
    return reach


class _Server:
    """The rules of one server, by their number among them."""

    def __init__(
        self, ruleset: RuleSet, rules: list[Rule], space: Space, total: Budget, reach: Reach
    ) -> None:
        self._ruleset, self._rules, self._space = ruleset, rules, space
        self._total, self._reach = total, reach
        self._default = ruleset.defaults[rules[0].server]
        self._ends = [rule.expires or _FOREVER for rule in rules]
        self._dead: set[int] = set()
        self._tangled: set[int] = set()
        self._unproven: set[int] = set()
        self._owned: list[Owned] = []
        self._own: dict[int, list[int]] = {}
        self._live: dict[int, list[Owned]] = {}
        self._later: dict[int, list[Owned]] = {}
        self._witness: dict[int, tuple[int, Area]] = {}
        self._verdicts = [self._effect(rule) for rule in rules]

    def examine(self) -> None:
        self._lay_out()
        if len(self._owned) > _AREAS:
            self._unproven.update(range(len(self._rules)))
        else:
            lasting = [self._ends[each.rule] is _FOREVER for each in self._owned]
            areas = [each.area for each in self._owned]
            self._index = Index(areas, lasting, self._space.everything)
            reached = []
            for number in range(len(self._rules)):
                if self._reached(number):
                    reached.append(number)
                if number not in self._dead:
                    self._index.add(self._own[number])
            self._live.clear()  # now there are more of them
            for number in reached:
                self._attempt(number, self._compare)
            for number in reached:
                self._attempt(number, self._disagree)
            for number in range(len(self._rules)):
                if not self._rules[number].authority and number not in self._dead:
                    self._attempt(number, self._deny_all)
        self._reach.unproven += [self._rules[number] for number in sorted(self._unproven)]

    def _lay_out(self) -> None:
        for number, rule in enumerate(self._rules):
            budget = Budget(_CUBES, min(_PER_RULE, max(self._total.work, 0)))
            before = budget.work
            try:
                areas = self._space.areas_of(rule, budget)
            except TooComplex:
                self._tangled.add(number)
                self._unproven.add(number)
                areas = []
            self._total.work -= before - budget.work
            self._own[number] = list(range(len(self._owned), len(self._owned) + len(areas)))
            self._owned += [owned(number, area) for area in areas]
            if len(self._owned) > _AREAS:
                return

    def _attempt(self, number: int, question: object) -> bool:
        """Ask a question about a rule within the budget; whether there was an answer."""
        assert callable(question)
        budget = Budget(_CUBES, min(_PER_RULE, self._total.work))
        before = budget.work
        try:
            if before <= 0:
                raise TooComplex
            question(number, budget)
        except TooComplex:
            self._unproven.add(number)
            return False
        finally:
            self._total.work -= max(0, before - budget.work)
        return True

    # -- is it reached ------------------------------------------------------------------

    def _reached(self, number: int) -> bool:
        """Whether a rule decides anything that is known of; says so if it does not."""
        if number in self._tangled:
            return False
        if not self._own[number]:
            self._dead.add(number)
            self._reach.impossible.append(self._rules[number])
            return False
        return self._attempt(number, self._find_witness) and number not in self._dead

    def _find_witness(self, number: int, budget: Budget) -> None:
        used: set[int] = set()
        for at in self._own[number]:
            near = self._index.live_near(at)
            holder = self._index.holder(at, near)
            budget.spend(1 + len(near) // 64)
            if holder is not None:
                used.add(self._owned[holder].rule)
                continue
            before = self._lasting((self._owned[each] for each in near), self._ends[number])
            left = uncovered(self._owned[at].area, before, budget, used)
            if left:
                if not self._tangled:  # one of which may decide it before
                    request, moment = self._space.request_at(left, self._rules[number].server)
                    self._reach.witnesses.append((self._rules[number], request, moment))
                self._witness[number] = at, point_of(left)
                return
        self._dead.add(number)
        by = self._fewest(number, used, budget)
        self._reach.unreached.append((self._rules[number], tuple(self._rules[each] for each in by)))

    def _fewest(self, number: int, used: set[int], budget: Budget) -> list[int]:
        """Of the rules of a proof as few as are needed; all of them when that costs too much."""
        try:
            for each in sorted(used):
                if self._covered_by(number, {each}, budget):
                    return [each]
            needed = set(used)
            for each in sorted(used, reverse=True):
                if len(used) <= 16 and self._covered_by(number, needed - {each}, budget):
                    needed.discard(each)
        except TooComplex:
            return sorted(used)
        return sorted(needed)

    def _covered_by(self, number: int, by: set[int], budget: Budget) -> bool:
        covers = [self._owned[at] for rule in sorted(by) for at in self._own[rule]]
        areas = (self._owned[at].area for at in self._own[number])
        return all(uncovered(area, covers, budget) is None for area in areas)

    def _covers(self, at: int, end: datetime, budget: Budget, *, upto: int) -> list[Owned]:
        """Areas near that of place `at`, of other live rules before `upto` lasting until `end`."""
        near = self._live.get(at)
        if near is None:
            near = self._live[at] = self._found(self._index.live_near(at), budget)
        own = self._owned[at].rule
        return self._lasting((o for o in near if o.rule < upto and o.rule != own), end)

    def _behind(self, at: int, budget: Budget) -> list[Owned]:
        """Areas near that of place `at`, of rules behind its own, live or not."""
        near = self._later.get(at)
        if near is None:
            start = self._own[self._owned[at].rule][-1] + 1
            near = self._later[at] = self._found(self._index.later_near(at, start), budget)
        return near

    def _found(self, near: Iterable[int], budget: Budget) -> list[Owned]:
        found = [self._owned[each] for each in near]
        budget.spend(1 + len(found) // 4)
        return found

    def _lasting(self, areas: Iterable[Owned], end: datetime) -> list[Owned]:
        return [each for each in areas if self._ends[each.rule] >= end]

    # -- does it change anything --------------------------------------------------------

    def _compare(self, number: int, budget: Budget) -> None:
        """Whether every verdict would be the same without the rule."""
        if self._tangled:
            raise TooComplex
        if self._differs_at_witness(number, budget):
            return
        later: set[int] = set()
        by_default = False
        for at in self._own[number]:
            area, end = self._owned[at].area, self._ends[number]
            for other in self._behind(at, budget):
                if self._verdicts[other.rule] == self._verdicts[number]:
                    if other.rule not in self._dead and overlaps(other.area, area):
                        later.add(other.rule)
                    continue
                both = overlap(area, other.area)
                until = min(end, self._ends[other.rule])
                covers = self._covers(at, until, budget, upto=other.rule)
                if both and uncovered(both, covers, budget):
                    return
            covers = self._covers(at, end, budget, upto=len(self._rules))
            if uncovered(area, covers, budget):
                by_default = True
                if self._effect(self._default) != self._verdicts[number]:
                    return
        rules = tuple(self._rules[each] for each in sorted(later))
        self._reach.redundant.append((self._rules[number], rules, by_default))

    def _differs_at_witness(self, number: int, budget: Budget) -> bool:
        """A cheap look: whether what decides next, where the rule decides, decides otherwise."""
        at, point = self._witness[number]
        for other in self._behind(at, budget):
            if overlaps(other.area, point):
                return self._verdicts[other.rule] != self._verdicts[number]
        return self._effect(self._default) != self._verdicts[number]

    def _effect(self, rule: Rule | DefaultRule) -> tuple[bool, ...]:
        verdict = verdict_of(self._ruleset, rule)
        return verdict.authority, verdict.audit, verdict.message, verdict.capture

    # -- does it disagree ---------------------------------------------------------------

    def _disagree(self, number: int, budget: Budget) -> None:
        """Earlier rules of the opposite authority that partly overlap, neither within the other."""
        authority = self._rules[number].authority
        rivals: dict[int, Area] = {}
        for at in self._own[number]:
            for other in self._covers(at, _BEGINNING, budget, upto=number):
                if len(rivals) >= _RIVALS:
                    break
                if other.rule in rivals or self._rules[other.rule].authority is authority:
                    continue
                shared = self._shared(number, at, other, budget)
                if shared and self._sticks_out(other.rule, number, budget):
                    rivals[other.rule] = shared
        if rivals:
            first = min(rivals)
            request, _ = self._space.request_at(rivals[first], self._rules[number].server)
            rules = tuple(self._rules[rule] for rule in sorted(rivals))
            self._reach.overlaps.append((self._rules[number], rules, request))

    def _shared(self, number: int, at: int, other: Owned, budget: Budget) -> Area | None:
        """Where both match and the earlier one decides."""
        if self._tangled and min(self._tangled) < other.rule:
            return None
        both = overlap(self._owned[at].area, other.area)
        if both is None:
            return None
        end = min(self._ends[number], self._ends[other.rule])
        return uncovered(both, self._covers(at, end, budget, upto=other.rule), budget)

    def _sticks_out(self, rule: int, other: int, budget: Budget) -> bool:
        covers = [self._owned[at] for at in self._own[other]]
        areas: Iterable[Area] = (self._owned[at].area for at in self._own[rule])
        return any(uncovered(area, covers, budget) is not None for area in areas)

    # -- does it end the list -----------------------------------------------------------

    def _deny_all(self, number: int, budget: Budget) -> None:
        """Whether a rule rejects everything, with rules behind it that would allow."""
        if self._ends[number] is not _FOREVER:
            return
        allows = tuple(rule for rule in self._rules[number + 1 :] if rule.authority)
        if not allows:
            return
        covers = [self._owned[at] for at in self._own[number]]
        if uncovered(self._space.everything, covers, budget) is None:
            self._reach.deny_all.append((self._rules[number], allows))
