# SPDX-License-Identifier: Apache-2.0
"""`audit` reads the log of the root; the filters themselves are tested in unit/test_audit_log."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sockrules.control.paths import Paths

Cli = Callable[..., Any]


def line(server: str, authority: str = "no", enforced: bool = True, **more: Any) -> dict[str, Any]:
    facts = {
        "server": server,
        "authority": authority,
        "enforced": enforced,
        "local": "10.0.0.5:443",
        "remote": "192.0.2.7:51000",
        "count": 1,
    }
    return {
        "@timestamp": "2025-01-31T12:00:00.5Z",
        "event": {"kind": "event", "action": server},
        "rule": {"name": f"{server}-rule"},
        "user": {"id": "33", "name": "www-data"},
        "process": {"pid": 7, "name": "nginx", "executable": "/usr/sbin/nginx"},
        "sockrules": facts | more,
    }


STARTED = {
    "@timestamp": "2025-01-31T11:00:00Z",
    "event": {"kind": "state", "action": "agent-started"},
    "message": "agent started",
}
LOST = {
    "@timestamp": "2025-01-31T12:30:00Z",
    "event": {"kind": "state", "action": "events-lost"},
    "message": "7 events were lost",
    "sockrules": {"lost": 7},
}
LOG = [
    STARTED,
    line("connect", cgroup="/system.slice/nginx.service/worker"),
    line("accept", enforced=False, count=3),
    line("listen", "yes"),
    LOST,
]


def text(*documents: dict[str, Any]) -> str:
    return "".join(json.dumps(doc) + "\n" for doc in documents)


@pytest.fixture(autouse=True)
def written(paths: Paths) -> None:
    paths.audit_log.write_text(text(*LOG))


def test_everything_for_people(cli: Cli) -> None:
    said = cli("audit")
    assert said.code == 0
    started, connect, accept, listen, lost = said.lines
    assert "agent-started  agent started" in started
    for fact in ("rejected", "to 192.0.2.7:51000", "connect-rule", "www-data"):
        assert fact in connect
    assert "/usr/sbin/nginx[7]" in connect
    assert "would reject" in accept
    assert "10.0.0.5:443 from 192.0.2.7:51000" in accept
    assert "3 times" in accept
    assert "allowed" in listen
    assert "on 10.0.0.5:443" in listen
    assert "7 events were lost" in lost


def test_json_is_the_log_line_by_line(cli: Cli) -> None:
    assert [json.loads(each) for each in cli("audit", "--json").lines] == LOG


@pytest.mark.parametrize(
    ("words", "servers"),
    [
        (("--rejected",), ["connect", "accept"]),
        (("--server", "listen"), ["listen"]),
        (("--rule", "accept-rule"), ["accept"]),
        (("--user", "www-data", "--rejected", "--server", "connect"), ["connect"]),
        (("--user", "root"), []),
        (("--service", "nginx.service"), ["connect"]),
        (("--service", "system.slice"), ["connect"]),
        (("--service", "/system.slice/nginx.service"), []),
        (("--remote", "192.0.2.0/24", "--server", "accept"), ["accept"]),
        (("--remote", "192.0.2.8-192.0.2.9"), []),
        (("--rejected", "-n", "1"), ["accept"]),
        (("--rejected", "--since", "2025-01-31T12:00:01Z"), []),
    ],
)
def test_filters(cli: Cli, words: tuple[str, ...], servers: list[str]) -> None:
    said = cli("audit", "--json", *words)
    assert said.code == 0
    found = [json.loads(each)["sockrules"]["server"] for each in said.lines]
    assert found == servers


def test_a_filter_does_not_hide_that_events_were_lost(cli: Cli) -> None:
    said = cli("audit", "--rule", "connect-rule")
    assert len(said.lines) == 1
    assert "7 events of that time were not logged" in said.err


def test_the_last_lines(cli: Cli) -> None:
    assert len(cli("audit", "-n", "2").lines) == 2
    assert cli("audit", "-n", "0").out == ""


def test_unreadable_lines_are_counted_and_half_ones_are_not(cli: Cli, paths: Paths) -> None:
    paths.audit_log.write_text("garbage\n" + text(STARTED) + '{"half')
    said = cli("audit")
    assert len(said.lines) == 1
    assert said.err == "note: 1 line of the log could not be read\n"


def test_no_log_is_1(cli: Cli, paths: Paths) -> None:
    paths.audit_log.unlink()
    said = cli("audit")
    assert said.code == 1
    assert f"there is no audit log at {paths.audit_log}" in said.err
    assert cli("audit", "--json").error["kind"] == "file"


def test_a_log_that_may_not_be_read_is_1(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    said = cli("audit")
    assert said.code == 1
    assert "permission denied" in said.err
    assert "try it as root" in said.err


def test_a_process_cannot_write_to_the_terminal_by_its_name(cli: Cli, paths: Paths) -> None:
    evil = line("connect") | {"process": {"name": "\x1b[2J\r", "pid": 7}}
    paths.audit_log.write_text(text(evil))
    out = cli("audit").out
    assert "\\x1b[2J\\r[7]" in out
    assert "\x1b" not in out


class TestFollow:
    """The pauses of a followed log run the script; its end is the Ctrl-C that ends following."""

    @pytest.fixture
    def follow(self, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
        def run(words: tuple[str, ...], *steps: Callable[[], Any]) -> Any:
            remaining = list(steps)

            def pause(_: float) -> None:
                if not remaining:
                    raise KeyboardInterrupt
                remaining.pop(0)()

            monkeypatch.setattr("sockrules.control.cli.audit.time.sleep", pause)
            return cli("audit", "--follow", "--json", *words)

        return run

    def append(self, paths: Paths, *documents: dict[str, Any]) -> Callable[[], None]:
        def write() -> None:
            with paths.audit_log.open("a") as file:
                file.write(text(*documents))

        return write

    def test_new_lines_come_over_a_rotation(self, follow: Any, paths: Paths) -> None:
        def rotate() -> None:
            paths.audit_log.rename(paths.audit_log.with_name("audit.jsonl.1"))

        said = follow((), self.append(paths, STARTED), rotate, self.append(paths, LOST))
        assert said.code == 0
        assert [json.loads(each) for each in said.lines] == [*LOG, STARTED, LOST]

    def test_only_the_last_ten_of_before(self, follow: Any, paths: Paths) -> None:
        paths.audit_log.write_text(text(*LOG * 5))
        assert len(follow(()).lines) == 10
        assert len(follow(("-n", "3"), self.append(paths, LOST)).lines) == 4
        assert len(follow(("-n", "0"), self.append(paths, LOST)).lines) == 1
        paths.audit_log.write_text(text(*LOG * 5))
        assert len(follow(("--since", "2025-01-31")).lines) == 25

    def test_filters_hold_and_losses_are_noted(self, follow: Any, paths: Paths) -> None:
        said = follow(("--rejected", "-n", "0"), self.append(paths, *LOG))
        assert [json.loads(each) for each in said.lines] == LOG[1:3]
        assert "7 events of that time were not logged" in said.err

    def test_a_log_that_is_not_there_yet(self, follow: Any, paths: Paths) -> None:
        paths.audit_log.unlink()
        assert len(follow((), self.append(paths, LOST)).lines) == 1
