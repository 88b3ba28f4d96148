# SPDX-License-Identifier: Apache-2.0
"""Conditions without parentheses, read by one regular expression: nearly all that people write.

Rules. What is read here means what condition_parser.py makes of it by the grammar, in a
twentieth of the time. Whatever is not flat, is wrong, or deserves a note is not read here:
then the grammar decides, and it alone has words for it. Of a list that was never asked
for, the grammar is the first reader, as a list's bad lines are told once.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from .condition import And, Any, Comparison, Condition, Not, Or
from .condition_syntax import LONGEST, WORD
from .condition_values import ADDRESSES, DOMAIN, ValueProblem, Values
from .model import FIELDS_OF, Field, Server
from .ranges import Ranges, merge_long

_S = r"[ \t\r\n]*+"
_END = r"(?=[ \t\r\n{])"
_W = rf"{WORD}++"
# Possessive are only single characters: up to Python 3.11.4 a possessive group goes astray
# (https://github.com/python/cpython/issues/106052).
_COMPARISON = re.compile(
    rf"{_S}(?:(not)[ \t\r\n]++)?({_W}){_S}"
    rf"(==|!=|<=|>=|<|>|in{_END}|not[ \t\r\n]++in{_END}){_S}"
    rf"(?:({_W})|\{{{_S}({_W}(?:{_S},{_S}{_W})*){_S},?{_S}\}})"
    rf"(?:{_S}(and|or)(?=[ \t\r\n])|{_S}\Z)"
)
_NUMBERS = re.compile(r"[0-9]+(?:-[0-9]+)?")
_BLANKS = " \t\r\n"
_KEYWORDS = frozenset({"and", "or", "not", "in", "any"})
_ANY = Any()

_Fields = dict[str, Field]
_FIELDS: dict[Server, _Fields] = {
    server: {field.value: field for field in FIELDS_OF[server]} for server in Server
}


class FlatConditions:
    """Reads flat conditions with the values of a `ConditionReader`."""

    def __init__(self, values: Values, program_exists: Callable[[str], bool] | None) -> None:
        self._values = values
        self._program_exists = program_exists
        self._numbers: dict[tuple[Field, str], Ranges] = {}

    def read(self, text: str, server: Server) -> Condition | None:
        """The condition, or `None` when it is for the grammar."""
        if len(text) > LONGEST:
            return None
        fields, at = _FIELDS[server], 0
        either: list[Condition] = []
        both: list[Condition] = []
        try:
            while True:
                match = _COMPARISON.match(text, at)
                field = fields.get(match[2]) if match else None
                if match is None or field is None:
                    return _ANY if at == 0 and text.strip(_BLANKS) == "any" else None
                made = self._comparison(match, field)
                if made is None:
                    return None
                both.append(Not(made) if match[1] else made)
                at = match.end()
                if match[6] != "and":
                    either.append(both[0] if len(both) == 1 else And(tuple(both)))
                    if match[6] is None:
                        return either[0] if len(either) == 1 else Or(tuple(either))
                    both = []
        except ValueProblem:
            return None

    def _comparison(self, match: re.Match[str], field: Field) -> Comparison | None:
        operator, word, words = match[3], match[4], match[5]
        if words is None:
            if word in _KEYWORDS:
                return None
            members = [word]
            text = match.string[match.start(2) : match.end(4)]
        else:
            if operator[0] in "=!<>":
                return None  # a set
            members = [each.strip(_BLANKS) for each in words.split(",")]
            if not _KEYWORDS.isdisjoint(members):
                return None
            text = match.string[match.start(2) : match.string.index("}", match.end(5)) + 1]
        negated = operator[0] in "!n"
        if operator[0] in "<>":
            if field not in DOMAIN:
                return None
            first, last = self._values.ordered(field, operator, members[0])
            return Comparison(field, ((first, last),), (), False, text) if first <= last else None
        if field is Field.PROGRAM or field is Field.SERVICE:
            texts = self._texts(field, members)
            if texts is None:
                return None
            paths, services = (texts, ()) if field is Field.PROGRAM else ((), texts)
            return Comparison(field, (), paths, negated, text, services)
        found: list[Ranges] = []
        for member in members:
            ranges = self._ranges(field, member)
            if not ranges:
                return None
            found.append(ranges)
        merged = found[0] if len(found) == 1 else merge_long([r for part in found for r in part])
        return Comparison(field, merged, (), negated, text)

    def _ranges(self, field: Field, word: str) -> Ranges | None:
        if word[0] == "@":
            return self._values.known_ranges(field, word[1:])
        if field in ADDRESSES:
            return (self._values.range(field, word),)
        ranges = self._numbers.get((field, word))
        if ranges is None:
            ranges = (self._values.range(field, word),)
            if _NUMBERS.fullmatch(word):  # users have the names that the host gives them
                self._numbers[field, word] = ranges
        return ranges

    def _texts(self, field: Field, words: list[str]) -> tuple[str, ...] | None:
        found: list[str] = []
        for word in words:
            if word[0] == "@":
                texts = self._values.known_texts(field, word[1:])
                if not texts:
                    return None
                found.extend(texts)
            elif field is Field.SERVICE:
                found.append(self._values.service(word))
            else:
                found.append(self._values.path(word))
                if self._program_exists and not self._program_exists(word):
                    return None
        return tuple(dict.fromkeys(found))
