# SPDX-License-Identifier: Apache-2.0
"""Judging requests by the compiled table of the rules in test, and explaining the verdicts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .. import render, zone
from ..compile import compile_table
from ..condition import Comparison
from ..evaluate import TracedComparison, TraceStep
from ..evaluate import trace as trace_rules
from ..model import DefaultRule, Effective, Field, Request, Verdict, effective, verdict_of
from ..names import Names, SystemNames
from ..paths import Paths
from ..requests import request_from_json, value_text
from ..same import identified, named, program_run, same_files
from ..walk import decide
from .failures import Failed
from .inputs import conditions_of, parsed, rules_text

_SOURCES = {
    "rule": "the rule's own",
    "default": "from its server's default rule",
    "product": "from the product configuration",
}


class Judge:
    """The rules in test of a rule file (`None`: the installed one), as of a moment (now)."""

    def __init__(self, paths: Paths, file: str | None, at: str | None = None) -> None:
        """Raises ValueError when `at` is not a time."""
        present = zone.now()
        self.moment = present if at is None else zone.parse_moment(at, present)
        self.names: Names = SystemNames(paths.lists)
        self.text, name = rules_text(paths, file)
        self.ruleset = parsed(paths, self.text, name, names=SystemNames(paths.lists)).ruleset
        tested = self.ruleset.in_test()
        self.rules = identified(tested, same_files(named(tested)))
        self._table = compile_table(self.ruleset, self.rules, moment=self.moment)

    def request(self, doc: object) -> Request:
        """The request of a JSON document, its program by its real path.

        Raises ValueError that names the key.
        """
        request = request_from_json(doc, self.names)
        return replace(request, program=program_run(request.program))

    def verdict(self, request: Request) -> Verdict:
        return decide(self._table, request)

    def trace(self, request: Request, verdict: Verdict) -> list[TraceStep]:
        """Every rule up to the deciding one, by the linear reference, which must agree."""
        steps = trace_rules(self.ruleset, self.rules, request, self.moment)
        if verdict_of(self.ruleset, steps[-1].rule) != verdict:
            raise Failed(
                f"the table says {verdict.rule}, the reference {steps[-1].rule.name}",
                "this is a mistake in sockrules; please report it with the rule file",
                kind="internal",
            )
        return steps


def answer(allowed: bool) -> str:
    """The verdict's first word."""
    return render.coloured(*(("allowed", render.GOOD) if allowed else ("rejected", render.BAD)))


def verdict_lines(judge: Judge, verdict: Verdict) -> list[str]:
    """The verdict for people: what, by which rule, and what follows from what."""
    ruleset = judge.ruleset
    rule = next((rule for rule in judge.rules if rule.name == verdict.rule), None)
    decided = rule or ruleset.defaults[verdict.server]
    lines = [f"{answer(verdict.authority)} by {verdict.rule} (sequence {verdict.sequence})"]
    facts = []
    if rule is not None:
        facts.append(("when", render.safe(conditions_of(judge.text)[rule.name])))
    for switch in ("audit", "message", "capture"):
        facts.append((switch, _switch(effective(ruleset, decided, switch), switch, verdict)))
    if rule is not None and not rule.active:
        facts.append(("active", "no: in test only, the kernel does not evaluate it"))
    return [*lines, *render.facts(facts)]


def trace_lines(steps: list[TraceStep], names: Names) -> list[str]:
    """The rules that were tried: of each whether it matched, and what its comparisons found."""
    lines = []
    for step in steps:
        if isinstance(step.rule, DefaultRule):
            continue
        word = render.coloured("matches", render.GOOD) if step.matched else "does not match"
        if step.expired:
            word = "has expired"
        lines.append(f"{step.rule.sequence:>5}  {step.rule.name} {word}")
        rows = [
            (
                render.coloured("yes", render.GOOD)
                if each.held
                else render.coloured("no", render.BAD),
                render.safe(each.comparison.text),
                f"{_field_of(each)} is {render.safe(_actual_text(each, names))}",
            )
            for each in step.comparisons
        ]
        lines += [f"       {line}" for line in render.table(("", "", ""), rows)[1:]]
    return [*lines, ""] if lines else []


def trace_document(steps: list[TraceStep], names: Names) -> list[dict[str, Any]]:
    """The same for programs; an `actual` that is null is unknown."""
    return [
        {
            "rule": step.rule.name,
            "sequence": step.rule.sequence,
            "matched": step.matched,
            "comparisons": [
                {
                    "text": each.comparison.text,
                    "field": _field_of(each),
                    "actual": _plain(each, names),
                    "held": each.held,
                }
                for each in step.comparisons
            ],
        }
        for step in steps
    ]


def _field_of(traced: TracedComparison) -> str:
    compared = traced.comparison
    return compared.field.value if isinstance(compared, Comparison) else "time"


def _actual_text(traced: TracedComparison, names: Names) -> str:
    compared = traced.comparison
    if isinstance(compared, Comparison):
        return value_text(compared.field, traced.actual, names)
    return str(traced.actual)


def _plain(traced: TracedComparison, names: Names) -> int | str | None:
    """A request's value as request JSON would have it: ports are numbers."""
    ports = (Field.LOCAL_PORT.value, Field.REMOTE_PORT.value)
    if traced.actual is None or _field_of(traced) in ports:
        return traced.actual
    return _actual_text(traced, names)


def _switch(found: Effective, switch: str, verdict: Verdict) -> str:
    if switch == "audit" and not verdict.authority and not found.value:
        return "yes (a rejection always is)"
    return f"{render.yes_no(found.value)} ({_SOURCES[found.source]})"
