# SPDX-License-Identifier: Apache-2.0
"""`sockrules completion`: what a shell needs to complete our commands."""

from __future__ import annotations

import click
from click.shell_completion import ShellComplete, get_completion_class

from .options import SETTINGS, root_option

PROGRAM = "sockrules"


@click.command(context_settings=SETTINGS)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@root_option
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Write the completion script of a shell.

    \b
    Example:
      source <(sockrules completion bash)
    """
    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(context.find_root().command, {}, PROGRAM, f"_{PROGRAM.upper()}_COMPLETE")
    # The base class's: bash's own first runs bash to look at its version.
    click.echo(ShellComplete.source(script))
