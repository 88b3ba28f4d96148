# SPDX-License-Identifier: Apache-2.0
"""rules.toml: from its text to a rule set, or to everything that is wrong with it.

Rules. Nothing is guessed and nothing left out silently: an unknown key, a value
of the wrong kind and a missing key are errors, and all of a file's errors are
told at once. The host is asked only through `names` and `program_exists`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time

from .condition import Condition
from .condition_parser import ConditionError, ConditionReader
from .garbage import uncollected
from .model import (
    DEFAULT_SEQUENCE,
    SEQUENCE_STEP,
    DefaultRule,
    Product,
    Rule,
    RuleSet,
    Server,
    Switch,
)
from .names import Names
from .problems import InputError, Problem, did_you_mean, listed
from .rule_blocks import Uncut, cut, table_of
from .toml_document import TomlDocument, shown
from .toml_positions import Path

MOST_RULES = DEFAULT_SEQUENCE - 1

_RULE_KEYS = (
    "name",
    "server",
    "authority",
    "audit",
    "message",
    "capture",
    "active",
    "test",
    "description",
    "expires",
    "when",
)
_RULE_KEY_SET = frozenset(_RULE_KEYS)
_DEFAULT_KEYS = ("authority", "audit", "message", "capture")
_SERVERS = {server.word: server for server in Server}
_SERVER_WORDS = listed((f'"{word}"' for word in _SERVERS), "or")
_SWITCHES = {switch.value: switch for switch in Switch}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_MISSING = {
    "name": 'add name = "..."',
    "server": f"add server = {_SERVER_WORDS}",
    "authority": 'add authority = "yes" to allow or "no" to reject',
    "when": 'add when = "..."; for every request, when = "any"',
}


@dataclass(frozen=True, slots=True)
class RulesFile:
    """A file without errors: the rule set, and what looks wrong but is not."""

    ruleset: RuleSet
    warnings: tuple[Problem, ...] = ()


def parse_rules(
    text: str,
    *,
    file: str,
    names: Names,
    product: Product = Product(),  # noqa: B008 (frozen)
    program_exists: Callable[[str], bool] | None = None,
    memory: RuleMemory | None = None,
) -> RulesFile:
    """The rule set of a file. `file` is the name that problems carry.

    Programs that `program_exists` denies are warned of; without it none is. `memory`
    makes the next reading quick; it is for readings without `program_exists`.
    Raises InputError with every error, in the order of the file.
    """
    with uncollected():
        return _read(text, file, names, product, program_exists, memory or RuleMemory())


def _read(
    text: str,
    file: str,
    names: Names,
    product: Product,
    program_exists: Callable[[str], bool] | None,
    memory: RuleMemory,
) -> RulesFile:
    try:
        blocks, rest = cut(text)
        document = TomlDocument(text, file, rest)
        reader = _RulesReader(document, names, program_exists)
        rules = reader.rules_of(blocks, memory)
    except Uncut:
        document = TomlDocument(text, file)
        reader = _RulesReader(document, names, program_exists)
        rules = reader.rules()
    defaults = reader.defaults()
    for key, value in document.data.items():
        if key not in {"rule", "default"}:
            hint = did_you_mean(key, ("rule", "default"))
            if isinstance(value, dict | list):
                hint = f"use [[rule]] or [default.{'|'.join(_SERVERS)}]"
            document.wrong_key((key,), f"there is no key {key} outside a rule", hint)
    if errors := document.errors():
        raise InputError(errors)
    memory.learn(reader.lasting)
    return RulesFile(RuleSet(rules, defaults, product), tuple(document.warnings()))


class RuleMemory:
    """The rules of the file read last, by the text of their tables.

    Kept are rules in which nothing was remarkable and which mean the same whatever the
    host's names and lists are: those can be taken as they are when the text comes again.
    """

    def __init__(self) -> None:
        self._rules: dict[str, Rule] = {}

    def rule(self, block: str) -> Rule | None:
        """The rule that a table is."""
        return self._rules.get(block)

    def learn(self, rules: dict[str, Rule]) -> None:
        """Know these from now on, and no others."""
        self._rules = rules


def sequence_step(count: int) -> int:
    """The distance between the sequences of so many rules: 10 while they fit below 99999."""
    return SEQUENCE_STEP if count * SEQUENCE_STEP < DEFAULT_SEQUENCE else 1


class _RulesReader:
    def __init__(
        self,
        document: TomlDocument,
        names: Names,
        program_exists: Callable[[str], bool] | None,
    ) -> None:
        self._document = document
        self._conditions = ConditionReader(names, program_exists)
        self._names: dict[str, Path] = {}
        self.lasting: dict[str, Rule] = {}
        """What a memory may keep of `rules_of`."""

    def rules(self) -> tuple[Rule, ...]:
        tables = self._document.data.get("rule", [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            what = "one table" if isinstance(tables, dict) else shown(tables)
            hint = "write [[rule]], with two brackets, above every rule"
            self._document.wrong_key(("rule",), f"rule is {what}, not a list of rules", hint)
            return ()
        if len(tables) > MOST_RULES:
            message = f"there are {len(tables)} rules, a file holds at most {MOST_RULES}"
            self._document.wrong_key(("rule", MOST_RULES), message, "put long sets into lists")
            return ()
        step = sequence_step(len(tables))
        rules = (
            self._rule(table, ("rule", index), (index + 1) * step)
            for index, table in enumerate(tables)
        )
        return tuple(rule for rule in rules if rule)

    def rules_of(self, blocks: list[str], memory: RuleMemory) -> tuple[Rule, ...]:
        """As `rules`, of a file that was cut into its tables. Raises Uncut."""
        if len(blocks) > MOST_RULES:
            raise Uncut
        found: list[Rule] = []
        step = sequence_step(len(blocks))
        for index, block in enumerate(blocks):
            sequence = (index + 1) * step
            rule = memory.rule(block)
            if rule is not None and rule.name not in self._names:
                self._names[rule.name] = ("rule", index, "name")
                if rule.sequence != sequence:
                    rule = _placed(rule, sequence)
                self.lasting[block] = rule
            else:
                problems = len(self._document.problems)
                rule = self._rule(table_of(block), ("rule", index), sequence)
                if rule is None:
                    continue
                remarkable = problems != len(self._document.problems)
                if not remarkable and not self._conditions.asked_host:
                    self.lasting[block] = rule
            found.append(rule)
        return tuple(found)

    def defaults(self) -> dict[Server, DefaultRule]:
        tables = self._document.table(self._document.data, (), "default")
        self._document.unknown_keys(tables, ("default",), _SERVERS)
        return {server: self._default(tables, server) for server in Server}

    def _default(self, tables: dict[str, object], server: Server) -> DefaultRule:
        path: Path = ("default", server.word)
        table = self._document.table(tables, ("default",), server.word)
        self._document.unknown_keys(table, path, _DEFAULT_KEYS)
        return DefaultRule(
            server,
            self._yes_no(table, path, "authority", "a default rule decides what no rule matched"),
            *(self._switch(table, path, key) for key in ("audit", "message", "capture")),
        )

    def _rule(self, table: dict[str, object], path: Path, sequence: int) -> Rule | None:
        if not table.keys() <= _RULE_KEY_SET:
            self._document.unknown_keys(table, path, _RULE_KEYS)
        name = self._name(table, path)
        called = name or f"number {int(path[1]) + 1}"
        for key, hint in _MISSING.items():
            if key not in table:
                self._document.wrong_key(path, f"rule {called} has no {key}", hint)
        server = self._server(table, path)
        when = self._when(table, path, server, called)
        authority = self._yes_no(table, path, "authority", "a rule itself decides")
        audit, message, capture = (
            self._switch(table, path, key) for key in ("audit", "message", "capture")
        )
        active = self._yes_no(table, path, "active", "it is the rule's own")
        test = self._yes_no(table, path, "test", "it is the rule's own")
        description = table.get("description", "")
        if not isinstance(description, str):
            message_text = f"description is {shown(description)}, not a text"
            self._document.wrong_value((*path, "description"), message_text, "put it in quotes")
            return None
        expires = self._expires(table, path)
        if server is None or when is None:
            return None
        return Rule(
            name,
            server,
            authority,
            when,
            sequence,
            audit,
            message,
            capture,
            active,
            test,
            description,
            expires,
        )

    def _name(self, table: dict[str, object], path: Path) -> str:
        """The rule's name; empty when it is missing or wrong."""
        name = table.get("name")
        if name is None:
            return ""
        path = (*path, "name")
        if not isinstance(name, str):
            self._document.wrong_value(path, f"name is {shown(name)}, not a text", "quote it")
        elif not _NAME.fullmatch(name):
            hint = "use letters, digits, '.', '_' and '-', the first a letter or digit"
            self._document.wrong_value(path, f"{shown(name)} cannot be a rule's name", hint)
        elif name.startswith("default-"):
            hint = "such names are the default rules'"
            self._document.wrong_value(path, f"a rule cannot be named {name}", hint)
        elif name in self._names:
            line = self._document.line_of(self._names[name])
            message = f"the name {name} is taken by the rule whose name is on line {line}"
            self._document.wrong_value(path, message, "names are unique; choose another")
            return name
        else:
            self._names[name] = path
            return name
        return ""

    def _server(self, table: dict[str, object], path: Path) -> Server | None:
        word = table.get("server")
        server = _SERVERS.get(word) if isinstance(word, str) else None
        if server is None and word is not None:
            near = did_you_mean(word, _SERVERS) if isinstance(word, str) else ""
            hint = near or f"use {_SERVER_WORDS}"
            self._document.wrong_value((*path, "server"), f"server is {shown(word)}", hint)
        return server

    def _when(
        self, table: dict[str, object], path: Path, server: Server | None, called: str
    ) -> Condition | None:
        text = table.get("when")
        if text is None:
            return None
        path = (*path, "when")
        if not isinstance(text, str):
            message = f"when is {shown(text)}, not a condition"
            self._document.wrong_value(path, message, 'put the condition in quotes: "any"')
            return None
        try:
            # Of unknown server: accept has every field, so only certain mistakes are told.
            known_server = Server.ACCEPT if server is None else server
            condition = self._conditions.read(text, known_server, rule=called)
        except ConditionError as error:
            for offset, message, hint in error.problems:
                self._document.wrong_inside(path, offset, message, hint)
            return None
        for offset, message, hint in self._conditions.notes:
            self._document.wrong_inside(path, offset, message, hint, "warning")
        return condition

    def _expires(self, table: dict[str, object], path: Path) -> datetime | None:
        """The moment from which the rule does not apply; every mistake has its right form."""
        value = table.get("expires")
        if value is None or (isinstance(value, datetime) and value.tzinfo):
            return value
        path = (*path, "expires")
        message, hint = f"expires is {shown(value)}, not a date and time", "use "
        if isinstance(value, datetime):
            message = f"expires {value.isoformat()} has no offset from UTC"
            hint = f"use {value.isoformat()}Z, or an offset such as {value.isoformat()}+02:00"
        elif isinstance(value, date):
            message = f"expires {value.isoformat()} has no time of day and no offset from UTC"
            hint += f"{value.isoformat()}T00:00:00Z"
        elif isinstance(value, time):
            message = f"expires {value.isoformat()} has no date"
            hint = f"write both, as in 2026-12-31T{value.isoformat()}Z"
        elif isinstance(value, str) and (right := _moment(value)):
            message, hint = "expires stands in quotes", f"use {right}, without them"
        else:
            hint += "one without quotes, as in 2026-12-31T00:00:00Z"
        self._document.wrong_value(path, message, hint)
        return None

    def _yes_no(self, table: dict[str, object], path: Path, key: str, why_not_inherit: str) -> bool:
        value = table.get(key, "yes")
        if value == "yes":
            return True
        return bool(self._document.yes_no((*path, key), value, why_not_inherit))

    def _switch(self, table: dict[str, object], path: Path, key: str) -> Switch:
        value = table.get(key, Switch.INHERIT)
        if isinstance(value, bool):
            return Switch.YES if value else Switch.NO
        switch = _SWITCHES.get(value) if isinstance(value, str) else None
        if switch is None:
            hint = 'use "yes", "no" or "inherit"'
            self._document.wrong_value((*path, key), f"{key} is {shown(value)}", hint)
            return Switch.INHERIT
        return switch


def _placed(rule: Rule, sequence: int) -> Rule:
    """The rule in another place of the list."""
    return Rule(
        rule.name,
        rule.server,
        rule.authority,
        rule.when,
        sequence,
        rule.audit,
        rule.message,
        rule.capture,
        rule.active,
        rule.test,
        rule.description,
        rule.expires,
    )


def _moment(text: str) -> str:
    """A date and time that a person put in quotes, as TOML writes it; empty if it is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return ""
    return moment.isoformat().replace("+00:00", "Z") if moment.tzinfo else f"{moment.isoformat()}Z"
