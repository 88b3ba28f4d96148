# SPDX-License-Identifier: Apache-2.0
"""The options that choose captured transactions, for `captures` and `replay`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import click

from .. import render
from ..captured import Filter
from ..model import Server
from ..names import SystemNames
from ..problems import did_you_mean
from ..times import parse_since
from .options import SERVERS, F, here

HOW = 'set capture = "yes" on a rule or a default rule, and activate its server'
"""What to do where nothing was captured."""

_LOSSES = {
    "overflow": "were not captured: too many new transactions at once",
    "crowded": "captured transactions are gone: there were more than keep_rows",
}


def since_option(command: F) -> F:
    """`--since T`, as text for a filter."""
    return click.option(
        "--since",
        callback=_since,
        metavar="T",
        help="Seen since then: 15m, 2h, 1d (ago); 14:30; today; 2025-01-31 14:30.",
    )(command)


def server_option(command: F) -> F:
    """`--server S`."""
    return click.option("--server", type=click.Choice(SERVERS), help="Of this server.")(command)


def filter_options(command: F) -> F:
    """All of them."""
    for option in reversed(
        (
            server_option,
            click.option("--user", metavar="U", help="Of this user, by name or number."),
            click.option(
                "--program", metavar="PATH", help="Of this program; with / at its end, all below."
            ),
            click.option(
                "--remote", callback=_network, metavar="NET", help="An address, prefix or range."
            ),
            since_option,
        )
    ):
        command = option(command)
    return command


def filter_of(
    server: str | None,
    since: str | None,
    user: str | None = None,
    program: str | None = None,
    remote: tuple[int, int] | None = None,
) -> Filter:
    """The filter that the options amount to."""
    if program is not None and not program.startswith("/"):
        raise click.BadParameter(
            f"{program} is not an absolute path; use /usr/sbin/nginx or such",
            param_hint="--program",
        )
    return Filter(
        server=None if server is None else Server[server.upper()],
        user=None if user is None else _uid(user),
        program=program,
        remote=remote,
        since=since,
    )


def note_losses(lost: Mapping[str, int]) -> None:
    """Say on standard error what the captures do not hold."""
    for why, what in _LOSSES.items():
        if number := lost.get(why, 0):
            click.echo(render.coloured(f"note: {number} {what}", render.WARN), err=True)


def _uid(text: str) -> int:
    if text.isascii() and text.isdigit():
        return int(text)
    names = SystemNames(here().lists)
    number = names.uid(text)
    if number is None:
        hint = did_you_mean(text, names.known_users()) or "use its number"
        raise click.BadParameter(f"no user is named {text}; {hint}", param_hint="--user")
    return number


def _since(_: click.Context, __: click.Parameter, text: str | None) -> str | None:
    try:
        if text is None:
            return None
        moment = parse_since(text, datetime.now().astimezone())
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _network(_: click.Context, __: click.Parameter, text: str | None) -> tuple[int, int] | None:
    from ..addresses import parse_address_range

    try:
        return None if text is None else parse_address_range(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
