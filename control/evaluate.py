# SPDX-License-Identifier: Apache-2.0
"""The reference: rules are tried in order, the first that matches decides.

The moment of the decision is in the host's zone; without one it is now.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from . import zone
from .condition import And, Any, Comparison, Condition, Not, Or, Time, holds, value_of
from .model import DefaultRule, Request, Rule, RuleSet, Verdict, verdict_of
from .week import minute_of_week, minute_text


@dataclass(frozen=True, slots=True)
class TracedComparison:
    """One comparison of a condition, put to a request.

    `actual` is the request's value (address as an integer, `None` unknown), for a
    comparison of the time what the clock shows: `fri 18:05`.
    `held` is what the comparison itself answers, its own negation included,
    a `not` around it not.
    """

    comparison: Comparison | Time
    actual: int | str | None
    held: bool


@dataclass(frozen=True, slots=True)
class TraceStep:
    """One rule that was tried, and why it did or did not match. Defaults compare nothing.

    A rule that has `expired` does not match, whatever its comparisons say.
    """

    rule: Rule | DefaultRule
    matched: bool
    comparisons: tuple[TracedComparison, ...] = ()
    expired: bool = False


def deciding_rule(
    ruleset: RuleSet, rules: tuple[Rule, ...], request: Request, moment: datetime | None = None
) -> Rule | DefaultRule:
    """The first of `rules` that matches the request, else its server's default rule."""
    moment = moment or zone.now()
    for rule in rules:
        if rule.server is request.server and matches(rule, request, moment):
            return rule
    return ruleset.defaults[request.server]


def matches(rule: Rule, request: Request, moment: datetime) -> bool:
    """Whether a rule matches a request of its server."""
    return not rule.expired(moment) and holds(rule.when, request, moment)


def decide(
    ruleset: RuleSet, rules: tuple[Rule, ...], request: Request, moment: datetime | None = None
) -> Verdict:
    """The verdict on a request under `rules`: the set's active ones, or those in test."""
    return verdict_of(ruleset, deciding_rule(ruleset, rules, request, moment))


def trace(
    ruleset: RuleSet, rules: tuple[Rule, ...], request: Request, moment: datetime | None = None
) -> list[TraceStep]:
    """Every rule of the request's server up to the one that decides, which comes last."""
    moment = moment or zone.now()
    steps = []
    for rule in rules:
        if rule.server is not request.server:
            continue
        matched = matches(rule, request, moment)
        compared = tuple(_traced(asked, request, moment) for asked in questions(rule.when))
        steps.append(TraceStep(rule, matched, compared, rule.expired(moment)))
        if matched:
            return steps
    steps.append(TraceStep(ruleset.defaults[request.server], True))
    return steps


def _traced(asked: Comparison | Time, request: Request, moment: datetime) -> TracedComparison:
    if isinstance(asked, Time):
        return TracedComparison(asked, minute_text(minute_of_week(moment)), asked.holds(moment))
    return TracedComparison(asked, value_of(request, asked.field), asked.holds(request))


def comparisons(condition: Condition) -> Iterator[Comparison]:
    """The comparisons of fields in a condition, in the order in which they are written."""
    return (asked for asked in questions(condition) if isinstance(asked, Comparison))


def questions(condition: Condition) -> Iterator[Comparison | Time]:
    """All comparisons of a condition, of the time as well, in the order of the text."""
    match condition:
        case Comparison() | Time():
            yield condition
        case And(parts) | Or(parts):
            for part in parts:
                yield from questions(part)
        case Not(part):
            yield from questions(part)
        case Any():
            return
