# SPDX-License-Identifier: Apache-2.0
"""`config` shows and edits agent.toml, key by key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sockrules.control.paths import Paths

Cli = Callable[..., Any]

TEXT = """\
# This host.
[product]
audit = "yes" # until we know more
"""


@pytest.fixture
def written(paths: Paths) -> None:
    paths.agent_config.write_text(TEXT)


@pytest.mark.usefixtures("written")
class TestShow:
    def test_every_key_with_its_value_and_source(self, cli: Cli) -> None:
        lines = cli("config", "show").lines
        assert lines[0].split() == ["KEY", "VALUE", "FROM"]
        assert ["product.audit", "yes", "agent.toml"] in [line.split() for line in lines]
        assert ["messages.keep", "100000", "shipped"] in [line.split() for line in lines]

    def test_a_table_or_a_key(self, cli: Cli) -> None:
        names = [
            each["key"] for each in cli("config", "show", "product", "--json").json["settings"]
        ]
        assert names == ["product.audit", "product.message", "product.capture"]
        assert len(cli("config", "show", "product.audit").lines) == 2

    def test_get(self, cli: Cli) -> None:
        assert cli("config", "get", "product.audit").out == "yes\n"
        assert cli("config", "get", "agent.cgroup").out == ""
        assert cli("config", "get", "product.audit", "--json").json == {
            "key": "product.audit",
            "value": "yes",
            "from": "agent.toml",
        }

    @pytest.mark.parametrize("command", ["get", "show", "unset"])
    def test_what_is_not_known(self, cli: Cli, command: str) -> None:
        said = cli("config", command, "product.audt")
        assert said.code == 2
        assert "did you mean product.audit?" in said.err

    def test_a_file_with_mistakes(self, cli: Cli, paths: Paths) -> None:
        paths.agent_config.write_text('[product]\naudit = "maybe"\n')
        said = cli("config", "show")
        assert said.code == 2
        assert said.err.startswith(f"{paths.agent_config}:2:9: audit is")


@pytest.mark.usefixtures("written")
class TestSet:
    def test_a_switch(self, cli: Cli, paths: Paths) -> None:
        said = cli("config", "set", "product.audit", "no")
        assert said.lines == ["set product.audit: no", "not yet in force; run `sockrules apply`"]
        assert paths.agent_config.read_text() == TEXT.replace('"yes"', '"no"')
        assert cli("config", "set", "product.audit", "no").out == "nothing to change\n"

    def test_a_number_a_path_and_a_command(self, cli: Cli, paths: Paths) -> None:
        assert cli("config", "set", "audit.keep", "3").code == 0
        assert cli("config", "set", "messages.syslog_socket", "/run/log").code == 0
        said = cli("config", "set", "messages.command", "/bin/notify", "--now", "two words")
        assert said.lines[0] == "set messages.command: /bin/notify --now 'two words'"
        assert cli("config", "get", "messages.command", "--json").json["value"] == [
            "/bin/notify",
            "--now",
            "two words",
        ]
        text = paths.agent_config.read_text()
        assert text.startswith(TEXT)
        assert "[audit]\nkeep = 3\n" in text

    def test_what_only_a_new_agent_reads(self, cli: Cli) -> None:
        said = cli("config", "set", "audit.keep", "3", "--json")
        assert said.json["next"] == "start the agent again"
        assert (said.json["key"], said.json["value"], said.json["changed"]) == (
            "audit.keep",
            3,
            True,
        )

    def test_unset_is_as_shipped(self, cli: Cli, paths: Paths) -> None:
        assert cli("config", "unset", "product.audit").lines[0] == "unset product.audit: no"
        assert paths.agent_config.read_text() == "# This host.\n[product]\n"
        assert cli("config", "unset", "product.audit").out == "nothing to change\n"

    @pytest.mark.parametrize(
        ("words", "error"),
        [
            (["product.audit", "maybe"], 'product.audit: audit is "maybe"; use "yes" or "no"\n'),
            (["audit.keep", "many"], 'audit.keep: keep is "many"; use a number 0-10000\n'),
            (["audit.keep", "-1"], "audit.keep: keep -1 is out of range; use 0-10000\n"),
            (["messages.keep", "9" * 30], "messages.keep: keep is "),
            (["messages.command", "notify"], 'messages.command: "notify" is not an absolute path'),
            (["audit.keep", "1", "2"], "audit.keep takes one value"),
            (["servers.listen", "enforce"], "use: sockrules activate listen --mode enforce\n"),
            (["servers.listen", "off"], "use: sockrules deactivate listen\n"),
            (["keep", "3"], "did you mean audit.keep or messages.keep?\n"),
        ],
    )
    def test_what_is_wrong_is_said_and_nothing_is_changed(
        self, cli: Cli, paths: Paths, words: list[str], error: str
    ) -> None:
        said = cli("config", "set", *words)
        assert said.code == 2
        assert error in said.err
        assert paths.agent_config.read_text() == TEXT


def test_the_first_setting_makes_the_file(cli: Cli, paths: Paths) -> None:
    assert cli("config", "set", "product.message", "yes").code == 0
    assert paths.agent_config.read_text() == '[product]\nmessage = "yes"\n'


def test_mistakes_that_were_there_before_keep_their_places(cli: Cli, paths: Paths) -> None:
    text = '[audit]\nkeep = "many"\n[product]\naudit = "maybe"\n'
    paths.agent_config.write_text(text)
    said = cli("config", "set", "audit.max_bytes", "1")
    assert said.code == 2
    assert said.err.splitlines() == [
        f'{paths.agent_config}:2:8: keep is "many"; use a number 0-10000',
        f'{paths.agent_config}:4:9: audit is "maybe"; use "yes" or "no"',
        "audit.max_bytes: max_bytes 1 is out of range; use 1024-1125899906842624",
    ]
    assert paths.agent_config.read_text() == text
    paths.agent_config.write_text('[audit]\nkeep = "many"\n')
    assert cli("config", "set", "audit.keep", "3").code == 0
