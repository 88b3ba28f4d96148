# SPDX-License-Identifier: Apache-2.0
"""Places in TOML files: keys and values of every layout, characters inside every kind of string."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockrules.control.toml_positions import Path, Place, TomlPositions, source_index

LAYOUTS = """\
top = 1 # comment
"quoted key" . 'b' = "x"
"é" = "ü" # äöü

[[rule]]
name = "one"
[[rule]]
  name   = "two"
  extra.deep = [1, { a = "b", c.d = [
    # comment
    2] }]
[default.listen]
authority = "yes"
[rule.sub]
x = 1
"""


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        (("top",), (1, 1), (1, 7)),
        (("quoted key", "b"), (2, 16), (2, 22)),
        (("é",), (3, 1), (3, 7)),
        (("rule", 0), (5, 1), (5, 1)),
        (("rule",), (5, 1), (5, 1)),
        (("rule", 0, "name"), (6, 1), (6, 8)),
        (("rule", 1), (7, 1), (7, 1)),
        (("rule", 1, "name"), (8, 3), (8, 12)),
        (("rule", 1, "extra", "deep"), (9, 9), (9, 16)),
        (("rule", 1, "extra", "deep", 1, "a"), (9, 22), (9, 26)),
        (("rule", 1, "extra", "deep", 1, "c", "d", 0), None, (11, 5)),
        (("default",), (12, 2), (12, 2)),
        (("default", "listen"), (12, 1), (12, 1)),
        (("default", "listen", "authority"), (13, 1), (13, 13)),
        (("rule", 1, "sub", "x"), (15, 1), (15, 5)),
        (("absent",), None, None),
        (("rule", 7, "name"), None, None),
    ],
)
def test_keys_and_values(
    path: Path, key: tuple[int, int] | None, value: tuple[int, int] | None
) -> None:
    positions = TomlPositions(LAYOUTS)
    assert positions.key(path) == key
    assert positions.value(path) == value
    crlf = TomlPositions(LAYOUTS.replace("\n", "\r\n"))
    assert crlf.value(path) == value


def test_a_place_inside_something_else_is_its_beginning() -> None:
    positions = TomlPositions("a = 1\nb = true\n")
    assert positions.inside(("b",), 3) == Place(2, 5)
    assert positions.inside(("c",), 0) is None


def literals(text: str, escape: bool) -> list[str]:
    """A text in every kind of TOML string that can hold it."""
    basic = "".join(
        f"\\U{ord(c):08x}" if escape or c in '"\\\n' or not c.isprintable() else c for c in text
    )
    kinds = [f'"{basic}"', f'"""\n{basic}"""', f'"""{basic}"""', f'"""\\\n  \n  {basic}"""']
    if text.isprintable() and "'" not in text:
        kinds += [f"'{text}'", f"'''\n{text}'''"]
    return kinds


@given(st.text(alphabet="aé'\"\\ \n\t\u2028𝄞", min_size=1), st.booleans(), st.data())
def test_every_character_is_found_where_it_is_written(
    text: str, escape: bool, data: st.DataObject
) -> None:
    literal = data.draw(st.sampled_from(literals(text, escape)))
    source = f"# ä\n  k = {literal} # end"
    decoded = tomllib.loads(source)["k"]
    positions = TomlPositions(source)
    lines = source.split("\n")
    for offset, character in enumerate(decoded):
        place = positions.inside(("k",), offset)
        assert place is not None
        written = lines[place.line - 1][place.column - 1 :]
        if literal.startswith('"') and written.startswith("\\"):
            assert f"\\U{ord(character):08x}" == written[:10]
        else:
            assert written.startswith(character) or (character == "\n" and not written)
    end = source_index(literal, len(decoded))
    assert literal[end:] in {'"', "'", '"""', "'''"}


@given(st.text(alphabet="[]{}=\"'.,#\n\\ab1 "))
def test_what_is_not_toml_is_no_reason_to_fail(text: str) -> None:
    positions = TomlPositions(text)
    for path in ((), ("a",), ("a", 0, "b"), ("b", "a")):
        positions.key(path)
        positions.value(path)
        positions.inside(path, 1)
