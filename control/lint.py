# SPDX-License-Identifier: Apache-2.0
"""What is suspicious about rules that are not wrong: each finding with its proof in words.

Rules. A finding is never a guess: that a rule is never reached is proven over
everything that can be asked, at every time. Where a proof would cost too much
nothing is said of the rule, and one last finding (`unproven`) counts such rules.
The active rules are judged as the list the kernel evaluates; rules that are in
test only as part of the list that `sockrules test` evaluates.

Theory. Time conditions are one more dimension of an area. Expiry is not: a
rule's rivals are those that last at least as long as it does, since just before
it expires they are the only ones left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from .evaluate import comparisons
from .model import Request, Rule, RuleSet
from .problems import Problem, listed
from .reach import Reach, examine
from .times import parse_utc
from .toml_document import TomlDocument

Hits = Mapping[str, tuple[int, datetime | None]]
"""By rule name: how many requests it decided, and when the last one was."""

NEVER_HIT_DAYS = 30
_NAMED = 5  # rules named in one message

WORK = 4_000_000
"""Areas looked at in one run: a few seconds."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One suspicion about a rule.

    `kind` is impossible, shadowed, unreachable, redundant, overlap, deny-all,
    never-hit, unknown-program, expired or unproven. `by` are the names of the
    rules that the message is about besides `rule`. `unproven` stands for many
    rules, those in `by`, and has no `rule` of its own (an empty name, sequence 0).
    """

    kind: str
    rule: str
    sequence: int
    by: tuple[str, ...]
    message: str
    hint: str = ""
    example: Request | None = None


def lint(
    ruleset: RuleSet,
    hits: Hits | None = None,
    program_exists: Callable[[str], bool] | None = None,
    now: datetime | None = None,
    *,
    never_hit_days: int = NEVER_HIT_DAYS,
    counted_since: datetime | None = None,
    work: int = WORK,
) -> list[Finding]:
    """Everything suspicious, in the order of the list; `unproven` comes last.

    Args:
        hits: what the kernel counted; without it no rule is called unused.
        program_exists: without it no program is called unknown.
        now: without it no rule is called expired, and none unused for days.
        counted_since: when counting began. Rules without a hit are told of only when
            that is `never_hit_days` ago; when it is not known, that they have none.
        work: what the proofs may cost in all.
    """
    active = _lasting(ruleset.active(), now)
    rehearsed = _lasting(ruleset.in_test(), now)
    lists = [(active, True)]
    if any(not rule.active for rule in rehearsed):
        lists.append((rehearsed, False))
    found: list[Finding] = []
    unproven: list[str] = []
    for rules, is_active in lists:
        reach = examine(ruleset, rules, work)
        found += [finding for finding, rule in _of_reach(reach) if rule.active is is_active]
        unproven += [rule.name for rule in reach.unproven if rule.active is is_active]
    for rule in ruleset.rules:
        found += _of_rule(rule, hits, program_exists, now, never_hit_days, counted_since)
    found.sort(key=lambda finding: finding.sequence)
    if unproven:
        count = len(unproven)
        few = f"{count} rules" if count > 1 else "one rule"
        message = f"of {few} not everything could be found out at a bearable cost"
        found.append(Finding("unproven", "", 0, tuple(unproven), message))
    return found


def hits_of(answer: Mapping[str, Any]) -> Hits:
    """What the agent answers to `hits`, as `lint` takes it."""
    rules: Mapping[str, Mapping[str, Any]] = answer.get("rules", {})
    return {name: (int(seen["hits"]), parse_utc(seen["last"])) for name, seen in rules.items()}


def as_problems(findings: list[Finding], ruleset: RuleSet, text: str, file: str) -> list[Problem]:
    """The findings as warnings with their places in the text that the rules were read from."""
    place_of = {rule.name: number for number, rule in enumerate(ruleset.rules)}
    problems: list[Problem] = []
    document = TomlDocument(text, file) if findings else None
    for finding in findings:
        place = None
        if document and finding.rule in place_of:
            place = document.place_of(("rule", place_of[finding.rule], "name"))
        line, column = place or (None, None)
        problems.append(Problem(file, line, column, finding.message, finding.hint, "warning"))
    return problems


def _lasting(rules: tuple[Rule, ...], now: datetime | None) -> tuple[Rule, ...]:
    return tuple(rule for rule in rules if now is None or not rule.expired(now))


def _of_reach(reach: Reach) -> Iterator[tuple[Finding, Rule]]:
    for rule in reach.impossible:
        message = f"rule {rule.name} never matches: its conditions exclude each other"
        yield _finding("impossible", rule, (), message, "correct its condition, or remove it"), rule
    for rule, by in reach.unreached:
        kind = "shadowed" if len(by) == 1 else "unreachable"
        verb = "decides" if len(by) == 1 else "decide"
        why = f"{_named(by)} {verb} all it could match"
        message = f"rule {rule.name} is never reached because {why}"
        yield _finding(kind, rule, by, message, _hint_of_unreached(rule, by)), rule
    for rule, later, with_default in reach.redundant:
        names = [each.name for each in later[:_NAMED]]
        if len(later) > _NAMED:
            names.append(f"{len(later) - _NAMED} more")
        if with_default:
            names.append(f"default-{rule.server.word}")
        message = (
            f"rule {rule.name} changes no verdict: what it decides, "
            f"{listed(names)} would decide likewise"
        )
        hint = "remove it, unless its name is wanted"
        yield _finding("redundant", rule, later, message, hint), rule
    for rule, allows in reach.deny_all:
        message = (
            f"rule {rule.name} rejects every {rule.server.word}, "
            f"so {_named(allows)} behind it never allow{'s' if len(allows) == 1 else ''} any"
        )
        yield _finding("deny-all", rule, allows, message, "put what is allowed before it"), rule
    for rule, before, example in reach.overlaps:
        verdict = "allowed" if before[0].authority else "rejected"
        message = (
            f"rule {rule.name} and {_named(before)} before it overlap and disagree: "
            f"what {'both' if len(before) == 1 else 'they'} match is {verdict}"
        )
        hint = "if it should be otherwise, change their order"
        yield _finding("overlap", rule, before, message, hint, example), rule


def _hint_of_unreached(rule: Rule, by: tuple[Rule, ...]) -> str:
    if all(each.authority is rule.authority for each in by):
        return "remove it"
    done = "allow" if rule.authority else "reject"
    first = by[0].name
    return f"to {done} what it names, move it before {first}; else remove it"


def _of_rule(
    rule: Rule,
    hits: Hits | None,
    program_exists: Callable[[str], bool] | None,
    now: datetime | None,
    days: int,
    counted_since: datetime | None,
) -> Iterator[Finding]:
    if now is not None and rule.expires is not None and rule.expired(now):
        message = f"rule {rule.name} expired at {rule.expires.isoformat(sep=' ')}"
        yield _finding("expired", rule, (), message, "remove it, or give it a later time")
    if program_exists is not None:
        paths = dict.fromkeys(path for asked in comparisons(rule.when) for path in asked.paths)
        for path in paths:
            if not program_exists(path):
                message = f"rule {rule.name}: program {path} does not exist"
                hint = "it is matched once it is there"
                yield _finding("unknown-program", rule, (), message, hint)
    if hits is not None and rule.active and not (now and rule.expired(now)):
        message = _unused(rule, hits, now, days, counted_since)
        if message:
            yield _finding("never-hit", rule, (), message, "remove it if it is not needed any more")


def _unused(
    rule: Rule, hits: Hits, now: datetime | None, days: int, counted_since: datetime | None
) -> str:
    count, last = hits.get(rule.name, (0, None))
    long_ago = now - timedelta(days=days) if now else None
    if not count:
        if counted_since is None:
            return f"rule {rule.name} has never decided anything"
        if long_ago and counted_since <= long_ago:
            return f"rule {rule.name} has decided nothing in {days} days"
        return ""
    if long_ago and last and last <= long_ago:
        return f"rule {rule.name} has decided nothing in {days} days, last on {last.date()}"
    return ""


def _finding(
    kind: str,
    rule: Rule,
    by: tuple[Rule, ...],
    message: str,
    hint: str,
    example: Request | None = None,
) -> Finding:
    names = tuple(each.name for each in by)
    return Finding(kind, rule.name, rule.sequence, names, message, hint, example)


def _named(rules: tuple[Rule, ...]) -> str:
    names = [rule.name for rule in rules[:_NAMED]]
    if len(rules) > _NAMED:
        names.append(f"{len(rules) - _NAMED} more")
    return listed(names)
