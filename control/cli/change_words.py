# SPDX-License-Identifier: Apache-2.0
"""What the agent says of a change, in words: the difference, whom it would hit, the dangers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import click

from .. import render
from ..times import parse_duration

MOST_LINES = 20
"""Of each kind of difference, and of sockets; `--json` has them all."""


def seconds(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """An option's callback: `60s`, `5m`, `1h` to seconds, 1 to 86400."""
    if value is None:
        return None
    try:
        found = parse_duration(value).total_seconds()
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from None
    if not 1 <= found <= 86400:
        raise click.BadParameter(f"{value} is out of range; use 1s to 1d", context, parameter)
    return found


def session_arguments() -> dict[str, str]:
    """What the agent needs to know this session by, besides what it sees itself."""
    connection = os.environ.get("SSH_CONNECTION")
    return {"ssh_connection": connection} if connection else {}


def preview_lines(preview: dict[str, Any]) -> Iterator[str]:
    """What would change, whom it would hit, and whether that is who asks."""
    yield from difference_lines(preview.get("difference"))
    if preview.get("changed"):
        yield from impact_lines(preview.get("impact"))
        yield from session_lines(preview)


def difference_lines(difference: Any) -> Iterator[str]:
    """One line for everything in which the rules differ from those in force."""
    doc = difference if isinstance(difference, dict) else {}
    yield from _kind(doc, "added", render.GOOD, _whole_rule)
    yield from _kind(doc, "removed", render.BAD, _whole_rule)
    yield from _kind(doc, "changed", render.WARN, _fields)
    yield from _kind(doc, "moved", render.WARN, _places)
    yield from _kind(doc, "defaults", render.WARN, _fields)
    for name, values in doc.get("product", {}).items():
        yield f"{render.coloured('product', render.WARN)}  {_from_to(name, values)}"


def impact_lines(impact: Any) -> Iterator[str]:
    """Today's sockets that the rules would reject, as a table; nothing when there are none."""
    doc = impact if isinstance(impact, dict) else {}
    count, judged = doc.get("count", 0), doc.get("judged", 0)
    if not count:
        return
    of = f"{count} of {render.plural(judged, 'socket')}"
    text = f"would be rejected, if they began now ({of}):"
    yield render.coloured(text, render.WARN)
    yield from socket_table(doc.get("rejected", [])[:MOST_LINES])
    if count > MOST_LINES:
        yield f"  and {count - MOST_LINES} more"


def socket_table(sockets: list[dict[str, Any]]) -> list[str]:
    """Judged sockets as a table."""
    headings = ("SERVER", "LOCAL", "REMOTE", "USER", "PROGRAM", "PID", "RULE", "")
    rows = [
        [
            render.safe(each.get("server", "")),
            render.safe(each.get("local") or "-"),
            render.safe(each.get("remote") or "-"),
            render.safe(each.get("user") or "?"),
            render.safe(each.get("program") or each.get("process") or "?"),
            render.safe(each.get("pid") or "-"),
            _rule(each),
            _note(each),
        ]
        for each in sockets
    ]
    return render.table(headings, rows)


def session_lines(preview: dict[str, Any]) -> Iterator[str]:
    """Whether this session could begin anew; nothing when it does not come over the network."""
    for danger in preview.get("dangers", []):
        yield render.coloured(render.safe(danger), render.BAD)
    ends = [render.safe(each.get("remote", "?")) for each in preview.get("session", [])]
    if ends and not preview.get("dangers"):
        yield f"this session (from {', '.join(ends)}) would be let in again"


def pending_line(pending: dict[str, Any]) -> str:
    """What happens unless the change is confirmed."""
    left, back = pending.get("left", 0), render.safe(pending.get("previous", "?"))
    text = f"run `sockrules confirm` within {left:.0f} s, or revision {back} comes back by itself"
    return render.coloured(text, render.WARN)


def _kind(
    doc: dict[str, Any], kind: str, look: str, words: Callable[[dict[str, Any]], str]
) -> Iterator[str]:
    entries = doc.get(kind, [])
    for entry in entries[:MOST_LINES]:
        yield f"{render.coloured(kind.ljust(8), look)} {words(entry)}"
    if len(entries) > MOST_LINES:
        yield f"{kind.ljust(8)} and {len(entries) - MOST_LINES} more"


def _whole_rule(entry: dict[str, Any]) -> str:
    answer = {"yes": "allow", "no": "reject"}.get(entry.get("authority", ""), "?")
    inactive = "" if entry.get("active") == "yes" else ", not active"
    return (
        f"{entry.get('sequence')} {render.safe(entry.get('rule'))}:"
        f" {render.safe(entry.get('server'))}, {answer}{inactive}, when {_short(entry.get('when'))}"
    )


def _fields(entry: dict[str, Any]) -> str:
    fields = ", ".join(_from_to(name, values) for name, values in entry.get("fields", {}).items())
    return f"{entry.get('sequence')} {render.safe(entry.get('rule'))}: {fields}"


def _places(entry: dict[str, Any]) -> str:
    return f"{entry.get('after')} {render.safe(entry.get('rule'))}: was at {entry.get('before')}"


def _from_to(name: str, values: list[str]) -> str:
    before, after = values
    return f"{render.safe(name)} {_short(before)} -> {_short(after)}"


def _short(text: object) -> str:
    words = render.safe(text)
    return words if len(words) <= 200 else f"{words[:199]}…"


def _rule(each: dict[str, Any]) -> str:
    text = render.safe(each.get("rule", "?"))
    return render.coloured(text, render.BAD) if each.get("authority") != "yes" else text


def _note(each: dict[str, Any]) -> str:
    mode = each.get("mode")
    notes = []
    if each.get("session"):
        notes.append("this session")
    if mode in ("off", "simulate"):
        notes.append(f"{each.get('server')} is {'off' if mode == 'off' else 'only simulated'}")
    elif each.get("already"):
        notes.append("already now")
    if each.get("why"):
        notes.append(render.safe(each["why"]))
    return ", ".join(notes)
