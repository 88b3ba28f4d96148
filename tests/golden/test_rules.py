# SPDX-License-Identifier: Apache-2.0
"""Golden folders: rules files that are accepted, and what they mean; refused ones, and how.

A folder of golden/rules holds rules.toml and lists/. An accepted file comes
with expect.json: its rules with their conditions and effective switches, its
warnings, and the verdict of the rules in test on each line of requests.jsonl,
at the time that its "at" names.
A refused one comes with errors.txt: every message, with its place.
With SOCKRULES_GOLDEN=write both are written anew; read them before committing.
"""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path

import pytest

from sockrules.control.addresses import format_address
from sockrules.control.condition import And, Any, Comparison, Condition, Not, Or, Time
from sockrules.control.evaluate import decide
from sockrules.control.model import DefaultRule, Field, Rule, RuleSet, effective
from sockrules.control.names import FixedNames
from sockrules.control.problems import InputError
from sockrules.control.requests import request_from_json, verdict_to_json
from sockrules.control.rules_file import RulesFile, parse_rules
from sockrules.control.week import minute_text

FOLDERS = sorted(path.parent for path in Path(__file__).parent.glob("rules/*/rules.toml"))
WRITE = os.environ.get("SOCKRULES_GOLDEN") == "write"
USERS = {"root": 0, "www-data": 33, "postgres": 106, "and": 500, "1000": 1234}
MONDAY_NOON = "2026-03-02T12:00+01:00"
GROUPS = {"root": 0, "adm": 4, "www-data": 33}


def names_of(folder: Path) -> FixedNames:
    lists = {path.stem: path.read_text("utf-8") for path in folder.glob("lists/*.txt")}
    return FixedNames(USERS, GROUPS, lists)


def parsed(folder: Path) -> RulesFile:
    text = (folder / "rules.toml").read_text("utf-8")
    return parse_rules(text, file="rules.toml", names=names_of(folder))


def as_json(condition: Condition) -> object:
    """A condition as nested lists: `["and", ["local.port", "in", "80-443"], ["not", "any"]]`."""
    match condition:
        case Any():
            return "any"
        case And(parts):
            return ["and", *map(as_json, parts)]
        case Or(parts):
            return ["or", *map(as_json, parts)]
        case Not(part):
            return ["not", as_json(part)]
        case Time(minutes, negated):
            periods = [f"{minute_text(first)}-{minute_text(last)}" for first, last in minutes]
            return ["time", "not in" if negated else "in", *periods]
        case Comparison(field, ranges, paths, negated):
            members = [*(as_text(field, *ends) for ends in ranges), *paths, *condition.services]
            return [field.value, "not in" if negated else "in", *members]


def as_text(field: Field, first: int, last: int) -> str:
    show = format_address if field.value.endswith("address") else str
    return show(first) if first == last else f"{show(first)}-{show(last)}"


def switches(ruleset: RuleSet, rule: Rule | DefaultRule) -> dict[str, str]:
    values = {key: effective(ruleset, rule, key) for key in ("audit", "message", "capture")}
    return {key: f"{'yes' if e.value else 'no'} ({e.source})" for key, e in values.items()}


def meaning(folder: Path) -> dict[str, object]:
    read = parsed(folder)
    ruleset = read.ruleset
    requests = folder / "requests.jsonl"
    lines = requests.read_text("utf-8").splitlines() if requests.exists() else []
    names = names_of(folder)
    return {
        "rules": [
            {
                "sequence": rule.sequence,
                "name": rule.name,
                "server": rule.server.word,
                "authority": rule.authority,
                "active": rule.active,
                "test": rule.test,
                "description": rule.description,
                **({"expires": rule.expires.isoformat()} if rule.expires else {}),
                "switches": switches(ruleset, rule),
                "when": as_json(rule.when),
            }
            for rule in ruleset.rules
        ],
        "defaults": {
            rule.name: {"authority": rule.authority, "switches": switches(ruleset, rule)}
            for rule in ruleset.defaults.values()
        },
        "warnings": [str(problem) for problem in read.warnings],
        "verdicts": [verdict(ruleset, json.loads(line), names) for line in lines],
    }


def verdict(ruleset: RuleSet, line: dict[str, object], names: FixedNames) -> dict[str, object]:
    moment = datetime.fromisoformat(str(line.pop("at", MONDAY_NOON)))
    request = request_from_json(line, names)
    return verdict_to_json(decide(ruleset, ruleset.in_test(), request, moment))


def errors(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        parsed(folder)
    return f"{caught.value}\n"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_golden_folder(folder: Path) -> None:
    refused = folder.name.startswith("refused-")
    golden = folder / ("errors.txt" if refused else "expect.json")
    found = errors(folder) if refused else f"{json.dumps(meaning(folder), indent=1)}\n"
    if WRITE:
        golden.write_text(found, "utf-8")
    assert found == golden.read_text("utf-8")


def test_every_feature_has_both_kinds_of_folder() -> None:
    kinds = {folder.name.partition("-")[0] for folder in FOLDERS}
    assert kinds == {"accepted", "refused"}
