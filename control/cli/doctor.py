# SPDX-License-Identifier: Apache-2.0
"""`sockrules doctor`: what this kernel can do, as the agent's program finds out."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import click

from .. import render
from .agent import PROGRAM
from .failures import Failed
from .options import SETTINGS, here, json_option, root_option
from .waiting import waiting

_PATIENCE = 120.0  # seconds; compiling the programs under emulation takes some twenty


@click.command(context_settings=SETTINGS)
@json_option
@root_option
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Find out what this kernel can do.

    Tries hook by hook with a request of its own, and says what is missing for more.
    Nothing is judged and nothing stays. Needs root. Exit status 1 when a server cannot be
    enforced.

    \b
    Example:
      sudo sockrules doctor
    """
    report = _examine(str(here().root))
    if as_json:
        click.echo(render.document(report))
    else:
        for line in _lines(report):
            click.echo(line)
    servers = report.get("servers") or {}
    well = bool(servers) and all(server.get("ok") for server in servers.values())
    context.exit(0 if well else 1)


def _examine(root: str) -> dict[str, Any]:
    command = [*PROGRAM, "doctor", "--json", "--root", root]
    try:
        with waiting("the programs are compiled and tried"):
            done = subprocess.run(
                command,
                capture_output=True,
                timeout=_PATIENCE,
                check=False,
                stdin=subprocess.DEVNULL,
            )
    except subprocess.TimeoutExpired:
        raise Failed(f"the examination took longer than {_PATIENCE:g} s and was ended") from None
    try:
        report = json.loads(done.stdout)
    except ValueError:
        report = None
    if not isinstance(report, dict):
        said = done.stderr.decode(errors="replace").strip().splitlines()
        # The last line is the agent's own; what comes before may be a compiler's.
        reason = said[-1].removeprefix("sockrules: ") if said else "it does not say why"
        raise Failed(f"the kernel could not be examined: {reason}", kind="internal")
    return report


def _lines(report: dict[str, Any]) -> list[str]:
    lines = [
        f"Linux {render.safe(report.get('kernel', '?'))}, BCC {render.safe(report.get('bcc', '?'))}"
    ]
    checks, fixes = [], []
    for check in report.get("checks") or []:
        name = render.safe(check.get("name", "?"))
        checks.append((_mark(check), name, _first_line(check.get("detail", ""))))
        if not check.get("ok") and check.get("fix"):
            fixes.append((name, render.safe(check["fix"])))
    servers = [
        (_mark(server), render.safe(name), render.safe(server.get("hook") or "-"),
         _first_line(server.get("detail", "")))
        for name, server in (report.get("servers") or {}).items()
    ]  # fmt: skip
    notes = [
        (render.safe(name), note)
        for name, server in (report.get("servers") or {}).items()
        for note in limits(server)
    ]
    if checks:
        lines += ["", *render.table(("", "CHECK", "FOUND"), checks)]
    if servers:
        lines += ["", *render.table(("", "SERVER", "HOOK", "COVERS"), servers)]
        lines += [*([""] if notes else []), *render.facts(notes)]
    else:
        lines += [
            "",
            render.coloured("no server can be enforced until this is put right", render.BAD),
        ]
    if fixes:
        lines += ["", render.coloured("to put it right", render.STRONG), *render.facts(fixes)]
    return lines


def _mark(finding: dict[str, Any]) -> str:
    good = bool(finding.get("ok"))
    return render.coloured("yes" if good else "no", render.GOOD if good else render.BAD)


def _first_line(text: object) -> str:
    """Details of a refused program are the verifier's log; the whole of it is in --json."""
    lines = str(text).strip().splitlines()
    return render.safe(lines[0]) if lines else ""


def limits(server: dict[str, Any]) -> list[str]:
    """What a server's way leaves open, and why no better one is taken."""
    notes = []
    if misses := server.get("misses"):
        notes.append(f"not covered: {render.safe(misses)}")
    for way in server.get("refused_ways") or []:
        notes.append(f"not by {render.safe(way.get('hook', '?'))}: {_in_short(way.get('why'))}")
    return notes


def _in_short(text: object) -> str:
    """The error and, where a verifier spoke, the last that it found fault with."""
    first, *log = str(text).strip().splitlines() or [""]
    faults = [line for line in log if not line.startswith("processed ")]
    return render.safe("; ".join([first, *faults[-1:]]))
