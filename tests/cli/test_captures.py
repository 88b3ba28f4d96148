# SPDX-License-Identifier: Apache-2.0
"""`sockrules captures` and `replay`: from an agent, and from the state of one that is gone."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from capturing import NAMES, captured, host
from fake_agent import FakeAgent, refusal
from sockrules.control import capture_store
from sockrules.control.captured import Captured, captured_to_json
from sockrules.control.cli import COMMANDS
from sockrules.control.cli.replay import foretell
from sockrules.control.model import Server
from sockrules.control.names import FixedNames
from sockrules.control.paths import Paths
from sockrules.control.rules_file import parse_rules

Run = Callable[..., Any]

REVISIONS = (
    "CREATE TABLE revisions (revision INTEGER PRIMARY KEY, applied TEXT, user TEXT, file TEXT,"
    " text TEXT, lists TEXT)"
)
NO_REDIS = """\
[[rule]]
name = "no-redis"
server = "connect"
authority = "no"
when = "remote.port == 6379"
"""


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMMANDS, "captures", "captures")
    monkeypatch.setitem(COMMANDS, "replay", "replay")


@pytest.fixture
def state(paths: Paths) -> Callable[..., None]:
    """Writes the state database that an agent left."""

    def write(found: list[Captured], applied: str | None = None, **lists: str) -> None:
        paths.state_dir.mkdir(parents=True)
        with sqlite3.connect(paths.state_db) as db:
            db.executescript(capture_store.SCHEMA)
            capture_store.add(db, iter(found))
            db.execute(REVISIONS)
            if applied is not None:
                row = (3, "", "root", "rules.toml", applied, json.dumps(lists))
                db.execute("INSERT INTO revisions VALUES (?, ?, ?, ?, ?, ?)", row)
        db.close()

    return write


def serve(agent: FakeAgent, found: list[Captured], applied: str = "") -> None:
    """The agent answers in pages of ten, filtered as it would."""
    from sockrules.control.captured import filter_from_json

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        chosen = filter_from_json(question["filter"])
        docs = [
            captured_to_json(one, FixedNames())
            for number, each in enumerate(found, 1)
            if chosen.holds(one := _numbered(each, number)) and number > question["after"]
        ]
        return {"captures": docs[:10], "more": len(docs) > 10, "lost": {"overflow": 2}}

    agent.results["captures"] = answer
    agent.results["in-force"] = {
        "revision": 3, "file": "rules.toml", "text": applied, "lists": {}
    }  # fmt: skip


def _numbered(one: Captured, number: int) -> Captured:
    from dataclasses import replace

    return replace(one, number=number)


def test_a_host_that_captured_nothing_says_how(cli: Run) -> None:
    said = cli("captures", "list")
    assert (said.code, said.out) == (0, "")
    assert 'capture = "yes"' in said.err
    said = cli("captures", "suggest")
    assert said.code == 1
    assert "nothing was captured" in said.err


def test_the_state_is_read_when_no_agent_runs(cli: Run, state: Run) -> None:
    state(host())
    said = cli("captures", "list")
    assert said.code == 0
    first = said.lines[1].split()
    assert first[1] == "900"
    assert len(said.lines) == 27
    assert any("10.20.0.3:*" in line for line in said.lines)


def test_the_agent_is_asked_page_by_page(cli: Run, agent: FakeAgent) -> None:
    serve(agent, host())
    said = cli("captures", "list", "--json")
    assert said.json["total"] == 26
    assert [question["after"] for question in agent.asked] == [0, 10, 20]
    assert said.json["lost"] == {"overflow": 2}
    assert said.json["captures"][0]["folded"] == {
        "field": "remote.port", "first": 32768, "last": 60999
    }  # fmt: skip


def test_an_agent_that_refuses_is_not_passed_over(cli: Run, agent: FakeAgent, state: Run) -> None:
    state(host())
    agent.answers["captures"] = refusal("internal", "no")
    assert cli("captures", "list").code == 1


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["--server", "listen"], 7),
        (["--user", "1000"], 1),
        (["--program", "/usr/sbin/"], 22),
        (["--program", "/usr/sbin/sshd"], 6),
        (["--remote", "10.20.0.0/29"], 2),
        (["--since", "2025-01-05 10:00:00+00:00"], 26),
        (["--since", "1d"], 0),
        (["--server", "accept", "--remote", "127.0.0.1"], 1),
    ],
)
def test_filters(cli: Run, state: Run, words: list[str], count: int) -> None:
    state(host())
    assert cli("captures", "list", "--json", *words).json["total"] == count


@pytest.mark.parametrize(
    "words",
    [["--server", "x"], ["--user", "no-such-user-here"], ["--program", "nginx"],
     ["--remote", "10.0.0.1/8"], ["--since", "soon"]],
)  # fmt: skip
def test_wrong_filters_are_wrong_input(cli: Run, words: list[str]) -> None:
    said = cli("captures", "list", *words)
    assert said.code == 2
    assert "Error" in said.err


def test_losses_are_noted(cli: Run, agent: FakeAgent) -> None:
    serve(agent, host())
    assert "note: 2 were not captured" in cli("captures", "list").err


def test_one_is_shown_by_its_number(cli: Run, state: Run) -> None:
    state(host())
    said = cli("captures", "show", "8")
    assert said.code == 0
    assert "32768-60999: the lowest and the highest port seen" in said.out
    assert cli("captures", "show", "8", "--json").json["number"] == 8
    assert cli("captures", "show", "999").code == 2


def test_control_characters_do_not_reach_the_terminal(cli: Run, state: Run) -> None:
    state([captured("connect", "/opt/\x1b[31mred\n", remote="10.0.0.1:1")])
    for command in (["list"], ["show", "1"], ["suggest"]):
        assert "\x1b[31m" not in cli("captures", *command).out


def test_clearing_needs_an_agent_and_a_choice(cli: Run, agent: FakeAgent) -> None:
    agent.results["captures-clear"] = {"cleared": 2}
    assert cli("captures", "clear").code == 2
    assert cli("captures", "clear", "--all", "--server", "accept").code == 2
    assert agent.asked == []
    said = cli("captures", "clear", "--server", "accept", "--remote", "10.0.0.0/8")
    assert said.out == "forgot 2 transactions\n"
    assert agent.asked[0]["filter"] == {
        "server": "accept", "remote": ["10.0.0.0", "10.255.255.255"]
    }  # fmt: skip
    cli("captures", "clear", "--all")
    assert agent.asked[1]["filter"] == {}


def test_clearing_without_an_agent_is_refused(cli: Run, state: Run) -> None:
    state(host())
    said = cli("captures", "clear", "--all")
    assert said.code == 1
    assert "no agent answers" in said.err


def test_suggest_writes_a_difference(cli: Run, state: Run, paths: Paths) -> None:
    state(host())
    said = cli("captures", "suggest", "--deny-rest")
    assert said.code == 0
    assert said.lines[:2] == [f"--- {paths.rules}", f"+++ {paths.rules}"]
    assert "26 transactions not covered by a rule of its own: 8 rules suggested" in said.err
    assert "default-accept" in said.err
    assert "nobody could log in" not in said.err
    assert not paths.rules.exists()


def test_the_whole_suggestion_can_be_checked(cli: Run, state: Run, rules: Run) -> None:
    state(host())
    rules(NO_REDIS)
    whole = cli("captures", "suggest", "--whole", "--server", "connect").out
    assert whole.startswith(NO_REDIS)
    assert cli("check", "-", input=whole).code == 0
    doc = cli("captures", "suggest", "--json").json
    assert (doc["needing"], doc["covered"], doc["rejected"]) == (25, 0, 1)
    assert "curl-connect" in [rule["name"] for rule in doc["rules"]]
    assert doc["text"].startswith(NO_REDIS)


def test_denying_the_rest_warns_of_locking_oneself_out(cli: Run, state: Run) -> None:
    state([one for one in host() if one.request.program != "/usr/sbin/sshd"])
    assert "nobody could log in" in cli("captures", "suggest", "--deny-rest").err
    assert "nobody could log in" not in cli("captures", "suggest").err
    said = cli("captures", "suggest", "--deny-rest", "--server", "connect")
    assert "nobody could log in" not in said.err


def test_a_part_is_suggested_for_but_the_rest_not_denied_for_it(cli: Run, state: Run) -> None:
    state(host())
    doc = cli("captures", "suggest", "--json", "--user", "1000").json
    assert [rule["name"] for rule in doc["rules"]] == ["shop-connect"]
    said = cli("captures", "suggest", "--deny-rest", "--user", "1000")
    assert (said.code, said.out) == (2, "")


def test_replay_says_what_would_change(cli: Run, state: Run, rules: Run) -> None:
    state(host(), applied="")
    rules(NO_REDIS)
    said = cli("replay")
    assert said.code == 1
    assert said.lines[0] == "1 of 26 captured transactions would now be rejected"
    assert "  by no-redis: 1 transaction, 900 requests" in said.lines
    doc = cli("replay", "--json").json
    assert doc["rejected"][0]["captured"]["count"] == 900
    assert doc["revision"] == 3


def test_replay_of_what_is_in_force_is_silent(cli: Run, state: Run, rules: Run) -> None:
    state(host(), applied=NO_REDIS)
    rules(NO_REDIS)
    said = cli("replay")
    assert (said.code, said.out) == (
        0, "none of 26 captured transactions would change its verdict\n"
    )  # fmt: skip


def test_replay_uses_the_lists_as_they_were(cli: Run, state: Run, rules: Run, paths: Paths) -> None:
    text = '[[rule]]\nname="l"\nserver="connect"\nauthority="no"\nwhen="remote.port in @ports"\n'
    state(host(), applied=text, ports="443\n")
    rules(text)
    (paths.lists / "ports.txt").write_text("6379\n")
    doc = cli("replay", "--json").json
    assert (len(doc["rejected"]), len(doc["allowed"])) == (1, 1)


def test_replay_without_applied_rules_says_so(cli: Run, state: Run) -> None:
    state(host())
    said = cli("replay", "--rules", "-", input=NO_REDIS)
    assert said.code == 1
    assert "no rules were ever applied" in said.out


def test_replay_asks_a_running_agent(cli: Run, agent: FakeAgent, rules: Run) -> None:
    serve(agent, host(), applied=NO_REDIS)
    rules("")
    said = cli("replay", "--server", "connect")
    assert said.lines[0] == "1 of 2 captured transactions would now be allowed"


def test_replay_refuses_rules_with_errors(cli: Run, state: Run, rules: Run) -> None:
    state(host(), applied="")
    rules(NO_REDIS.replace("6379", "70000"))
    said = cli("replay")
    assert said.code == 2
    assert "out of range" in said.err


def test_what_apply_can_tell_beforehand(paths: Paths, state: Run) -> None:
    after = parse_rules(NO_REDIS, file="rules.toml", names=NAMES).ruleset
    assert foretell(paths, after) == []
    state(host(), applied="")
    first, example = foretell(paths, after)
    assert first == "1 of 26 captured transactions would now be rejected"
    assert "/opt/shop/bin/shop to 127.0.0.1:6379 (900 times)" in example
    assert {one.request.server for one in host()} == set(Server)
