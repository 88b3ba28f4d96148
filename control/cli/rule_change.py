# SPDX-License-Identifier: Apache-2.0
"""`sockrules rule add`, `set`, `move`, `enable`, `disable`, `remove`: edits of the rule file.

Every edit is checked as a whole file before it replaces the old one. Edits that
could make the rules too many for the kernel are compiled, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from .. import render
from ..files import edit
from ..names import SystemNames
from ..problems import InputError, Problem
from .options import SETTINGS, here, json_option, names_in_file, root_option
from .rule_options import key_options, place_of, place_options, written

NEXT = "not yet in force; run `sockrules apply`"


@click.command(context_settings=SETTINGS)
@click.argument("name")
@key_options(required=True)
@place_options
@json_option
@root_option
def add(
    name: str,
    first: bool,
    last: bool,
    before: str | None,
    after: str | None,
    as_json: bool,
    **keys: Any,
) -> None:
    """Add a rule: at the end, unless a place is named.

    \b
    Example:
      sockrules rule add no-telnet --server connect --authority no \\
        --when 'remote.port == 23' --first
    """
    from .. import rules_edit

    place = place_of(first, last, before, after) or rules_edit.LAST
    values = {"name": name, **written(keys)}
    _check_condition(values["server"], values["when"])
    _change([name], "added", lambda text: rules_edit.add(text, values, place), as_json, grows=True)


@click.command("set", context_settings=SETTINGS)
@click.argument("name", shell_complete=names_in_file)
@key_options(required=False)
@json_option
@root_option
def set_(name: str, as_json: bool, **keys: Any) -> None:
    """Change keys of a rule; those left out stay as they are.

    \b
    Example:
      sockrules rule set no-telnet --audit yes --no-active
    """
    from .. import rules_edit

    values = written(keys)
    if not values:
        raise click.UsageError("nothing to set; name a key, as in --authority no")
    _change(
        [name],
        "changed",
        lambda text: rules_edit.set_keys(text, name, values),
        as_json,
        grows=True,
    )


@click.command(context_settings=SETTINGS)
@click.argument("name", shell_complete=names_in_file)
@place_options
@click.option("--to", type=click.IntRange(1, 99998), metavar="N", help="To this sequence.")
@json_option
@root_option
def move(
    name: str,
    first: bool,
    last: bool,
    before: str | None,
    after: str | None,
    to: int | None,
    as_json: bool,
) -> None:
    """Move a rule, with the comments that belong to it. The first match decides.

    \b
    Example:
      sockrules rule move no-telnet --before allow-lab
    """
    from .. import rules_edit

    place = place_of(first, last, before, after, to)
    if place is None:
        raise click.UsageError("where to? Name --first, --last, --before, --after or --to")
    _change([name], "moved", lambda text: rules_edit.move(text, name, place), as_json)


@click.command(context_settings=SETTINGS)
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=names_in_file)
@json_option
@root_option
def enable(names: tuple[str, ...], as_json: bool) -> None:
    """Make rules active: the kernel evaluates them.

    \b
    Example:
      sockrules rule enable no-telnet
    """
    from .. import rules_edit

    _change(list(names), "enabled", _each(rules_edit.enable, names), as_json, grows=True)


@click.command(context_settings=SETTINGS)
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=names_in_file)
@json_option
@root_option
def disable(names: tuple[str, ...], as_json: bool) -> None:
    """Make rules inactive; sockrules test goes on evaluating them.

    \b
    Example:
      sockrules rule disable no-telnet
    """
    from .. import rules_edit

    _change(list(names), "disabled", _each(rules_edit.disable, names), as_json)


@click.command(context_settings=SETTINGS)
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=names_in_file)
@json_option
@root_option
def remove(names: tuple[str, ...], as_json: bool) -> None:
    """Remove rules, with the comments that belong to them.

    \b
    Example:
      sockrules rule remove no-telnet
    """
    from .. import rules_edit

    _change(list(names), "removed", _each(rules_edit.remove, names), as_json)


def _each(change: Callable[[str, str], str], names: tuple[str, ...]) -> Callable[[str], str]:
    def change_all(text: str) -> str:
        for name in dict.fromkeys(names):
            text = change(text, name)
        return text

    return change_all


def _change(
    names: list[str],
    done: str,
    change: Callable[[str], str],
    as_json: bool,
    *,
    grows: bool = False,
) -> None:
    """Edit the rule file and say what was done."""
    from ..rules_file import parse_rules

    paths = here()
    sequences: dict[str, int] = {}

    def check(text: str) -> None:
        # Without the product configuration: a mistake in agent.toml is not this edit's.
        names = SystemNames(paths.lists)
        ruleset = parse_rules(text, file=str(paths.rules), names=names).ruleset
        sequences.update((rule.name, rule.sequence) for rule in ruleset.rules)
        if grows:
            from ..compile import compile_table

            compile_table(ruleset, ruleset.active())
            compile_table(ruleset, ruleset.in_test())

    changed = edit(paths.rules, change, check)
    if as_json:
        rules = [{"name": name, "sequence": sequences.get(name)} for name in names]
        next_step = "sockrules apply" if changed else None
        doc = {"file": str(paths.rules), "changed": changed, "rules": rules, "next": next_step}
        click.echo(render.document(doc))
        return
    if not changed:
        click.echo("nothing to change")
        return
    for name in names:
        at = f" at {sequences[name]}" if name in sequences and done in ("added", "moved") else ""
        click.echo(f"{done} {render.safe(name)}{at}")
    click.echo(NEXT)


def _check_condition(server: str, when: str) -> None:
    """Refuse a condition with places in the option, not in a file that is not written yet."""
    from ..condition_parser import ConditionError, parse_condition
    from ..model import Server

    try:
        names = SystemNames(here().lists)
        parse_condition(when, server=Server[server.upper()], names=names)
    except ConditionError as error:
        raise InputError(
            Problem("--when", 1, offset + 1, message, hint)
            for offset, message, hint in error.problems
        ) from None
