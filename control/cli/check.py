# SPDX-License-Identifier: Apache-2.0
"""`sockrules check`: whether a rule file can be applied."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from .. import render
from ..problems import problem_document
from ..times import parse_utc
from .failures import problem_line
from .inputs import parsed, rules_text
from .options import SETTINGS, here, json_option, root_option
from .waiting import waiting

if TYPE_CHECKING:
    from ..lint import Hits
    from ..model import RuleSet
    from ..paths import Paths
    from ..problems import Problem
    from ..rules_file import RulesFile
    from ..table import Table


_PATIENCE = 2.0  # seconds for an agent that is not needed


@click.command(context_settings=SETTINGS)
@click.argument("file", required=False)
@json_option
@root_option
def check(file: str | None, as_json: bool) -> None:
    """Say whether a rule file can be applied.

    Reads and compiles the installed one, or FILE, or - for standard input. Needs
    neither root nor an agent, and changes nothing. All errors are told; exit status 2
    when there are any. Warnings are no errors: rules that are never reached, that
    change nothing, that contradict others, or that an agent has not seen hit for long.

    \b
    Example:
      sockrules check new-rules.toml
    """
    from ..compile import compile_table
    from ..same import identified_set

    paths = here()
    text, name = rules_text(paths, file)
    with waiting("the rules are read and compiled"):
        rules = parsed(paths, text, name, look=True)
        as_files = identified_set(rules.ruleset)
        active = compile_table(as_files, as_files.active())
        if as_files.in_test() != as_files.active():
            compile_table(as_files, as_files.in_test())
    with waiting("rules are looked for that are never reached or change nothing"):
        warnings = _lint(paths, rules.ruleset, text, name)
    rules = replace(rules, warnings=(*rules.warnings, *warnings))
    if as_json:
        click.echo(render.document(_document(name, rules, active)))
        return
    for warning in rules.warnings:
        click.echo(problem_line(warning), err=True)
    click.echo(_sentence(name, rules, active))


def _lint(paths: Paths, ruleset: RuleSet, text: str, name: str) -> list[Problem]:
    from ..lint import as_problems, lint
    from ..same import identified_set

    hits, since = _hits(paths)
    now = datetime.now().astimezone()
    found = lint(identified_set(ruleset), hits, now=now, counted_since=since)
    return as_problems(found, ruleset, text, name)


def _hits(paths: Paths) -> tuple[Hits | None, datetime | None]:
    """How often each rule decided, and since when at least that was counted; from an agent."""
    from ..client import AgentRefused, AgentUnreachable, Client
    from ..lint import hits_of

    client = Client(paths.socket, _PATIENCE)
    try:
        applied = client.call("status")["ruleset"]["applied"]
        return hits_of(client.call("hits")), parse_utc(applied)
    except (AgentUnreachable, AgentRefused, KeyError, TypeError):
        return None, None


def _document(name: str, rules: RulesFile, table: Table) -> dict[str, Any]:
    return {
        "file": name,
        "ok": True,
        "rules": len(rules.ruleset.rules),
        "active": len(rules.ruleset.active()),
        "test": len(rules.ruleset.in_test()),
        "entries": table.required.entries,
        "tables": table.required.tables,
        "steps": table.steps,
        "steps_limit": table.limits.steps,
        "bytes": table.size,
        "warnings": [problem_document(warning) for warning in rules.warnings],
    }


def _sentence(name: str, rules: RulesFile, table: Table) -> str:
    ruleset = rules.ruleset
    count = len(rules.warnings)
    warned = f", {render.plural(count, 'warning')}" if count else ""
    return (
        f"{render.safe(name)}: {render.coloured('can be applied', render.GOOD)}{warned}: "
        f"{render.plural(len(ruleset.rules), 'rule')} ({len(ruleset.active())} active, "
        f"{len(ruleset.in_test())} in test), at most {table.steps} of {table.limits.steps} steps"
    )
