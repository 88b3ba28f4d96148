# SPDX-License-Identifier: Apache-2.0
"""`sockrules activate` and `deactivate`: what a server does with its decisions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from .. import render
from ..model import Mode, Server
from ..paths import Paths
from .options import SERVERS, SETTINGS, here, json_option, root_option, servers_of
from .status import pinned_links, server_lines, what_is_pinned

_SERVER = click.Choice([*SERVERS, "all"])


@click.command(context_settings=SETTINGS)
@click.argument("words", metavar="SERVER...", type=_SERVER, nargs=-1, required=True)
@click.option(
    "--mode",
    type=click.Choice(["enforce", "simulate"]),
    default="enforce",
    show_default=True,
    help="simulate: decide, count and log, but reject nothing.",
)
@json_option
@root_option
def activate(words: tuple[str, ...], mode: str, as_json: bool) -> None:
    """Let servers evaluate the rules.

    SERVER is listen, accept, connect or all.
    Exit status 1 when a server was not seen to work. Without an agent,
    agent.toml is edited, and the servers are activated when an agent starts.

    \b
    Example:
      sockrules activate accept connect --mode simulate
    """
    _set(servers_of(words), Mode[mode.upper()], as_json)


@click.command(context_settings=SETTINGS)
@click.argument("words", metavar="SERVER...", type=_SERVER, nargs=-1, required=True)
@json_option
@root_option
def deactivate(words: tuple[str, ...], as_json: bool) -> None:
    """Detach servers from the kernel.

    No rule of theirs is evaluated any more. SERVER is listen, accept, connect
    or all.

    \b
    Example:
      sockrules deactivate all
    """
    _set(servers_of(words), Mode.OFF, as_json)


def _set(servers: list[Server], mode: Mode, as_json: bool) -> None:
    from ..client import AgentUnreachable, Client

    paths = here()
    words = [server.word for server in servers]
    try:
        answer = Client(paths.socket).call("activate", servers=words, mode=mode.word)
    except AgentUnreachable as error:
        if not error.absent:
            raise
        _set_in_file(paths, servers, mode, as_json)
        return
    after = answer.get("servers")
    states = after if isinstance(after, dict) else {}
    lacking = [word for word in words if not _is_in_force(states.get(word), mode)]
    if as_json:
        click.echo(render.document({"servers": states}))
    else:
        for line in server_lines(states, datetime.now(UTC)):
            click.echo(line)
        for word in lacking:
            text = f"{word}: {mode.word} was asked for and is not in force"
            click.echo(render.coloured(text, render.BAD), err=True)
    click.get_current_context().exit(1 if lacking else 0)


def _is_in_force(state: Any, mode: Mode) -> bool:
    if not isinstance(state, dict) or state.get("mode") != mode.word:
        return False
    proof = state.get("proof")
    return mode is Mode.OFF or bool(isinstance(proof, dict) and proof.get("ok"))


def _set_in_file(paths: Paths, servers: list[Server], mode: Mode, as_json: bool) -> None:
    """No agent is there: what it will do when it starts is in agent.toml."""
    from ..agent_edit import set_mode
    from ..agent_file import parse_agent_config
    from ..files import edit

    def change(text: str) -> str:
        for server in servers:
            text = set_mode(text, server, mode)
        return text

    def check(text: str) -> None:
        parse_agent_config(text, file=str(paths.agent_config))

    changed = edit(paths.agent_config, change, check)
    left = what_is_pinned(paths, pinned_links(paths))
    if as_json:
        doc = {
            "servers": {server.word: {"mode": mode.word} for server in servers},
            "agent": None,
            "changed": changed,
            "takes_effect": "when the agent starts",
        }
        click.echo(render.document(doc))
    else:
        words = ", ".join(server.word for server in servers)
        state = "is set" if changed else "was set already"
        click.echo(f"{words}: {mode.word} {state} in {render.safe(paths.agent_config)}")
        click.echo("no agent runs; it takes effect when the agent starts")
    if left:
        click.echo(render.coloured(render.safe(left), render.WARN), err=True)
