# SPDX-License-Identifier: Apache-2.0
"""The reference: rules are tried in order, the first that matches decides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .condition import And, Any, Comparison, Condition, Not, Or, holds, value_of
from .model import DefaultRule, Request, Rule, RuleSet, Verdict, verdict_of


@dataclass(frozen=True, slots=True)
class TracedComparison:
    """One comparison of a condition, put to a request.

    `actual` is the request's value (address as an integer, `None` unknown).
    `held` is what the comparison itself answers, its own negation included,
    a `not` around it not.
    """

    comparison: Comparison
    actual: int | str | None
    held: bool


@dataclass(frozen=True, slots=True)
class TraceStep:
    """One rule that was tried, and why it did or did not match. Defaults compare nothing."""

    rule: Rule | DefaultRule
    matched: bool
    comparisons: tuple[TracedComparison, ...] = ()


def deciding_rule(
    ruleset: RuleSet, rules: tuple[Rule, ...], request: Request
) -> Rule | DefaultRule:
    """The first of `rules` that matches the request, else its server's default rule."""
    for rule in rules:
        if rule.server is request.server and holds(rule.when, request):
            return rule
    return ruleset.defaults[request.server]


def decide(ruleset: RuleSet, rules: tuple[Rule, ...], request: Request) -> Verdict:
    """The verdict on a request under `rules`: the set's active ones, or those in test."""
    return verdict_of(ruleset, deciding_rule(ruleset, rules, request))


def trace(ruleset: RuleSet, rules: tuple[Rule, ...], request: Request) -> list[TraceStep]:
    """Every rule of the request's server up to the one that decides, which comes last."""
    steps = []
    for rule in rules:
        if rule.server is not request.server:
            continue
        matched = holds(rule.when, request)
        compared = tuple(
            TracedComparison(asked, value_of(request, asked.field), asked.holds(request))
            for asked in comparisons(rule.when)
        )
        steps.append(TraceStep(rule, matched, compared))
        if matched:
            return steps
    steps.append(TraceStep(ruleset.defaults[request.server], True))
    return steps


def comparisons(condition: Condition) -> Iterator[Comparison]:
    """The comparisons of a condition, in the order in which they are written."""
    match condition:
        case Comparison():
            yield condition
        case And(parts) | Or(parts):
            for part in parts:
                yield from comparisons(part)
        case Not(part):
            yield from comparisons(part)
        case Any():
            return
