# SPDX-License-Identifier: Apache-2.0
"""Keys of named tables are set and removed; everything else stays as it was written."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockrules.control.rules_edit import EditError
from sockrules.control.table_edit import remove_key, set_key

ORDER = ("keep", "syslog", "command", "seconds")

TEXT = """\
# The agent of this host.
[product]
audit = "no"   # for now

# Whom to tell.
[messages]
keep   = 500   # enough
syslog = true
# below

[default]
listen.authority = "no"
"""


def data(text: str, table: str) -> object:
    return tomllib.loads(text)[table]


def test_a_value_is_replaced_in_its_place() -> None:
    assert set_key(TEXT, "messages", "keep", 7, ORDER) == TEXT.replace("500", "7")


def test_true_and_false_stay_of_their_kind() -> None:
    assert set_key(TEXT, "messages", "syslog", "no", ORDER) == TEXT.replace("true", "false")


def test_a_new_key_finds_its_place_and_lines_up() -> None:
    after = set_key(TEXT, "messages", "seconds", 3, ORDER)
    assert after == TEXT.replace("true\n", "true\nseconds = 3\n")
    after = set_key(TEXT, "messages", "command", ["/bin/a", 'b "c"'], ORDER)
    assert after == TEXT.replace("true\n", 'true\ncommand = ["/bin/a", \'b "c"\']\n')


def test_a_table_that_is_not_there_is_added_at_the_end() -> None:
    assert set_key(TEXT, "agent", "x", "y", ()) == f'{TEXT}\n[agent]\nx = "y"\n'
    assert set_key("", "agent", "x", "y", ()) == '[agent]\nx = "y"\n'
    assert set_key("a = 1", "agent", "x", 2, ()) == "a = 1\n\n[agent]\nx = 2\n"


def test_a_table_in_a_table_by_its_header() -> None:
    text = '[default.accept]\naudit = "yes"\n'
    after = set_key(text, "default.accept", "authority", "no", ("authority", "audit"))
    assert after == '[default.accept]\nauthority = "no"\naudit = "yes"\n'
    assert data(set_key(text, "default.listen", "audit", "no", ()), "default") == {
        "accept": {"audit": "yes"},
        "listen": {"audit": "no"},
    }


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        '[default]\nlisten = { authority = "no" }\n',
        'default = { listen = { authority = "no" } }\n',
        'default.listen.authority = "no"\n',
        '[default.listen]\nauthority = "no"\n',
        '[ default . "listen" ]\nauthority = "no"\n',
    ],
)
def test_every_way_to_write_a_table_is_edited_where_it_stands(text: str) -> None:
    changed = set_key(text, "default.listen", "authority", "yes", ())
    assert data(changed, "default") == {"listen": {"authority": "yes"}}
    more = set_key(changed, "default.listen", "audit", "no", ())
    assert data(more, "default") == {"listen": {"authority": "yes", "audit": "no"}}
    other = set_key(text, "default.accept", "audit", "no", ())
    assert data(other, "default") == {"listen": {"authority": "no"}, "accept": {"audit": "no"}}
    gone = remove_key(text, "default.listen", "authority")
    assert tomllib.loads(gone).get("default", {}) in ({"listen": {}}, {})


def test_removing_takes_the_keys_lines_and_nothing_else() -> None:
    after = remove_key(TEXT, "messages", "keep")
    assert after == TEXT.replace("keep   = 500   # enough\n", "")
    assert remove_key(TEXT, "messages", "command") == TEXT
    assert remove_key(TEXT, "nowhere", "keep") == TEXT


def test_an_array_over_several_lines_is_one_value() -> None:
    text = '[messages]\ncommand = [\n  "/bin/a", # which\n  "b",\n]\nkeep = 1\n'
    assert set_key(text, "messages", "command", ["/c"], ORDER) == (
        '[messages]\ncommand = ["/c"]\nkeep = 1\n'
    )
    assert remove_key(text, "messages", "command") == "[messages]\nkeep = 1\n"


def test_line_ends_are_kept() -> None:
    text = "[messages]\r\nkeep = 1\r\n"
    after = set_key(text, "messages", "syslog", "no", ORDER)
    assert after == '[messages]\r\nkeep = 1\r\nsyslog = "no"\r\n'
    assert set_key(text, "x", "y", 1, ()) == f"{text}\r\n[x]\r\ny = 1\r\n"


@pytest.mark.parametrize("text", ["[messages", "messages = 3\n", "[[messages]]\n"])
def test_what_cannot_be_edited_is_refused(text: str) -> None:
    with pytest.raises(EditError, match="cannot be edited as it is"):
        set_key(text, "messages", "keep", 1, ORDER)


@given(
    table=st.sampled_from(["product", "messages", "default.listen", "default.accept", "new"]),
    key=st.sampled_from([*ORDER, "audit", "other"]),
    value=st.one_of(
        st.text(st.characters(exclude_categories=("Cs",))),
        st.integers(-(1 << 63), (1 << 63) - 1),
        st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=5), max_size=3),
    ),
)
def test_whatever_is_set_is_read_again_and_nothing_else_changes(
    table: str, key: str, value: str | int | list[str]
) -> None:
    before = tomllib.loads(TEXT)
    after = tomllib.loads(set_key(TEXT, table, key, value, ORDER))
    expected = before
    for part in table.split("."):
        expected = expected.setdefault(part, {})
    boolean = expected.get(key) is True and value in ("yes", "no")
    expected[key] = (value == "yes") if boolean else value
    assert after == before
