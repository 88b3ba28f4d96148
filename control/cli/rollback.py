# SPDX-License-Identifier: Apache-2.0
"""`sockrules rollback`: an earlier revision once more."""

from __future__ import annotations

import click

from .. import render
from .change_words import preview_lines, session_arguments
from .options import SETTINGS, here, json_option, root_option
from .waiting import waiting


@click.command(context_settings=SETTINGS)
@click.argument("revision", metavar="[REV]", type=click.IntRange(min=1), required=False)
@click.option("--force", is_flag=True, help="Even if it locks this session or every login out.")
@click.option("--dry-run", is_flag=True, help="Show what would change and whom it would hit.")
@json_option
@root_option
@click.pass_context
def rollback(
    context: click.Context, revision: int | None, force: bool, dry_run: bool, as_json: bool
) -> None:
    """Apply an earlier revision again, as a new one; it becomes the rule file.

    Without REV that is the one before the one in force; while `apply --confirm`
    waits, the one that was confirmed last. Its lists come back as they were and hold
    until the next apply; the files of lists stay as they are, and those that differ are
    named. Refused like apply where it would lock out.

    \b
    Example:
      sockrules rollback 7 --dry-run
    """
    from ..client import Client

    client, session = Client(here().socket), session_arguments()
    with waiting("the agent reads and compares the rules"):
        preview = client.call("preview", revision=revision or 0, **session)
    if not as_json:
        for line in preview_lines(preview):
            click.echo(line)
    if dry_run:
        if as_json:
            click.echo(render.document(preview))
        context.exit(1 if preview.get("dangers") else 0)
    forced = {"force": True} if force else {}
    with waiting("the agent puts the rules in force"):
        result = client.call("rollback", revision=revision, **forced, **session)
    if as_json:
        shown = {key: preview.get(key) for key in ("difference", "impact", "session", "dangers")}
        click.echo(render.document({**result, **shown}))
        return
    now, back = render.safe(result.get("revision", "?")), render.safe(result.get("back_to", "?"))
    if result.get("changed"):
        click.echo(f"back to revision {back}, as revision {now}")
    else:
        click.echo(f"revision {back} is what is in force, as revision {now}")
    if result.get("saved"):
        saved = render.safe(result["saved"])
        click.echo(f"the rule file had edits that were never applied; they are in {saved}")
    differ = [f"{render.safe(name)}.txt" for name in result.get("lists_differ", [])]
    if differ:
        text = (
            f"lists that differ from what is in force now: {', '.join(differ)};"
            " the next apply takes the files again"
        )
        click.echo(render.coloured(text, render.WARN), err=True)
