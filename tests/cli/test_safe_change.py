# SPDX-License-Identifier: Apache-2.0
"""`apply`, `confirm`, `history`, `rollback` and `sockets`: what is asked, said and exited with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fake_agent import FakeAgent, refusal
from sockrules.control.paths import Paths

Cli = Callable[..., Any]

APPLIED = {"revision": 8, "rules": 2, "steps": 5, "changed": True, "warnings": []}
HIT = {
    "server": "accept",
    "state": "established",
    "local": "10.0.0.5:443",
    "remote": "192.0.2.7:51000",
    "user": "www-data",
    "group": "www-data",
    "program": "/usr/sbin/ngi\x1b[2Jnx",
    "pid": 700,
    "process": "nginx",
    "rule": "no-lab",
    "sequence": 20,
    "authority": "no",
    "mode": "enforce",
    "already": False,
    "cookie": 4711,
    "session": False,
}
LISTENER = HIT | {"server": "listen", "state": "listen", "remote": None, "cookie": 4712}
PREVIEW = APPLIED | {
    "revision": 0,
    "difference": {
        "same": False,
        "added": [
            {
                "rule": "no-lab",
                "sequence": 20,
                "server": "accept",
                "authority": "no",
                "active": "yes",
                "when": "remote.address == 192.0.2.0/24",
            }
        ],
        "removed": [],
        "changed": [{"rule": "a", "sequence": 10, "fields": {"audit": ["inherit", "yes"]}}],
        "moved": [{"rule": "b", "before": 10, "after": 30}],
        "defaults": [
            {"rule": "default-listen", "sequence": 99999, "fields": {"authority": ["yes", "no"]}}
        ],
        "product": {"audit": ["no", "yes"]},
    },
    "impact": {"judged": 57, "count": 1, "rejected": [HIT]},
    "session": [],
    "dangers": [],
    "pending": None,
}
PENDING = {"revision": 8, "previous": 7, "seconds": 60.0, "left": 60.0, "user": "root"}


@pytest.fixture(autouse=True)
def _nothing_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    """What apply foretells from captures is test_captures.py's matter."""
    monkeypatch.setattr("sockrules.control.cli.replay.foretell", lambda paths, ruleset: [])


@pytest.fixture(autouse=True)
def _no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_CONNECTION", raising=False)


@pytest.fixture
def ready(agent: FakeAgent) -> FakeAgent:
    agent.results |= {"preview": PREVIEW, "apply": APPLIED}
    return agent


class TestApply:
    def test_it_says_what_changes_and_whom_it_hits(self, cli: Cli, ready: FakeAgent) -> None:
        said = cli("apply")
        assert said.code == 0
        assert said.lines[:5] == [
            "added    20 no-lab: accept, reject, when remote.address == 192.0.2.0/24",
            "changed  10 a: audit inherit -> yes",
            "moved    30 b: was at 10",
            "defaults 99999 default-listen: authority yes -> no",
            "product  audit no -> yes",
        ]
        assert said.lines[5] == "would be rejected, if they began now (1 of 57 sockets):"
        assert "10.0.0.5:443" in said.lines[7]
        assert "\x1b" not in said.out
        assert said.lines[-1] == "applied 2 rules as revision 8, at most 5 steps"

    def test_the_agent_sees_the_change_before_it_makes_it(
        self, cli: Cli, ready: FakeAgent, paths: Paths
    ) -> None:
        cli("apply")
        question = {"text": None, "file": str(paths.rules)}
        assert ready.asked == [
            {"command": "preview", **question},
            {"command": "apply", **question},
        ]

    def test_a_dry_run_applies_nothing(self, cli: Cli, ready: FakeAgent) -> None:
        said = cli("apply", "--dry-run")
        assert said.code == 0
        assert "no-lab" in said.out
        assert cli("apply", "--dry-run", "--json").json == PREVIEW
        ready.results["preview"] = PREVIEW | {"dangers": ["this very session would be rejected"]}
        said = cli("apply", "--dry-run")
        assert said.code == 1
        assert "this very session" in said.out
        assert [each["command"] for each in ready.asked] == ["preview"] * 3

    def test_a_refusal_is_1(self, cli: Cli, ready: FakeAgent) -> None:
        ready.answers["apply"] = refusal("state", "nothing was changed: this very session")
        said = cli("apply")
        assert said.code == 1
        assert "this very session" in said.err

    @pytest.mark.parametrize(("time", "seconds"), [("60s", 60.0), ("5m", 300.0), ("1d", 86400.0)])
    def test_confirm_and_force_are_passed_on(
        self, cli: Cli, ready: FakeAgent, time: str, seconds: float
    ) -> None:
        ready.results["apply"] = APPLIED | {"pending": PENDING}
        said = cli("apply", "--confirm", time, "--force")
        assert ready.asked[1]["confirm"] == seconds
        assert ready.asked[1]["force"] is True
        assert said.lines[-1] == (
            "run `sockrules confirm` within 60 s, or revision 7 comes back by itself"
        )

    @pytest.mark.parametrize("time", ["soon", "0s", "2d", "60", "-5s"])
    def test_a_time_that_is_none(self, cli: Cli, ready: FakeAgent, time: str) -> None:
        assert cli("apply", f"--confirm={time}").code == 2
        assert not ready.asked

    def test_the_session_is_named_to_the_agent(
        self, cli: Cli, ready: FakeAgent, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSH_CONNECTION", "192.0.2.7 51000 10.0.0.5 22")
        cli("apply")
        assert {each["ssh_connection"] for each in ready.asked} == {"192.0.2.7 51000 10.0.0.5 22"}

    def test_json_is_one_document(self, cli: Cli, ready: FakeAgent) -> None:
        doc = cli("apply", "--json").json
        assert doc["revision"] == 8
        assert doc["impact"] == PREVIEW["impact"]
        assert doc["difference"] == PREVIEW["difference"]


class TestConfirm:
    def test_confirmed(self, cli: Cli, agent: FakeAgent) -> None:
        agent.results["confirm"] = {"revision": 8}
        assert cli("confirm").out == "confirmed: revision 8 stays in force\n"
        assert cli("confirm", "--json").json == {"revision": 8}

    def test_too_late_is_1(self, cli: Cli, agent: FakeAgent) -> None:
        agent.answers["confirm"] = refusal("state", "nothing waits to be confirmed")
        assert cli("confirm").code == 1


class TestHistory:
    REVISIONS = [
        {"revision": 8, "applied": "2025-01-31T12:00:00Z", "user": "root", "file": "x.toml"}
        | {"rules": 2, "in_force": True},
        {"revision": 7, "applied": "2025-01-30T12:00:00Z", "user": "al\x07ice", "file": "y.toml"}
        | {"rules": 1, "in_force": False},
    ]

    def test_the_list(self, cli: Cli, agent: FakeAgent) -> None:
        agent.results["history"] = {"in_force": 8, "pending": None, "revisions": self.REVISIONS}
        said = cli("history")
        assert said.lines[1].split()[0] == "8"
        assert "in force" in said.lines[1]
        assert "\x07" not in said.out
        assert len(said.lines) == 3

    def test_what_waits(self, cli: Cli, agent: FakeAgent) -> None:
        agent.results["history"] = {"in_force": 8, "pending": PENDING, "revisions": self.REVISIONS}
        said = cli("history")
        assert "not confirmed" in said.lines[1]
        assert "sockrules confirm" in said.lines[-1]

    def test_what_a_revision_changed(self, cli: Cli, agent: FakeAgent) -> None:
        texts = {7: "a\nb\n", 8: "a\nc\n"}
        lists = {7: {"x": "1\n"}, 8: {"x": "2\n"}}

        def one(question: dict[str, Any]) -> dict[str, Any]:
            number = question["revision"]
            return self.REVISIONS[8 - number] | {
                "text": texts[number],
                "lists": lists[number],
                "before": 7 if number == 8 else None,
            }

        agent.results["revision"] = one
        lines = cli("history", "8").lines
        assert lines[0].startswith("revision 8: applied ")
        assert lines[1:] == [
            "--- revision 7 rules.toml",
            "+++ revision 8 rules.toml",
            "@@ -1,2 +1,2 @@",
            " a",
            "-b",
            "+c",
            "--- revision 7 lists/x.txt",
            "+++ revision 8 lists/x.txt",
            "@@ -1 +1 @@",
            "-1",
            "+2",
        ]
        assert cli("history", "8", "--text").out == "a\nc\n"
        assert "--- nothing rules.toml" in cli("history", "7").lines

    def test_the_text_of_no_revision(self, cli: Cli) -> None:
        assert cli("history", "--text").code == 2


class TestRollback:
    DONE = APPLIED | {"back_to": 6, "lists_differ": ["ports"], "saved": "/x/rules.toml.saved"}

    def test_back_to_a_revision(self, cli: Cli, agent: FakeAgent) -> None:
        agent.results |= {"preview": PREVIEW, "rollback": self.DONE}
        said = cli("rollback", "6")
        assert said.code == 0
        assert "back to revision 6, as revision 8" in said.lines
        assert "ports.txt" in said.err
        assert "/x/rules.toml.saved" in said.out
        assert agent.asked == [
            {"command": "preview", "revision": 6},
            {"command": "rollback", "revision": 6},
        ]

    def test_back_to_the_one_before(self, cli: Cli, agent: FakeAgent) -> None:
        agent.results |= {"preview": PREVIEW, "rollback": self.DONE}
        cli("rollback", "--force")
        assert agent.asked == [
            {"command": "preview", "revision": 0},
            {"command": "rollback", "revision": None, "force": True},
        ]

    def test_a_dry_run_changes_nothing(self, cli: Cli, agent: FakeAgent) -> None:
        agent.results["preview"] = PREVIEW | {"dangers": ["nobody could log in"]}
        said = cli("rollback", "--dry-run")
        assert said.code == 1
        assert [each["command"] for each in agent.asked] == ["preview"]


class TestSockets:
    @pytest.fixture
    def found(self, agent: FakeAgent) -> FakeAgent:
        agent.results |= {
            "sockets": {"judged": 9, "violating": 2, "sockets": [HIT, LISTENER]},
            "destroy": {"destroyed": [HIT], "gone": [], "spared": []},
        }
        return agent

    def test_the_table(self, cli: Cli, found: FakeAgent) -> None:
        said = cli("sockets")
        assert said.code == 0
        assert said.lines[-1] == "2 of 9 sockets would be rejected now"
        assert "\x1b" not in said.out
        assert found.asked == [{"command": "sockets", "violating": False}]

    def test_violations_are_1(self, cli: Cli, found: FakeAgent) -> None:
        assert cli("sockets", "--violating").code == 1
        found.results["sockets"] = {"judged": 9, "violating": 0, "sockets": []}
        assert cli("sockets", "--violating").code == 0

    def test_json(self, cli: Cli, found: FakeAgent) -> None:
        assert cli("sockets", "--json").json["sockets"] == [HIT, LISTENER]

    def test_kill_ends_connections_and_names_listeners(self, cli: Cli, found: FakeAgent) -> None:
        said = cli("sockets", "--kill", "--yes")
        assert found.asked[1] == {"command": "destroy", "cookies": [4711]}
        assert "ended 1 connection" in said.lines
        assert said.lines[-1] == "still listens: 10.0.0.5:443, process nginx (700)"
        assert said.code == 1
        found.results["sockets"] = {"judged": 9, "violating": 1, "sockets": [HIT]}
        assert cli("sockets", "--kill", "--yes").code == 0

    def test_what_was_spared_is_said(self, cli: Cli, found: FakeAgent) -> None:
        spared = [HIT | {"why": "it is this very session; use --force"}]
        found.results["destroy"] = {"destroyed": [], "gone": [], "spared": spared}
        said = cli("sockets", "--kill", "--yes")
        assert said.code == 1
        assert "not ended: 10.0.0.5:443 to 192.0.2.7:51000: it is this very session" in said.out
        cli("sockets", "--kill", "--yes", "--force")
        assert found.asked[-1]["force"] is True

    @pytest.mark.parametrize("words", [["--kill"], ["--yes"], ["--kill", "--json"], ["--force"]])
    def test_nothing_is_ended_unasked(self, cli: Cli, found: FakeAgent, words: list[str]) -> None:
        assert cli("sockets", *words).code == 2
        assert not found.asked

    def test_nothing_to_end(self, cli: Cli, found: FakeAgent) -> None:
        found.results["sockets"] = {"judged": 9, "violating": 0, "sockets": []}
        said = cli("sockets", "--kill", "--yes")
        assert (said.code, said.out) == (0, "ended 0 connections\n")
        assert [each["command"] for each in found.asked] == ["sockets"]
