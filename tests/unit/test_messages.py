# SPDX-License-Identifier: Apache-2.0
"""What a message says, and how other systems are told of it."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from sockrules.control import messages
from sockrules.control.messages import KINDS, REQUESTS, SUPPRESSED, Message, document, of_request

MOMENT = datetime(2025, 1, 31, 13, 30, 5, 123456, UTC)


def line(server: str = "connect", **sockrules: Any) -> dict[str, Any]:
    facts = {
        "server": server,
        "authority": "no",
        "enforced": True,
        "mode": "enforce",
        "sequence": 20,
        "revision": 7,
        "count": 1,
        "local": "10.0.0.5:443",
        "remote": "192.0.2.7:25",
        **sockrules,
    }
    return {
        "@timestamp": "2025-01-31T13:30:05.123456Z",
        "host": {"name": "host"},
        "rule": {"name": "no-mail", "ruleset": "7"},
        "user": {"id": "33", "name": "www-data"},
        "group": {"id": "33", "name": "www-data"},
        "process": {"pid": 4711, "name": "curl", "executable": "/usr/bin/curl"},
        "sockrules": {key: value for key, value in facts.items() if value is not None},
    }


@pytest.mark.parametrize(
    ("server", "facts", "identifier", "severity", "text"),
    [
        (
            "connect",
            {},
            "SRC0002",
            "warning",
            "connection to 192.0.2.7:25 rejected by rule no-mail:"
            " program /usr/bin/curl, user www-data, process 4711",
        ),
        (
            "connect",
            {"enforced": False, "mode": "simulate"},
            "SRC0003",
            "notice",
            "connection to 192.0.2.7:25 would be rejected by rule no-mail:"
            " program /usr/bin/curl, user www-data, process 4711",
        ),
        (
            "accept",
            {},
            "SRA0002",
            "warning",
            "connection from 192.0.2.7:25 to 10.0.0.5:443 rejected by rule no-mail:"
            " listening program /usr/bin/curl, user www-data",
        ),
        (
            "listen",
            {"authority": "yes", "enforced": False, "remote": None},
            "SRL0001",
            "info",
            "listen on 10.0.0.5:443 allowed by rule no-mail:"
            " program /usr/bin/curl, user www-data, process 4711",
        ),
    ],
)
def test_a_message_says_what_was_asked_who_asked_and_what_came_of_it(
    server: str, facts: dict[str, Any], identifier: str, severity: str, text: str
) -> None:
    message = of_request(line(server, **facts))
    assert (message.identifier, message.text) == (identifier, text)
    doc = document(message)
    assert doc["severity"] == severity
    assert doc["time"] == "2025-01-31T13:30:05.123456Z"
    assert (doc["server"], doc["rule"], doc["revision"]) == (server, "no-mail", 7)
    assert doc["data"]["local"] == "10.0.0.5:443"
    assert doc["data"]["uid"] == 33
    assert doc["data"]["pid"] == 4711
    json.dumps(doc)


def test_everything_that_is_filled_in_is_in_the_data_too() -> None:
    known = document(of_request(line()))["data"]
    for kind in REQUESTS.values():
        assert set(re.findall(r"{(\w+)}", kind.template)) <= set(known)


def test_what_is_unknown_reads_so_and_is_no_datum() -> None:
    bare = line("listen", local=None, remote=None)
    del bare["user"], bare["group"]
    bare["process"] = {"pid": 0, "name": ""}
    message = of_request(bare)
    assert message.text == (
        "listen on unknown rejected by rule no-mail: program unknown, user unknown, process unknown"
    )
    assert not {"local", "remote", "user", "uid", "pid", "program", "process"} & set(message.data)


def test_a_process_without_a_known_program_is_called_by_its_short_name() -> None:
    nameless = line()
    del nameless["process"]["executable"]
    message = of_request(nameless)
    assert "program curl," in message.text
    assert "program" not in message.data


def test_repetitions_are_counted_in_words_and_as_a_number() -> None:
    message = of_request(line(count=12))
    assert message.text.endswith("process 4711 (12 times)")
    assert document(message)["count"] == 12


def test_a_program_cannot_write_lines_of_its_own() -> None:
    forged = line()
    forged["process"]["executable"] = "/tmp/x\nJan 31 13:30:05 sshd: all is well {rule}\x1b[2J"
    message = of_request(forged)
    for encoded in (
        message.text.encode(),
        messages.rfc5424(message, 10, 1),
        messages.rfc3164(message, 10, 1),
    ):
        assert not re.search(rb"[\x00-\x1f]", encoded)
        assert b"{rule}" in encoded
    assert message.data["program"] == forged["process"]["executable"]


def test_identifiers_are_unique_and_keep_their_journal_ids() -> None:
    assert len(KINDS) == 12
    assert all(re.fullmatch(r"SR[LACM]\d{4}", identifier) for identifier in KINDS)
    assert len({kind.journal_id for kind in KINDS.values()}) == len(KINDS)
    assert KINDS["SRC0002"].journal_id == "b6bef1bedd2b5d16bd84941368be4323"


def test_rfc5424() -> None:
    message = of_request(line(count=2))
    text = messages.rfc5424(message, messages.FACILITIES["authpriv"], 99).decode()
    match = re.fullmatch(
        r"<84>1 2025-01-31T13:30:05\.123456Z host sockrules 99 SRC0002"
        r" \[sockrules@32473((?: [a-z_]+=\"(?:[^\"\]\\]|\\.)*\")+)\] (connection to .*)",
        text,
    )
    assert match, text
    pairs = dict(re.findall(r' (\w+)="((?:[^"\\]|\\.)*)"', match[1]))
    assert pairs["remote"] == "192.0.2.7:25"
    assert (pairs["count"], pairs["revision"], pairs["enforced"]) == ("2", "7", "true")
    assert match[2] == message.text


def test_rfc5424_escapes_and_says_that_it_is_unicode() -> None:
    odd = Message(MOMENT, "SRC0002", 4, "größer", "hôte", {"program": r'/a"b]c\d'})
    text = messages.rfc5424(odd, 1, 5).decode()
    assert text.startswith("<12>1 2025-01-31T13:30:05.123456Z - sockrules 5 SRC0002 [")
    assert r'program="/a\"b\]c\\d"' in text
    assert text.endswith("] \ufeffgrößer")


def test_rfc3164() -> None:
    text = messages.rfc3164(of_request(line()), 10, 99).decode()
    assert re.match(
        r"<84>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d sockrules\[99\]: SRC0002 connection to ", text
    )


def test_the_journal_gets_every_datum_as_a_field() -> None:
    odd = line()
    odd["process"]["executable"] = "/tmp/a\nb"
    data = messages.journal(of_request(odd), 10)
    multiline = b"SOCKRULES_PROGRAM\n" + (8).to_bytes(8, "little") + b"/tmp/a\nb\n"
    assert multiline in data
    fields = dict(each.split("=", 1) for each in data.replace(multiline, b"").decode().splitlines())
    assert fields["PRIORITY"] == "4"
    assert fields["MESSAGE_ID"] == KINDS["SRC0002"].journal_id
    assert fields["SOCKRULES_RULE"] == "no-mail"
    assert fields["SOCKRULES_REMOTE"] == "192.0.2.7:25"
    assert fields["SYSLOG_IDENTIFIER"] == "sockrules"
    assert all(re.fullmatch(r"[A-Z][A-Z0-9_]{0,63}", name) for name in fields)


def test_a_message_about_messages_has_no_rule() -> None:
    message = messages.of_agent(SUPPRESSED, MOMENT, "host", messages=3, reason="enough")
    doc = document(message)
    assert doc["text"] == "messages not given to the command: 3; enough"
    assert doc["data"] == {"messages": 3, "reason": "enough"}
    assert "rule" not in doc


@pytest.mark.parametrize(
    ("report", "text"),
    [
        ({}, "0 stored"),
        (
            {"queue": {"delivered": 3, "failed": 0}, "syslog": {"delivered": 3}},
            "3 stored, 3 told syslog",
        ),
        (
            {
                "queue": {"delivered": 8, "failed": 1},
                "syslog": {"delivered": 0, "failed": 9},
                "journal": {"delivered": 9, "failed": 0},
                "command": {"delivered": 2, "failed": 1, "suppressed": 5},
                "dropped": 4,
            },
            "8 stored, 9 told the journal, 2 given to the command, 1 not stored,"
            " 9 not told syslog, 1 not given to the command, 5 too many for the command, 4 lost",
        ),
    ],
)
def test_the_line_of_status(report: dict[str, Any], text: str) -> None:
    assert messages.summary(report) == text
