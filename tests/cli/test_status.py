# SPDX-License-Identifier: Apache-2.0
"""`status` tells the truth first, and exits by it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fake_agent import FakeAgent, refusal
from sockrules.control.paths import Paths

Cli = Callable[..., Any]


def server(mode: str = "enforce", **more: Any) -> dict[str, Any]:
    proven = {"ok": True, "at": "2025-01-31T12:00:00Z", "why": "seen"}
    return {
        "mode": mode,
        "hook": "cgroup/connect",
        "covers": "connect() fails with EPERM",
        "proof": proven,
        "rules": 3,
        "decisions": 1200,
        "rejections": 34,
        "simulated": 0,
        "exhausted": 0,
        "refused": "",
        **more,
    }


OFF = server("off", hook=None, covers=None, proof={"ok": False, "at": None, "why": ""})


def report(**more: Any) -> dict[str, Any]:
    return {
        "sentence": "connect enforced; listen, accept off (revision 7)",
        "enforcing": True,
        "agent": {
            "pid": 42,
            "version": "0.1.0",
            "started": "2025-01-31T11:00:00Z",
            "root": "/",
            "cgroup": "/sys/fs/cgroup",
            "netns": 4026531840,
        },
        "ruleset": {
            "revision": 7,
            "rules": 12,
            "applied": "2025-01-31T11:30:00Z",
            "file": "/etc/sockrules/rules.toml",
            "differs": False,
            "error": None,
        },
        "table": {
            "entries": 40,
            "tables": 5,
            "steps": 41,
            "steps_limit": 96,
            "bytes": 14_200,
            "generation": 1,
        },
        "servers": {"listen": OFF, "accept": OFF, "connect": server()},
        "events": {
            "received": 90,
            "written": 34,
            "lost_total": 2,
            "lost": {"0": 2},
            "unwritten": 1,
        },
        "problems": [],
        **more,
    }


def test_the_first_line_is_the_sentence(cli: Cli, agent: FakeAgent) -> None:
    agent.results["status"] = report()
    said = cli("status")
    assert said.code == 0
    assert said.lines[0] == "connect enforced; listen, accept off (revision 7)"
    assert agent.asked == [{"command": "status"}]


def test_everything_it_rests_on_is_said(cli: Cli, agent: FakeAgent) -> None:
    agent.results["status"] = report()
    out = cli("status").out
    for fact in (
        "cgroup/connect",
        "connect() fails with EPERM",
        "1200",
        "34",
        "revision 7, 12 rules",
        "/etc/sockrules/rules.toml",
        "40 entries in 5 tables, at most 41 of 96 steps, 14.2 kB",
        "2 lost, 1 not written",
        "0.1.0, process 42",
        "/sys/fs/cgroup",
    ):
        assert fact in out


def test_json_is_the_agents_document(cli: Cli, agent: FakeAgent) -> None:
    agent.results["status"] = report()
    assert cli("status", "--json").json == report()


def test_less_than_asked_for_is_1(cli: Cli, agent: FakeAgent) -> None:
    lacking = server(refused="EPERM by the verifier", proof={"ok": False, "why": "no answer"})
    agent.results["status"] = report(
        sentence="connect NOT PROVEN", enforcing=False, servers={"connect": lacking}
    )
    said = cli("status")
    assert said.code == 1
    assert said.lines[0] == "connect NOT PROVEN"
    assert "refused: EPERM by the verifier" in said.out
    assert "not proven: no answer" in said.out
    assert cli("status", "--json").code == 1


def test_where_peers_are_judged_is_said(cli: Cli, agent: FakeAgent) -> None:
    agent.results["status"] = report(
        namespaces={
            "own": 1,
            "covered": [1, 2, 3],
            "missing": {"4": "no room"},
            "without_reset": {"5": "no luck"},
        }
    )
    out = cli("status").out
    assert "sk_lookup in this and 2 other network namespaces" in out
    assert "network namespace 4 is NOT COVERED: no room" in out
    assert "network namespace 5: rejected peers get no answer, not a reset: no luck" in out


@pytest.mark.parametrize(
    ("given", "said"),
    [("reset", "rejected peers get a reset"), ("drop", "rejected peers get no answer")],
)
def test_what_a_rejected_peer_gets_is_said(
    cli: Cli, agent: FakeAgent, given: str, said: str
) -> None:
    answer = {"given": given, "wanted": "auto", "why": "it is so"}
    agent.results["status"] = report(servers={"accept": server(reject_with=answer)})
    out = cli("status").out
    assert said in out
    assert "it is so" in out


@pytest.mark.parametrize(
    ("ruleset", "said"),
    [
        ({"differs": True}, "the rule file has changed since: run `sockrules apply`"),
        (
            {"differs": True, "error": "line 3 is wrong"},
            "the rule file has errors: line 3 is wrong",
        ),
    ],
)
def test_a_rule_file_that_is_not_in_force(
    cli: Cli, agent: FakeAgent, ruleset: dict[str, Any], said: str
) -> None:
    agent.results["status"] = report(ruleset=report()["ruleset"] | ruleset)
    assert said in cli("status").out


def test_problems_and_exhaustion_are_said(cli: Cli, agent: FakeAgent) -> None:
    agent.results["status"] = report(
        problems=["the disk is full"], servers={"connect": server(exhausted=3)}
    )
    out = cli("status").out
    assert "the disk is full" in out
    assert "3 rejected because no decision was reached" in out


def test_nothing_from_the_agent_commands_the_terminal(cli: Cli, agent: FakeAgent) -> None:
    evil = "\x1b]0;owned\x07\n"
    agent.results["status"] = report(
        sentence=evil,
        problems=[evil],
        servers={evil: server(), "connect": server(evil, hook=evil, covers=evil, refused=evil)},
        agent={"pid": evil, "root": evil},
        ruleset={"file": evil, "error": evil},
    )
    out = cli("status").out
    assert "\x1b" not in out
    assert "\x07" not in out


@pytest.mark.parametrize(
    "answer", [{}, {"servers": 3}, {"servers": {"connect": 3}, "events": None}]
)
def test_an_answer_of_another_shape_is_no_traceback(
    cli: Cli, agent: FakeAgent, answer: dict[str, Any]
) -> None:
    agent.results["status"] = answer
    assert cli("status").code == 1


def test_a_refusal_is_said(cli: Cli, agent: FakeAgent) -> None:
    agent.answers["status"] = refusal("state", "only root and the group sockrules may ask")
    said = cli("status")
    assert said.code == 1
    assert "only root and the group sockrules may ask" in said.err


class TestWithoutAgent:
    def test_the_first_line_says_so(self, cli: Cli, paths: Paths) -> None:
        said = cli("status")
        assert said.code == 1
        assert said.lines[0].startswith(f"not enforced: no agent answers at {paths.socket}")
        assert "sockrules agent run" in said.lines[1]

    def test_json(self, cli: Cli, paths: Paths) -> None:
        said = cli("status", "--json")
        assert said.code == 1
        assert said.json["enforcing"] is False
        assert said.json["agent"] is None
        assert said.json["pinned"] == []
        assert said.json["error"]["kind"] == "unreachable"

    def test_links_that_are_still_pinned_are_not_denied(self, cli: Cli, paths: Paths) -> None:
        (paths.pins / "links").mkdir(parents=True)
        for name in ("connect4", "connect6"):
            (paths.pins / "links" / name).touch()
        said = cli("status")
        assert said.code == 1
        gone = f"no agent answers at {paths.socket} (there is no such socket)"
        assert said.lines[0].startswith(f"enforcement is not confirmed: {gone}; 2 links")
        assert "(connect4, connect6)" in said.lines[0]
        assert "the kernel goes on with the last applied rules" in said.lines[0]
        report = cli("status", "--json").json
        assert report["enforcing"] is None
        assert report["pinned"] == ["connect4", "connect6"]

    def test_where_one_may_not_look_nothing_is_claimed(
        self, cli: Cli, paths: Paths, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(_: Path) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "iterdir", refuse)
        said = cli("status")
        assert said.code == 1
        assert said.lines[0].startswith("enforcement is not confirmed: ")
        assert "only root can see whether links are still pinned" in said.lines[0]
        assert cli("status", "--json").json["enforcing"] is None

    def test_a_hanging_agent_is_named(
        self, cli: Cli, agent: FakeAgent, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sockrules.control.cli.status.PATIENCE", 0.05)
        agent.hangs = True
        said = cli("status")
        assert said.code == 1
        assert said.lines[0].startswith("enforcement is not confirmed: the agent at ")
        assert "did not answer `status` within 0.05 s" in said.lines[0]
