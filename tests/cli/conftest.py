# SPDX-License-Identifier: Apache-2.0
"""A root of its own for every test, the command line on it, and an agent that only talks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fake_agent import FakeAgent
from sockrules.control.cli import main
from sockrules.control.paths import Paths


@dataclass(frozen=True)
class Said:
    """What a command wrote, and its exit status."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        return json.loads(self.err)["error"]


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """A root with its folders and nothing in them. No links of it are pinned."""
    monkeypatch.delenv("SOCKRULES_ROOT", raising=False)
    monkeypatch.setattr("sockrules.control.paths.PINS", tmp_path / "bpf")
    paths = Paths(tmp_path / "root")
    for folder in (paths.lists, paths.log_dir, paths.run_dir):
        folder.mkdir(parents=True)
    return paths


@pytest.fixture
def cli(paths: Paths) -> Callable[..., Said]:
    """Runs a command line below the root, as a person would, and never sees a traceback."""

    def run(*words: str, input: str | bytes | None = None) -> Said:  # noqa: A002 (click's word)
        try:
            runner = CliRunner(mix_stderr=False)  # click 8.1
        except TypeError:
            runner = CliRunner()
        result = runner.invoke(main, ["--root", str(paths.root), *words], input=input)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Said(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def agent(paths: Paths) -> Iterator[FakeAgent]:
    """An agent on the root's control socket."""
    with FakeAgent(paths.socket) as agent:
        yield agent


@pytest.fixture
def rules(paths: Paths) -> Callable[[str], None]:
    """Writes the rule file."""

    def write(text: str) -> None:
        paths.rules.write_text(text, encoding="utf-8")

    return write
