# SPDX-License-Identifier: Apache-2.0
"""docs/cli.md, made from what `--help` says.

`python -m sockrules.control.cli.reference docs/cli.md` writes it; without a file,
to standard output. A test fails when the file is older than the commands.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from . import main as sockrules

WIDTH = 80

_HEAD = """\
<!-- SPDX-License-Identifier: Apache-2.0 -->
# The command line

What `sockrules COMMAND --help` prints, for every command. This page is made by
`python -m sockrules.control.cli.reference docs/cli.md`; do not edit it.

Exit status, everywhere: 0 done; 1 the answer is no (not enforced, would be
rejected, nobody answers); 2 the input was wrong.

With `--json`, what goes wrong is one JSON object on standard error:
`{"error": {"kind": ..., "message": ..., "hint": ..., "problems": [...]}}`. `kind`
is `usage`, `input`, `state`, `unreachable`, `file` or `internal`; `hint` and
`problems` (file, line, column, message, hint, severity) are there when there are any.
"""


def reference() -> str:
    """The page, as Markdown."""
    sections = [f"## {path}\n\n```\n{text}\n```\n" for path, text in _helps(sockrules, None)]
    return "\n".join([_HEAD, *sections])


def _helps(command: click.Command, parent: click.Context | None) -> Iterator[tuple[str, str]]:
    """Every command's path and help: the command's own, then those below it."""
    name = command.name if parent else "sockrules"
    context = click.Context(
        command, info_name=name, parent=parent, terminal_width=WIDTH, **command.context_settings
    )
    text = command.get_help(context)
    lines = (line.rstrip() for line in click.unstyle(text).splitlines())
    yield context.command_path, "\n".join(lines).strip()
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            below = command.get_command(context, each)
            if below is not None and not below.hidden:
                yield from _helps(below, context)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(reference(), encoding="utf-8")
    else:
        sys.stdout.write(reference())
