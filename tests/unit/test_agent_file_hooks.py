# SPDX-License-Identifier: Apache-2.0
"""[hooks] of agent.toml: which way each server takes."""

from __future__ import annotations

import pytest

from sockrules.control.agent_file import HookSettings, parse_agent_config
from sockrules.control.model import Server
from sockrules.control.problems import InputError


def test_shipped_is_the_best_way_that_works() -> None:
    hooks = parse_agent_config("", file="agent.toml").hooks
    assert hooks == HookSettings("auto", "auto", "auto")
    assert hooks.forced() == {}


def test_a_way_is_forced_for_one_server() -> None:
    text = '[hooks]\nlisten = "post_bind"\naccept = "auto"\nconnect = "cgroup"\n'
    forced = parse_agent_config(text, file="agent.toml").hooks.forced()
    assert forced == {Server.LISTEN: "post_bind", Server.CONNECT: "cgroup"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('listen = "sk_lookup"', '2:10: the hook of listen is "sk_lookup"'),
        ('accept = "fmodret"', "did you mean fmod_ret?"),
        ('connect = "lsm"', 'use "auto" or "cgroup"'),
        ("listen = 1", 'use "auto", "fmod_ret", "lsm" or "post_bind"'),
        ('bind = "auto"', "bind"),
    ],
)
def test_a_mistake_is_named_with_what_would_be_right(line: str, said: str) -> None:
    with pytest.raises(InputError) as raised:
        parse_agent_config(f"[hooks]\n{line}\n", file="agent.toml")
    assert said in str(raised.value)
