# SPDX-License-Identifier: Apache-2.0
"""`sockrules config`: agent.toml, key by key."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from .. import render
from ..files import edit, read_text
from ..paths import Paths
from .assignments import checked, refused_as_input
from .failures import WrongInput
from .options import SETTINGS, here, json_option, root_option

if TYPE_CHECKING:
    from ..agent_keys import Plain, Setting
    from ..toml_keys import Value

_AT_APPLY = ("product", "messages")
"""Tables that the agent reads again whenever rules are applied."""


def _names(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    from ..agent_keys import names

    return [name for name in names() if name.startswith(incomplete)]


@click.group(context_settings=SETTINGS)
@root_option
def config() -> None:
    """Show and edit agent.toml: the product configuration and the agent's settings.

    \b
    Example:
      sockrules config show
    """


@config.command(context_settings=SETTINGS)
@click.argument("name", metavar="[KEY|TABLE]", required=False, shell_complete=_names)
@json_option
@root_option
def show(name: str | None, as_json: bool) -> None:
    """Show what every key is set to, and whether that is written or as shipped.

    \b
    Example:
      sockrules config show messages
    """
    found = _settings(here())
    if name is not None:
        chosen = [each for each in found if name in (each.name, each.table)]
        if not chosen:
            _find(name)  # says what would be right
        found = chosen
    if as_json:
        settings = [_document(each) for each in found]
        click.echo(render.document({"file": str(here().agent_config), "settings": settings}))
        return
    rows = [(each.name, render.safe(_text(each.value)), _source(each)) for each in found]
    for line in render.table(("KEY", "VALUE", "FROM"), [list(map(str, row)) for row in rows]):
        click.echo(line)


@config.command(context_settings=SETTINGS)
@click.argument("name", metavar="KEY", shell_complete=_names)
@json_option
@root_option
def get(name: str, as_json: bool) -> None:
    """Print what a key is set to; nothing where it is set to nothing.

    \b
    Example:
      sockrules config get product.audit
    """
    where = _find(name)
    setting = next(each for each in _settings(here()) if (each.table, each.key) == where)
    if as_json:
        click.echo(render.document(_document(setting)))
    elif setting.value not in (None, []):
        click.echo(render.safe(_text(setting.value)))


@config.command("set", context_settings={**SETTINGS, "ignore_unknown_options": True})
@click.argument("name", metavar="KEY", shell_complete=_names)
@click.argument("words", metavar="VALUE...", nargs=-1, required=True)
@json_option
@root_option
def set_(name: str, words: tuple[str, ...], as_json: bool) -> None:
    """Set a key in agent.toml; comments and layout stay.

    A command is written as its words.

    \b
    Example:
      sockrules config set messages.command /usr/local/bin/notify --now
    """
    from ..agent_file import known_keys
    from ..table_edit import set_key

    table, key = _find(name)
    if table == "servers":
        mode = words[0] if words[0] in ("simulate", "enforce") else None
        right = f"activate {key} --mode {mode}" if mode else f"deactivate {key}"
        raise WrongInput(f"{name} is not set here", f"use: sockrules {right}")
    value = _value(table, key, words)
    order = known_keys()[table]
    _edit(name, "set", lambda text: set_key(text, table, key, value, order), as_json)


@config.command(context_settings=SETTINGS)
@click.argument("name", metavar="KEY", shell_complete=_names)
@json_option
@root_option
def unset(name: str, as_json: bool) -> None:
    """Take a key out of agent.toml: it is as shipped again.

    \b
    Example:
      sockrules config unset agent.cgroup
    """
    from ..table_edit import remove_key

    table, key = _find(name)
    if table == "servers":
        raise WrongInput(f"{name} is not set here", f"use: sockrules deactivate {key}")
    _edit(name, "unset", lambda text: remove_key(text, table, key), as_json)


def _edit(name: str, done: str, change: Callable[[str], str], as_json: bool) -> None:
    from ..agent_file import parse_agent_config
    from ..agent_keys import settings

    path = here().agent_config
    texts = {"before": "", "after": ""}

    def change_and_keep(text: str) -> str:
        texts["before"], texts["after"] = text, change(text)
        return texts["after"]

    judge = checked(lambda text: parse_agent_config(text, file=str(path)), name)
    changed = edit(path, change_and_keep, lambda text: judge(texts["before"], text))
    found = settings(texts["after"], file=str(path))
    setting = next(each for each in found if each.name == name)
    at_apply = setting.table in _AT_APPLY
    following = "sockrules apply" if at_apply else "start the agent again"
    if as_json:
        doc = {"file": str(path), "changed": changed, **_document(setting)}
        click.echo(render.document({**doc, "next": following if changed else None}))
        return
    if not changed:
        click.echo("nothing to change")
        return
    click.echo(f"{done} {name}: {render.safe(_text(setting.value)) or 'nothing'}")
    if at_apply:
        click.echo("not yet in force; run `sockrules apply`")
    else:
        click.echo("an agent that runs reads it when it is started again")


def _settings(paths: Paths) -> list[Setting]:
    from ..agent_keys import settings

    try:
        text = read_text(paths.agent_config)
    except FileNotFoundError:
        text = ""  # as shipped
    return settings(text, file=str(paths.agent_config))


def _find(name: str) -> tuple[str, str]:
    from ..agent_keys import find

    with refused_as_input():
        return find(name)


def _value(table: str, key: str, words: tuple[str, ...]) -> Value:
    """The words as the kind of value that the key takes; what does not fit stays a text."""
    from ..agent_file import AgentConfig
    from ..agent_keys import value_of

    shipped = value_of(AgentConfig(), table, key)
    if isinstance(shipped, list):
        return list(words)
    if len(words) > 1:
        raise WrongInput(f"{table}.{key} takes one value", "quote what holds a space")
    [word] = words
    return int(word) if isinstance(shipped, int) and _is_number(word) else word


def _is_number(word: str) -> bool:
    digits = word.removeprefix("-")
    return digits.isascii() and digits.isdecimal() and len(digits) < 19


def _text(value: Plain) -> str:
    """A value for people: a command as a shell would take it."""
    import shlex

    if value is None:
        return ""
    return shlex.join(value) if isinstance(value, list) else str(value)


def _source(setting: Setting) -> str:
    return "agent.toml" if setting.written else "shipped"


def _document(setting: Setting) -> dict[str, object]:
    return {"key": setting.name, "value": setting.value, "from": _source(setting)}
