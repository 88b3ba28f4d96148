# SPDX-License-Identifier: Apache-2.0
"""`sockrules audit`: reads the audit log, and follows it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from datetime import datetime

import click

from .. import render
from ..audit_log import AuditLog, Filter, Line, is_request, lost_events, part
from ..services import problem_of
from ..times import local_text, parse_since, parse_utc
from .failures import Failed
from .options import SERVERS, SETTINGS, here, json_option, root_option

_PAUSE = 0.2  # seconds between looks at a log that is followed
_BACKLOG = 10  # lines that are shown before those that follow


def _since(_: click.Context, __: click.Parameter, text: str | None) -> datetime | None:
    try:
        return None if text is None else parse_since(text, datetime.now().astimezone())
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _network(_: click.Context, __: click.Parameter, text: str | None) -> tuple[int, int] | None:
    from ..addresses import parse_address_range

    try:
        return None if text is None else parse_address_range(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _service(_: click.Context, __: click.Parameter, text: str | None) -> str | None:
    problem = problem_of(text) if text else None
    if problem is not None:
        message, hint = problem
        raise click.BadParameter(f"{message.removeprefix('service ')}; {hint}")
    return text


@click.command(context_settings=SETTINGS)
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines as they come.")
@click.option("-n", "--lines", type=click.IntRange(min=0), help="Only the last so many.")
@click.option(
    "--since", callback=_since, metavar="T", help="15m, 2h, 1d; 14:30; today; 2025-01-31 14:30."
)
@click.option("--server", type=click.Choice(SERVERS), help="Requests to this server.")
@click.option("--rule", metavar="R", help="Requests that this rule decided.")
@click.option("--user", metavar="U", help="Requests of this user, by name or number.")
@click.option("--remote", callback=_network, metavar="NET", help="An address, prefix or range a-b.")
@click.option(
    "--service", callback=_service, metavar="S", help="A unit, a slice, or a cgroup's path."
)
@click.option("--rejected", is_flag=True, help="Rejections, simulated ones included.")
@json_option
@root_option
def audit(
    follow: bool,
    lines: int | None,
    since: datetime | None,
    server: str | None,
    rule: str | None,
    user: str | None,
    remote: tuple[int, int] | None,
    service: str | None,
    rejected: bool,
    as_json: bool,
) -> None:
    """Read the audit log, or follow it.

    It says who asked for what, and which rule decided. With --json, the log's own
    lines. Filters are combined; they leave out what the agent says of itself.

    \b
    Example:
      sockrules audit --since 1h --rejected --remote 10.0.0.0/8
    """
    wanted = Filter(since, server, rule, user, remote, rejected, service)
    log = AuditLog(here().audit_log)
    show = _show_json if as_json else _show
    try:
        if follow:
            _follow(log, wanted, lines, show)
        else:
            _read(log, wanted, lines, show)
    except FileNotFoundError:
        hint = "it begins with the first event; sockrules status says whether any is expected"
        raise Failed(f"there is no audit log at {here().audit_log}", hint, kind="file") from None


def _read(log: AuditLog, wanted: Filter, count: int | None, show: Callable[[Line], None]) -> None:
    lost = 0
    last: deque[Line] = deque(maxlen=count)
    for line in log.read(wanted.since):
        if wanted.wants(line):
            if count is None:
                show(line)
            else:
                last.append(line)
        elif wanted.recent(line):
            lost += lost_events(line)
    for line in last:
        show(line)
    if lost:
        _note_lost(lost)
    if log.unreadable:
        what = render.plural(log.unreadable, "line")
        click.echo(f"note: {what} of the log could not be read", err=True)


def _follow(log: AuditLog, wanted: Filter, count: int | None, show: Callable[[Line], None]) -> None:
    every = wanted.since is not None and count is None
    backlog: deque[Line] | None = deque(
        maxlen=None if every else _BACKLOG if count is None else count
    )

    def wait() -> None:
        nonlocal backlog
        for line in backlog or ():
            show(line)
        backlog = None
        time.sleep(_PAUSE)

    try:
        for line in log.follow(wait, wanted.since):
            if wanted.wants(line):
                if backlog is None:
                    show(line)
                else:
                    backlog.append(line)
            elif backlog is None and (lost := lost_events(line)):
                _note_lost(lost)
    except KeyboardInterrupt:
        return  # the usual end of following


def _note_lost(count: int) -> None:
    events = render.plural(count, "event")
    text = f"note: {events} of that time were not logged; this list may lack some"
    click.echo(render.coloured(text, render.WARN), err=True)


def _show_json(line: Line) -> None:
    click.echo(render.line(line))


def _show(line: Line) -> None:
    moment = parse_utc(line.get("@timestamp"))
    when = local_text(moment) if moment else "at an unknown time       "
    what = _request_text(line) if is_request(line) else _state_text(line)
    click.echo(f"{render.coloured(when, render.FAINT)}  {what}")


def _state_text(line: Line) -> str:
    action = render.safe(part(line, "event").get("action", "?"))
    look = render.BAD if lost_events(line) else render.STRONG
    return f"{render.coloured(action, look)}  {render.safe(line.get('message', ''))}"


def _request_text(line: Line) -> str:
    facts = part(line, "sockrules")
    server = str(facts.get("server", "?"))
    process, user = part(line, "process"), part(line, "user")
    words = [
        _verdict(facts),
        f"{render.safe(server):<7}",
        render.safe(_conversation(server, facts.get("local"), facts.get("remote"))),
        f"rule {render.safe(part(line, 'rule').get('name', '?'))}",
    ]
    if name := user.get("name", user.get("id")):
        words.append(f"user {render.safe(name)}")
    if program := process.get("executable", process.get("name")):
        pid = f"[{render.safe(process['pid'])}]" if process.get("pid") else ""
        words.append(f"{render.safe(program)}{pid}")
    if unit := part(line, "service").get("name"):
        words.append(render.safe(unit))
    if isinstance(count := facts.get("count"), int) and count > 1:
        words.append(f"{count} times")
    return "  ".join(words)


def _verdict(facts: Line) -> str:
    if facts.get("authority") != "no":
        return render.coloured(f"{'allowed':<12}", render.GOOD)
    if facts.get("enforced"):
        return render.coloured(f"{'rejected':<12}", render.BAD)
    return render.coloured(f"{'would reject':<12}", render.WARN)


def _conversation(server: str, local: object, remote: object) -> str:
    local, remote = local or "?", remote or "?"
    if server == "listen":
        return f"on {local}"
    return f"to {remote}" if server == "connect" else f"{local} from {remote}"
