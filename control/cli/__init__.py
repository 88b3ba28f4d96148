# SPDX-License-Identifier: Apache-2.0
"""`sockrules`: the command line. One module a command; each is loaded when it is named."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from ... import __version__
from .. import render
from .failures import document, failure_of
from .options import SETTINGS, root_option

COMMANDS = {
    "status": "status",
    "activate": "activate",
    "deactivate": "activate",
    "rule": "rule",
    "check": "check",
    "apply": "apply",
    "test": "test",
    "audit": "audit",
    "doctor": "doctor",
    "agent": "agent",
    "completion": "completion",
}
"""The commands in the order of `--help`, and their modules."""


class CommandLine(click.Group):
    """The group of all commands: loads them late, and words what went wrong."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f".{COMMANDS[cmd_name]}", __package__)
        command = getattr(module, cmd_name)
        assert isinstance(command, click.Command)
        return command

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command line and exit: 0 done, 1 the answer is no, 2 the input was wrong."""
        words = list(sys.argv[1:] if args is None else args)

        def run() -> Any:
            return super(CommandLine, self).main(
                words, prog_name, complete_var, standalone_mode=False, **extra
            )

        if not standalone_mode:
            return run()
        try:
            code = run()
        except click.Abort:
            click.echo("interrupted", err=True)
            sys.exit(130)  # as the shell words an end by SIGINT
        except Exception as exception:
            failure = failure_of(exception)
            if failure is None:
                raise
            if _wants_json(words):
                click.echo(render.line(document(failure)), err=True)
            else:
                failure.show()
            sys.exit(failure.exit_code)
        sys.exit(code if isinstance(code, int) else 0)


def _wants_json(words: list[str]) -> bool:
    return "--json" in words[: words.index("--")] if "--" in words else "--json" in words


@click.group(cls=CommandLine, context_settings=SETTINGS)
@click.version_option(__version__, prog_name="sockrules")
@root_option
@click.pass_context
def main(context: click.Context) -> None:
    """Rules for sockets: who may listen, which peers they accept, where they may connect.

    Exit status: 0 done, 1 the answer is no (not enforced, would be rejected),
    2 the input was wrong.

    \b
    Example:
      sockrules --root /tmp/try status
    """
    if os.environ.get("NO_COLOR"):
        context.color = False
