# SPDX-License-Identifier: Apache-2.0
"""`messages` reads the queue."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sockrules.agent.message_store import Store
from sockrules.control.messages import Message
from sockrules.control.paths import Paths

Cli = Callable[..., Any]

NOW = datetime.now(UTC)
MESSAGE = Message(
    NOW,
    "SRC0002",
    4,
    "connection to 192.0.2.7:25 rejected",
    "host",
    {"remote": "192.0.2.7:25"},
    server="connect",
    rule="no-mail",
    revision=3,
)


@pytest.fixture
def queue(paths: Paths) -> None:
    store = Store(paths.state_db, 100, 100)
    store.add(
        [
            replace(MESSAGE, time=NOW - timedelta(hours=3)),
            replace(MESSAGE, identifier="SRL0001", severity=6, server="listen", rule="web"),
            replace(MESSAGE, text="odd \x1b[2J", count=3),
        ]
    )
    store.close()


def ids(cli: Cli, *options: str) -> list[int]:
    return [json.loads(line)["id"] for line in cli("messages", "--json", *options).lines]


@pytest.mark.usefixtures("queue")
def test_people_read_a_line_a_message(cli: Cli) -> None:
    lines = cli("messages").lines
    assert len(lines) == 3
    assert lines[0].endswith("  warning  SRC0002  connection to 192.0.2.7:25 rejected")
    assert "  info     SRL0001  " in lines[1]
    assert lines[2].endswith(r"odd \x1b[2J")


@pytest.mark.usefixtures("queue")
def test_programs_read_an_object_a_line(cli: Cli) -> None:
    last = json.loads(cli("messages", "--json").lines[-1])
    assert last["identifier"] == "SRC0002"
    assert last["count"] == 3
    assert last["data"] == {"remote": "192.0.2.7:25"}
    assert last["time"].endswith("Z")


@pytest.mark.usefixtures("queue")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], [1, 2, 3]),
        (["--since", "1h"], [2, 3]),
        (["--server", "listen"], [2]),
        (["--rule", "no-mail"], [1, 3]),
        (["--severity", "warning"], [1, 3]),
        (["--severity", "err"], []),
        (["--severity", "debug"], [1, 2, 3]),
        (["-n", "2"], [2, 3]),
        (["-n", "0"], []),
        (["-n", "1", "--rule", "web"], [2]),
        (["--rule", "no-mail", "--since", "1h"], [3]),
    ],
)
def test_filters_are_combined(cli: Cli, options: list[str], expected: list[int]) -> None:
    assert ids(cli, *options) == expected


def test_an_empty_queue(cli: Cli, paths: Paths) -> None:
    said = cli("messages")
    assert (said.code, said.out, said.err) == (0, "", "no messages\n")
    assert cli("messages", "--json").err == ""
    assert not paths.state_db.exists()


def test_a_queue_that_cannot_be_read(cli: Cli, paths: Paths) -> None:
    paths.state_dir.mkdir(parents=True)
    paths.state_db.write_text("no database at all, but long enough to be taken for one, perhaps")
    said = cli("messages")
    assert said.code == 1
    assert said.err.startswith(f"Error: {paths.state_db}: ")


def test_a_time_that_is_none(cli: Cli) -> None:
    said = cli("messages", "--since", "whenever")
    assert said.code == 2
    assert "whenever is not a time" in said.err


@pytest.mark.usefixtures("queue")
@pytest.mark.parametrize(
    ("options", "expected"),
    [([], [1, 2, 3, 4]), (["-n", "1"], [3, 4]), (["-n", "0"], [4]), (["--since", "1h"], [2, 3, 4])],
)
def test_following_shows_the_last_ones_and_then_the_new(
    cli: Cli,
    paths: Paths,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    expected: list[int],
) -> None:
    store = Store(paths.state_db, 100, 100)
    looks = 0

    def sleep(_: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 2:
            store.add([MESSAGE])
        if looks == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr("sockrules.control.cli.messages.time.sleep", sleep)
    assert ids(cli, "--follow", *options) == expected
    store.close()


def test_a_queue_that_is_not_there_yet_is_waited_for(
    cli: Cli, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores: list[Store] = []

    def sleep(_: float) -> None:
        if stores:
            raise KeyboardInterrupt
        stores.append(Store(paths.state_db, 100, 100))
        stores[0].add([MESSAGE])

    monkeypatch.setattr("sockrules.control.cli.messages.time.sleep", sleep)
    assert ids(cli, "--follow") == [1]
    stores[0].close()
