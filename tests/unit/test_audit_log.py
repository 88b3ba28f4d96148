# SPDX-License-Identifier: Apache-2.0
"""The audit log is read whole, in order, once, however it is rotated or cut meanwhile."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sockrules.control.addresses import parse_address_range
from sockrules.control.audit_log import AuditLog, Filter, Line, lost_events

NOON = datetime(2025, 1, 31, 12, tzinfo=UTC)


class Over(Exception):
    """The test's script for a followed log has come to its end."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def write(path: Path, *numbers: int) -> None:
    with path.open("a") as file:
        file.writelines(json.dumps({"n": number}) + "\n" for number in numbers)


def rotate(path: Path, keep: int = 9) -> None:
    """As the agent does it."""
    for number in range(keep - 1, 0, -1):
        older = path.with_name(f"{path.name}.{number}")
        if older.exists():
            older.rename(path.with_name(f"{path.name}.{number + 1}"))
    path.rename(path.with_name(f"{path.name}.1"))


def numbers(lines: Iterator[Line]) -> list[Any]:
    return [line.get("n") for line in lines]


class TestRead:
    def test_oldest_first(self, path: Path) -> None:
        for first in (1, 3, 5):
            if path.exists():
                rotate(path)
            write(path, first, first + 1)
        assert numbers(AuditLog(path).read()) == [1, 2, 3, 4, 5, 6]

    def test_more_than_nine_files(self, path: Path) -> None:
        for number in range(12):
            write(path, number)
            rotate(path, keep=20)
        assert numbers(AuditLog(path).read()) == list(range(12))

    def test_no_log_is_an_error_that_names_it(self, path: Path) -> None:
        with pytest.raises(FileNotFoundError) as caught:
            list(AuditLog(path).read())
        assert caught.value.filename == str(path)

    def test_only_rotated_files_are_a_log(self, path: Path) -> None:
        write(path, 1)
        rotate(path)
        assert numbers(AuditLog(path).read()) == [1]

    def test_half_a_line_at_the_end_is_left_out(self, path: Path) -> None:
        write(path, 1)
        with path.open("a") as file:
            file.write('{"n": 2')
        log = AuditLog(path)
        assert numbers(log.read()) == [1]
        assert log.unreadable == 0

    def test_what_is_not_json_is_counted_and_passed_over(self, path: Path) -> None:
        write(path, 1)
        with path.open("ab") as file:
            file.write(b'{"n": {"n": 7}\n\xff\xfe\n[3]\n\n"text"\n')
        write(path, 2)
        log = AuditLog(path)
        assert numbers(log.read()) == [1, 2]
        assert log.unreadable == 4

    def test_files_last_written_before_the_time_are_not_opened_in_vain(self, path: Path) -> None:
        write(path, 1)
        os.utime(path, (0, NOON.timestamp() - 10))
        rotate(path)
        write(path, 2)
        assert numbers(AuditLog(path).read(since=NOON)) == [2]

    def test_a_rotation_half_done_hides_nothing(self, path: Path) -> None:
        write(path, 1)
        rotate(path)
        write(path, 2)
        rotate(path)
        write(path, 3)
        path.with_name("audit.jsonl.2").rename(path.with_name("audit.jsonl.3"))
        assert numbers(AuditLog(path).read()) == [1, 2, 3]

    def test_a_file_that_is_renamed_while_files_are_opened_is_read_once(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(path, 1)
        rotate(path)
        write(path, 2)
        really_open = Path.open
        opened = []

        def opening(self: Path, *arguments: Any) -> Any:
            file = really_open(self, *arguments)
            opened.append(self.name)
            if len(opened) == 1:
                rotate(path)
            return file

        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", opening)
            found = numbers(AuditLog(path).read())
        assert found == [1, 2]
        assert opened[:2] == ["audit.jsonl", "audit.jsonl.1"]


class TestFollow:
    """Each step happens when the reader has caught up; reading ends after the last."""

    def follow(self, path: Path, *steps: Callable[[], None], since: datetime | None = None) -> Any:
        remaining = list(steps)

        def wait() -> None:
            if not remaining:
                raise Over
            remaining.pop(0)()

        found = []
        log = AuditLog(path)
        with pytest.raises(Over):
            for line in log.follow(wait, since):
                found.append(line.get("n"))
        assert log.unreadable == 0
        return found

    def test_new_lines_come(self, path: Path) -> None:
        write(path, 1)
        steps = (lambda: write(path, 2), lambda: write(path, 3, 4))
        assert self.follow(path, *steps) == [1, 2, 3, 4]

    def test_a_log_that_is_not_there_yet_is_waited_for(self, path: Path) -> None:
        assert self.follow(path, lambda: None, lambda: write(path, 1)) == [1]

    def test_half_a_line_is_waited_for(self, path: Path) -> None:
        def half() -> None:
            with path.open("a") as file:
                file.write('{"n"')

        def rest() -> None:
            with path.open("a") as file:
                file.write(": 2}\n")

        write(path, 1)
        assert self.follow(path, half, lambda: None, rest) == [1, 2]

    def test_over_a_rotation(self, path: Path) -> None:
        def step() -> None:
            write(path, 2)
            rotate(path)
            write(path, 3)

        write(path, 1)
        assert self.follow(path, step, lambda: write(path, 4)) == [1, 2, 3, 4]

    def test_over_several_rotations_at_once(self, path: Path) -> None:
        def step() -> None:
            for number in (2, 3, 4):
                rotate(path)
                write(path, number)

        write(path, 1)
        assert self.follow(path, step, lambda: write(path, 5)) == [1, 2, 3, 4, 5]

    def test_between_rotation_and_the_new_file(self, path: Path) -> None:
        write(path, 1)
        assert self.follow(path, lambda: rotate(path), lambda: write(path, 2)) == [1, 2]

    def test_older_files_come_first_and_once(self, path: Path) -> None:
        write(path, 1)
        rotate(path)
        write(path, 2)
        steps = (lambda: rotate(path), lambda: write(path, 3), lambda: rotate(path))
        assert self.follow(path, *steps, lambda: write(path, 4)) == [1, 2, 3, 4]

    def test_a_log_that_is_not_kept_when_it_is_full(self, path: Path) -> None:
        def step() -> None:
            write(path, 2)
            path.unlink()
            write(path, 3)

        write(path, 1)
        assert self.follow(path, step) == [1, 2, 3]

    def test_half_a_line_that_is_cut_off_again(self, path: Path) -> None:
        def half() -> None:
            with path.open("a") as file:
                file.write('{"n": 2, "disk')

        def cut() -> None:
            os.truncate(path, len('{"n": 1}\n'))

        write(path, 1)
        assert self.follow(path, half, cut, lambda: write(path, 3)) == [1, 3]

    def test_files_from_before_the_time_are_passed_over(self, path: Path) -> None:
        write(path, 1)
        os.utime(path, (0, NOON.timestamp() - 10))
        assert self.follow(path, lambda: write(path, 2), since=NOON) == [2]


def request(**facts: Any) -> Line:
    """A line about a rejected connect of www-data to 192.0.2.7."""
    return {
        "@timestamp": "2025-01-31T12:00:00.5Z",
        "event": {"kind": "event", "action": "connect"},
        "rule": {"name": "no-mail"},
        "user": {"id": "33", "name": "www-data"},
        "source": {"ip": "10.0.0.5"},
        "destination": {"ip": "192.0.2.7", "port": 25},
        "sockrules": {"server": "connect", "authority": "no", "remote": "192.0.2.7:25", **facts},
    }


STATE = {
    "@timestamp": "2025-01-31T12:00:00Z",
    "event": {"kind": "state", "action": "events-lost"},
    "message": "7 events were lost",
    "sockrules": {"lost": 7},
}


class TestFilter:
    @pytest.mark.parametrize(
        "wanted",
        [
            Filter(),
            Filter(since=NOON),
            Filter(server="connect"),
            Filter(rule="no-mail"),
            Filter(user="www-data"),
            Filter(user="33"),
            Filter(remote=parse_address_range("192.0.2.0/24")),
            Filter(remote=parse_address_range("::ffff:192.0.2.7")),
            Filter(rejected=True),
            Filter(NOON, "connect", "no-mail", "33", parse_address_range("192.0.2.7"), True),
        ],
    )
    def test_wants(self, wanted: Filter) -> None:
        assert wanted.wants(request())

    @pytest.mark.parametrize(
        "wanted",
        [
            Filter(since=NOON.replace(second=1)),
            Filter(server="accept"),
            Filter(rule="no-mai"),
            Filter(user="www"),
            Filter(user="3"),
            Filter(remote=parse_address_range("10.0.0.5")),
            Filter(NOON, "connect", "no-mail", "34"),
        ],
    )
    def test_leaves_out(self, wanted: Filter) -> None:
        assert not wanted.wants(request())

    def test_allowed_requests_are_not_rejected_ones(self) -> None:
        assert not Filter(rejected=True).wants(request(authority="yes"))

    def test_simulated_rejections_are_rejections(self) -> None:
        assert Filter(rejected=True).wants(request(enforced=False))

    @pytest.mark.parametrize(
        ("server", "address"),
        [("connect", "192.0.2.7"), ("accept", "10.0.0.5")],
    )
    def test_the_remote_side_is_the_peer(self, server: str, address: str) -> None:
        line = request(server=server, remote=None)
        assert Filter(remote=parse_address_range(address)).wants(line)

    def test_a_listen_request_has_no_remote_side(self) -> None:
        line = request(server="listen", remote=None)
        assert not Filter(remote=parse_address_range("10.0.0.5")).wants(line)

    def test_an_ipv6_peer(self) -> None:
        line = request(remote="[2001:db8::1]:443")
        assert Filter(remote=parse_address_range("2001:db8::/32")).wants(line)

    def test_what_the_agent_says_of_itself_is_no_request(self) -> None:
        assert Filter().wants(STATE)
        assert Filter(since=NOON).wants(STATE)
        assert not Filter(rule="no-mail").wants(STATE)

    @pytest.mark.parametrize("line", [{}, {"event": 3, "sockrules": []}, {"@timestamp": 5}])
    def test_strange_lines_harm_nobody(self, line: Line) -> None:
        assert not Filter(NOON, "connect", rejected=True).wants(line)


def test_losses_are_counted() -> None:
    assert lost_events(STATE) == 7
    assert lost_events(request()) == 0
    assert lost_events({"event": {"action": "lines-unwritten"}, "sockrules": {"lines": 3}}) == 3
