# SPDX-License-Identifier: Apache-2.0
"""From the text of a condition to its syntax tree, or to a sentence about what is wrong with it.

The grammar is condition.lark. The parser keeps its own stack, so its input
cannot exhaust Python's; the tree is walked by recursion, so its depth is
limited here, before anything is walked.
"""

from __future__ import annotations

import functools
import re

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedToken

LONGEST = 65536
"""Characters of a condition: some 3 000 addresses. Longer sets belong into lists."""

DEEPEST = 64
"""Parentheses and `not` inside one another; people write three or four."""

EXAMPLE = "such as local.port == 443"
OPERATORS = "==, !=, <, <=, >, >=, in or not in"

WORD = r"""[^\x00-\x20\x7f(){}<>=!"'&|,;#]"""
"""A character of a bare word, as in condition.lark."""

_PERIOD = rf"(?i:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*(?:-[a-z]+)?\s+[0-9]{WORD}*)"
_TOKEN = re.compile(rf"""\s*("[^"]*"|'[^']*'|{_PERIOD}|[=!<>]=|[<>(){{}},]|{WORD}+)""")
_HOURS = re.compile(r"[0-9]{1,2}:[0-9]{2}")
_KEYWORDS = frozenset({"and", "or", "not", "in", "any"})
_MISSPELT = {
    "=": "use ==",
    "===": "use ==",
    "=~": "use == or in",
    "=<": "use <=",
    "=>": "use >=",
    "<>": "use !=",
    "=!": "use !=",
    "!==": "use !=",
    "!": "use not",
    "&": "use and",
    "&&": "use and",
    "|": "use or",
    "||": "use or",
}
_OPERATOR_WORDS = {"is": "use ==", "eq": "use ==", "equals": "use ==", "ne": "use !="}

SyntaxTree = Tree[Token]


class SyntaxProblem(Exception):
    """The one place where the text stops making sense. `offset` counts characters from 0."""

    def __init__(self, offset: int, message: str, hint: str = "") -> None:
        self.offset, self.message, self.hint = offset, message, hint
        super().__init__(message)


def syntax_tree(text: str) -> SyntaxTree:
    """The tree of condition.lark's rules. Raises SyntaxProblem."""
    if len(text) > LONGEST:
        raise SyntaxProblem(
            0,
            f"the condition has {len(text)} characters, the longest has {LONGEST}",
            "put long sets into a list, lists/NAME.txt, and write in @NAME",
        )
    if not text.strip(" \t\r\n"):
        raise SyntaxProblem(0, "the condition is empty", "write any for every request")
    if text.count("(") + text.count("not") > DEEPEST:
        _check_depth(text)
    try:
        return _grammar().parse(text)
    except UnexpectedToken as error:
        end = error.token.type == "$END"
        at = len(text.rstrip(" \t\r\n")) if end else error.token.start_pos or 0
        raise _explained(text, at, "" if end else str(error.token), error.expected) from None
    except UnexpectedCharacters as error:
        raise _bad_character(text, error.pos_in_stream or 0) from None


@functools.cache
def _grammar() -> Lark:
    return Lark.open("condition.lark", rel_to=__file__, parser="lalr", lexer="basic")


def _check_depth(text: str) -> None:
    nesting: list[str] = []
    for match in _TOKEN.finditer(text):
        token = match[1]
        if token in {"(", "not"}:
            nesting.append(token)
            if len(nesting) > DEEPEST:
                raise SyntaxProblem(
                    match.start(1),
                    f"the condition is nested more than {DEEPEST} deep",
                    "remove needless parentheses, or split the rule",
                )
        else:
            if token == ")" and "(" in nesting:
                while nesting.pop() != "(":
                    pass
            while nesting and nesting[-1] == "not":
                nesting.pop()


def _bad_character(text: str, at: int) -> SyntaxProblem:
    character = text[at]
    if character in "\"'":
        return SyntaxProblem(at, "this quote is never closed", f"end the value with {character}")
    start, end = at, at + 1
    while start and text[start - 1] in "=<>!&|":
        start -= 1
    while end < len(text) and text[end] in "=<>!&|~":
        end += 1
    if hint := _MISSPELT.get(text[start:end]) or _MISSPELT.get(character):
        return SyntaxProblem(start, f"{text[start:end]} is not an operator", hint)
    if character == "#":
        return SyntaxProblem(at, "a condition holds no comments", "put it on a line of its own")
    shown = character if character.isprintable() else f"the character U+{ord(character):04X}"
    return SyntaxProblem(at, f"{shown} cannot stand here", "quote a value that contains it")


def _explained(text: str, at: int, token: str, expected: set[str]) -> SyntaxProblem:
    """Plain language for the parser's state: what it expected tells where it was."""
    before = [(match.start(1), match[1]) for match in _TOKEN.finditer(text[:at])]
    previous = before[-1][1] if before else ""
    if "LPAR" in expected:
        return _no_comparison(at, token, previous)
    if "OPERATOR" in expected:
        return _no_operator(at, token, previous, before[-1][0])
    if expected == {"IN"}:
        return SyntaxProblem(at, "only in can follow this not", "use not in {...}, or !=")
    if "OPEN" in expected:
        return _no_value(at, token, *before[-1])
    if previous.endswith("-") or token.startswith("-"):
        return SyntaxProblem(at, "a range holds no spaces", "write it as in 8000-8010")
    if "CLOSE" in expected:
        if not token:
            opened = max(place for place, bracket in before if bracket == "{")
            return SyntaxProblem(opened, "this { is never closed", "end the set with }")
        if "_COMMA" in expected:
            hint = "separate the values of a set by commas and end it with }"
            return SyntaxProblem(at, f"a comma is missing before {token}", hint)
        return SyntaxProblem(at, f"a value is missing before {token}", "as in {80, 443}")
    return _no_connective(at, token, previous, before)


def _no_comparison(at: int, token: str, previous: str) -> SyntaxProblem:
    if token[:1] in {'"', "'"}:
        return SyntaxProblem(
            at, "a comparison begins with a field", f"write the field first, {EXAMPLE}"
        )
    if token == ")" and previous == "(":
        return SyntaxProblem(at, "these parentheses are empty", f"write a comparison, {EXAMPLE}")
    if token in {"==", "!=", "<", "<=", ">", ">=", "in"}:
        return SyntaxProblem(at, f"a field is missing before {token}", f"write one, {EXAMPLE}")
    where = f"after {previous}" if previous else f"before {token}"
    return SyntaxProblem(at, f"a comparison is missing {where}", f"write one, {EXAMPLE}")


def _no_operator(at: int, token: str, previous: str, previous_at: int) -> SyntaxProblem:
    if previous.lower() in _KEYWORDS:
        return SyntaxProblem(previous_at, f"{previous} is not a field", f"use {previous.lower()}")
    if previous.lower() in {"all", "true", "always", "*", "everything"} and not token:
        hint = "write any for every request"
        return SyntaxProblem(previous_at, f"{previous} is not a condition", hint)
    if token.lower() in _OPERATOR_WORDS:
        return SyntaxProblem(at, f"`{token}` is not an operator", _OPERATOR_WORDS[token.lower()])
    if token.lower() in _KEYWORDS and token not in _KEYWORDS:
        return SyntaxProblem(at, f"{token} is not an operator", f"use {token.lower()}")
    if not token or token in _KEYWORDS or token in {"(", ")", ","}:
        hint = f"write a comparison, {EXAMPLE}"
        return SyntaxProblem(previous_at, f"{previous} is compared with nothing", hint)
    hint = f"use {OPERATORS}"
    return SyntaxProblem(at, f"an operator is missing between {previous} and {token}", hint)


def _no_value(at: int, token: str, previous_at: int, previous: str) -> SyntaxProblem:
    if hint := _MISSPELT.get(previous + token):
        return SyntaxProblem(previous_at, f"{previous}{token} is not an operator", hint)
    if token in {"(", "["}:
        return SyntaxProblem(at, "a set is written in braces", "as in {80, 443}")
    if token in _KEYWORDS:
        hint = f'write one; if {token} is a name, quote it: "{token}"'
        return SyntaxProblem(at, f"a value is missing after {previous}", hint)
    return SyntaxProblem(at, f"a value is missing after {previous}", "write one, or a set {...}")


def _no_connective(
    at: int, token: str, previous: str, before: list[tuple[int, str]]
) -> SyntaxProblem:
    if not token:
        opened: list[int] = []
        for place, bracket in before:
            if bracket == "(":
                opened.append(place)
            elif bracket == ")":
                opened.pop()
        return SyntaxProblem(opened[-1], "this ( is never closed", "add the ) that is missing")
    if token == ")":
        return SyntaxProblem(at, "this ) closes nothing", "remove it, or add the ( it belongs to")
    if token == "}":
        return SyntaxProblem(at, "this } closes nothing", "remove it, or add the { it belongs to")
    if token == ",":
        hint = "use `and` or `or` between comparisons, braces around a set"
        return SyntaxProblem(at, "a comma stands only inside a set", hint)
    if token.lower() in {"and", "or"}:
        return SyntaxProblem(at, f"{token} is not known", f"use {token.lower()}")
    if token in {"==", "!=", "<", "<=", ">", ">=", "in"}:
        hint = "join two comparisons by and"
        return SyntaxProblem(at, f"{token} follows a complete comparison", hint)
    if _HOURS.match(token) and previous.replace("-", "").isalpha():
        return SyntaxProblem(before[-1][0], f"{previous} is not a day", "as in mon-fri 08:00-18:00")
    hint = "join comparisons by one of them; quote a value that contains spaces"
    return SyntaxProblem(at, f"`and` or `or` is missing between {previous} and {token}", hint)
