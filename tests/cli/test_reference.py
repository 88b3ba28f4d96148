# SPDX-License-Identifier: Apache-2.0
"""docs/cli.md says what --help says."""

from __future__ import annotations

from pathlib import Path

from sockrules.control.cli import COMMANDS
from sockrules.control.cli.reference import reference

PAGE = Path(__file__).resolve().parents[2] / "docs/cli.md"


def test_the_page_is_what_the_commands_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), (
        "docs/cli.md is stale; run: python -m sockrules.control.cli.reference docs/cli.md"
    )


def test_every_command_is_in_it() -> None:
    for name in COMMANDS:
        assert f"\n## sockrules {name}\n" in reference()
    assert "\n## sockrules rule move\n" in reference()
