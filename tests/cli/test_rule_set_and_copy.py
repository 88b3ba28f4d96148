# SPDX-License-Identifier: Apache-2.0
"""`rule set NAME KEY=VALUE...` and `rule copy` edit the file, or say what would be right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sockrules.control.paths import Paths

Cli = Callable[..., Any]

RULES = """\
[[rule]]
name = "no-telnet"
server = "connect"
authority = "no"
when = "remote.port == 23"

[[rule]]
name = "web"
server = "accept"
authority = "yes"
when = "local.port in {80, 443}"
"""
NEXT = "not yet in force; run `sockrules apply`"


@pytest.fixture(autouse=True)
def installed(rules: Callable[[str], None]) -> None:
    rules(RULES)


def shown(cli: Cli, name: str) -> dict[str, Any]:
    found: dict[str, Any] = cli("rule", "show", name, "--json").json
    return found


class TestSet:
    def test_keys_are_set_as_they_are_written_in_the_file(self, cli: Cli, paths: Paths) -> None:
        said = cli("rule", "set", "web", "audit=yes", "when=local.port == 443", "description=a = b")
        assert (said.code, said.lines) == (0, ["changed web", NEXT])
        rule = shown(cli, "web")
        assert (rule["audit"]["set"], rule["when"]) == ("yes", "local.port == 443")
        assert rule["description"] == "a = b"
        assert paths.rules.read_text().startswith(RULES.partition('name = "web"')[0])

    def test_options_mean_the_same(self, cli: Cli) -> None:
        assert cli("rule", "set", "web", "audit=yes", "--no-active").code == 0
        assert shown(cli, "web")["active"] == "no"

    def test_a_rule_is_renamed(self, cli: Cli) -> None:
        said = cli("rule", "set", "web", "name=https", "--json")
        assert said.json["rules"] == [{"name": "https", "sequence": 20}]
        assert shown(cli, "https")["when"] == "local.port in {80, 443}"

    def test_nothing_new_is_nothing_to_change(self, cli: Cli) -> None:
        said = cli("rule", "set", "web", "authority=yes")
        assert (said.code, said.out) == (0, "nothing to change\n")

    @pytest.mark.parametrize(
        ("words", "error"),
        [
            (["audt=yes"], "Error: there is no key audt\n  did you mean audit?\n"),
            (["audit"], "Error: audit is no KEY=VALUE\n"),
            (["audit=yes", "audit=no"], "Error: audit is set twice\n"),
            (["audit=yes", "--audit", "no"], "Error: audit is set twice\n"),
            (["audit=maybe"], 'web, audit: audit is "maybe"; use "yes", "no" or "inherit"\n'),
            (["when=local.prot == 3"], "web, when: "),
            (["name=no-telnet"], "web, name: "),
            ([], "nothing to set; name a key"),
        ],
    )
    def test_what_is_wrong_is_said_and_nothing_is_changed(
        self, cli: Cli, paths: Paths, words: list[str], error: str
    ) -> None:
        said = cli("rule", "set", "web", *words)
        assert said.code == 2
        assert error in said.err
        assert paths.rules.read_text() == RULES

    def test_a_file_that_was_wrong_before_is_blamed_itself(
        self, cli: Cli, paths: Paths, rules: Callable[[str], None]
    ) -> None:
        rules(RULES.replace('"accept"', '"acept"'))
        said = cli("rule", "set", "no-telnet", "audit=yes")
        assert said.code == 2
        assert said.err.startswith(f"{paths.rules}:9:10: ")
        assert cli("rule", "set", "web", "server=accept").code == 0

    def test_no_such_rule(self, cli: Cli) -> None:
        said = cli("rule", "set", "wbe", "audit=yes")
        assert said.code == 2
        assert "did you mean web?" in said.err


class TestCopy:
    def names(self, cli: Cli) -> list[str]:
        return [rule["name"] for rule in cli("rule", "list", "--json").json["rules"][:-3]]

    def test_a_copy_follows_its_original(self, cli: Cli) -> None:
        said = cli("rule", "copy", "no-telnet", "no-rlogin")
        assert (said.code, said.lines) == (0, ["added no-rlogin at 20", NEXT])
        assert self.names(cli) == ["no-telnet", "no-rlogin", "web"]
        original, copied = shown(cli, "no-telnet"), shown(cli, "no-rlogin")
        changed = {key for key in original if original[key] != copied[key]}
        assert changed == {"name", "sequence"}

    @pytest.mark.parametrize(
        ("options", "order"),
        [
            (["--first"], ["new", "no-telnet", "web"]),
            (["--last"], ["no-telnet", "web", "new"]),
            (["--before", "no-telnet"], ["new", "no-telnet", "web"]),
            (["--after", "web"], ["no-telnet", "web", "new"]),
            (["--to", "20"], ["no-telnet", "new", "web"]),
        ],
    )
    def test_a_copy_goes_where_it_is_told(
        self, cli: Cli, options: list[str], order: list[str]
    ) -> None:
        assert cli("rule", "copy", "no-telnet", "new", *options).code == 0
        assert self.names(cli) == order

    @pytest.mark.parametrize(
        ("words", "error"),
        [
            (["no-telnet", "web"], "a rule is named web already"),
            (["nothing", "new"], "no rule is named nothing"),
            (["web", "two words"], "two words"),
            (["web", "new", "--first", "--last"], "name one place only"),
        ],
    )
    def test_what_cannot_be_copied(
        self, cli: Cli, paths: Paths, words: list[str], error: str
    ) -> None:
        said = cli("rule", "copy", *words)
        assert said.code == 2
        assert error in said.err
        assert paths.rules.read_text() == RULES
