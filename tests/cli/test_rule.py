# SPDX-License-Identifier: Apache-2.0
"""`rule` shows what is effective, and edits the file without harm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fake_agent import FakeAgent
from sockrules.control.paths import Paths

Cli = Callable[..., Any]

RULES = """\
# Ours.
[default.accept]
authority = "no"
audit = "yes"

# The web.
[[rule]]
name = "web"
server = "accept"
authority = "yes"
when = "local.port in {80, 443}"

[[rule]]
name = "no-mail"
server = "connect"
authority = "no"
message = "no"
active = "no"
description = "mail goes through the relay"
when = "remote.port == 25"
"""
NEXT = "not yet in force; run `sockrules apply`"


@pytest.fixture(autouse=True)
def installed(rules: Callable[[str], None]) -> None:
    rules(RULES)


def names(cli: Cli) -> list[str]:
    return [rule["name"] for rule in cli("rule", "list", "--json").json["rules"][:-3]]


class TestList:
    def test_rules_in_order_then_the_defaults(self, cli: Cli) -> None:
        said = cli("rule", "list")
        assert said.code == 0
        assert [line.split()[:2] for line in said.lines] == [
            ["SEQ", "NAME"],
            ["10", "web"],
            ["20", "no-mail"],
            ["99999", "default-listen"],
            ["99999", "default-accept"],
            ["99999", "default-connect"],
        ]

    def test_effective_values_and_their_source(self, cli: Cli, paths: Paths) -> None:
        paths.agent_config.write_text('[product]\ncapture = "yes"\n')
        web, mail, *_, accept, _ = cli("rule", "list", "--json").json["rules"]
        assert web["audit"] == {"set": "inherit", "value": "yes", "from": "default"}
        assert web["capture"] == {"set": "inherit", "value": "yes", "from": "product"}
        assert mail["message"] == {"set": "no", "value": "no", "from": "rule"}
        assert accept["audit"] == {"set": "yes", "value": "yes", "from": "default"}
        lines = cli("rule", "list").lines
        assert "yes (default)" in lines[1]
        assert "yes (product)" in lines[1]

    def test_one_server(self, cli: Cli) -> None:
        found = cli("rule", "list", "--server", "connect", "--json").json["rules"]
        assert [rule["name"] for rule in found] == ["no-mail", "default-connect"]

    def test_conditions_are_shown_as_written(self, cli: Cli) -> None:
        assert cli("rule", "list").lines[1].endswith("local.port in {80, 443}")

    def test_hits_where_an_agent_answers(self, cli: Cli, agent: FakeAgent) -> None:
        agent.results["hits"] = {"rules": {"web": {"hits": 41, "last": "2025-01-31T12:00:00Z"}}}
        assert "HITS" in cli("rule", "list").lines[0]
        web, mail, *_ = cli("rule", "list", "--json").json["rules"]
        assert (web["hits"], web["last_hit"]) == (41, "2025-01-31T12:00:00Z")
        assert (mail["hits"], mail["last_hit"]) == (0, None)

    def test_no_hits_are_claimed_without_an_agent(self, cli: Cli) -> None:
        assert "HITS" not in cli("rule", "list").lines[0]
        assert "hits" not in cli("rule", "list", "--json").json["rules"][0]

    def test_a_wrong_file_is_2(self, cli: Cli, rules: Callable[[str], None]) -> None:
        rules(RULES.replace("local.port", "local.prot"))
        said = cli("rule", "list")
        assert said.code == 2
        assert "did you mean local.port?" in said.err


class TestShow:
    def test_a_rule(self, cli: Cli) -> None:
        out = cli("rule", "show", "no-mail").out
        for fact in ("20", "connect", "remote.port == 25", "mail goes through the relay"):
            assert fact in out

    def test_a_default_rule(self, cli: Cli) -> None:
        doc = cli("rule", "show", "default-accept", "--json").json
        assert (doc["sequence"], doc["authority"], doc["when"]) == (99999, "no", None)

    def test_an_unknown_one(self, cli: Cli) -> None:
        said = cli("rule", "show", "wbe")
        assert said.code == 2
        assert "did you mean web?" in said.err


class TestAdd:
    NEW = ("rule", "add", "new", "--server", "listen", "--authority", "no", "--when", "any")

    def test_at_the_end(self, cli: Cli, paths: Paths) -> None:
        said = cli(*self.NEW)
        assert said.code == 0
        assert said.lines == ["added new at 30", NEXT]
        assert paths.rules.read_text().startswith(RULES)

    @pytest.mark.parametrize(
        ("place", "order"),
        [
            (("--first",), ["new", "web", "no-mail"]),
            (("--last",), ["web", "no-mail", "new"]),
            (("--before", "no-mail"), ["web", "new", "no-mail"]),
            (("--after", "web"), ["web", "new", "no-mail"]),
        ],
    )
    def test_where_it_is_told(self, cli: Cli, place: tuple[str, ...], order: list[str]) -> None:
        assert cli(*self.NEW, *place).code == 0
        assert names(cli) == order

    def test_with_everything(self, cli: Cli) -> None:
        switches = ("--audit", "yes", "--message", "no", "--capture", "inherit")
        others = ("--no-active", "--no-test", "--description", 'a "new" one')
        assert cli(*self.NEW, *switches, *others).code == 0
        doc = cli("rule", "show", "new", "--json").json
        assert [doc[switch]["set"] for switch in ("audit", "message", "capture")] == [
            "yes",
            "no",
            "inherit",
        ]
        assert (doc["active"], doc["test"], doc["description"]) == ("no", "no", 'a "new" one')

    def test_only_what_was_said_is_written(self, cli: Cli, paths: Paths) -> None:
        cli(*self.NEW)
        assert paths.rules.read_text().removeprefix(RULES) == (
            '\n[[rule]]\nname      = "new"\nserver    = "listen"\n'
            'authority = "no"\nwhen      = "any"\n'
        )

    def test_to_no_file_at_all(self, cli: Cli, paths: Paths) -> None:
        paths.rules.unlink()
        assert cli(*self.NEW).code == 0
        assert names(cli) == ["new"]

    def test_json(self, cli: Cli, paths: Paths) -> None:
        assert cli(*self.NEW, "--json").json == {
            "file": str(paths.rules),
            "changed": True,
            "rules": [{"name": "new", "sequence": 30}],
            "next": "sockrules apply",
        }

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("--when", "remote.port == 1"), "--when:1:1: "),
            (("--when", "local.port == 1 and local.prot == 2"), "--when:1:21: "),
            (("--when", ""), "--when:1:1: "),
            (("--before", "nobody"), "no rule is named nobody"),
        ],
    )
    def test_what_is_wrong_is_said_and_nothing_is_written(
        self, cli: Cli, paths: Paths, words: tuple[str, ...], said: str
    ) -> None:
        result = cli(*self.NEW, *words)
        assert result.code == 2
        assert said in result.err
        assert paths.rules.read_text() == RULES

    @pytest.mark.parametrize("name", ["web", "no spaces", "default-x", ""])
    def test_a_name_that_cannot_be(self, cli: Cli, paths: Paths, name: str) -> None:
        words = ("--server", "listen", "--authority", "no", "--when", "any")
        assert cli("rule", "add", name, *words).code == 2
        assert paths.rules.read_text() == RULES


class TestEdits:
    def test_move(self, cli: Cli) -> None:
        said = cli("rule", "move", "no-mail", "--first")
        assert said.lines == ["moved no-mail at 10", NEXT]
        assert names(cli) == ["no-mail", "web"]
        assert cli("rule", "move", "no-mail", "--to", "20").code == 0
        assert names(cli) == ["web", "no-mail"]

    def test_enable_and_disable(self, cli: Cli, paths: Paths) -> None:
        assert cli("rule", "enable", "no-mail").lines == ["enabled no-mail", NEXT]
        assert 'active = "yes"' in paths.rules.read_text()
        assert cli("rule", "disable", "no-mail", "web").code == 0
        assert paths.rules.read_text().count('active = "no"') == 2

    def test_set(self, cli: Cli) -> None:
        assert cli("rule", "set", "web", "--authority", "no", "--when", "any").code == 0
        doc = cli("rule", "show", "web", "--json").json
        assert (doc["authority"], doc["when"]) == ("no", "any")

    def test_remove(self, cli: Cli, paths: Paths) -> None:
        assert cli("rule", "remove", "web").lines == ["removed web", NEXT]
        assert names(cli) == ["no-mail"]
        assert "The web" not in paths.rules.read_text()
        assert paths.rules.read_text().startswith("# Ours.\n")

    def test_of_several_names_all_or_none(self, cli: Cli, paths: Paths) -> None:
        said = cli("rule", "remove", "web", "nobody")
        assert said.code == 2
        assert paths.rules.read_text() == RULES
        assert cli("rule", "remove", "web", "no-mail").code == 0
        assert names(cli) == []

    def test_what_is_so_already_is_said(self, cli: Cli, paths: Paths) -> None:
        before = paths.rules.stat().st_ino
        said = cli("rule", "disable", "no-mail")
        assert (said.code, said.lines) == (0, ["nothing to change"])
        assert paths.rules.stat().st_ino == before
        assert cli("rule", "disable", "no-mail", "--json").json["next"] is None

    def test_a_file_with_other_mistakes_is_left_alone(
        self, cli: Cli, rules: Callable[[str], None], paths: Paths
    ) -> None:
        wrong = RULES.replace("remote.port == 25", "remote.port == 0")
        rules(wrong)
        said = cli("rule", "disable", "web")
        assert said.code == 2
        assert "remote.port 0" in said.err
        assert paths.rules.read_text() == wrong

    def test_the_mistake_itself_can_be_removed(
        self, cli: Cli, rules: Callable[[str], None]
    ) -> None:
        rules(RULES.replace("remote.port == 25", "remote.port == 0"))
        assert cli("rule", "remove", "no-mail").code == 0
        assert names(cli) == ["web"]

    def test_a_mistake_in_agent_toml_is_not_this_edits(self, cli: Cli, paths: Paths) -> None:
        paths.agent_config.write_text("nonsense\n")
        assert cli("rule", "disable", "web").code == 0

    def test_the_agent_is_not_asked(self, cli: Cli, agent: FakeAgent) -> None:
        assert cli("rule", "disable", "web").code == 0
        assert agent.asked == []

    def test_an_edit_meanwhile_is_waited_for_and_told(
        self, cli: Cli, paths: Paths, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import fcntl

        monkeypatch.setattr("sockrules.control.files.PATIENCE", 0.0)
        with paths.rules.with_name(".rules.toml.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            said = cli("rule", "disable", "web")
        assert said.code == 1
        assert "being edited by another sockrules" in said.err


def test_show_tells_when_a_rule_ends(cli: Cli, rules: Callable[[str], None]) -> None:
    rules(
        '[[rule]]\nname = "a"\nserver = "connect"\nauthority = "no"\nwhen = "any"\n'
        "expires = 2031-12-31T00:00:00Z\n"
    )
    assert "expires    2031-12-31T00:00:00+00:00" in cli("rule", "show", "a").out
    assert cli("rule", "show", "a", "--json").json["expires"] == "2031-12-31T00:00:00+00:00"
