# SPDX-License-Identifier: Apache-2.0
"""`sockrules captures`: what was captured, and the rules that it suggests."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click

from .. import render
from ..capture_store import EVERYTHING
from ..captured import Captured, captured_to_json, endpoint_text
from ..names import SystemNames
from ..times import age, local_text, parse_utc
from .capture_options import HOW, filter_of, filter_options, note_losses
from .capture_suggest import suggest
from .failures import WrongInput
from .options import SETTINGS, here, json_option, root_option

_SHOWN = 50


@click.group(context_settings=SETTINGS)
@root_option
def captures() -> None:
    """Captured transactions: distinct requests, how often and when they were seen.

    A rule with capture = "yes" has what it decides captured. Ports that the kernel
    picks anew each time are folded away and shown as *.

    \b
    Example:
      sockrules captures suggest --deny-rest
    """


@captures.command("list", context_settings=SETTINGS)
@filter_options
@click.option(
    "--sort", type=click.Choice(["count", "last", "number"]), default="count", show_default=True
)
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(min=0),
    help=f"So many at most, 0: all. [default: {_SHOWN}]",
)
@json_option
@root_option
def list_(
    server: str | None,
    user: str | None,
    program: str | None,
    remote: tuple[int, int] | None,
    since: str | None,
    sort: str,
    lines: int | None,
    as_json: bool,
) -> None:
    """List captured transactions, the most frequent first.

    \b
    Example:
      sockrules captures list --server accept --remote 10.0.0.0/8 --since 1d
    """
    from ..capture_source import captures as read

    paths = here()
    found = read(paths, filter_of(server, since, user, program, remote))
    ordered = sorted(found.transactions, key=_order(sort))
    names = SystemNames(paths.lists)
    most = (None if as_json else _SHOWN) if lines is None else lines or None
    shown = ordered[:most]
    if as_json:
        docs = [captured_to_json(one, names) for one in shown]
        doc = {"captures": docs, "total": len(ordered), "lost": dict(found.lost)}
        click.echo(render.document(doc))
        return
    for line in _table(shown, names):
        click.echo(line)
    if not ordered:
        click.echo(f"nothing was captured; {HOW}", err=True)
    if len(shown) < len(ordered):
        rest = render.plural(len(ordered) - len(shown), "more transaction")
        click.echo(f"note: {rest}; --lines 0 shows all", err=True)
    note_losses(found.lost)


@captures.command(context_settings=SETTINGS)
@click.argument("number", type=click.IntRange(min=1))
@json_option
@root_option
def show(number: int, as_json: bool) -> None:
    """Show one transaction, by its number in `captures list`.

    \b
    Example:
      sockrules captures show 17
    """
    from ..capture_source import captures as read
    from ..captured import Filter

    paths = here()
    found = read(paths, Filter(number=number)).transactions
    if not found:
        raise WrongInput(f"no captured transaction has number {number}", "see: captures list")
    names = SystemNames(paths.lists)
    if as_json:
        click.echo(render.document(captured_to_json(found[0], names)))
        return
    for line in render.facts(_facts(found[0], names)):
        click.echo(line)


@captures.command(context_settings=SETTINGS)
@filter_options
@click.option("--all", "everything", is_flag=True, help="All of them.")
@json_option
@root_option
def clear(
    server: str | None,
    user: str | None,
    program: str | None,
    remote: tuple[int, int] | None,
    since: str | None,
    everything: bool,
    as_json: bool,
) -> None:
    """Forget captured transactions: those that the filters choose, or --all.

    The agent does it, so one must run.

    \b
    Example:
      sockrules captures clear --server connect --program /usr/bin/curl
    """
    from ..captured import filter_to_json
    from ..client import Client

    chosen = filter_of(server, since, user, program, remote)
    if everything is (chosen != EVERYTHING):
        raise WrongInput("say what to forget", "give filters, or --all, and not both")
    result = Client(here().socket).call("captures-clear", filter=filter_to_json(chosen))
    if as_json:
        click.echo(render.document(result))
        return
    click.echo(f"forgot {render.plural(int(result.get('cleared', 0)), 'transaction')}")


captures.add_command(suggest)


def _order(sort: str) -> Any:
    if sort == "number":
        return lambda one: one.number
    if sort == "last":
        return lambda one: (_reversed(one.last), one.number)
    return lambda one: (-one.count, one.number)


def _reversed(text: str) -> tuple[int, ...]:
    return tuple(-ord(letter) for letter in text)


def _table(found: Sequence[Captured], names: SystemNames) -> list[str]:
    now = datetime.now(UTC)
    headings = ("NO", "TIMES", "LAST", "SERVER", "", "PROGRAM", "USER", "LOCAL", "REMOTE", "RULE")
    rows = [
        (
            one.number,
            one.count,
            _ago(one.last, now),
            one.request.server.word,
            _verdict(one),
            render.safe(one.request.program or "-"),
            _user(one, names),
            endpoint_text(one, "local"),
            endpoint_text(one, "remote"),
            render.safe(one.rule),
        )
        for one in found
    ]
    return render.table(headings, rows) if rows else []


def _facts(one: Captured, names: SystemNames) -> list[tuple[str, str]]:
    request = one.request
    group = None if request.group is None else names.group_name(request.group) or request.group
    facts = [
        ("server", request.server.word),
        ("decided by", f"{render.safe(one.rule)} ({_verdict(one)})"),
        ("program", render.safe(request.program or "unknown")),
        ("user, group", f"{_user(one, names)}, {'unknown' if group is None else group}"),
        ("local", endpoint_text(one, "local")),
        ("remote", endpoint_text(one, "remote")),
    ]
    if request.service:
        facts.append(("service", render.safe(request.service)))
    if one.folded:
        first, last = one.folded
        facts.append(("*", f"{first}-{last}: the lowest and the highest port seen"))
    first_time, last_time = (parse_utc(text) for text in (one.first, one.last))
    return [
        *facts,
        ("times", str(one.count)),
        ("first", local_text(first_time) if first_time else "unknown"),
        ("last", local_text(last_time) if last_time else "unknown"),
    ]


def _user(one: Captured, names: SystemNames) -> str:
    user = one.request.user
    return "-" if user is None else render.safe(names.user_name(user) or user)


def _verdict(one: Captured) -> str:
    if one.authority:
        return render.coloured("allowed", render.GOOD)
    return render.coloured("rejected", render.BAD)


def _ago(text: str, now: datetime) -> str:
    moment = parse_utc(text)
    return age(moment, now) if moment else "-"
