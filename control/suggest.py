# SPDX-License-Identifier: Apache-2.0
"""Suggested rules: from captured transactions and a rule file to a better rule file.

Rules. Today's rules decide which transactions need one: those that are allowed
by nothing more particular than a default rule or a rule whose condition is
`any` (what people write to learn). What a particular rule allows is covered
already; what is rejected stays rejected, unless `include_rejected` asks for
what only a default or an `any` rule rejects.

A new rule stands after all rules of its server, but before the first active
`any` rule. So it decides nothing that a particular rule decided before, and its
order among its like does not matter: they all allow.

`deny_rest` then turns what is left around: the `any` rule, or where there is
none (or one that will expire) the server's default, gets authority no. Only
servers of which something was captured are touched.

Nothing is taken on trust: the new file is parsed, and every transaction is
replayed against it. A suggestion that would reject what is allowed today, or
allow what it does not say, raises SuggestError instead of being printed.
"""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from .captured import Captured
from .condition import Any
from .model import DefaultRule, Product, Rule, RuleSet, Server
from .names import Names
from .proposals import Proposal, propose
from .replay import cut_points, judge_of, replay, runs, spaced, transaction_text
from .rules_edit import Place, add, set_keys
from .rules_file import parse_rules
from .toml_blocks import Block, cut
from .toml_keys import newline_of, with_key

_WIDTH = 96
_DEFAULT_ORDER = ("authority", "audit", "message", "capture")


class SuggestError(Exception):
    """The file cannot be edited as it is, or a suggestion failed its own proof."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A new text of the rule file and what it rests on.

    `needing` transactions have a proposed rule, `covered` ones had one,
    `rejected` ones are rejected today and stay so. `denied` names the rules,
    default rules included, whose authority becomes no; `denied_servers` are those
    that reject all else.
    """

    text: str
    proposals: tuple[Proposal, ...] = ()
    needing: tuple[Captured, ...] = ()
    covered: tuple[Captured, ...] = ()
    rejected: tuple[Captured, ...] = ()
    denied: tuple[str, ...] = ()
    denied_servers: frozenset[Server] = frozenset()


def suggest(
    captured: Iterable[Captured],
    text: str,
    names: Names,
    *,
    file: str = "rules.toml",
    deny_rest: bool = False,
    include_rejected: bool = False,
) -> Suggestion:
    """A rule file that says what was captured. Raises InputError, SuggestError."""
    everything = tuple(captured)
    ruleset = parse_rules(text, file=file, names=names).ruleset
    needing, covered, rejected = _sorted_out(everything, ruleset, include_rejected)
    taken = [rule.name for rule in ruleset.rules]
    proposals = propose(needing, names, taken)
    new = _with_rules(text, ruleset, proposals)
    denied: tuple[str, ...] = ()
    servers = frozenset(one.request.server for one in everything if deny_rest)
    if servers:
        new, denied = _denying(new, ruleset, sorted(servers))
    suggestion = Suggestion(
        new, tuple(proposals), tuple(needing), tuple(covered), tuple(rejected), denied, servers
    )
    _prove(suggestion, ruleset, names, file)
    return suggestion


def diff(before: str, after: str, file: str) -> str:
    """The change as a unified diff that `patch` takes; empty when there is none."""
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), file, file
    )
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )


def catch_all(ruleset: RuleSet, server: Server) -> Rule | None:
    """The first active rule of a server whose condition is `any`, and that has not expired."""
    for rule in ruleset.active():
        expires = _expires(rule)
        over = expires is not None and expires <= datetime.now(UTC)
        if rule.server is server and isinstance(rule.when, Any) and not over:
            return rule
    return None


def evidence(one: Proposal) -> list[str]:
    """The comment above a proposed rule: what was seen, and what it allows besides."""
    requests = sum(each.count for each in one.captured)
    first = min(each.first for each in one.captured)[:10]
    last = max(each.last for each in one.captured)[:10]
    example = max(one.captured, key=lambda each: each.count)
    when = first if first == last else f"{first} to {last}"
    counted = f"Seen {spaced(requests)} times" if requests != 1 else "Seen once"
    if len(one.captured) > 1:
        if requests > len(one.captured):
            counted += f" in {spaced(len(one.captured))} transactions"
        such = "most often" if example.count > 1 else "such as"
        lines = [f"{counted}, {when}; {such}", f"  {transaction_text(example)}"]
    else:
        lines = [f"{counted}, {when}:", f"  {transaction_text(example)}"]
    if one.broader:
        lines.append(f"Broader than what was seen: {'; '.join(one.broader.values())}.")
    return [*lines, *one.notes]


def _sorted_out(
    captured: Sequence[Captured], ruleset: RuleSet, include_rejected: bool
) -> tuple[list[Captured], list[Captured], list[Captured]]:
    judge = judge_of(ruleset)
    points = {server: cut_points((ruleset,), server) for server in Server}
    general = {catch_all(ruleset, server) for server in Server} - {None}
    needing: list[Captured] = []
    covered: list[Captured] = []
    rejected: list[Captured] = []
    for one in captured:
        rules = [judge(request) for _, request in runs(one, points[one.request.server])]
        vague = [rule for rule in rules if isinstance(rule, DefaultRule) or rule in general]
        if any(rule.authority or include_rejected for rule in vague):
            needing.append(one)
        elif any(rule.authority for rule in rules):
            covered.append(one)
        else:
            rejected.append(one)
    return needing, covered, rejected


def _with_rules(text: str, ruleset: RuleSet, proposals: Sequence[Proposal]) -> str:
    after: dict[Server, str] = {}
    for rule in ruleset.rules:
        after[rule.server] = rule.name
    for number, one in enumerate(proposals):
        general = catch_all(ruleset, one.server)
        if general is not None:
            place = Place("before", general.name)
        elif one.server in after:
            place = Place("after", after[one.server])
        else:
            place = Place("last")
        keys = {"name": one.name, "server": one.server.word, "authority": "yes", "when": one.when}
        text = add(text, keys, place)
        text = _commented(text, one, heading=_heading(proposals) if number == 0 else [])
        after[one.server] = one.name
    return text


def _heading(proposals: Sequence[Proposal]) -> list[str]:
    servers = {one.server for one in proposals}
    omitted = ["the group"]
    if Server.ACCEPT in servers:
        omitted.append("the peer's port and the local address of accept")
    if Server.CONNECT in servers:
        omitted.append("the local side of connect")
    return [f"Suggested from captured transactions. None of these rules asks for {_and(omitted)}."]


def _and(words: list[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def _commented(text: str, one: Proposal, heading: list[str]) -> str:
    newline = newline_of(text)
    blocks = cut(text)
    at = next(at for at, block in enumerate(blocks) if block.name == one.name)
    above = "".join(f"{line}{newline}" for line in _comment(evidence(one)))
    blocks[at] = replace(blocks[at], text=above + blocks[at].text)
    if heading:
        lines = "".join(f"{line}{newline}" for line in _comment(heading))
        blocks.insert(at, Block("gap", f"{lines}{newline}"))
    return "".join(block.text for block in blocks)


def _comment(lines: Iterable[str]) -> list[str]:
    """As TOML comments, wrapped; control characters would not be TOML."""
    wrapped: list[str] = []
    for line in lines:
        shown = "".join(
            each if each.isprintable() else each.encode("unicode_escape", "surrogatepass").decode()
            for each in line
        )
        indent = "#   " if line.startswith("  ") else "# "
        wrapped += textwrap.wrap(
            shown.strip(),
            _WIDTH,
            initial_indent=indent,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return wrapped


def _expires(rule: Rule) -> datetime | None:
    """When the rule stops to match; rule sets that know no such time have none."""
    expires = rule.expires
    return expires


def _denying(text: str, ruleset: RuleSet, servers: Iterable[Server]) -> tuple[str, tuple[str, ...]]:
    denied = []
    for server in servers:
        general, default = catch_all(ruleset, server), ruleset.defaults[server]
        if general is not None and general.authority:
            text = set_keys(text, general.name, {"authority": "no"})
            denied.append(general.name)
        if (general is None or _expires(general) is not None) and default.authority:
            text = _with_default_denying(text, server)
            denied.append(default.name)
    return text, tuple(denied)


def _with_default_denying(text: str, server: Server) -> str:
    newline = newline_of(text)
    name = f"default.{server.word}"
    blocks = cut(text)
    for at, block in enumerate(blocks):
        if block.kind == "table" and block.name == name:
            changed = with_key(block.text, "authority", "no", _DEFAULT_ORDER, newline)
            blocks[at] = replace(block, text=changed)
            return "".join(each.text for each in blocks)
    head = text if not text or text.endswith("\n") else text + newline
    apart = newline if head.strip() and not head.endswith(newline * 2) else ""
    return f'{head}{apart}[{name}]{newline}authority = "no"{newline}'


def _prove(suggestion: Suggestion, before: RuleSet, names: Names, file: str) -> None:
    """Parse the new file and replay everything against it. Raises SuggestError."""
    try:
        after = parse_rules(suggestion.text, file=file, names=names, product=Product()).ruleset
    except Exception as error:
        raise SuggestError(
            f"{file} cannot be edited as it is: with the suggestion it would not be a rule file"
            f" any more ({error})"
        ) from error
    everything = (*suggestion.needing, *suggestion.covered, *suggestion.rejected)
    result = replay(everything, before, after)
    asked_for = {id(one) for one in suggestion.needing}
    wrong = [*result.rejected]
    wrong += [
        change
        for change in (*result.allowed, *result.depends)
        if id(change.captured) not in asked_for
    ]
    if wrong:
        raise SuggestError(
            f"no suggestion: it would change the verdict on {transaction_text(wrong[0].captured)};"
            " please report this"
        )
