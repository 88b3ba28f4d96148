# SPDX-License-Identifier: Apache-2.0
"""Tables line up, and nothing that others wrote can command the terminal."""

from __future__ import annotations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockrules.control import render


@given(st.text())
def test_what_is_shown_can_be_printed(text: str) -> None:
    assert render.safe(text).isprintable()


@given(st.text().filter(str.isprintable))
def test_what_can_be_printed_is_shown_as_it_is(text: str) -> None:
    assert render.safe(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [("\x1b[31mred", "\\x1b[31mred"), ("a\nb", "a\\nb"), ("\u202eexe", "\\u202eexe")],
)
def test_control_characters_are_written_out(text: str, shown: str) -> None:
    assert render.safe(text) == shown


def test_a_table_lines_up_with_and_without_colour() -> None:
    rows = [("a", 5, "x"), (render.coloured("long", render.GOOD), 1234, "y z")]
    lines = [click.unstyle(line) for line in render.table(("NAME", "N", "REST"), rows)]
    assert lines == ["NAME     N  REST", "a        5  x", "long  1234  y z"]


def test_facts_line_up() -> None:
    lines = [click.unstyle(line) for line in render.facts([("a", "1"), ("long", "2"), ("", "3")])]
    assert lines == ["a     1", "long  2", "      3"]


@pytest.mark.parametrize(("count", "text"), [(0, "0 entries"), (1, "1 entry"), (2, "2 entries")])
def test_plural(count: int, text: str) -> None:
    assert render.plural(count, "entry", "entries") == text
