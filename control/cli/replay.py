# SPDX-License-Identifier: Apache-2.0
"""`sockrules replay`: captured transactions against a rule file, and what would change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from .. import render
from ..names import SystemNames
from .capture_options import filter_of, note_losses, server_option, since_option
from .options import SETTINGS, here, json_option, root_option
from .waiting import waiting

if TYPE_CHECKING:
    from ..model import RuleSet
    from ..paths import Paths
    from ..replay import Change

_EXAMPLES = 5


@click.command(context_settings=SETTINGS)
@click.option(
    "--rules", "file", metavar="FILE", help="The rules to try, - for stdin; without, rules.toml."
)
@server_option
@since_option
@click.option(
    "-n",
    "--examples",
    type=click.IntRange(min=0),
    default=_EXAMPLES,
    show_default=True,
    help="Transactions shown of each kind, 0: all.",
)
@json_option
@root_option
@click.pass_context
def replay(
    context: click.Context,
    file: str | None,
    server: str | None,
    since: str | None,
    examples: int,
    as_json: bool,
) -> None:
    """Put captured transactions to a rule file, and say what would change.

    They are judged twice: by the rules applied last, and by FILE. Both by their active
    rules, as the kernel judges, whatever the servers' modes. Where a condition tells
    folded ports apart, all that were seen are tried: "for some ports only" says which.
    Exit status 1 when any verdict changes.

    \b
    Example:
      sockrules replay --rules new-rules.toml --since 7d
    """
    from ..capture_source import captures, in_force, rules_in_force
    from ..replay import replay as compare
    from ..replay import replay_to_json, sentence
    from ..same import identified_set
    from .inputs import parsed, rules_text

    paths = here()
    names = SystemNames(paths.lists)
    text, name = rules_text(paths, file)
    with waiting("captured transactions are judged by both rule files"):
        after = parsed(paths, text, name, names=names).ruleset
        applied = in_force(paths)
        found = captures(paths, filter_of(server, since))
        before = identified_set(rules_in_force(applied, names))
        result = compare(found.transactions, before, identified_set(after))
    if as_json:
        doc = replay_to_json(result, names)
        doc |= {"revision": applied.revision if applied else None, "rules": name}
        click.echo(render.document(doc | {"lost": dict(found.lost)}))
    else:
        look = render.WARN if result.changes else render.GOOD
        click.echo(render.coloured(sentence(result), look))
        if applied is None:
            click.echo("no rules were ever applied: compared with the rules as shipped")
        for title, changes in (
            ("would now be rejected", result.rejected),
            ("would now be allowed", result.allowed),
            ("would change for some ports only", result.depends),
        ):
            for line in _section(title, changes, examples):
                click.echo(line)
        if result.moved:
            what = render.plural(result.moved, "transaction")
            click.echo(f"\n{what} with the same verdict, from another rule")
        note_losses(found.lost)
    context.exit(1 if result.changes else 0)


def foretell(paths: Paths, after: RuleSet) -> list[str]:
    """What `apply` tells before it acts: a sentence and a few examples; nothing when nothing
    was captured, or the captures cannot be read."""
    from ..capture_source import captures, in_force, rules_in_force
    from ..client import AgentRefused, AgentUnreachable
    from ..problems import InputError
    from ..replay import brief
    from ..same import identified_set

    try:
        found = captures(paths).transactions
        if not found:
            return []
        before = rules_in_force(in_force(paths), SystemNames(paths.lists))
    except (AgentRefused, AgentUnreachable, InputError, OSError):
        return []
    lines = brief(found, identified_set(before), identified_set(after))
    return [render.safe(line) for line in lines]


def _section(title: str, changes: Sequence[Change], most: int) -> list[str]:
    from ..replay import by_rule, change_text

    if not changes:
        return []
    lines = ["", render.coloured(title, render.STRONG)]
    for rule, transactions, requests in by_rule(changes):
        what = f"{render.plural(transactions, 'transaction')}, {render.plural(requests, 'request')}"
        lines.append(f"  by {render.safe(rule)}: {what}")
    shown = changes[: most or None]
    lines += [f"    {render.safe(change_text(change))}" for change in shown]
    if len(shown) < len(changes):
        lines.append(f"    and {len(changes) - len(shown)} more; --examples 0 shows all")
    return lines
