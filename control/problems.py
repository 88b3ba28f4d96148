# SPDX-License-Identifier: Apache-2.0
"""What is wrong with something a person wrote: the place, what is wrong, what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding. `line` and `column` count from 1, columns in characters.

    `severity` is `error` or `warning`. As text it reads
    `rules.toml:14:9: local.port 70000 is out of range; use 1-65535`.
    """

    file: str
    line: int | None
    column: int | None
    message: str
    hint: str = ""
    severity: str = "error"

    def __str__(self) -> str:
        place = self.file
        if self.line is not None:
            place += f":{self.line}"
            if self.column is not None:
                place += f":{self.column}"
        severity = "" if self.severity == "error" else f"{self.severity}: "
        hint = f"; {self.hint}" if self.hint else ""
        return f"{place}: {severity}{self.message}{hint}"


def problem_document(problem: Problem) -> dict[str, Any]:
    """A problem as JSON, and as it crosses the control socket: its fields by name."""
    return asdict(problem)


class InputError(Exception):
    """Input that cannot be used, with every reason why. Its text is one line a problem."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint with the known word nearest to a mistyped one, or an empty string."""
    choices = list(known)
    near = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    if not near:
        lowered = {choice.lower(): choice for choice in choices}
        near = [lowered[word.lower()]] if word.lower() in lowered else []
    return f"did you mean {near[0]}?" if near else ""


def listed(words: Iterable[str], conjunction: str = "and") -> str:
    """Words as prose: `a`, `a and b`, `a, b and c`."""
    *most, last = words
    return f"{', '.join(most)} {conjunction} {last}" if most else last
