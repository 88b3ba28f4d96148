# SPDX-License-Identifier: Apache-2.0
"""`sockrules history`: what was applied, by whom and when, and what each time changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .. import render
from ..times import local_text, parse_utc
from .change_words import pending_line
from .options import SETTINGS, here, json_option, root_option

if TYPE_CHECKING:
    from ..client import Client

_MOST = 50
_LOOKS = {"+": render.GOOD, "-": render.BAD, "@": render.FAINT}


@click.command(context_settings=SETTINGS)
@click.argument("revision", metavar="[REV]", type=click.IntRange(min=1), required=False)
@click.option("--text", "whole", is_flag=True, help="With REV: its rule file instead.")
@click.option("--all", "everything", is_flag=True, help=f"More than the last {_MOST}.")
@json_option
@root_option
def history(revision: int | None, whole: bool, everything: bool, as_json: bool) -> None:
    """List the revisions, the latest first; with REV, what that one changed.

    The difference is the one of the rule file and of the lists it named, to the
    revision before.

    \b
    Example:
      sockrules history 7
    """
    from ..client import Client

    client = Client(here().socket)
    if revision is not None:
        _one(client, revision, whole, as_json)
        return
    if whole:
        raise click.UsageError("--text of which revision? Name it")
    answer = client.call("history", most=None if everything else _MOST)
    if as_json:
        click.echo(render.document(answer))
        return
    for line in _table(answer):
        click.echo(line)


def _table(answer: dict[str, Any]) -> list[str]:
    pending = answer.get("pending")
    waits = pending.get("revision") if isinstance(pending, dict) else None
    rows = []
    for each in answer.get("revisions", []):
        state = "in force" if each.get("in_force") else ""
        if waits is not None and each.get("revision") == waits:
            state = "not confirmed"
        moment = parse_utc(each.get("applied"))
        rows.append(
            [
                each.get("revision"),
                local_text(moment) if moment else "?",
                render.safe(each.get("user", "?")),
                each.get("rules"),
                render.coloured(state, render.GOOD if state == "in force" else render.WARN),
                render.safe(each.get("file", "?")),
            ]
        )
    lines = render.table(("REVISION", "APPLIED", "BY", "RULES", "STATE", "FILE"), rows)
    return [*lines, pending_line(pending)] if isinstance(pending, dict) else lines


def _one(client: Client, revision: int, whole: bool, as_json: bool) -> None:
    found = client.call("revision", revision=revision)
    if whole and not as_json:
        click.echo(found.get("text", ""), nl=False)
        return
    number = found.get("before")
    before = client.call("revision", revision=number) if number is not None else {}
    lines = _difference(before, found)
    if as_json:
        click.echo(render.document({**found, "difference": lines}))
        return
    moment = parse_utc(found.get("applied"))
    when = local_text(moment) if moment else "?"
    user, file = render.safe(found.get("user", "?")), render.safe(found.get("file", "?"))
    click.echo(f"revision {revision}: applied {when} by {user} from {file}")
    if not lines:
        click.echo(f"no difference to revision {number}" if before else "empty, and the first")
    for line in lines:
        text = render.safe(line.replace("\t", "    "))
        look = _LOOKS.get(line[:1])
        click.echo(render.coloured(text, look) if look else text)


def _difference(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The unified diff of the rule files, then those of the lists that differ."""
    from ..difference import text_difference

    old, new = before.get("revision"), after.get("revision")
    name = f"revision {old}" if old is not None else "nothing"

    def compare(one: str, other: str, file: str) -> list[str]:
        return text_difference(one, other, (f"{name} {file}", f"revision {new} {file}"))

    lines = compare(before.get("text", ""), after.get("text", ""), "rules.toml")
    lists, earlier = after.get("lists", {}), before.get("lists", {})
    for each in sorted({*lists, *earlier}):
        lines += compare(earlier.get(each, ""), lists.get(each, ""), f"lists/{each}.txt")
    return lines
