# SPDX-License-Identifier: Apache-2.0
"""Output for people and for programs: aligned tables, colour where it is wanted, JSON.

Rules. Text from outside (process names, paths, what an agent answers) passes
through `safe`: no byte of it reaches the terminal as a command. Colour is
written always and taken out by click when the output is not a terminal, or when
NO_COLOR is set.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click

GOOD, BAD, WARN, FAINT, STRONG = "green", "red", "yellow", "bright_black", "bold"


def safe(value: object) -> str:
    """The value as text for a terminal: control characters, and what only looks like none,
    are written as escapes."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable()
        else character.encode("unicode_escape", "surrogatepass").decode()
        for character in text
    )


def coloured(text: str, look: str) -> str:
    """The text in one of the looks above."""
    if look == STRONG:
        return click.style(text, bold=True)
    return click.style(text, fg=look)


def yes_no(value: bool) -> str:
    """A switch's value in words."""
    return "yes" if value else "no"


def plural(count: int, word: str, words: str = "") -> str:
    """`1 rule`, `2 rules`."""
    return f"{count} {word if count == 1 else words or word + 's'}"


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Lines of a table: columns as wide as their widest cell, the last one as it is.

    Cells are text that is safe to show, possibly coloured; numbers stand right.
    """
    body = [list(row) for row in rows]
    numeric = [
        bool(body) and all(isinstance(row[at], int) for row in body) for at in range(len(headings))
    ]
    cells = [[str(cell) for cell in row] for row in (headings, *body)]
    widths = [max(len(click.unstyle(row[at])) for row in cells) for at in range(len(headings))]
    lines = []
    for number, row in enumerate(cells):
        padded = [
            _padded(cell, width, right)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ]
        line = "  ".join(padded).rstrip()
        lines.append(coloured(line, FAINT) if number == 0 else line)
    return lines


def facts(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Lines of names and values, the values below one another."""
    present = list(pairs)
    width = max((len(name) for name, _ in present), default=0)
    return [f"{coloured(name.ljust(width), FAINT)}  {value}".rstrip() for name, value in present]


def document(data: object) -> str:
    """One JSON document, for a program, still readable for people."""
    return json.dumps(data, indent=2, ensure_ascii=False)


def line(data: Any) -> str:
    """One JSON object on a line of a stream."""
    return json.dumps(data, separators=(", ", ": "), ensure_ascii=False)


def _padded(cell: str, width: int, right: bool) -> str:
    blanks = " " * (width - len(click.unstyle(cell)))
    return blanks + cell if right else cell + blanks
