# SPDX-License-Identifier: Apache-2.0
"""`test` says which rule decides, by the compiled table, the reference or the kernel."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from fake_agent import FakeAgent, refusal
from sockrules.control.paths import Paths

Cli = Callable[..., Any]

RULES = """\
[default.accept]
authority = "yes"
audit = "yes"

[[rule]]
name = "web"
server = "accept"
authority = "yes"
capture = "yes"
when = "local.port in {80, 443} and not user == root"

[[rule]]
name = "gone"
server = "accept"
authority = "yes"
test = "no"
when = "any"

[[rule]]
name = "lab"
server = "accept"
authority = "no"
active = "no"
when = "remote.address in 10.9.0.0/16"
"""


@pytest.fixture(autouse=True)
def installed(rules: Callable[[str], None]) -> None:
    rules(RULES)


def verdict(authority: str = "yes", rule: str = "web", sequence: int = 10) -> dict[str, Any]:
    return {
        "server": "accept",
        "authority": authority,
        "rule": rule,
        "sequence": sequence,
        "audit": True,
        "message": False,
        "capture": False,
    }


class TestOne:
    def test_allowed_is_0(self, cli: Cli) -> None:
        said = cli("test", "accept", "--local", ":443", "--user", "33")
        assert said.code == 0
        assert said.lines[0] == "allowed by web (sequence 10)"
        assert "local.port in {80, 443} and not user == root" in said.out

    def test_rejected_is_1_and_a_rule_in_test_need_not_be_active(self, cli: Cli) -> None:
        said = cli("test", "accept", "--remote", "10.9.1.1:5000")
        assert said.code == 1
        assert said.lines[0] == "rejected by lab (sequence 30)"
        assert "in test only, the kernel does not evaluate it" in said.out

    def test_the_default_rule(self, cli: Cli) -> None:
        said = cli("test", "accept")
        assert said.code == 0
        assert said.lines[0] == "allowed by default-accept (sequence 99999)"

    def test_json_is_the_verdict(self, cli: Cli) -> None:
        said = cli("test", "accept", "--remote", "10.9.1.1", "--json")
        assert said.code == 1
        assert said.json == verdict("no", "lab", 30)

    def test_effective_values_and_their_source(self, cli: Cli, paths: Paths) -> None:
        paths.agent_config.write_text('[product]\nmessage = "yes"\n')
        lines = cli("test", "accept", "--local", ":80", "--user", "5").lines
        assert "audit    yes (from its server's default rule)" in lines
        assert "message  yes (from the product configuration)" in lines
        assert "capture  yes (the rule's own)" in lines

    def test_another_rule_file(self, cli: Cli, paths: Paths) -> None:
        file = paths.root / "other.toml"
        file.write_text('[default.accept]\nauthority = "no"\n')
        assert cli("test", "accept", "--rules", str(file)).code == 1
        assert cli("test", "accept", "--rules", "-", input=file.read_bytes()).code == 1

    def test_lists_are_read(self, cli: Cli, paths: Paths) -> None:
        (paths.lists / "bad.txt").write_text("192.0.2.0/24 # all of it\n")
        text = RULES.replace("10.9.0.0/16", "@bad")
        said = cli("test", "accept", "--remote", "192.0.2.9", "--rules", "-", input=text)
        assert said.lines[0] == "rejected by lab (sequence 30)"

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("accept", "--local", "10.0.0.5:99999"), "--local: "),
            (("accept", "--remote", "nonsense"), "--remote: "),
            (("listen", "--remote", "10.0.0.1"), "--remote: a listen request has no remote side"),
            (("accept", "--user", "nobody-has-this-name"), "--user: no user is named"),
            (("accept", "--program", "nginx"), "--program: nginx is not an absolute path"),
        ],
    )
    def test_a_request_that_is_wrong_is_2(
        self, cli: Cli, words: tuple[str, ...], said: str
    ) -> None:
        result = cli("test", *words)
        assert result.code == 2
        assert said in result.err
        assert cli("test", *words, "--json").error["kind"] == "input"

    def test_wrong_rules_are_2(self, cli: Cli, rules: Callable[[str], None], paths: Paths) -> None:
        rules(RULES.replace('"any"', '"anything"'))
        said = cli("test", "accept")
        assert said.code == 2
        assert said.err.startswith(f"{paths.rules}:17:")


class TestTrace:
    def test_every_rule_before_it_says_why_not(self, cli: Cli) -> None:
        said = cli("test", "accept", "--local", ":443", "--user", "root", "--remote", "10.9.0.1",
                   "--trace")  # fmt: skip
        assert said.code == 1
        lines = [" ".join(line.split()) for line in said.lines]
        assert lines[:6] == [
            "10 web does not match",
            "yes local.port in {80, 443} local.port is 443",
            "yes user == root user is root",
            "30 lab matches",
            "yes remote.address in 10.9.0.0/16 remote.address is 10.9.0.1",
            "",
        ]
        assert lines[6] == "rejected by lab (sequence 30)"

    def test_unknown_is_said(self, cli: Cli) -> None:
        assert "remote.address is unknown" in cli("test", "accept", "--trace").out

    def test_json(self, cli: Cli) -> None:
        doc = cli("test", "accept", "--local", ":80", "--user", "5", "--trace", "--json").json
        (step,) = doc.pop("trace")
        assert doc == verdict() | {"capture": True}
        assert (step["rule"], step["sequence"], step["matched"]) == ("web", 10, True)
        assert step["comparisons"][0] == {
            "text": "local.port in {80, 443}",
            "field": "local.port",
            "actual": 80,
            "held": True,
        }

    def test_a_table_that_disagrees_is_never_hidden(
        self, cli: Cli, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from sockrules.control import evaluate

        def first(ruleset: Any, *_: object) -> Any:
            return [evaluate.TraceStep(ruleset.rules[1], True)]

        monkeypatch.setattr("sockrules.control.cli.judge.trace_rules", first)
        said = cli("test", "accept", "--trace")
        assert said.code == 1
        assert "the table says default-accept, the reference gone" in said.err


REQUESTS = [
    {"server": "accept", "local": ":443", "user": "daemon"},
    {"server": "accept", "remote": "10.9.0.1:1"},
    {"server": "listen"},
]


def lines(*documents: object) -> str:
    return "".join(json.dumps(doc) + "\n" for doc in documents)


class TestBatch:
    def test_a_line_in_is_a_line_out(self, cli: Cli) -> None:
        said = cli("test", "--batch", "-", input=lines(*REQUESTS) + "\n")
        assert said.code == 1
        verdicts = [json.loads(line) for line in said.lines]
        assert [each["rule"] for each in verdicts] == ["web", "lab", "default-listen"]
        assert verdicts[1] == verdict("no", "lab", 30)

    def test_all_allowed_is_0(self, cli: Cli, paths: Paths) -> None:
        file = paths.root / "requests.jsonl"
        file.write_text(lines(REQUESTS[0], REQUESTS[2]))
        assert cli("test", "--batch", str(file)).code == 0

    def test_wrong_lines_keep_their_place_and_are_all_told(self, cli: Cli) -> None:
        text = lines(REQUESTS[0]) + "{half\n" + lines([1], {"server": "x"}, REQUESTS[2])
        said = cli("test", "--batch", "-", input=text)
        assert said.code == 2
        answers = [json.loads(line) for line in said.lines]
        assert [("error" in answer) for answer in answers] == [False, True, True, True, False]
        errors = said.err.splitlines()
        assert [line.split(": ")[0] for line in errors] == ["<stdin>:2", "<stdin>:3", "<stdin>:4"]

    def test_a_missing_file_is_wrong_input(self, cli: Cli) -> None:
        said = cli("test", "--batch", "/nowhere/at.all")
        assert said.code == 2
        assert "/nowhere/at.all: no such file or directory" in said.err

    def test_nothing_in_is_nothing_out(self, cli: Cli) -> None:
        said = cli("test", "--batch", "-", input="")
        assert (said.code, said.out, said.err) == (0, "", "")


class TestInKernel:
    def test_the_agent_is_asked(self, cli: Cli, agent: FakeAgent) -> None:
        agent.results["decide"] = {"verdicts": [verdict("no", "lab", 30)]}
        said = cli("test", "accept", "--remote", "10.9.0.1:1", "--user", "0", "--in-kernel")
        assert said.code == 1
        assert said.lines[0] == "rejected by lab (sequence 30), says the kernel"
        request = {"server": "accept", "remote": "10.9.0.1:1", "user": "0"}
        assert agent.asked == [{"command": "decide", "requests": [request]}]

    def test_json_is_the_verdict(self, cli: Cli, agent: FakeAgent) -> None:
        agent.results["decide"] = {"verdicts": [verdict()]}
        said = cli("test", "accept", "--in-kernel", "--json")
        assert (said.code, said.json) == (0, verdict())

    def test_a_batch(self, cli: Cli, agent: FakeAgent) -> None:
        agent.results["decide"] = lambda question: {
            "verdicts": [verdict(rule=str(each)) for each in question["requests"]]
        }
        text = lines(REQUESTS[0], 3, REQUESTS[2])
        said = cli("test", "--batch", "-", "--in-kernel", input=text)
        assert said.code == 2
        answers = [json.loads(line) for line in said.lines]
        assert answers[0] == verdict(rule=str(REQUESTS[0]))
        assert "error" in answers[1]
        assert answers[2] == verdict(rule=str(REQUESTS[2]))
        assert len(agent.asked) == 1

    def test_a_long_batch_is_asked_in_pieces(self, cli: Cli, agent: FakeAgent) -> None:
        agent.results["decide"] = lambda question: {
            "verdicts": [verdict() for _ in question["requests"]]
        }
        said = cli("test", "--batch", "-", "--in-kernel", input=lines(*REQUESTS[:1] * 1200))
        assert (said.code, len(said.lines)) == (0, 1200)
        assert [len(each["requests"]) for each in agent.asked] == [500, 500, 200]

    def test_what_is_wrong_is_not_asked(self, cli: Cli, agent: FakeAgent) -> None:
        assert cli("test", "accept", "--local", "x", "--in-kernel").code == 2
        assert agent.asked == []

    @pytest.mark.parametrize("result", [{}, {"verdicts": []}, {"verdicts": [3]}])
    def test_an_answer_without_a_verdict(
        self, cli: Cli, agent: FakeAgent, result: dict[str, Any]
    ) -> None:
        agent.results["decide"] = result
        said = cli("test", "accept", "--in-kernel")
        assert said.code == 1
        assert "no verdict" in said.err

    def test_out_of_steps_is_1(self, cli: Cli, agent: FakeAgent) -> None:
        agent.answers["decide"] = refusal("state", "the walk ran out of steps")
        assert cli("test", "accept", "--in-kernel").code == 1
