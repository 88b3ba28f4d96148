# SPDX-License-Identifier: Apache-2.0
"""`sockrules rule list` and `show`: the rules, their effective values and where those come from."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from .. import render
from ..model import DefaultRule, Effective, Rule, RuleSet, effective
from ..paths import Paths
from ..problems import did_you_mean
from ..times import age, local_text, parse_utc
from .failures import WrongInput
from .inputs import conditions_of, parsed, rules_text
from .options import SERVERS, SETTINGS, here, json_option, names_in_file, root_option

_PATIENCE = 3.0  # seconds; hits are worth no longer wait
_SWITCHES = ("audit", "message", "capture")

Hits = dict[str, dict[str, Any]]


@click.command("list", context_settings=SETTINGS)
@click.option("--server", type=click.Choice(SERVERS), help="Only this server's rules.")
@json_option
@root_option
def list_(server: str | None, as_json: bool) -> None:
    """List the rules in order, then the default rules.

    audit, message and capture are the effective values: (default) comes from
    the server's default rule, (product) from agent.toml. Hits are those of the
    applied rules, where an agent answers.

    \b
    Example:
      sockrules rule list --server accept
    """
    paths = here()
    ruleset, conditions = _read(paths)
    hits = _hits(paths)
    rules = [rule for rule in _all(ruleset) if server in (None, rule.server.word)]
    if as_json:
        documents = [_document(ruleset, rule, conditions, hits) for rule in rules]
        click.echo(render.document({"file": str(paths.rules), "rules": documents}))
        return
    for line in _table(ruleset, rules, conditions, hits):
        click.echo(line)


@click.command(context_settings=SETTINGS)
@click.argument("name", shell_complete=names_in_file)
@json_option
@root_option
def show(name: str, as_json: bool) -> None:
    """Show one rule with everything that follows from it.

    \b
    Example:
      sockrules rule show default-accept
    """
    paths = here()
    ruleset, conditions = _read(paths)
    rules = {rule.name: rule for rule in _all(ruleset)}
    if name not in rules:
        hint = did_you_mean(name, rules) or "see: sockrules rule list"
        raise WrongInput(f"no rule is named {name}", hint)
    document = _document(ruleset, rules[name], conditions, _hits(paths))
    if as_json:
        click.echo(render.document(document))
        return
    for line in render.facts(_facts(document)):
        click.echo(line)


def _read(paths: Paths) -> tuple[RuleSet, dict[str, str]]:
    text, name = rules_text(paths, None)
    return parsed(paths, text, name).ruleset, conditions_of(text)


def _all(ruleset: RuleSet) -> list[Rule | DefaultRule]:
    return [*ruleset.rules, *ruleset.defaults.values()]


def _hits(paths: Paths) -> Hits | None:
    """What the agent counted, by rule; `None` when none answers."""
    from ..client import AgentRefused, AgentUnreachable, Client

    try:
        counted = Client(paths.socket, _PATIENCE).call("hits").get("rules")
    except (AgentUnreachable, AgentRefused):
        return None
    return counted if isinstance(counted, dict) else None


def _document(
    ruleset: RuleSet, rule: Rule | DefaultRule, conditions: dict[str, str], hits: Hits | None
) -> dict[str, Any]:
    listed = isinstance(rule, Rule)
    doc: dict[str, Any] = {
        "sequence": rule.sequence,
        "name": rule.name,
        "server": rule.server.word,
        "authority": render.yes_no(rule.authority),
    }
    for switch in _SWITCHES:
        found = effective(ruleset, rule, switch)
        doc[switch] = {
            "set": getattr(rule, switch).value,
            "value": render.yes_no(found.value),
            "from": _source(found, rule),
        }
    doc["active"] = render.yes_no(rule.active if isinstance(rule, Rule) else True)
    doc["test"] = render.yes_no(rule.test if isinstance(rule, Rule) else True)
    doc["when"] = conditions[rule.name] if listed else None
    if isinstance(rule, Rule) and rule.expires is not None:
        doc["expires"] = rule.expires.isoformat()
    doc["description"] = rule.description if isinstance(rule, Rule) else ""
    if hits is not None:
        counted = hits.get(rule.name, {})
        doc["hits"] = counted.get("hits", 0)
        doc["last_hit"] = counted.get("last")
    return doc


def _source(found: Effective, rule: Rule | DefaultRule) -> str:
    """A default rule's own value comes from the default rule, whoever asks."""
    return "default" if isinstance(rule, DefaultRule) and found.source == "rule" else found.source


def _table(
    ruleset: RuleSet,
    rules: list[Rule | DefaultRule],
    conditions: dict[str, str],
    hits: Hits | None,
) -> list[str]:
    now = datetime.now(UTC)
    headings = ["SEQ", "NAME", "SERVER", "AUTHORITY", *map(str.upper, _SWITCHES), "ACTIVE", "TEST"]
    headings += (["HITS", "LAST HIT"] if hits is not None else []) + ["WHEN"]
    rows = []
    for rule in rules:
        doc = _document(ruleset, rule, conditions, hits)
        row = [doc["sequence"], doc["name"], doc["server"], _authority(doc)]
        row += [_switch(doc[switch]) for switch in _SWITCHES]
        row += [doc["active"], doc["test"]]
        if hits is not None:
            last = parse_utc(doc["last_hit"])
            row += [doc["hits"], age(last, now) if last else "-"]
        rows.append([*row, render.safe(doc["when"] or "")])
    return render.table(headings, rows)


def _facts(doc: dict[str, Any]) -> list[tuple[str, str]]:
    facts = [("name", doc["name"]), ("sequence", str(doc["sequence"])), ("server", doc["server"])]
    facts.append(("authority", _authority(doc)))
    facts += [(switch, _switch(doc[switch])) for switch in _SWITCHES]
    facts += [("active", doc["active"]), ("test", doc["test"])]
    if doc["when"] is not None:
        facts.append(("when", render.safe(doc["when"])))
    if "expires" in doc:
        facts.append(("expires", doc["expires"]))
    if doc["description"]:
        facts.append(("description", render.safe(doc["description"])))
    if "hits" in doc:
        last = parse_utc(doc["last_hit"])
        facts.append(("hits", render.safe(doc["hits"])))
        facts.append(("last hit", local_text(last) if last else "-"))
    return facts


def _authority(doc: dict[str, Any]) -> str:
    return render.coloured(
        doc["authority"], render.GOOD if doc["authority"] == "yes" else render.BAD
    )


def _switch(switch: dict[str, Any]) -> str:
    own = switch["set"] != "inherit"
    return str(switch["value"]) if own else f"{switch['value']} ({switch['from']})"
