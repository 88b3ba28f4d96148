# SPDX-License-Identifier: Apache-2.0
"""A TOML file being judged: its data, and every problem found in it with its place."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Iterable, Mapping

from .problems import InputError, Problem, did_you_mean, listed
from .toml_positions import Path, Place, TomlPositions

YES_NO = '"yes" or "no"'

_AT = re.compile(r" \(at line (\d+), column (\d+)\)$")
_HINTS = {
    "Invalid value": 'texts stand in quotes, as in server = "accept"',
    "Expected '=' after a key in a key/value pair": 'a line reads key = "value"',
    "Cannot overwrite a value": "the key is there already; remove one of the two",
    "Expected newline or end of document after a statement": "one key a line; close the quotes",
    "Illegal character '\\n'": "the quotes are not closed on this line",
    "Unterminated string": "close the quotes",
    "Unescaped '\\' in a string": r"write \\, or use '...' around the text",
}


class TomlDocument:
    """The data of a file and the problems found in it; `data` where it is known already.

    Raises InputError when the text is not TOML at all.
    """

    def __init__(self, text: str, file: str, data: dict[str, object] | None = None) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.data: dict[str, object] = {}
        self._text = text
        if data is not None:
            self.data = data
            return
        try:
            self.data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise InputError([_syntax_problem(text, file, str(error))]) from None
        except RecursionError:
            message = "values are nested too deeply"
            raise InputError([Problem(file, None, None, message)]) from None
        except ValueError:  # of its own, Python converts at most 4300 digits
            raise InputError([Problem(file, None, None, "a number is too long")]) from None

    def wrong_key(self, path: Path, message: str, hint: str = "") -> None:
        """Something is wrong with a key, or with what a table lacks."""
        self._add(self._positions.key(path) or self._nearest(path), message, hint)

    def wrong_value(self, path: Path, message: str, hint: str = "") -> None:
        self._add(self._positions.value(path) or self._nearest(path), message, hint)

    def wrong_inside(
        self, path: Path, offset: int, message: str, hint: str = "", severity: str = "error"
    ) -> None:
        """Something is wrong at a character of a string value."""
        place = self._positions.inside(path, offset) or self._nearest(path)
        self._add(place, message, hint, severity)

    def line_of(self, path: Path) -> int | None:
        """The line of a key or table."""
        place = self._positions.key(path) or self._nearest(path)
        return place.line if place else None

    def place_of(self, path: Path) -> Place | None:
        """Line and column of a value, or of what it would lie in."""
        return self._positions.value(path) or self._nearest(path)

    def unknown_keys(self, table: Mapping[str, object], path: Path, known: Iterable[str]) -> None:
        """Reports every key of a table that has no meaning there."""
        known = list(known)
        for key in table:
            if key not in known:
                hint = did_you_mean(key, known) or f"the keys here are {listed(known)}"
                self.wrong_key((*path, key), f"there is no key {key}", hint)

    def table(self, table: Mapping[str, object], path: Path, key: str) -> dict[str, object]:
        """A table inside a table; empty when it is left out, or is none and was reported."""
        value = table.get(key, {})
        if isinstance(value, dict):
            return value
        name = ".".join(str(part) for part in (*path, key))
        self.wrong_value((*path, key), f"{key} is {shown(value)}, not a table", f"write [{name}]")
        return {}

    def yes_no(self, path: Path, value: object, why_not_inherit: str) -> bool | None:
        """A switch that cannot be inherited; `None` when it was wrong and reported."""
        if isinstance(value, bool):
            return value
        if value == "yes":
            return True
        if value == "no":
            return False
        key = path[-1]
        if value == "inherit":
            message = f"{key} cannot be inherited: {why_not_inherit}"
        else:
            message = f"{key} is {shown(value)}"
        self.wrong_value(path, message, f"use {YES_NO}")
        return None

    def errors(self) -> list[Problem]:
        """The errors, in the order of the file."""
        return self._sorted("error")

    def warnings(self) -> list[Problem]:
        return self._sorted("warning")

    @functools.cached_property
    def _positions(self) -> TomlPositions:
        return TomlPositions(self._text)

    def _nearest(self, path: Path) -> Place | None:
        """The place of what a thing lies in, when it has none of its own."""
        places = (self._positions.key(path[:length]) for length in range(len(path), 0, -1))
        return next((place for place in places if place), None)

    def _add(self, place: Place | None, message: str, hint: str, severity: str = "error") -> None:
        line, column = place or (None, None)
        self.problems.append(Problem(self.file, line, column, message, hint, severity))

    def _sorted(self, severity: str) -> list[Problem]:
        chosen = (problem for problem in self.problems if problem.severity == severity)
        return sorted(chosen, key=lambda problem: (problem.line or 0, problem.column or 0))


def shown(value: object) -> str:
    """A TOML value for a sentence: `"maybe"`, `the number 3`, `an array`."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return f'"{value}"' if len(value) <= 40 else f'"{value[:40]}..."'
        case int() | float():
            return f"the number {value}"
        case list():
            return "an array"
        case dict():
            return "a table"
    return "a date or time"


def _syntax_problem(text: str, file: str, error: str) -> Problem:
    message = error
    if place := _AT.search(error):
        message = error[: place.start()]
        line, column = int(place[1]), int(place[2])
    else:  # tomllib says "(at end of document)"
        message = error.removesuffix(" (at end of document)")
        lines = text.rstrip("\r\n").split("\n")
        line, column = len(lines), len(lines[-1]) + 1
    return Problem(file, line, column, f"this is not TOML: {message}", _HINTS.get(message, ""))
