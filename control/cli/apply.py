# SPDX-License-Identifier: Apache-2.0
"""`sockrules apply`: put the rule file in force, whole or not at all, and not unawares."""

from __future__ import annotations

from typing import Any

import click

from .. import render
from ..paths import Paths
from .change_words import pending_line, preview_lines, seconds, session_arguments
from .failures import problem_line
from .inputs import parsed, rules_text
from .options import SETTINGS, here, json_option, root_option
from .waiting import waiting


@click.command(context_settings=SETTINGS)
@click.argument("file", required=False)
@click.option(
    "--confirm",
    callback=seconds,
    metavar="TIME",
    help="Take it back by itself unless `sockrules confirm` comes within TIME (60s, 5m).",
)
@click.option("--force", is_flag=True, help="Even if it locks this session or every login out.")
@click.option("--dry-run", is_flag=True, help="Show what would change and whom it would hit.")
@json_option
@root_option
@click.pass_context
def apply(
    context: click.Context,
    file: str | None,
    confirm: float | None,
    force: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Put the rule file in force, whole or not at all.

    With FILE (or - for standard input), that becomes the installed one. Shows what
    changes, and which of today's listeners and connections the new rules would reject if
    they began now. What goes on now is not cut; but where this very session, or the last
    login server, would be rejected, nothing is applied without --force (and --dry-run
    exits with status 1). Servers that are off stay off: see activate.

    \b
    Example:
      sockrules apply new-rules.toml --confirm 60s && ssh this-host sockrules confirm
    """
    from ..client import Client, problems_of

    paths = here()
    text, name = (None, str(paths.rules)) if file is None else rules_text(paths, file)
    client, session = Client(paths.socket), session_arguments()
    with waiting("the agent reads and compares the rules"):
        preview = client.call("preview", text=text, file=name, **session)
    if not as_json:
        for line in preview_lines(preview):
            click.echo(line)
        if preview.get("changed"):
            with waiting("the captured transactions are judged by the new rules"):
                lines = _foretold(paths, file)
            for line in lines:
                click.echo(line)
        for warning in problems_of(preview.get("warnings")):
            click.echo(problem_line(warning), err=True)
    if dry_run:
        if as_json:
            click.echo(render.document(preview))
        context.exit(1 if preview.get("dangers") else 0)
    asked = {"confirm": confirm} if confirm is not None else {}
    forced = {"force": True} if force else {}
    with waiting("the agent puts the rules in force"):
        result = client.call("apply", text=text, file=name, **asked, **forced, **session)
    if as_json:
        shown = {key: preview.get(key) for key in ("difference", "impact", "session", "dangers")}
        click.echo(render.document({**result, **shown}))
        return
    click.echo(_sentence(result))
    if isinstance(result.get("pending"), dict):
        click.echo(pending_line(result["pending"]))


def _foretold(paths: Paths, file: str | None) -> list[str]:
    """What the rules would have made of the captured transactions, in brief."""
    from ..problems import InputError
    from .replay import foretell

    if file == "-":
        return []
    try:
        return foretell(paths, parsed(paths, *rules_text(paths, file)).ruleset)
    except (InputError, click.ClickException):  # the agent says better what is wrong
        return []


def _sentence(result: dict[str, Any]) -> str:
    revision = render.safe(result.get("revision", "?"))
    if not result.get("changed"):
        return f"nothing to change: revision {revision} is in force"
    rules, steps = result.get("rules"), result.get("steps")
    what = render.plural(rules, "rule") if isinstance(rules, int) else "the rules"
    return f"applied {what} as revision {revision}, at most {render.safe(steps)} steps"
