# SPDX-License-Identifier: Apache-2.0
"""Every rules file that the documentation shows can be used as it stands.

Blocks marked ```toml in docs/rules.md and README.md are rules files, except
where an HTML comment `<!-- agent.toml -->` stands on the line before. A block
after `<!-- refused: TEXT -->` must be refused, with TEXT among its errors.
Users, groups and lists that the examples name are those below.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from sockrules.control.names import FixedNames
from sockrules.control.problems import InputError
from sockrules.control.rules_file import parse_rules

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = ("docs/rules.md", "README.md")
NAMES = FixedNames(
    users={"root": 0, "www-data": 33, "postgres": 106, "alice": 1000, "bob": 1001},
    groups={"root": 0, "adm": 4, "www-data": 33, "developers": 1100},
    lists={
        "bastions": "192.0.2.10\n192.0.2.11 # the second one\n",
        "admins": "# people on call\nalice\nbob\n",
        "web-ports": "80\n443\n8000-8099\n",
    },
)
BLOCK = re.compile(r"(?:^<!-- (?P<note>[^\n]*) -->\n)?^```toml\n(?P<text>.*?)^```$", re.M | re.S)


class Example(NamedTuple):
    """One block: the page, the line it starts at, the comment before it, its text."""

    page: str
    line: int
    note: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def examples() -> list[Example]:
    found = []
    for page in PAGES:
        source = (CHECKOUT / page).read_text(encoding="utf-8")
        for block in BLOCK.finditer(source):
            line = source.count("\n", 0, block.start("text"))
            found.append(Example(page, line, block["note"] or "", block["text"]))
    return found


EXAMPLES = [example for example in examples() if example.note != "agent.toml"]
ACCEPTED = [example for example in EXAMPLES if not example.note]
REFUSED = [example for example in EXAMPLES if example.note.startswith("refused: ")]


def test_every_block_is_tested() -> None:
    assert len(ACCEPTED) + len(REFUSED) == len(EXAMPLES)
    assert {example.page for example in ACCEPTED} == set(PAGES)
    assert REFUSED


@pytest.mark.parametrize("example", ACCEPTED, ids=str)
def test_example_is_accepted(example: Example) -> None:
    parsed = parse_rules(example.text, file="rules.toml", names=NAMES)
    written = example.text.count("[[rule]]") + example.text.count("[default.")
    assert written > 0
    assert len(parsed.ruleset.rules) == example.text.count("[[rule]]")


@pytest.mark.parametrize("example", REFUSED, ids=str)
def test_example_is_refused(example: Example) -> None:
    with pytest.raises(InputError) as caught:
        parse_rules(example.text, file="rules.toml", names=NAMES)
    assert example.note.removeprefix("refused: ") in str(caught.value)
