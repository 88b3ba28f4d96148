# SPDX-License-Identifier: Apache-2.0
"""Replay: captured transactions put to two rule sets, and what would change between them.

Rules. Both rule sets judge by their active rules, as the kernel does. A folded
port (see captured.py) is no unknown port: it had a value in every conversation,
and unknown would match rules that no conversation matched. So a transaction is
judged once for every run of ports between the lowest and the highest seen that
no rule of either set tells apart. Mostly that is one run, and the answer is
exact. Where verdicts differ between runs, the transaction is counted as
`depends`, with the ports for which it changes, and not as one or the other.

What replay cannot know: requests that were never captured, and how many of a
folded transaction's conversations used which port.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .captured import FOLDED_FIELD, Captured, captured_to_json, endpoint_text
from .condition import Range
from .evaluate import comparisons, deciding_rule
from .model import DefaultRule, Request, Rule, RuleSet, Server
from .names import Names

_FEW_RULES = 50  # up to here trying them in order is faster than walking a table in Python

Judge = Callable[[Request], Rule | DefaultRule]


@dataclass(frozen=True, slots=True)
class Change:
    """A transaction whose verdict changes, and the rules that decide before and after.

    `ports` are the ports of the folded one for which it does; empty: for all.
    """

    captured: Captured
    before: Rule | DefaultRule
    after: Rule | DefaultRule
    ports: tuple[Range, ...] = ()


@dataclass(frozen=True, slots=True)
class Replay:
    """What would change. The lists are ordered by how often the transactions were seen.

    `rejected`: allowed before, rejected after, whatever the port; `allowed`: the
    other way; `depends`: changes for some ports only. `moved` counts those that
    keep their verdict and get it from a rule of another name.
    """

    transactions: int
    requests: int
    rejected: tuple[Change, ...] = ()
    allowed: tuple[Change, ...] = ()
    depends: tuple[Change, ...] = ()
    moved: int = 0

    @property
    def changes(self) -> bool:
        """Whether any verdict changes."""
        return bool(self.rejected or self.allowed or self.depends)


def replay(captured: Iterable[Captured], before: RuleSet, after: RuleSet) -> Replay:
    """Judge everything twice. Raises CompileError where a large rule set does not compile."""
    old, new = judge_of(before), judge_of(after)
    points = {server: cut_points((before, after), server) for server in Server}
    kinds: dict[str, list[Change]] = {"rejected": [], "allowed": [], "depends": []}
    transactions = requests = moved = 0
    for one in captured:
        transactions += 1
        requests += one.count
        pairs = [
            (ports, old(request), new(request))
            for ports, request in runs(one, points[one.request.server])
        ]
        changed = [pair for pair in pairs if pair[1].authority is not pair[2].authority]
        if not changed:
            moved += any(first.name != second.name for _, first, second in pairs)
            continue
        ports, first, second = changed[0]
        ways = {pair[1].authority for pair in changed}
        if len(changed) == len(pairs) and len(ways) == 1:
            kinds["rejected" if first.authority else "allowed"].append(Change(one, first, second))
        else:
            which = tuple(pair[0] for pair in changed if pair[0] is not None)
            kinds["depends"].append(Change(one, first, second, which))
    ordered = {
        kind: tuple(sorted(found, key=lambda change: -change.captured.count))
        for kind, found in kinds.items()
    }
    return Replay(transactions, requests, **ordered, moved=moved)


def judge_of(ruleset: RuleSet) -> Judge:
    """What decides a request under the set's active rules."""
    rules = ruleset.active()
    if len(rules) <= _FEW_RULES:
        return lambda request: deciding_rule(ruleset, rules, request)
    from . import abi
    from .compile import compile_table
    from .walk import EXHAUSTED, request_words, walk

    table = compile_table(ruleset, rules)
    shift = abi.C["SR_RULE_SHIFT"]

    def judge(request: Request) -> Rule | DefaultRule:
        word = walk(table, request_words(table, request))
        if word == EXHAUSTED:  # the compiler has proven that it cannot be
            return deciding_rule(ruleset, rules, request)
        return table.rules[word >> shift]

    return judge


def cut_points(rulesets: Iterable[RuleSet], server: Server) -> tuple[int, ...]:
    """Where the server's rules begin to tell folded ports apart: first ports of runs, ascending."""
    field = FOLDED_FIELD[server]
    points: set[int] = set()
    for ruleset in rulesets:
        for rule in ruleset.active():
            if rule.server is server:
                for asked in comparisons(rule.when):
                    if getattr(asked, "field", None) is field:
                        points |= {first for first, _ in asked.ranges}
                        points |= {last + 1 for _, last in asked.ranges}
    return tuple(sorted(points))


def runs(one: Captured, points: Sequence[int]) -> list[tuple[Range | None, Request]]:
    """The request for every run of the folded port; just the request where none was folded."""
    if one.folded is None:
        return [(None, one.request)]
    low, high = one.folded
    starts = [low, *(point for point in points if low < point <= high)]
    ends = [*(start - 1 for start in starts[1:]), high]
    field = FOLDED_FIELD[one.request.server].value.replace(".", "_")
    return [
        ((first, last), replace(one.request, **{field: first}))  # type: ignore[arg-type]
        for first, last in zip(starts, ends, strict=True)
    ]


def sentence(result: Replay) -> str:
    """`3 of 4 812 captured transactions would now be rejected, 1 would be allowed`."""
    if not result.transactions:
        return "nothing was captured: there is nothing to judge by"
    total = f"{spaced(result.transactions)} captured {_word(result.transactions)}"
    if not result.changes:
        return f"none of {total} would change its verdict"
    parts: list[str] = []
    for found, what in (
        (result.rejected, "would now be rejected"),
        (result.allowed, "would now be allowed"),
        (result.depends, "would change for some ports only"),
    ):
        if found:
            parts.append(f"{spaced(len(found))}{'' if parts else f' of {total}'} {what}")
    return ", ".join(parts)


def brief(
    captured: Iterable[Captured], before: RuleSet, after: RuleSet, most: int = 3
) -> list[str]:
    """What to tell before a change comes into force: the sentence and a few examples."""
    result = replay(captured, before, after)
    lines = [sentence(result)]
    for change in (*result.rejected, *result.depends)[:most]:
        lines.append(f"  {change_text(change)}")
    return lines


def change_text(change: Change) -> str:
    """`accept /usr/sbin/nginx 10.0.0.5:443 from 192.0.2.7:* (17 times): rule a, now rule b`."""
    where = f" with {ports_text(change)}" if change.ports else ""
    return (
        f"{transaction_text(change.captured)} ({_times(change.captured.count)}){where}:"
        f" {_by(change.before)}, now {_by(change.after)}"
    )


def transaction_text(one: Captured) -> str:
    """A transaction in a line, without its count."""
    request = one.request
    who = request.program or (f"uid {request.user}" if request.user is not None else "somebody")
    local, remote = endpoint_text(one, "local"), endpoint_text(one, "remote")
    if request.server is Server.LISTEN:
        return f"listen: {who} on {local}"
    if request.server is Server.ACCEPT:
        return f"accept: {who} on {local} from {remote}"
    bound = f" from {local}" if local != "-" else ""
    return f"connect: {who} to {remote}{bound}"


def ports_text(change: Change) -> str:
    """`remote.port 1-1023`."""
    field = FOLDED_FIELD[change.captured.request.server]
    return f"{field.value} " + ", ".join(
        str(first) if first == last else f"{first}-{last}" for first, last in change.ports
    )


def by_rule(changes: Iterable[Change]) -> list[tuple[str, int, int]]:
    """The rules that decide after: name, transactions, requests; the most often first."""
    transactions: Counter[str] = Counter()
    requests: Counter[str] = Counter()
    for change in changes:
        transactions[change.after.name] += 1
        requests[change.after.name] += change.captured.count
    return [(name, count, requests[name]) for name, count in transactions.most_common()]


def replay_to_json(result: Replay, names: Names) -> dict[str, Any]:
    """The whole result, every change with its transaction."""

    def documents(changes: Iterable[Change]) -> list[dict[str, Any]]:
        return [
            {
                "captured": captured_to_json(change.captured, names),
                "before": _rule_document(change.before),
                "after": _rule_document(change.after),
                **({"ports": [list(each) for each in change.ports]} if change.ports else {}),
            }
            for change in changes
        ]

    return {
        "sentence": sentence(result),
        "transactions": result.transactions,
        "requests": result.requests,
        "rejected": documents(result.rejected),
        "allowed": documents(result.allowed),
        "depends": documents(result.depends),
        "moved": result.moved,
    }


def spaced(number: int) -> str:
    """`4 812`."""
    return f"{number:,}".replace(",", " ")


def _rule_document(rule: Rule | DefaultRule) -> dict[str, Any]:
    return {
        "rule": rule.name,
        "sequence": rule.sequence,
        "authority": "yes" if rule.authority else "no",
    }


def _by(rule: Rule | DefaultRule) -> str:
    return f"{'allowed' if rule.authority else 'rejected'} by {rule.name}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{spaced(count)} times"


def _word(count: int) -> str:
    return "transaction" if count == 1 else "transactions"
