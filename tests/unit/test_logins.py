# SPDX-License-Identifier: Apache-2.0
"""agent.toml's `logins`: the programs whose connections and listeners `apply` watches over."""

from __future__ import annotations

import pytest

from sockrules.control.agent_file import LOGINS, parse_agent_config
from sockrules.control.problems import InputError


def test_as_shipped() -> None:
    assert parse_agent_config("", file="agent.toml").logins == LOGINS
    assert "sshd" in LOGINS


def test_others() -> None:
    text = '[agent]\nlogins = ["mysshd", "dropbear"]\n'
    assert parse_agent_config(text, file="agent.toml").logins == ("mysshd", "dropbear")
    assert parse_agent_config("[agent]\nlogins = []\n", file="agent.toml").logins == ()


@pytest.mark.parametrize("value", ['"sshd"', "[22]", '["/usr/sbin/sshd"]', '[""]'])
def test_wrong_ones(value: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_agent_config(f"[agent]\nlogins = {value}\n", file="agent.toml")
    [problem] = caught.value.problems
    assert (problem.line, problem.file) == (2, "agent.toml")
    assert "without their folders" in problem.hint
