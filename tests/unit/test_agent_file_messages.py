# SPDX-License-Identifier: Apache-2.0
"""[messages] of agent.toml."""

from __future__ import annotations

import pytest

from sockrules.control.agent_file import MessageSettings, parse_agent_config
from sockrules.control.problems import InputError


def read(text: str) -> MessageSettings:
    return parse_agent_config(f"[messages]\n{text}\n", file="agent.toml").messages


def errors(text: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        read(text)
    return str(caught.value).splitlines()


def test_everything_is_optional() -> None:
    assert parse_agent_config("", file="agent.toml").messages == MessageSettings()
    shipped = MessageSettings()
    assert shipped.syslog and shipped.journal and not shipped.command


def test_every_key() -> None:
    assert read(
        """
        keep = 10
        keep_days = 2
        syslog = "no"
        syslog_socket = "/run/log"
        syslog_format = "rfc3164"
        syslog_facility = "local7"
        journal = false
        journal_socket = "/run/journal"
        command = ["/usr/local/bin/notify", "--now"]
        command_seconds = 3
        command_per_minute = 5
        """
    ) == MessageSettings(
        10,
        2,
        False,
        "/run/log",
        "rfc3164",
        "local7",
        False,
        "/run/journal",
        ("/usr/local/bin/notify", "--now"),
        3,
        5,
    )


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("keep = 0", "2:8: keep 0 is out of range; use 1-10000000"),
        ('keep_days = "30"', '2:13: keep_days is "30"; use a number 1-36500'),
        ('syslog = "on"', '2:10: syslog is "on"; use "yes" or "no"'),
        (
            'journal = "inherit"',
            '2:11: journal cannot be inherited: nothing stands behind it; use "yes" or "no"',
        ),
        (
            'syslog_socket = "log"',
            '2:17: syslog_socket is "log"; use an absolute path, as in "/dev/log"',
        ),
        ('syslog_format = "rfc5425"', '2:17: syslog_format is "rfc5425"; did you mean rfc5424?'),
        (
            "syslog_format = 5424",
            '2:17: syslog_format is the number 5424; use "rfc5424" or "rfc3164"',
        ),
        (
            'syslog_facility = "authprv"',
            '2:19: syslog_facility is "authprv"; did you mean authpriv?',
        ),
        (
            'command = "/bin/true"',
            '2:11: command is "/bin/true"; write the program and its arguments,'
            ' as in ["/usr/local/bin/notify", "--now"]',
        ),
        (
            'command = ["notify"]',
            '2:11: "notify" is not an absolute path; write the program and its arguments,'
            ' as in ["/usr/local/bin/notify", "--now"]',
        ),
        (
            'command = ["/bin/sleep", 3]',
            "2:11: command holds more than texts; write the program and its arguments,"
            ' as in ["/usr/local/bin/notify", "--now"]',
        ),
        (r'command = ["/bin/a\u0000"]', "2:11: command holds a NUL character; take it out"),
        ("command_seconds = 4000", "2:19: command_seconds 4000 is out of range; use 1-3600"),
        ("per_minute = 3", "2:1: there is no key per_minute; did you mean command_per_minute?"),
    ],
)
def test_every_mistake_is_named_with_its_place_and_what_would_be_right(
    text: str, error: str
) -> None:
    assert errors(text) == [f"agent.toml:{error}"]


def test_all_mistakes_are_reported_in_the_order_of_the_file() -> None:
    found = errors('command_seconds = 0\nkeep = "many"\nsyslog = 3')
    assert [each.split(":")[1] for each in found] == ["2", "3", "4"]
