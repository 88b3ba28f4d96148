# SPDX-License-Identifier: Apache-2.0
"""Every key of agent.toml can be asked for by its name."""

from __future__ import annotations

import pytest

from sockrules.control.agent_file import known_keys
from sockrules.control.agent_keys import find, names, settings

TEXT = """\
[product]
audit = true
[servers]
accept = "simulate"
[audit]
keep = 3
[messages]
command = ["/bin/true", "x"]
"""


def test_every_key_has_a_value_that_agent_toml_would_take() -> None:
    shipped = {each.name: each for each in settings("", file="agent.toml")}
    assert list(shipped) == names()
    assert len(shipped) == sum(map(len, known_keys().values()))
    assert not any(each.written for each in shipped.values())
    assert shipped["product.audit"].value == "no"
    assert shipped["servers.listen"].value == "off"
    assert shipped["agent.cgroup"].value is None
    assert shipped["messages.keep"].value == 100_000
    assert shipped["messages.command"].value == []


def test_what_is_written_is_told_from_what_is_shipped() -> None:
    written = {each.name: each.value for each in settings(TEXT, file="agent.toml") if each.written}
    assert written == {
        "product.audit": "yes",
        "servers.accept": "simulate",
        "audit.keep": 3,
        "messages.command": ["/bin/true", "x"],
    }


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("keep", "did you mean audit.keep or messages.keep?"),
        ("cgroup", "did you mean agent.cgroup?"),
        ("product", "its keys are audit, message and capture"),
        ("product.audt", "did you mean product.audit?"),
        ("prodct", "did you mean product?"),
        ("xyzzy", "see: sockrules config show"),
        ("product.", "did you mean product"),
    ],
)
def test_a_name_that_is_not_known(name: str, right: str) -> None:
    with pytest.raises(ValueError, match="there is no key") as caught:
        find(name)
    assert right in str(caught.value)
