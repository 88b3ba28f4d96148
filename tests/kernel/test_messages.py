# SPDX-License-Identifier: Apache-2.0
"""Messages end to end: a real connect, a real command, a syslog socket, the command line."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from .sandbox import Sandbox

pytestmark = pytest.mark.kernel

RULES = """
[[rule]]
name = "no-telnet"
server = "connect"
authority = "no"
message = "yes"
when = "remote.port == 23"

[[rule]]
name = "no-mail"
server = "connect"
authority = "no"
when = "remote.port == 25"

[[rule]]
name = "watched"
server = "connect"
authority = "yes"
audit = "no"
when = "remote.port == 6000"

[default.connect]
authority = "yes"
message = "inherit"
"""


def configure(sandbox: Sandbox, place: Path, messages: str = "", **modes: str) -> socket.socket:
    """A syslog that the test hears, and [messages] that names it."""
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    log.bind(str(place / "log"))
    log.settimeout(10)
    sandbox.configure(**modes)
    with sandbox.paths.agent_config.open("a") as file:
        file.write(
            f'[messages]\nsyslog_socket = "{place}/log"\njournal_socket = "{place}/journal"\n'
            f"{messages}\n"
        )
    return log


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def read(sandbox: Sandbox, *options: str) -> list[dict[str, object]]:
    """What `sockrules messages --json` prints."""
    done = subprocess.run(
        [sys.executable, "-c", "from sockrules.control.cli import main; main()"]
        + ["--root", str(sandbox.paths.root), "messages", "--json", *options],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_rejected_connect_is_told_everywhere(fresh: Sandbox, tmp_path: Path) -> None:
    notify = script(tmp_path / "notify", f'cat >> "{tmp_path}/heard"')
    log = configure(fresh, tmp_path, f'command = ["{notify}"]', connect="enforce")
    fresh.start(RULES)
    assert fresh.client("connect", "plain", "127.0.0.1", 23, user=2000) == "EPERM"
    assert fresh.client("connect", "plain", "127.0.0.1", 25) == "EPERM"  # asks for no message

    heard = log.recv(1 << 16).decode()
    assert " SRC0002 [sockrules@32473 " in heard
    assert "connection to 127.0.0.1:23 rejected by rule no-telnet: program /usr/bin/py" in heard

    [message] = read(fresh)
    assert message["identifier"] == "SRC0002"
    assert message["severity"] == "warning"
    assert (message["rule"], message["revision"], message["count"]) == ("no-telnet", 1, 1)
    data = message["data"]
    assert isinstance(data, dict)
    assert (data["remote"], data["uid"], data["sequence"]) == ("127.0.0.1:23", 2000, 10)
    assert data["enforced"] is True
    assert str(data["program"]).startswith("/usr/bin/python3")
    assert message["text"] == heard.rpartition("] ")[2]

    fresh.wait_until((tmp_path / "heard").exists, 10)
    fresh.wait_until(lambda: (tmp_path / "heard").read_text().endswith("\n"), 10)
    assert json.loads((tmp_path / "heard").read_text()) == message

    report = fresh.call("status")["messages"]
    assert report["queue"] == {"delivered": 1, "failed": 0, "error": None}
    assert report["syslog"]["delivered"] == 1
    assert report["command"]["delivered"] == 1
    assert fresh.call("status")["problems"] == []
    log.close()


def test_the_switch_is_inherited_and_follows_the_applied_rules(
    fresh: Sandbox, tmp_path: Path
) -> None:
    log = configure(fresh, tmp_path, connect="simulate")
    fresh.start(RULES)
    fresh.client("connect", "plain", "127.0.0.1", 6000)
    fresh.client("connect", "plain", "127.0.0.1", 25)
    fresh.settle()
    assert read(fresh) == []
    fresh.apply(RULES.replace('message = "inherit"', 'message = "yes"'))
    fresh.client("connect", "plain", "127.0.0.1", 6000)
    fresh.client("connect", "plain", "127.0.0.1", 25)
    fresh.client("connect", "plain", "127.0.0.1", 6001)
    fresh.wait_until(lambda: len(read(fresh)) == 3, 10)
    found = read(fresh)  # in the order of the CPUs' buffers
    assert {(each["identifier"], each["rule"], each["revision"]) for each in found} == {
        ("SRC0001", "watched", 2),
        ("SRC0003", "no-mail", 2),
        ("SRC0001", "default-connect", 2),
    }
    assert [each["rule"] for each in read(fresh, "--severity", "notice")] == ["no-mail"]
    assert [each["rule"] for each in read(fresh, "--rule", "watched")] == ["watched"]
    assert read(fresh, "--server", "listen") == []
    log.close()


def test_a_hanging_command_and_a_missing_syslog_hold_up_neither_rules_nor_audit(
    fresh: Sandbox, tmp_path: Path
) -> None:
    notify = script(tmp_path / "notify", f'echo $$ > "{tmp_path}/pid"; exec sleep 1000')
    settings = f'command = ["{notify}"]\ncommand_seconds = 2\ncommand_per_minute = 3'
    log = configure(fresh, tmp_path, settings, connect="enforce")
    log.close()
    os.unlink(tmp_path / "log")
    fresh.start(RULES)
    for host in range(1, 9):
        assert fresh.client("connect", "plain", f"127.0.0.{host}", 23) == "EPERM"
    assert len(fresh.audit(8, authority="no")) == 8
    fresh.wait_until(lambda: len(read(fresh)) == 8, 10)
    fresh.wait_until(lambda: fresh.call("status")["messages"]["command"]["killed"] == 1, 20)
    report = fresh.call("status")
    assert report["messages"]["command"]["suppressed"] == 5
    assert report["messages"]["syslog"]["failed"] == 8
    problems = "\n".join(report["problems"])
    assert f"messages do not reach syslog: {tmp_path}/log: no such file" in problems
    assert "killed after 2 s" in problems
    assert report["enforcing"] is True
    fresh.wait_until((tmp_path / "pid").exists, 10)
    fresh.stop()
    running = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}")
    assert not running.exists()


def test_following(fresh: Sandbox, tmp_path: Path) -> None:
    log = configure(fresh, tmp_path, connect="enforce")
    fresh.start(RULES)
    fresh.client("connect", "plain", "127.0.0.1", 23)
    fresh.wait_until(lambda: len(read(fresh)) == 1, 10)
    follow = [sys.executable, "-u", "-c", "from sockrules.control.cli import main; main()"]
    follow += ["--root", str(fresh.paths.root), "messages", "--follow", "--json"]
    with subprocess.Popen(follow, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            assert json.loads(process.stdout.readline())["id"] == 1
            fresh.client("connect", "plain", "127.0.0.2", 23)
            second = json.loads(process.stdout.readline())
            assert (second["id"], second["data"]["remote"]) == (2, "127.0.0.2:23")
        finally:
            process.kill()
    log.close()


def test_a_full_disk_is_told_once_it_is_over(fresh: Sandbox, tmp_path: Path) -> None:
    log = configure(fresh, tmp_path, connect="enforce")
    state = fresh.paths.state_dir
    state.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(state)]
    subprocess.run(mount, check=True)
    try:
        fresh.start(RULES)
        ballast = state / "ballast"
        with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            while True:
                file.write(bytes(4096))
        said: list[str] = []
        for host in range(1, 120):  # the database's log may have had a few pages left
            said = fresh.call("status")["problems"]
            if any("messages do not reach the message queue" in each for each in said):
                break
            assert fresh.client("connect", "plain", f"127.0.1.{host}", 23) == "EPERM"
        assert any("disk is full" in each for each in said), said
        ballast.unlink()
        assert fresh.client("connect", "plain", "127.0.2.1", 23) == "EPERM"
        fresh.wait_until(lambda: "SRM0003" in [each["identifier"] for each in read(fresh)], 15)
        assert not [each for each in fresh.call("status")["problems"] if "messages" in each]
        fresh.stop()
    finally:
        subprocess.run(["umount", "-l", str(state)], check=True)
    log.close()
