# SPDX-License-Identifier: Apache-2.0
"""`sockrules messages`: reads the message queue, and follows it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

import click

from .. import render
from ..messages import SEVERITIES, WARNING, Filter, Message, document
from ..times import local_text, parse_since
from .options import SERVERS, SETTINGS, here, json_option, root_option

if TYPE_CHECKING:
    from ..message_queue import MessageQueue

_PAUSE = 0.3  # seconds between looks at a queue that is followed
_BACKLOG = 10  # messages that are shown before those that follow
_MOST = (1 << 62) - 1


def _since(_: click.Context, __: click.Parameter, text: str | None) -> datetime | None:
    try:
        return None if text is None else parse_since(text, datetime.now().astimezone())
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command(context_settings=SETTINGS)
@click.option("-f", "--follow", is_flag=True, help="Go on with new messages as they come.")
@click.option("-n", "--lines", type=click.IntRange(min=0), help="Only the last so many.")
@click.option(
    "--since", callback=_since, metavar="T", help="15m, 2h, 1d; 14:30; today; 2025-01-31 14:30."
)
@click.option("--server", type=click.Choice(SERVERS), help="About requests to this server.")
@click.option("--rule", metavar="R", help="About requests that this rule decided.")
@click.option("--severity", type=click.Choice(SEVERITIES), help="Of this severity, or worse.")
@json_option
@root_option
def messages(
    follow: bool,
    lines: int | None,
    since: datetime | None,
    server: str | None,
    rule: str | None,
    severity: str | None,
    as_json: bool,
) -> None:
    """Read the message queue, or follow it.

    A rule with message = "yes" puts a message there for every request that it
    decides; identical ones are folded, with a count. Filters are combined.

    \b
    Example:
      sockrules messages --follow --severity warning
    """
    from ..message_queue import MessageQueue

    queue = MessageQueue(here().state_db)
    wanted = Filter(since, server, rule, SEVERITIES.index(severity) if severity else None)
    show = _show_json if as_json else _show
    if follow:
        _follow(queue, wanted, lines, show)
        return
    found = queue.read(wanted) if lines is None else iter(queue.last(wanted, lines))
    shown = 0
    for shown, message in enumerate(found, 1):  # noqa: B007 (the count is wanted)
        show(message)
    if not shown and not as_json:
        click.echo("no messages", err=True)


def _follow(
    queue: MessageQueue, wanted: Filter, count: int | None, show: Callable[[Message], None]
) -> None:
    if count is None:
        count = _BACKLOG if wanted.since is None else _MOST
    seen = queue.newest_id()
    try:
        for message in queue.last(wanted, count):
            show(message)
            seen = max(seen, message.id or 0)
        while True:
            for message in queue.read(wanted, after=seen):
                show(message)
                seen = message.id or seen
            time.sleep(_PAUSE)
    except KeyboardInterrupt:
        return  # the usual end of following


def _show_json(message: Message) -> None:
    click.echo(render.line(document(message)))


def _show(message: Message) -> None:
    severity = f"{SEVERITIES[message.severity]:<7}"
    if message.severity <= WARNING:
        look = render.WARN if message.severity == WARNING else render.BAD
        severity = render.coloured(severity, look)
    when = render.coloured(local_text(message.time), render.FAINT)
    click.echo(f"{when}  {severity}  {message.identifier}  {render.safe(message.text)}")
