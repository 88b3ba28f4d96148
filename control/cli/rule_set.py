# SPDX-License-Identifier: Apache-2.0
"""`sockrules rule set NAME KEY=VALUE...` and `rule copy`: edits of the rule file."""

from __future__ import annotations

from typing import Any

import click

from ..files import read_text
from ..names import SystemNames
from ..problems import InputError
from .assignments import assigned, blamed
from .failures import WrongInput
from .options import SETTINGS, here, json_option, names_in_file, root_option
from .rule_change import edit_rules
from .rule_options import key_options, place_of, place_options, written


@click.command("set", context_settings=SETTINGS)
@click.argument("name", shell_complete=names_in_file)
@click.argument("words", metavar="[KEY=VALUE]...", nargs=-1)
@key_options(required=False)
@json_option
@root_option
def set_(name: str, words: tuple[str, ...], as_json: bool, **keys: Any) -> None:
    """Change keys of a rule; those left out stay as they are.

    Keys are written as in the file, or as options; name=NEW renames the rule.

    \b
    Example:
      sockrules rule set no-telnet audit=yes active=no
    """
    from .. import rules_edit
    from ..table import CompileError

    values = written(keys)
    if words or not values:
        for key, value in assigned(words, rules_edit.ORDER).items():
            if key in values:
                raise WrongInput(f"{key} is set twice", "set each key once")
            values[key] = value
    try:
        edit_rules(
            [values.get("name", name)],
            "changed",
            lambda text: rules_edit.set_keys(text, name, values),
            as_json,
            grows=True,
        )
    except CompileError:
        raise  # it names the rules that cost most
    except InputError as error:
        raise blamed(error, f"{name}, {', '.join(values)}", _check_file) from None


def _check_file() -> None:
    from ..rules_file import parse_rules

    paths = here()
    text = read_text(paths.rules)
    parse_rules(text, file=str(paths.rules), names=SystemNames(paths.lists))


@click.command(context_settings=SETTINGS)
@click.argument("name", shell_complete=names_in_file)
@click.argument("new", metavar="NEWNAME")
@place_options
@click.option("--to", type=click.IntRange(1, 99998), metavar="N", help="To this sequence.")
@json_option
@root_option
def copy(
    name: str,
    new: str,
    first: bool,
    last: bool,
    before: str | None,
    after: str | None,
    to: int | None,
    as_json: bool,
) -> None:
    """Copy a rule: directly after it, unless a place is named.

    The comments that belong to the rule are not copied.

    \b
    Example:
      sockrules rule copy no-telnet no-rlogin --last
    """
    from .. import rules_edit

    place = place_of(first, last, before, after, to)
    edit_rules(
        [new],
        "added",
        lambda text: rules_edit.copy(text, name, new, place),
        as_json,
        grows=True,
    )
