# SPDX-License-Identifier: Apache-2.0
"""`sockrules default`: the default rules, which decide what no rule matched."""

from __future__ import annotations

from typing import Any

import click

from .. import render
from ..files import edit, read_text
from ..model import DefaultRule, RuleSet, Server, effective
from ..names import SystemNames
from .assignments import assigned, checked
from .inputs import parsed
from .options import SERVERS, SETTINGS, here, json_option, root_option, servers_of

KEYS = ("authority", "audit", "message", "capture")
_SERVER = click.Choice([*SERVERS, "all"])


@click.group(context_settings=SETTINGS)
@root_option
def default() -> None:
    """Show and edit the default rules. An edit is in force once it is applied.

    \b
    Example:
      sockrules default show
    """


@default.command(context_settings=SETTINGS)
@click.argument("words", metavar="[SERVER]...", type=_SERVER, nargs=-1)
@json_option
@root_option
def show(words: tuple[str, ...], as_json: bool) -> None:
    """Show the default rules: what happens to requests that no rule matches.

    audit, message and capture are the effective values; (product) comes from
    agent.toml.

    \b
    Example:
      sockrules default show accept
    """
    paths = here()
    try:
        text = read_text(paths.rules)
    except FileNotFoundError:
        text = ""  # as shipped
    ruleset = parsed(paths, text, str(paths.rules)).ruleset
    servers = servers_of(words or ("all",))
    documents = [_document(ruleset, ruleset.defaults[server]) for server in servers]
    if as_json:
        click.echo(render.document({"file": str(paths.rules), "defaults": documents}))
        return
    headings = ("SERVER", *map(str.upper, KEYS))
    for line in render.table(headings, map(_row, documents)):
        click.echo(line)


@default.command("set", context_settings=SETTINGS)
@click.argument("server", type=_SERVER)
@click.argument("words", metavar="KEY=VALUE...", nargs=-1)
@json_option
@root_option
def set_(server: str, words: tuple[str, ...], as_json: bool) -> None:
    """Change keys of a server's default rule; those left out stay as they are.

    Keys: authority (yes, no), and audit, message, capture (yes, no, inherit).

    \b
    Example:
      sockrules default set listen authority=no audit=yes
    """
    from ..rules_file import parse_rules
    from ..table_edit import set_key
    from .rule_change import NEXT

    paths = here()
    values = assigned(words, KEYS)
    servers = servers_of((server,))
    old = ""

    def change(text: str) -> str:
        nonlocal old
        old = text
        for each in servers:
            for key, value in values.items():
                text = set_key(text, f"default.{each.word}", key, value, KEYS)
        return text

    def check(text: str) -> None:
        parse_rules(text, file=str(paths.rules), names=SystemNames(paths.lists))

    judge = checked(check, f"default {server}")
    changed = edit(paths.rules, change, lambda text: judge(old, text))
    if as_json:
        doc = {
            "file": str(paths.rules),
            "changed": changed,
            "defaults": [f"default-{each.word}" for each in servers],
            "next": "sockrules apply" if changed else None,
        }
        click.echo(render.document(doc))
    elif not changed:
        click.echo("nothing to change")
    else:
        for each in servers:
            click.echo(f"changed default-{each.word}")
        click.echo(NEXT)


def _document(ruleset: RuleSet, rule: DefaultRule) -> dict[str, Any]:
    doc: dict[str, Any] = {
        "name": rule.name,
        "server": Server(rule.server).word,
        "sequence": rule.sequence,
        "authority": render.yes_no(rule.authority),
    }
    for switch in KEYS[1:]:
        found = effective(ruleset, rule, switch)
        doc[switch] = {
            "set": getattr(rule, switch).value,
            "value": render.yes_no(found.value),
            "from": "product" if found.source == "product" else "default",
        }
    return doc


def _row(doc: dict[str, Any]) -> list[str]:
    authority = doc["authority"]
    look = render.GOOD if authority == "yes" else render.BAD
    switches = (doc[switch] for switch in KEYS[1:])
    return [
        doc["server"],
        render.coloured(authority, look),
        *(
            each["value"] if each["set"] != "inherit" else f"{each['value']} ({each['from']})"
            for each in switches
        ),
    ]
