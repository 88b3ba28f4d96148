# SPDX-License-Identifier: Apache-2.0
"""`sockrules rule`: the rules of the rule file, shown and edited."""

from __future__ import annotations

import click

from .options import SETTINGS, root_option
from .rule_change import add, disable, enable, move, remove, set_
from .rule_list import list_, show


@click.group(context_settings=SETTINGS)
@root_option
def rule() -> None:
    """Show and edit the rules. An edit is in force once it is applied.

    \b
    Example:
      sockrules rule list --server accept
    """


for command in (list_, show, add, set_, move, enable, disable, remove):
    rule.add_command(command)
