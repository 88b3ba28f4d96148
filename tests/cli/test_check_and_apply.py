# SPDX-License-Identifier: Apache-2.0
"""`check` needs nobody; `apply` needs the agent, and hands it the text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fake_agent import FakeAgent, refusal
from sockrules.control.paths import Paths

Cli = Callable[..., Any]

GOOD = """\
[[rule]]
name = "no-telnet"
server = "connect"
authority = "no"
when = "remote.port == 23"

[[rule]]
name = "rehearsed"
server = "accept"
authority = "no"
active = "no"
when = "any"
"""
BAD = GOOD.replace("== 23", "== 70000").replace('"accept"', '"accep"')
APPLIED = {"revision": 8, "rules": 2, "steps": 5, "changed": True, "warnings": []}


class TestCheck:
    def test_good_rules(self, cli: Cli, rules: Callable[[str], None]) -> None:
        rules(GOOD)
        said = cli("check")
        assert said.code == 0
        assert "can be applied: 2 rules (1 active, 2 in test)" in said.out

    def test_json(self, cli: Cli, rules: Callable[[str], None], paths: Paths) -> None:
        rules(GOOD)
        doc = cli("check", "--json").json
        assert (doc["ok"], doc["rules"], doc["active"], doc["test"]) == (True, 2, 1, 2)
        assert doc["file"] == str(paths.rules)
        assert 0 < doc["steps"] <= doc["steps_limit"]

    def test_every_error_with_its_place(self, cli: Cli, paths: Paths) -> None:
        file = paths.root / "new.toml"
        file.write_text(BAD)
        said = cli("check", str(file))
        assert said.code == 2
        assert said.out == ""
        assert f"{file}:5:24: local.port" not in said.err
        first, second = said.err.splitlines()
        assert first == f"{file}:5:24: remote.port 70000 is out of range; use 1-65535"
        assert second.startswith(f"{file}:9:10: server is")

    def test_standard_input(self, cli: Cli) -> None:
        assert cli("check", "-", input=GOOD).code == 0
        assert cli("check", "-", input=BAD).err.startswith("<stdin>:5:24: ")
        assert cli("check", "-", input=b"\n\xff").err.startswith("<stdin>:2: not UTF-8")

    def test_warnings_are_no_errors(self, cli: Cli) -> None:
        text = GOOD.replace("remote.port == 23", "program == /nowhere/at/all")
        said = cli("check", "-", input=text)
        assert said.code == 0
        assert "/nowhere/at/all" in said.err
        assert "1 warning" in said.out
        (warning,) = cli("check", "-", "--json", input=text).json["warnings"]
        assert warning["severity"] == "warning"

    def test_rules_that_do_not_fit_the_kernel(self, cli: Cli) -> None:
        directories = ", ".join(f"/opt/d{n}/" for n in range(57))  # the kernel has 56 places
        text = GOOD.replace("remote.port == 23", f"program in {{{directories}}}")
        said = cli("check", "-", input=text)
        assert said.code == 2
        assert "57 directories, slices and cgroups are named" in said.err

    @pytest.mark.parametrize("file", ["", "missing.toml"])
    def test_no_such_file_is_wrong_input(self, cli: Cli, paths: Paths, file: str) -> None:
        words = ["check", *([str(paths.root / file)] if file else [])]
        said = cli(*words)
        assert said.code == 2
        assert "there is no such rule file" in said.err

    def test_a_folder_is_no_rule_file(self, cli: Cli, paths: Paths) -> None:
        said = cli("check", str(paths.root))
        assert said.code == 2
        assert "is a folder" in said.err


class TestApply:
    @pytest.fixture(autouse=True)
    def _previewed(self, agent: FakeAgent, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("SSH_CONNECTION", raising=False)
        agent.results["preview"] = APPLIED

    def test_the_installed_file_is_the_agents_to_read(
        self, cli: Cli, agent: FakeAgent, paths: Paths
    ) -> None:
        agent.results["apply"] = APPLIED
        said = cli("apply")
        assert said.code == 0
        assert said.out == "applied 2 rules as revision 8, at most 5 steps\n"
        assert agent.asked[-1] == {"command": "apply", "text": None, "file": str(paths.rules)}

    def test_another_file_is_handed_over(self, cli: Cli, agent: FakeAgent, paths: Paths) -> None:
        agent.results["apply"] = APPLIED
        file = paths.root / "new.toml"
        file.write_text(GOOD)
        assert cli("apply", str(file)).code == 0
        assert agent.asked[-1] == {"command": "apply", "text": GOOD, "file": str(file)}

    def test_standard_input_is_handed_over(self, cli: Cli, agent: FakeAgent) -> None:
        agent.results["apply"] = APPLIED
        cli("apply", "-", input=GOOD)
        assert agent.asked[0]["text"] == GOOD

    def test_json_is_the_agents_result(self, cli: Cli, agent: FakeAgent) -> None:
        agent.results["apply"] = APPLIED
        assert cli("apply", "--json").json.items() >= APPLIED.items()

    def test_nothing_to_change(self, cli: Cli, agent: FakeAgent) -> None:
        agent.results["apply"] = APPLIED | {"changed": False}
        assert cli("apply").out == "nothing to change: revision 8 is in force\n"

    def test_warnings_go_to_standard_error(self, cli: Cli, agent: FakeAgent) -> None:
        warning = {
            "file": "rules.toml",
            "line": 3,
            "column": None,
            "message": "odd",
            "hint": "",
            "severity": "warning",
        }
        agent.results["apply"] = APPLIED
        agent.results["preview"] = APPLIED | {"warnings": [warning]}
        assert cli("apply").err == "rules.toml:3: warning: odd\n"

    def test_the_agents_errors_are_shown_with_their_places(
        self, cli: Cli, agent: FakeAgent
    ) -> None:
        problem = {"file": "rules.toml", "line": 5, "column": 9, "message": "wrong", "hint": "so"}
        agent.answers["apply"] = refusal("input", "1 error", problem)
        said = cli("apply")
        assert (said.code, said.err) == (2, "rules.toml:5:9: wrong; so\n")
        error = cli("apply", "--json").error
        assert error["kind"] == "input"
        assert error["problems"][0]["line"] == 5

    def test_an_internal_error_is_1(self, cli: Cli, agent: FakeAgent) -> None:
        agent.answers["apply"] = refusal("internal", "apply: OSError: full")
        assert cli("apply").code == 1


def test_without_an_agent_nothing_is_applied(cli: Cli) -> None:
    said = cli("apply")
    assert said.code == 1
    assert "no agent answers" in said.err
    assert cli("apply", "--json").error["kind"] == "unreachable"
