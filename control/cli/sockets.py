# SPDX-License-Identifier: Apache-2.0
"""`sockrules sockets`: today's listeners and connections, judged as if they began now."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from .. import render
from .change_words import session_arguments, socket_table
from .options import SETTINGS, here, json_option, root_option

if TYPE_CHECKING:
    from ..client import Client


@click.command(context_settings=SETTINGS)
@click.option("--violating", is_flag=True, help="Only those that would be rejected now.")
@click.option("--kill", is_flag=True, help="End violating connections, after asking.")
@click.option("--yes", is_flag=True, help="With --kill: do not ask.")
@click.option("--force", is_flag=True, help="With --kill: end this very session, too.")
@json_option
@root_option
@click.pass_context
def sockets(
    context: click.Context, violating: bool, kill: bool, yes: bool, force: bool, as_json: bool
) -> None:
    """Judge today's listeners and connections by the rules in force, as if they began now.

    Rules are asked once, when a conversation begins; those that began before a rule was
    applied go on. A connection to a port on which this host listens counts as accepted,
    any other as begun here. --kill ends connections of enforced servers, no listeners:
    stop their processes. Exit status 1 when --violating finds any, or --kill leaves any.

    \b
    Example:
      sockrules sockets --violating
    """
    from ..client import Client

    if (yes or force) and not kill:
        raise click.UsageError("--yes and --force belong to --kill")
    if kill and not yes and (as_json or not sys.stdin.isatty()):
        raise click.UsageError("--kill asks before it ends anything; here it needs --yes")
    client = Client(here().socket)
    answer = client.call("sockets", violating=violating or kill, **session_arguments())
    found = answer.get("sockets", [])
    if kill:
        context.exit(_kill(client, found, yes, force, as_json))
    if as_json:
        click.echo(render.document(answer))
    else:
        for line in socket_table(found) if found else ():
            click.echo(line)
        judged, bad = answer.get("judged", 0), answer.get("violating", 0)
        text = f"{bad} of {render.plural(judged, 'socket')} would be rejected now"
        click.echo(render.coloured(text, render.BAD if bad else render.GOOD))
    context.exit(1 if violating and found else 0)


def _kill(
    client: Client, found: list[dict[str, Any]], yes: bool, force: bool, as_json: bool
) -> int:
    connections = [each for each in found if each.get("state") != "listen"]
    listeners = [each for each in found if each.get("state") == "listen"]
    if not as_json:
        for line in socket_table(found) if found else ():
            click.echo(line)
    if connections and not yes:
        click.confirm(f"end {render.plural(len(connections), 'connection')}?", abort=True)
    answer: dict[str, Any] = {"destroyed": [], "gone": [], "spared": []}
    if connections:
        forced = {"force": True} if force else {}
        cookies = [each.get("cookie") for each in connections]
        answer = client.call("destroy", cookies=cookies, **forced, **session_arguments())
    spared = answer.get("spared", [])
    if as_json:
        click.echo(render.document({**answer, "listeners": listeners}))
    else:
        ended = len(answer.get("destroyed", []))
        click.echo(f"ended {render.plural(ended, 'connection')}")
        for each in spared:
            ends = f"{render.safe(each.get('local'))} to {render.safe(each.get('remote'))}"
            click.echo(f"not ended: {ends}: {render.safe(each.get('why', ''))}")
        for each in listeners:
            process = f"{render.safe(each.get('process'))} ({render.safe(each.get('pid'))})"
            click.echo(f"still listens: {render.safe(each.get('local'))}, process {process}")
    return 1 if spared or listeners else 0
