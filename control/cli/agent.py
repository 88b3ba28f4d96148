# SPDX-License-Identifier: Apache-2.0
"""`sockrules agent`: becomes the agent, which is a program of its own."""

from __future__ import annotations

import os
import sys

import click

from .options import SETTINGS, here, root_option

PROGRAM = [sys.executable, "-P", "-m", "sockrules.agent"]
"""-P: whatever lies in the current folder is not imported by root."""


@click.group(context_settings=SETTINGS)
@root_option
def agent() -> None:
    """Run the agent.

    It loads the rules into the kernel and keeps the audit log.

    \b
    Example:
      sockrules agent run
    """


@agent.command(context_settings=SETTINGS)
@click.option(
    "--detach-on-exit",
    is_flag=True,
    help="When the agent ends, so does enforcement. Without, the kernel goes on with it.",
)
@root_option
def run(detach_on_exit: bool) -> None:
    """Run the agent in the foreground, until it is interrupted. Needs root.

    \b
    Example:
      sockrules agent run --root /tmp/try --detach-on-exit
    """
    detach = ["--detach"] if detach_on_exit else []
    sys.stdout.flush()
    os.execv(PROGRAM[0], [*PROGRAM, "run", "--root", str(here().root), *detach])
