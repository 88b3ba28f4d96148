# SPDX-License-Identifier: Apache-2.0
"""`sockrules confirm`: keep what was applied with a time to confirm it."""

from __future__ import annotations

import click

from .. import render
from .options import SETTINGS, here, json_option, root_option


@click.command(context_settings=SETTINGS)
@json_option
@root_option
def confirm(as_json: bool) -> None:
    """Keep the rules that `apply --confirm` put in force.

    Best run from a new session: that it can be opened is what is to be confirmed.
    Exit status 1 when nothing waits, be it that the time is over.

    \b
    Example:
      sockrules confirm
    """
    from ..client import Client

    result = Client(here().socket).call("confirm")
    if as_json:
        click.echo(render.document(result))
    else:
        click.echo(f"confirmed: revision {render.safe(result.get('revision', '?'))} stays in force")
