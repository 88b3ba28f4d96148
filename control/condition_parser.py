# SPDX-License-Identifier: Apache-2.0
"""From the text of a condition to the condition: what its words mean, for its server.

Rules. Everything that is wrong with the meaning of a condition is reported at
once; of its syntax the first mistake, since what follows one is guesswork. A
comparison that is wrong is read over, so that the rest can be judged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lark import Token, Tree

from .condition import And, Any, Comparison, Condition, Not, Or, Range, Time, merge_ranges
from .condition_syntax import SyntaxProblem, SyntaxTree, syntax_tree
from .condition_values import DOMAIN, ValueProblem, Values
from .flat_conditions import FlatConditions
from .model import FIELDS_OF, Field, Server
from .names import Names
from .problems import did_you_mean, listed
from .ranges import Ranges, merge_long

MOST_PROBLEMS = 50
"""Problems told of one condition; past this a person needs the count, not the sentences."""

ConditionProblem = tuple[int, str, str]
"""Offset in characters from the start of the condition, what is wrong, what would be right."""

_FIELDS: dict[str, Field] = {field.value: field for field in Field}
_TIME = "time"
_WORDS = (*_FIELDS, _TIME)
_ALIKE = {
    "port": "local.port or remote.port",
    "address": "local.address or remote.address",
    "ip": "local.address or remote.address",
    "local.ip": "local.address",
    "remote.ip": "remote.address",
    "source.port": "remote.port (accept), local.port (connect)",
    "source.address": "remote.address (accept), local.address (connect)",
    "destination.port": "local.port (accept), remote.port (connect)",
    "destination.address": "local.address (accept), remote.address (connect)",
    "uid": "user",
    "gid": "group",
    "exe": "program",
    "path": "program",
    "process": "program",
    "unit": "service",
    "slice": "service",
    "cgroup": "service",
    "hour": _TIME,
    "hours": _TIME,
    "day": _TIME,
    "days": _TIME,
    "weekday": _TIME,
    "clock": _TIME,
}


_ORDER = frozenset({"<", "<=", ">", ">="})


class ConditionError(Exception):
    """A condition that cannot be used, with every reason, in the order of the text."""

    def __init__(self, problems: list[ConditionProblem]) -> None:
        self.problems = problems
        super().__init__(
            "\n".join(f"{message}; {hint}" if hint else message for _, message, hint in problems)
        )


def parse_condition(text: str, *, server: Server, names: Names) -> Condition:
    """The condition that `text` states for a server. Raises ConditionError, nothing else."""
    return ConditionReader(names).read(text, server)


class ConditionReader:
    """Reads many conditions, looking every name and list up once.

    `notes` collects what is suspicious but not wrong in the last condition
    read: programs that `program_exists` denies, lists without members.
    """

    def __init__(self, names: Names, program_exists: Callable[[str], bool] | None = None) -> None:
        self._values = Values(names)
        self._flat = FlatConditions(self._values, program_exists)
        self._program_exists = program_exists
        self.notes: list[ConditionProblem] = []

    @property
    def asked_host(self) -> bool:
        """Whether the last condition read is what it is by the host's names and lists."""
        return self._values.asked_host

    def read(self, text: str, server: Server, *, rule: str = "") -> Condition:
        """The condition; `rule` is the name to call the rule by. Raises ConditionError."""
        self.notes = []
        self._values.asked_host = False
        flat = self._flat.read(text, server)
        if flat is not None:
            return flat
        reading = _Reading(text, server, rule, self._values)
        try:
            condition = reading.condition(syntax_tree(text))
        except SyntaxProblem as problem:
            raise ConditionError([(problem.offset, problem.message, problem.hint)]) from None
        if reading.problems:
            raise ConditionError(_first_of(reading.problems))
        self._note(reading)
        return condition

    def _note(self, reading: _Reading) -> None:
        for offset, day in reading.whole_days:
            hint = "hours belong to the days right before them; repeat them if they are meant"
            self.notes.append((offset, f"{day} is the whole day here", hint))
        for offset, name in reading.empty_lists:
            self.notes.append((offset, f"the list @{name} is empty and matches nothing", ""))
        if self._program_exists:
            for offset, path in reading.programs:
                if not self._program_exists(path):
                    hint = "it is matched once it is there"
                    self.notes.append((offset, f"program {path} does not exist", hint))


class _Reading:
    """One condition being read."""

    def __init__(self, text: str, server: Server, rule: str, values: Values) -> None:
        self.problems: list[ConditionProblem] = []
        self.programs: list[tuple[int, str]] = []
        self.empty_lists: list[tuple[int, str]] = []
        self.whole_days: list[tuple[int, str]] = []
        self._text = text
        self._server = server
        self._rule = rule
        self._values = values

    def condition(self, node: SyntaxTree) -> Condition:
        """The meaning of a node; its depth is limited by condition_syntax."""
        kind = node.data
        if kind == "comparison":
            return self._comparison(node, negated=node.children[1] == "!=")
        if kind == "exclusion":
            return self._comparison(node, negated=True)
        if kind == "any":
            return Any()
        parts = tuple(self.condition(part) for part in node.children if isinstance(part, Tree))
        if kind == "opposite":
            return Not(parts[0])
        return And(parts) if kind == "both" else Or(parts)

    def _comparison(self, node: SyntaxTree, negated: bool) -> Condition:
        field_token, operator, operand = node.children
        assert isinstance(field_token, Token) and isinstance(operator, Token)
        if isinstance(operand, Tree):
            opening, *values, closing = (t for t in operand.children if isinstance(t, Token))
            end = closing.end_pos
            if operator != "in":
                self._wrong(opening, f"{operator} takes one value, not a set", "use in or not in")
            elif not values:
                self._wrong(opening, "the set is empty", "write values, as in {80, 443}")
        else:
            values = [operand]
            end = operand.end_pos
        text = self._text[field_token.start_pos : end]
        if field_token == _TIME:
            return Time(self._time(operator, values), negated, text)
        field = self._field(field_token)
        if field is None:
            return Any()
        if operator in _ORDER:
            ranges = self._order(field, operator, values)
            return Comparison(field, ranges=ranges, negated=negated, text=text)
        if field is Field.PROGRAM:
            return Comparison(field, paths=self._texts(field, values), negated=negated, text=text)
        if field is Field.SERVICE:
            services = self._texts(field, values)
            return Comparison(field, services=services, negated=negated, text=text)
        return Comparison(field, ranges=self._ranges(field, values), negated=negated, text=text)

    def _field(self, token: Token) -> Field | None:
        """The field, if there is one of that name; one of another server is wrong, too."""
        field = _FIELDS.get(token)
        if field is None:
            self._wrong(token, *_no_field(token))
        elif field not in FIELDS_OF[self._server]:
            having = listed(server.word for server in Server if field in FIELDS_OF[server])
            rule = f"rule {self._rule}: " if self._rule else ""
            message = f"{rule}{field} is not known to {self._server.word}"
            self._wrong(token, message, f"it is a field of {having}")
        return field

    def _order(self, field: Field, operator: Token, values: list[Token]) -> tuple[Range, ...]:
        if field not in DOMAIN:
            use = "a range, as in {10.0.0.1-10.0.0.9}" if "address" in field else "== or in"
            self._wrong(
                operator, f"{field} has no order, so {operator} cannot be asked", f"use {use}"
            )
            return ()
        if len(values) != 1:
            return ()
        try:
            word, quoted = _unquoted(values[0])
            first, last = self._values.ordered(field, operator, word, quoted)
        except ValueProblem as problem:
            self._wrong_value(values[0], problem)
            return ()
        if first > last:
            self._wrong(values[0], f"no {field} is {operator} {word}", "leave the comparison out")
        return ((first, last),)

    def _time(self, operator: Token, tokens: list[Token]) -> tuple[Range, ...]:
        if operator in _ORDER:
            hint = "use in, as in time in mon-fri 08:00-18:00"
            self._wrong(operator, f"time has no order, so {operator} cannot be asked", hint)
            return ()
        found: list[Range] = []
        hours = any(":" in token for token in tokens)
        for place, token in enumerate(tokens):
            try:
                if token.startswith("@"):
                    minutes = self._values.minutes_of(token[1:])
                    self._note_if_empty(token, minutes)
                else:
                    minutes = self._values.period(*_unquoted(token))
            except ValueProblem as problem:
                self._wrong_value(token, problem)
                continue
            found.extend(minutes)
            if hours and place + 1 < len(tokens) and token.replace("-", "").isalpha():
                self.whole_days.append((token.start_pos or 0, str(token)))
        return merge_ranges(found)

    def _ranges(self, field: Field, tokens: list[Token]) -> Ranges:
        found: list[Ranges] = []
        for token in tokens:
            try:
                if token.startswith("@"):
                    ranges = self._values.ranges_of(field, token[1:])
                    self._note_if_empty(token, ranges)
                else:
                    ranges = (self._values.range(field, *_unquoted(token)),)
            except ValueProblem as problem:
                self._wrong_value(token, problem)
            else:
                found.append(ranges)
        if len(found) == 1:
            return found[0]  # as it is: all rules share one long list
        return merge_long([each for ranges in found for each in ranges])

    def _texts(self, field: Field, tokens: list[Token]) -> tuple[str, ...]:
        found: list[str] = []
        for token in tokens:
            try:
                if token.startswith("@"):
                    texts = self._values.texts_of(field, token[1:])
                    self._note_if_empty(token, texts)
                    found.extend(texts)
                elif field is Field.SERVICE:
                    found.append(self._values.service(*_unquoted(token)))
                else:
                    found.append(self._values.path(*_unquoted(token)))
                    self.programs.append((token.start_pos or 0, found[-1]))
            except ValueProblem as problem:
                self._wrong_value(token, problem)
        return tuple(dict.fromkeys(found))

    def _note_if_empty(self, token: Token, members: Sequence[object]) -> None:
        if not members:
            self.empty_lists.append((token.start_pos or 0, token[1:]))

    def _wrong(self, token: Token, message: str, hint: str) -> None:
        self.problems.append((token.start_pos or 0, message, hint))

    def _wrong_value(self, token: Token, problem: ValueProblem) -> None:
        list_name = f"{token}: " if token.startswith("@") else ""
        for message, hint in problem.problems:
            at_line = message.startswith("lists/")
            self._wrong(token, f"{list_name}{message}" if at_line else message, hint)


def _unquoted(token: Token) -> tuple[str, bool]:
    return (token[1:-1], True) if token.type == "QUOTED" else (str(token), False)


def _no_field(word: str) -> tuple[str, str]:
    if word in {"date", "until", "expires"}:
        hint = "a rule has a key for it: expires = 2026-12-31T00:00:00Z"
        return f"there is no field {word}", hint
    message = f"there is no field {word}"
    if word in _ALIKE:
        return message, f"did you mean {_ALIKE[word]}?"
    if word[0] in "0123456789/@:":
        return f"{word} is not a field", "write the field first, as in local.port == 443"
    hint = did_you_mean(word.replace("_", "."), _WORDS)
    return message, hint or f"the fields are {listed(_WORDS)}"


def _first_of(problems: list[ConditionProblem]) -> list[ConditionProblem]:
    problems = sorted(problems, key=lambda problem: problem[0])
    if len(problems) > MOST_PROBLEMS:
        more = len(problems) - MOST_PROBLEMS
        return [
            *problems[:MOST_PROBLEMS],
            (problems[MOST_PROBLEMS][0], f"{more} more problems", ""),
        ]
    return problems
