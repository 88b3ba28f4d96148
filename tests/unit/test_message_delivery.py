# SPDX-License-Identifier: Apache-2.0
"""From events to the queue, syslog, the journal and the command, with real sockets and programs."""

from __future__ import annotations

import json
import os
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sockrules.agent.events import Event, document
from sockrules.agent.message_command import Command
from sockrules.agent.message_store import Store
from sockrules.agent.messages import Messages
from sockrules.control import abi, messages
from sockrules.control.agent_file import MessageSettings
from sockrules.control.message_queue import MessageQueue
from sockrules.control.messages import Filter, Message
from sockrules.control.model import Mode, Server
from sockrules.control.names import FixedNames

MESSAGE, REJECT = abi.C["SR_MESSAGE"], abi.C["SR_REJECT"]
MAPPED = 0xFFFF << 32
NAMES = FixedNames({"alice": 1000}, {}, {})


def event(peer: int = 1, flags: int = MESSAGE | REJECT) -> Event:
    return Event(
        server=Server.CONNECT,
        mode=Mode.ENFORCE,
        hook="connect4",
        flags=flags,
        monotonic=time.monotonic_ns(),
        revision=3,
        local_address=None,
        local_port=None,
        remote_address=MAPPED | peer,
        remote_port=25,
        rule=0,
        netns=None,
        user=1000,
        group=None,
        pid=42,
        program=None,
        comm="mail",
    )


def word(of: Event, count: int) -> dict[str, Any]:
    offset = time.time_ns() - time.monotonic_ns()
    return document(
        of,
        host="host",
        rule="no-mail",
        sequence=10,
        program="/usr/bin/mail",
        cgroup=None,
        names=NAMES,
        offset=offset,
        count=count,
    )


def until(happens: Callable[[], object], what: str = "it") -> None:
    deadline = time.monotonic() + 20
    while not happens():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.01)


class Daemon:
    """A log daemon: a socket and what arrived there."""

    def __init__(self, path: Path, kind: int = socket.SOCK_DGRAM) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, kind)
        self.socket.bind(str(path))
        if kind == socket.SOCK_STREAM:
            self.socket.listen()
        self.socket.settimeout(20)

    def hear(self) -> str:
        return self.socket.recv(1 << 16).decode()

    def silent(self) -> bool:
        self.socket.setblocking(False)
        try:
            self.socket.recv(1)
        except BlockingIOError:
            return True
        return False

    def close(self) -> None:
        self.socket.close()
        self.path.unlink()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def settings(place: Path) -> MessageSettings:
    return MessageSettings(syslog_socket=str(place / "log"), journal_socket=str(place / "journal"))


@pytest.fixture
def make(place: Path, settings: MessageSettings) -> Iterator[Callable[..., Messages]]:
    made: list[Messages] = []

    def make(**changes: Any) -> Messages:
        database = changes.pop("database", place / "state.db")
        made.append(Messages(database, replace(settings, **changes), word, "host"))
        made[-1].start()
        return made[-1]

    yield make
    for each in made:
        each.close()


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def stored(place: Path, **wanted: Any) -> list[Message]:
    return list(MessageQueue(place / "state.db").read(Filter(**wanted)))


# -- the queue ----------------------------------------------------------------------------


def test_a_message_is_in_the_queue_with_a_number(
    place: Path, make: Callable[..., Messages]
) -> None:
    agent = make()
    agent.take(event())
    until(lambda: stored(place))
    [message] = stored(place)
    assert (message.id, message.identifier, message.rule) == (1, "SRC0002", "no-mail")
    assert message.data["remote"] == "0.0.0.1:25"
    assert message.data["user"] == "alice"
    assert agent.report()["queue"] == {"delivered": 1, "failed": 0, "error": None}


def test_only_rules_that_ask_for_messages_send_them(
    place: Path, make: Callable[..., Messages]
) -> None:
    agent = make()
    agent.take(event(1, REJECT))
    agent.take(event(2, MESSAGE))
    agent.close()
    assert [message.identifier for message in stored(place)] == ["SRC0001"]


def test_identical_messages_are_folded_with_a_count(
    place: Path, make: Callable[..., Messages]
) -> None:
    agent = make()
    for _ in range(5):
        agent.take(event(1))
    agent.take(event(2))
    agent.close()
    counts = [(message.data["remote"], message.count) for message in stored(place)]
    assert counts == [("0.0.0.1:25", 1), ("0.0.0.2:25", 1), ("0.0.0.1:25", 4)]


def test_a_fold_ends_by_itself(place: Path, make: Callable[..., Messages]) -> None:
    agent = make()
    agent.take(event())
    agent.take(event())
    agent.expire(time.monotonic_ns() + 11_000_000_000)
    until(lambda: [message.count for message in stored(place)] == [1, 1])


def test_filters(place: Path, make: Callable[..., Messages]) -> None:
    agent = make()
    agent.take(event(1, MESSAGE | REJECT))
    agent.take(event(2, MESSAGE))
    agent.close()
    allowed, rejected = messages.INFO, messages.WARNING
    assert [each.severity for each in stored(place, severity=rejected)] == [rejected]
    assert [each.severity for each in stored(place)] == [rejected, allowed]
    assert len(stored(place, server="connect", rule="no-mail")) == 2
    assert not stored(place, server="listen")
    assert not stored(place, rule="other")
    [_, second] = stored(place)
    assert stored(place, since=second.time)[-1] == second
    newest = MessageQueue(place / "state.db")
    assert newest.newest_id() == 2
    assert newest.last(Filter(), 1) == [second]
    assert list(newest.read(Filter(), after=1)) == [second]


def test_a_queue_that_is_not_there_is_empty_and_stays_absent(place: Path) -> None:
    assert stored(place) == []
    assert MessageQueue(place / "state.db").newest_id() == 0
    assert not (place / "state.db").exists()


def test_what_is_no_database_is_an_error_not_an_empty_queue(place: Path) -> None:
    (place / "state.db").write_text("something else entirely, and longer than a header is")
    with pytest.raises(OSError, match="database"):
        stored(place)


def test_the_queue_is_read_by_those_who_may_write_nothing(
    place: Path, make: Callable[..., Messages]
) -> None:
    agent = make()
    agent.take(event())
    agent.close()
    with tempfile.TemporaryDirectory() as open_to_all:
        folder = Path(open_to_all)
        (folder / "state.db").write_bytes((place / "state.db").read_bytes())
        folder.chmod(0o555)
        if os.geteuid() == 0:
            os.seteuid(65534)  # nobody
        try:
            assert len(stored(folder)) == 1
            assert os.listdir(folder) == ["state.db"]
        finally:
            if os.getuid() == 0:
                os.seteuid(0)
            folder.chmod(0o755)


def test_old_messages_and_too_many_are_forgotten(place: Path) -> None:
    store = Store(place / "state.db", keep=3, keep_days=2)
    now = messages.parse_utc("2025-01-31T00:00:00Z")
    assert now
    fresh = messages.of_request(word(event(), 1))
    store.add([replace(fresh, time=now)] + [fresh] * 2)
    store.forget(0)
    assert [each.id for each in stored(place)] == [2, 3]
    numbered = store.add([fresh] * 3)
    assert [each.id for each in numbered] == [4, 5, 6]
    store.forget(30)
    assert len(stored(place)) == 5, "not more often than once a minute"
    store.forget(61)
    assert [each.id for each in stored(place)] == [4, 5, 6]
    store.close()


def test_a_disk_that_refuses_is_counted_told_of_and_stops_nothing_else(
    place: Path, make: Callable[..., Messages]
) -> None:
    daemon = Daemon(place / "log")
    (place / "full").write_text("not a folder")
    agent = make(database=place / "full" / "state.db", journal=False)
    agent.take(event())
    assert "SRC0002" in daemon.hear()
    until(agent.problems, "the problem")
    assert "messages do not reach the message queue" in agent.problems()[0]
    assert agent.report()["queue"]["failed"] == 1
    (place / "full").unlink()
    agent.take(event(2))
    agent.close()
    found = list(MessageQueue(place / "full" / "state.db").read(Filter()))
    assert [each.identifier for each in found] == ["SRC0002", "SRM0003"]
    assert found[1].data["messages"] == 1
    assert agent.problems() == []
    daemon.close()


def test_what_the_delivery_cannot_keep_up_with_is_dropped_and_told(
    place: Path, settings: MessageSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sockrules.agent.messages._MOST_WAITING", 10)
    agent = Messages(place / "state.db", settings, word, "host")
    for peer in range(25):
        agent.take(event(peer))
    assert agent.report()["dropped"] == 15
    agent.start()
    until(lambda: len(stored(place)) == 11)
    agent.close()
    assert stored(place)[-1].identifier == "SRM0002"
    assert stored(place)[-1].data["messages"] == 15


def test_an_event_that_cannot_be_worded_costs_no_other(
    place: Path, settings: MessageSettings
) -> None:
    def broken(of: Event, count: int) -> dict[str, Any]:
        return word(of, count) if of.remote_address != MAPPED | 1 else {}

    agent = Messages(place / "state.db", settings, broken, "host")
    agent.start()
    agent.take(event(1))
    agent.take(event(2))
    agent.close()
    assert [each.data["remote"] for each in stored(place)] == ["0.0.0.2:25"]
    assert "messages do not reach anything: KeyError" in agent.problems()[-1]


def test_flushing_tells_of_repetitions_now(place: Path, make: Callable[..., Messages]) -> None:
    agent = make()
    agent.take(event())
    agent.take(event())
    agent.flush()
    until(lambda: [message.count for message in stored(place)] == [1, 1])


# -- syslog and the journal ---------------------------------------------------------------


def test_syslog_hears_of_it(place: Path, make: Callable[..., Messages]) -> None:
    daemon = Daemon(place / "log")
    agent = make()
    agent.take(event())
    heard = daemon.hear()
    assert heard.startswith("<84>1 20")
    assert f" host sockrules {os.getpid()} SRC0002 [sockrules@32473 " in heard
    assert heard.endswith(stored(place)[0].text)
    daemon.close()


def test_syslog_in_the_old_format_to_another_facility(
    place: Path, make: Callable[..., Messages]
) -> None:
    daemon = Daemon(place / "log")
    make(syslog_format="rfc3164", syslog_facility="local0").take(event())
    assert f"sockrules[{os.getpid()}]: SRC0002 connection" in (heard := daemon.hear())
    assert heard.startswith("<132>")
    daemon.close()


def test_a_stream_socket_serves_as_well(place: Path, make: Callable[..., Messages]) -> None:
    daemon = Daemon(place / "log", socket.SOCK_STREAM)
    make().take(event())
    with daemon.socket.accept()[0] as connection:
        assert connection.recv(1 << 16).endswith(b"process 42\0")
    daemon.close()


def test_a_missing_syslog_is_a_problem_until_it_is_back(
    place: Path, make: Callable[..., Messages]
) -> None:
    agent = make()
    agent.take(event(1))
    until(lambda: agent.report()["syslog"]["failed"] == 1)
    [problem] = agent.problems()
    assert problem == (
        f"messages do not reach syslog: {place}/log: no such file or directory (1 so far)"
    )
    daemon = Daemon(place / "log")
    agent.take(event(2))
    assert "0.0.0.2:25" in daemon.hear()
    until(lambda: not agent.problems())
    daemon.close()
    agent.take(event(3))
    until(lambda: agent.report()["syslog"]["failed"] == 2)
    again = Daemon(place / "log")  # started anew: the old connection is of no use
    agent.take(event(4))
    assert "0.0.0.4:25" in again.hear()
    again.close()
    assert len(stored(place)) == 4


def test_a_syslog_that_does_not_read_holds_nobody_up(
    place: Path, make: Callable[..., Messages]
) -> None:
    daemon = Daemon(place / "log")
    agent = make()
    for peer in range(400):  # more than the socket's queue holds
        agent.take(event(peer))
    until(lambda: len(stored(place)) == 400, "storing")
    until(lambda: agent.report()["syslog"]["failed"] > 0, "giving up")
    assert "nobody reads it" in agent.problems()[0]
    daemon.close()


def test_a_journal_that_was_never_there_is_no_failure_but_one_that_went_is(
    place: Path, make: Callable[..., Messages]
) -> None:
    agent = make(syslog=False)
    agent.take(event(1))
    until(lambda: stored(place))
    assert agent.report()["journal"] == {"delivered": 0, "failed": 0, "error": None}
    journal = Daemon(place / "journal")
    agent.take(event(2))
    heard = journal.hear()
    assert "SOCKRULES_REMOTE=0.0.0.2:25\n" in heard
    assert "SOCKRULES_ID=2\n" in heard
    journal.close()
    agent.take(event(3))
    until(lambda: agent.report()["journal"]["failed"] == 1)
    assert "messages do not reach the journal" in agent.problems()[0]


def test_the_journal_is_not_told_twice(
    place: Path, make: Callable[..., Messages], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sockrules.agent.message_sinks._JOURNALS", place / "systemd")
    (place / "systemd").mkdir()
    journal, own = Daemon(place / "journal"), Daemon(place / "systemd" / "dev-log")
    (place / "log").symlink_to(own.path)
    agent = make()
    agent.take(event())
    assert "SOCKRULES_RULE=no-mail" in journal.hear()
    agent.close()
    assert own.silent()
    assert agent.report()["syslog"] == {"delivered": 0, "failed": 0, "error": None}
    journal.close()
    own.close()


def test_without_the_switches_nobody_else_is_told(
    place: Path, make: Callable[..., Messages]
) -> None:
    log, journal = Daemon(place / "log"), Daemon(place / "journal")
    agent = make(syslog=False, journal=False)
    agent.take(event())
    agent.close()
    assert len(stored(place)) == 1
    assert log.silent() and journal.silent()
    log.close()
    journal.close()


def test_new_settings_take_effect_without_a_new_agent(
    place: Path, settings: MessageSettings, make: Callable[..., Messages]
) -> None:
    first, second = Daemon(place / "log"), Daemon(place / "log2")
    agent = make()
    agent.take(event(1))
    assert "0.0.0.1" in first.hear()
    agent.configure(replace(settings, syslog_socket=str(second.path)))
    agent.take(event(2))
    assert "0.0.0.2" in second.hear()
    assert first.silent()
    first.close()
    second.close()


# -- the command --------------------------------------------------------------------------


def test_the_command_reads_the_message_as_json(place: Path, make: Callable[..., Messages]) -> None:
    command = script(place / "notify", f'cat >> "{place}/heard"; echo "$@" >> "{place}/words"')
    agent = make(command=(command, "--now", "two words"), syslog=False)
    agent.take(event())
    until(lambda: agent.report()["command"]["delivered"] == 1)
    told = json.loads((place / "heard").read_text())
    assert told["id"] == 1
    assert told["identifier"] == "SRC0002"
    assert told["data"]["remote"] == "0.0.0.1:25"
    assert (place / "words").read_text() == "--now two words\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("echo first >&2; echo it broke >&2; exit 3", "exit status 3: it broke"),
        ("exit 4", "exit status 4"),
        ("kill -9 $$", "exit status -9"),
    ],
)
def test_a_command_that_fails_is_a_problem(
    place: Path, make: Callable[..., Messages], text: str, reason: str
) -> None:
    command = script(place / "notify", text)
    agent = make(command=(command,), syslog=False)
    agent.take(event())
    until(agent.problems)
    assert agent.problems() == [
        f"messages do not reach the message command: {command}: {reason} (1 so far)"
    ]


def test_a_command_that_is_not_there(place: Path, make: Callable[..., Messages]) -> None:
    agent = make(command=(f"{place}/nothing",), syslog=False)
    agent.take(event())
    until(agent.problems)
    assert f"{place}/nothing: no such file or directory" in agent.problems()[0]


def test_a_command_that_does_not_read_or_talks_without_end_is_no_harm(
    place: Path, make: Callable[..., Messages]
) -> None:
    deaf = script(place / "deaf", "exec <&-; exit 0")
    agent = make(command=(deaf,), syslog=False)
    agent.take(event())
    until(lambda: agent.report()["command"]["delivered"] == 1)
    loud = script(place / "loud", "head -c 1000000 /dev/zero | tr '\\0' 'x' >&2; exit 1")
    noisy = make(command=(loud,), syslog=False)
    noisy.take(event())
    until(noisy.problems)
    assert len(noisy.problems()[0]) < 500


def test_a_command_that_hangs_is_killed_with_what_it_started_and_nobody_waits(
    place: Path, make: Callable[..., Messages]
) -> None:
    script(place / "notify", f'sleep 1000 & echo "$!" > "{place}/child"; wait')
    agent = make(command=(f"{place}/notify",), command_seconds=1, syslog=False)
    agent.take(event(1))
    until((place / "child").exists)
    for peer in range(2, 12):
        agent.take(event(peer))
    until(lambda: len(stored(place)) == 11, "storing")
    assert agent.report()["command"]["failed"] == 0, "the first run is not over yet"
    until(lambda: agent.report()["command"]["killed"] == 1, "killing")
    child = int((place / "child").read_text())
    until(lambda: not is_running(child), "the child's end")
    assert "killed after 1 s" in agent.problems()[0]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_ending_the_agent_does_not_wait_for_a_command(
    place: Path, make: Callable[..., Messages]
) -> None:
    command = script(place / "notify", f'touch "{place}/started"; exec sleep 1000')
    agent = make(command=(command,), command_seconds=600, syslog=False)
    agent.take(event(1))
    agent.take(event(2))
    until((place / "started").exists)
    agent.close()
    assert agent.report()["command"]["killed"] == 1
    assert [each.identifier for each in stored(place)] == ["SRC0002", "SRC0002", "SRM0001"]
    assert stored(place)[-1].data["messages"] == 1


def test_more_than_the_limit_is_suppressed_and_told_once() -> None:
    wanted = MessageSettings(command=("/bin/true",), command_per_minute=3)
    command = Command(wanted)
    message = messages.of_request(word(event(), 1))
    for number in range(10):
        command.offer(message, 100.0 + number)
    assert command.suppressed == 7
    assert command.due(159.0) == 0, "the minute is not over"
    assert command.due(160.0) == 7
    assert command.due(161.0) == 0, "told once"
    command.offer(message, 161.0)
    until(lambda: command.tally.delivered == 4)
    assert command.suppressed == 7
    command.close()


def test_what_was_suppressed_is_a_message_that_the_command_gets_too(
    place: Path, make: Callable[..., Messages], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sockrules.agent.message_command.MINUTE", 1.0)
    command = script(place / "notify", f'cat >> "{place}/heard"')
    agent = make(command=(command,), command_per_minute=2, syslog=False)
    for peer in range(9):
        agent.take(event(peer))
    until(lambda: agent.report()["command"]["delivered"] == 3)
    told = [json.loads(line) for line in (place / "heard").read_text().splitlines()]
    assert [each["identifier"] for each in told] == ["SRC0002", "SRC0002", "SRM0001"]
    assert told[-1]["data"]["messages"] == 7
    assert "at most 2 times a minute" in told[-1]["text"]
    assert len(stored(place)) == 10


def test_taking_never_waits_for_a_database_that_is_locked(
    place: Path, make: Callable[..., Messages]
) -> None:
    import sqlite3

    agent = make(syslog=False)
    agent.take(event(0))
    until(lambda: stored(place))
    other = sqlite3.connect(place / "state.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    taken = threading.Event()

    def take() -> None:
        for peer in range(1, 100):
            agent.take(event(peer))
        taken.set()

    threading.Thread(target=take).start()
    assert taken.wait(20)
    assert len(stored(place)) == 1
    other.execute("ROLLBACK")
    other.close()
    until(lambda: len(stored(place)) == 100 or agent.report()["queue"]["failed"])
