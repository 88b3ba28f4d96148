# SPDX-License-Identifier: Apache-2.0
"""`sockrules apply`: put the rule file in force, whole or not at all."""

from __future__ import annotations

import click

from .. import render
from .failures import problem_line
from .inputs import rules_text
from .options import SETTINGS, here, json_option, root_option


@click.command(context_settings=SETTINGS)
@click.argument("file", required=False)
@json_option
@root_option
def apply(file: str | None, as_json: bool) -> None:
    """Put the rule file in force, whole or not at all.

    With FILE (or - for standard input), that becomes the installed one. The agent
    compiles the rules again and swaps them in at once; where anything is wrong, nothing
    changes. Servers that are off stay off: see activate.

    \b
    Example:
      sockrules check new-rules.toml && sockrules apply new-rules.toml
    """
    from ..client import Client, problems_of

    paths = here()
    text, name = (None, str(paths.rules)) if file is None else rules_text(paths, file)
    result = Client(paths.socket).call("apply", text=text, file=name)
    if as_json:
        click.echo(render.document(result))
        return
    for warning in problems_of(result.get("warnings")):
        click.echo(problem_line(warning), err=True)
    revision = render.safe(result.get("revision", "?"))
    if not result.get("changed"):
        click.echo(f"nothing to change: revision {revision} is in force")
        return
    rules, steps = result.get("rules"), result.get("steps")
    what = render.plural(rules, "rule") if isinstance(rules, int) else "the rules"
    click.echo(f"applied {what} as revision {revision}, at most {render.safe(steps)} steps")
