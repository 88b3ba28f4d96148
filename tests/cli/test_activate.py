# SPDX-License-Identifier: Apache-2.0
"""`activate` and `deactivate`: asked of the agent, or written down for the next one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fake_agent import FakeAgent, refusal
from sockrules.control.paths import Paths

Cli = Callable[..., Any]


def activated(proven: bool = True) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """An agent's result: what was asked for is set, and was seen to work or not."""

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        proof = {"ok": proven, "at": "2025-01-31T12:00:00Z", "why": "" if proven else "no event"}
        state = {"mode": question["mode"], "hook": "h", "covers": "", "proof": proof}
        off = {"mode": "off", "hook": None, "proof": {"ok": False}}
        servers = dict.fromkeys(("listen", "accept", "connect"), off)
        return {"servers": servers | dict.fromkeys(question["servers"], state)}

    return answer


@pytest.mark.parametrize(
    ("words", "servers", "mode"),
    [
        (("activate", "connect"), ["connect"], "enforce"),
        (("activate", "connect", "listen", "connect"), ["listen", "connect"], "enforce"),
        (("activate", "all", "--mode", "simulate"), ["listen", "accept", "connect"], "simulate"),
        (("deactivate", "accept"), ["accept"], "off"),
        (("deactivate", "all"), ["listen", "accept", "connect"], "off"),
    ],
)
def test_the_agent_is_asked(
    cli: Cli, agent: FakeAgent, words: tuple[str, ...], servers: list[str], mode: str
) -> None:
    agent.results["activate"] = activated()
    said = cli(*words)
    assert said.code == 0
    assert said.lines[0].startswith("SERVER")
    assert agent.asked == [{"command": "activate", "servers": servers, "mode": mode}]


def test_the_agent_writes_agent_toml_itself(cli: Cli, agent: FakeAgent, paths: Paths) -> None:
    agent.results["activate"] = activated()
    cli("activate", "connect")
    assert not paths.agent_config.exists()


def test_what_was_not_seen_to_work_is_1(cli: Cli, agent: FakeAgent) -> None:
    agent.results["activate"] = activated(proven=False)
    said = cli("activate", "connect")
    assert said.code == 1
    assert "not proven: no event" in said.out
    assert "connect: enforce was asked for and is not in force" in said.err
    assert cli("activate", "connect", "--json").code == 1


def test_deactivating_needs_no_proof(cli: Cli, agent: FakeAgent) -> None:
    agent.results["activate"] = activated(proven=False)
    assert cli("deactivate", "connect").code == 0


def test_a_refusal_is_said(cli: Cli, agent: FakeAgent) -> None:
    agent.answers["activate"] = refusal("state", "the cgroup is gone")
    said = cli("activate", "connect")
    assert (said.code, said.err) == (1, "Error: the cgroup is gone\n")


class TestWithoutAgent:
    def test_agent_toml_is_edited_and_that_is_said(self, cli: Cli, paths: Paths) -> None:
        paths.agent_config.write_text('# ours\n[servers]\nlisten = "off" # later\n')
        said = cli("activate", "connect", "--mode", "simulate")
        assert said.code == 0
        assert "connect: simulate is set" in said.out
        assert "it takes effect when the agent starts" in said.out
        assert paths.agent_config.read_text() == (
            '# ours\n[servers]\nlisten = "off" # later\nconnect = "simulate"\n'
        )

    def test_json(self, cli: Cli) -> None:
        assert cli("activate", "all", "--json").json == {
            "servers": dict.fromkeys(("listen", "accept", "connect"), {"mode": "enforce"}),
            "agent": None,
            "changed": True,
            "takes_effect": "when the agent starts",
        }

    def test_twice_is_said_too(self, cli: Cli) -> None:
        cli("activate", "all")
        said = cli("activate", "all")
        assert said.code == 0
        assert "was set already" in said.out

    def test_a_wrong_agent_toml_is_not_made_worse(self, cli: Cli, paths: Paths) -> None:
        paths.agent_config.write_text('[server]\nlisten = "off"\n')
        said = cli("activate", "connect")
        assert said.code == 2
        assert f"{paths.agent_config}:1:" in said.err
        assert paths.agent_config.read_text() == '[server]\nlisten = "off"\n'

    def test_links_that_are_still_pinned_are_warned_of(self, cli: Cli, paths: Paths) -> None:
        (paths.pins / "links").mkdir(parents=True)
        (paths.pins / "links" / "connect4").touch()
        said = cli("deactivate", "all")
        assert "1 link still pinned" in said.err
        assert "the kernel goes on with the last applied rules" in said.err

    def test_an_agent_that_does_not_answer_is_not_gone_behind(
        self, cli: Cli, agent: FakeAgent, paths: Paths
    ) -> None:
        agent.instead = b""
        said = cli("activate", "connect")
        assert said.code == 1
        assert "closed the connection without an answer" in said.err
        assert not paths.agent_config.exists()
