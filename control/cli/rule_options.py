# SPDX-License-Identifier: Apache-2.0
"""The options of `sockrules rule` that are keys of a rule, or say where it goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from .. import render
from .options import SERVERS, F, names_in_file

if TYPE_CHECKING:
    from ..rules_edit import Place

_YES_NO = click.Choice(["yes", "no"])
_SWITCH = click.Choice(["yes", "no", "inherit"])


def key_options(required: bool) -> Callable[[F], F]:
    """The options that are keys of a rule."""

    def decorate(command: F) -> F:
        for option in reversed(
            (
                click.option("--server", type=click.Choice(SERVERS), required=required),
                click.option(
                    "--authority", type=_YES_NO, required=required, help="yes: allow, no: reject."
                ),
                click.option(
                    "--when", metavar="CONDITION", required=required, help="any: every request."
                ),
                click.option(
                    "--audit", type=_SWITCH, help="Log all it decides (rejections always)."
                ),
                click.option("--message", type=_SWITCH, help="Send messages."),
                click.option("--capture", type=_SWITCH, help="Capture transactions."),
                click.option("--active/--no-active", default=None, help="The kernel evaluates it."),
                click.option("--test/--no-test", default=None, help="sockrules test evaluates it."),
                click.option("--description", metavar="TEXT"),
            )
        ):
            command = option(command)
        return command

    return decorate


def place_options(command: F) -> F:
    """The options that say where a rule goes."""
    for option in reversed(
        (
            click.option("--first", is_flag=True, help="Before all others."),
            click.option("--last", is_flag=True, help="After all others."),
            click.option("--before", metavar="RULE", shell_complete=names_in_file),
            click.option("--after", metavar="RULE", shell_complete=names_in_file),
        )
    ):
        command = option(command)
    return command


def written(keys: dict[str, Any]) -> dict[str, str]:
    """The options that were given, as values of the file."""
    return {
        key: render.yes_no(value) if isinstance(value, bool) else value
        for key, value in keys.items()
        if value is not None
    }


def place_of(
    first: bool, last: bool, before: str | None, after: str | None, to: int | None = None
) -> Place | None:
    from ..rules_edit import Place

    places = [
        place
        for given, place in (
            (first, Place("first")),
            (last, Place("last")),
            (before is not None, Place("before", rule=before or "")),
            (after is not None, Place("after", rule=after or "")),
            (to is not None, Place("to", sequence=to or 0)),
        )
        if given
    ]
    if len(places) > 1:
        raise click.UsageError("name one place only")
    return places[0] if places else None
