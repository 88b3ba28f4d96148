# SPDX-License-Identifier: Apache-2.0
"""`sockrules status`: the truth in one sentence, then what it rests on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from .. import render
from ..messages import summary
from ..times import age, local_text, parse_utc
from .doctor import limits
from .failures import Failed, document
from .options import SERVERS, SETTINGS, here, json_option, root_option

if TYPE_CHECKING:
    from ..client import AgentUnreachable
    from ..paths import Paths

PATIENCE = 10.0  # seconds; an agent that compiles still answers

_LOOKS = {"enforce": render.GOOD, "simulate": render.WARN, "off": render.FAINT}


@click.command(context_settings=SETTINGS)
@json_option
@root_option
@click.pass_context
def status(context: click.Context, as_json: bool) -> None:
    """Say what is enforced, by what, and how that is known.

    Exit status 1 when less is in force than was asked for, or nobody answers.

    \b
    Example:
      sockrules status --json
    """
    from ..client import AgentUnreachable, Client

    paths = here()
    try:
        report = Client(paths.socket, PATIENCE).call("status")
    except AgentUnreachable as error:
        _unreachable(paths, error, as_json)
        context.exit(1)
    if as_json:
        click.echo(render.document(report))
    else:
        for line in _lines(report, datetime.now(UTC)):
            click.echo(line)
    context.exit(0 if report.get("enforcing") is True else 1)


def pinned_links(paths: Paths) -> list[str] | None:
    """The names of the links that an agent left in the kernel; `None` when one may not look."""
    try:
        return sorted(path.name for path in (paths.pins / "links").iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError:
        return None


def what_is_pinned(paths: Paths, pinned: list[str] | None) -> str:
    """What an agent that is gone may have left behind, in a sentence; empty when nothing."""
    folder = paths.pins / "links"
    if pinned is None:
        return f"only root can see whether links are still pinned in {folder}"
    if not pinned:
        return ""
    return (
        f"{render.plural(len(pinned), 'link')} still pinned in {folder} ({', '.join(pinned)}):"
        " the kernel goes on with the last applied rules"
    )


def server_lines(servers: dict[str, Any], now: datetime) -> list[str]:
    """The servers of a status document: a table, then what each covers or lacks."""
    headings = (
        "SERVER", "MODE", "HOOK", "PROVEN", "RULES", "DECISIONS", "REJECTED", "WOULD REJECT",
    )  # fmt: skip
    rows, notes = [], []
    for name in (*SERVERS, *(name for name in servers if name not in SERVERS)):
        server = servers.get(name)
        if not isinstance(server, dict):
            continue
        mode = render.safe(server.get("mode", "?"))
        proof = server.get("proof") or {}
        rows.append(
            (
                render.safe(name),
                render.coloured(mode, _LOOKS.get(mode, render.BAD)),
                render.safe(server.get("hook") or "-"),
                _proof(proof, now) if mode != "off" else "-",
                _count(server, "rules"),
                _count(server, "decisions"),
                _count(server, "rejections"),
                _count(server, "simulated"),
            )
        )
        notes += [(render.safe(name), note) for note in _notes(server, proof, mode)]
    lines = render.table(headings, rows)
    return [*lines, *([""] if notes else []), *render.facts(notes)]


def _unreachable(paths: Paths, error: AgentUnreachable, as_json: bool) -> None:
    pinned = pinned_links(paths)
    left = what_is_pinned(paths, pinned)
    certain = error.absent and pinned == []
    says = "not enforced" if certain else "enforcement is not confirmed"
    sentence = f"{says}: {error.message}" + (f"; {left}" if left else "")
    if as_json:
        report = {
            "sentence": sentence,
            "enforcing": False if certain else None,
            "agent": None,
            "pinned": pinned,
            **document(Failed(error.message, error.hint, kind="unreachable")),
        }
        click.echo(render.document(report))
        return
    click.echo(render.coloured(render.safe(sentence), render.BAD))
    if error.hint:
        click.echo(render.safe(error.hint))


def _lines(report: dict[str, Any], now: datetime) -> list[str]:
    good = report.get("enforcing") is True
    sentence = render.safe(report.get("sentence", "the agent does not say what it enforces"))
    servers = report.get("servers")
    lines = [render.coloured(sentence, render.GOOD if good else render.BAD), ""]
    lines += server_lines(servers if isinstance(servers, dict) else {}, now)
    lines += ["", *render.facts(_facts(report, now))]
    if problems := report.get("problems"):
        lines += ["", render.coloured("problems", render.WARN)]
        lines += [f"  {render.safe(problem)}" for problem in problems]
    return lines


def _facts(report: dict[str, Any], now: datetime) -> list[tuple[str, str]]:
    ruleset, table, events, agent = (
        report.get(key) or {} for key in ("ruleset", "table", "events", "agent")
    )
    lost = events.get("lost_total", 0)
    losses = f"{lost} lost, {events.get('unwritten', 0)} not written"
    facts = [
        (
            "rules",
            f"revision {ruleset.get('revision', '?')}, "
            f"{render.plural(ruleset.get('rules', 0), 'rule')}, "
            f"applied {_when(ruleset.get('applied'), now)} from {ruleset.get('file', '?')}",
        ),
    ]
    if ruleset.get("error"):
        facts.append(("", f"the rule file has errors: {ruleset['error']}"))
    elif ruleset.get("differs"):
        facts.append(("", "the rule file has changed since: run `sockrules apply`"))
    facts += [
        (
            "table",
            f"{render.plural(table.get('entries', 0), 'entry', 'entries')} in "
            f"{render.plural(table.get('tables', 0), 'table')}, at most {table.get('steps', '?')}"
            f" of {table.get('steps_limit', '?')} steps, {_size(table.get('bytes', 0))}",
        ),
        (
            "events",
            f"{events.get('received', 0)} received, {events.get('written', 0)} written, {losses}",
        ),
        *([("messages", summary(told))] if (told := report.get("messages")) else []),
        (
            "agent",
            f"{agent.get('version', '?')}, process {agent.get('pid', '?')}, started "
            f"{_when(agent.get('started'), now)}, root {agent.get('root', '?')}",
        ),
        (
            "reach",
            f"cgroup {agent.get('cgroup', '?')}, network namespace {agent.get('netns', '?')}",
        ),
        *(("", line) for line in _namespaces(report.get("namespaces"))),
        *(("programs", line) for line in _programs(report.get("programs"))),
    ]
    return [(name, render.safe(text)) for name, text in facts]


def _programs(programs: object) -> list[str]:
    """Whether a process can pass for another program, where rules name programs."""
    if not isinstance(programs, dict) or not programs.get("named") or not programs["forgeable"]:
        return []
    return [
        "can be forged by who may make user namespaces (sysctl user.max_user_namespaces); no"
        f" guard: {programs['forgeable']}"
    ]


def _namespaces(namespaces: object) -> list[str]:
    """Where peers are judged by sk_lookup, one instance of it a network namespace."""
    if not isinstance(namespaces, dict):
        return []
    covered, missing = namespaces.get("covered") or [], namespaces.get("missing") or {}
    others = len(covered) - 1
    lines = []
    if others > 0:
        lines.append(f"sk_lookup in this and {render.plural(others, 'other network namespace')}")
    lines += [f"network namespace {inum} is NOT COVERED: {why}" for inum, why in missing.items()]
    for inum, why in (namespaces.get("without_reset") or {}).items():
        lines.append(f"network namespace {inum}: rejected peers get no answer, not a reset: {why}")
    return lines


def _answer(answer: dict[str, Any]) -> list[str]:
    """What a rejected peer gets, and why that is not what was wanted."""
    given = {"reset": "a reset", "drop": "no answer, and time out"}.get(answer.get("given", ""))
    notes = [f"rejected peers get {given}"] if given else []
    if why := answer.get("why"):
        notes.append(render.coloured(render.safe(why), render.WARN))
    return notes


def _notes(server: dict[str, Any], proof: dict[str, Any], mode: str) -> list[str]:
    notes = []
    if covers := server.get("covers"):
        notes.append(render.safe(covers))
    if answer := server.get("reject_with"):
        notes += _answer(answer)
    notes += [render.coloured(note, render.FAINT) for note in limits(server)]
    if refused := server.get("refused"):
        notes.append(render.coloured(f"refused: {render.safe(refused)}", render.BAD))
    if mode != "off" and not proof.get("ok") and proof.get("why"):
        notes.append(render.coloured(f"not proven: {render.safe(proof['why'])}", render.BAD))
    if exhausted := server.get("exhausted"):
        text = f"{exhausted} rejected because no decision was reached"
        notes.append(render.coloured(render.safe(text), render.BAD))
    return notes


def _proof(proof: dict[str, Any], now: datetime) -> str:
    if not proof.get("ok"):
        return render.coloured("no", render.BAD)
    return _when(proof.get("at"), now)


def _when(text: object, now: datetime) -> str:
    moment = parse_utc(text)
    if moment is None:
        return "at an unknown time"
    recent = (now - moment).days < 1
    return age(moment, now) if recent else f"{local_text(moment)} ({age(moment, now)})"


def _count(server: dict[str, Any], key: str) -> int | str:
    value = server.get(key)
    return value if isinstance(value, int) else "-"


def _size(count: object) -> str:
    if not isinstance(count, int):
        return "? bytes"
    for unit, size in (("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
