# SPDX-License-Identifier: Apache-2.0
"""`agent run` becomes the agent's program; `doctor` runs it and shows what it found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from sockrules.control.paths import Paths

Cli = Callable[..., Any]

REPORT = {
    "kernel": "6.12.1",
    "bcc": "0.31.0",
    "checks": [
        {"name": "root", "ok": True, "detail": "yes", "fix": ""},
        {"name": "cgroup v2", "ok": False, "detail": "none", "fix": "mount -t cgroup2 ..."},
    ],
    "servers": {
        "listen": {"hook": "cgroup/post_bind", "ok": True, "detail": "bind() fails"},
        "connect": {"hook": "cgroup/connect", "ok": True, "detail": "connect() fails"},
    },
}


class TestAgentRun:
    @pytest.fixture
    def executed(self, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
        calls: list[list[str]] = []

        def execute(path: str, words: list[str]) -> None:
            assert path == sys.executable
            calls.append(words)

        monkeypatch.setattr(os, "execv", execute)
        return calls

    def test_it_becomes_the_agent(self, cli: Cli, paths: Paths, executed: list[list[str]]) -> None:
        cli("agent", "run")
        program = [sys.executable, "-P", "-m", "sockrules.agent"]
        assert executed == [[*program, "run", "--root", str(paths.root)]]

    def test_detaching(self, cli: Cli, executed: list[list[str]]) -> None:
        cli("agent", "run", "--detach-on-exit")
        assert executed[0][-1] == "--detach"

    def test_the_root_after_the_command(self, cli: Cli, executed: list[list[str]]) -> None:
        cli("agent", "run", "--root", "/elsewhere")
        assert executed[0][-2:] == ["--root", "/elsewhere"]


class TestDoctor:
    @pytest.fixture
    def found(self, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
        """What the agent's program is to print."""

        def arrange(out: bytes, err: bytes = b"") -> list[Any]:
            ran: list[Any] = []

            def run(words: list[str], **_: Any) -> Any:
                ran.append(words)
                return subprocess.CompletedProcess(words, 0, out, err)

            monkeypatch.setattr(subprocess, "run", run)
            return ran

        return arrange

    def test_what_was_found(self, cli: Cli, found: Any, paths: Paths) -> None:
        ran = found(json.dumps(REPORT).encode())
        said = cli("doctor")
        assert said.code == 0
        assert said.lines[0] == "Linux 6.12.1, BCC 0.31.0"
        for fact in ("cgroup/post_bind", "bind() fails", "mount -t cgroup2 ..."):
            assert fact in said.out
        assert ran[0][-4:] == ["doctor", "--json", "--root", str(paths.root)]

    def test_json(self, cli: Cli, found: Any) -> None:
        found(json.dumps(REPORT).encode())
        assert cli("doctor", "--json").json == REPORT

    @pytest.mark.parametrize(
        "servers", [{}, {"listen": {"hook": "h", "ok": False, "detail": "EPERM\nlog\nlog"}}]
    )
    def test_a_server_that_cannot_be_enforced_is_1(
        self, cli: Cli, found: Any, servers: dict[str, Any]
    ) -> None:
        found(json.dumps(REPORT | {"servers": servers}).encode())
        said = cli("doctor")
        assert said.code == 1
        assert "log" not in said.out

    def test_a_program_that_fails_is_quoted(self, cli: Cli, found: Any) -> None:
        found(b"", b"noise\nsockrules: the agent must run as root\n")
        said = cli("doctor")
        assert said.code == 1
        assert "could not be examined: the agent must run as root" in said.err
        assert cli("doctor", "--json").error["kind"] == "internal"

    def test_a_program_that_hangs_is_ended(self, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
        def run(words: list[str], **_: Any) -> Any:
            raise subprocess.TimeoutExpired(words, 120)

        monkeypatch.setattr(subprocess, "run", run)
        said = cli("doctor")
        assert said.code == 1
        assert "took longer than 120 s" in said.err
