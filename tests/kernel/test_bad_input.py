# SPDX-License-Identifier: Apache-2.0
"""Whatever the agent is given, the last applied rules stay in force and others are served."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest

from sockrules.control.client import AgentRefused, AgentUnreachable, address_of
from sockrules.control.wire import LARGEST, FrameReader, encode

from .sandbox import Sandbox

pytestmark = pytest.mark.kernel

RULES = """
[[rule]]
name = "no-7301"
server = "connect"
authority = "no"
when = "remote.port == 7301"
"""

EVERYBODY = RULES.replace("7301", "7302")
"""Good rules that would let 7301 through."""


@pytest.fixture(scope="module", autouse=True)
def _rules(sandbox: Sandbox) -> None:
    sandbox.apply(RULES)
    sandbox.activate("enforce", "connect")


def assert_in_force(box: Sandbox) -> None:
    assert box.client("connect", "plain", "127.0.0.1", 7301) == "EPERM"
    assert box.client("connect", "plain", "127.0.0.1", 7302) == "ECONNREFUSED"


@pytest.fixture
def unharmed(sandbox: Sandbox) -> Iterator[Sandbox]:
    """After the test, the rules and the agent are what they were."""
    before = sandbox.call("status")
    yield sandbox
    after = sandbox.call("status")
    assert after["ruleset"]["revision"] == before["ruleset"]["revision"]
    assert after["agent"]["pid"] == before["agent"]["pid"]
    assert after["enforcing"]
    assert_in_force(sandbox)


def rule(**changes: str | None) -> str:
    keys = {"name": "x", "server": "connect", "authority": "no", "when": "remote.port == 7302"}
    lines = (f'{key} = "{value}"\n' for key, value in {**keys, **changes}.items() if value)
    return f"[[rule]]\n{''.join(lines)}"


BAD = {
    "malformed TOML": (EVERYBODY + '[[rule]]\nname = "x\n', 8, "name|string|quote|newline"),
    "an unknown key": (EVERYBODY + rule(colour="red"), 12, "colour"),
    "an unknown table": (EVERYBODY + '[defaults.connect]\nauthority = "no"\n', 7, "defaults"),
    "a duplicate name": (EVERYBODY + rule(name="no-7302"), 8, "no-7302"),
    "an unknown user": (rule(when="user == nobody-of-that-name"), 5, "nobody-of-that-name"),
    "a port out of range": (rule(when="remote.port == 70000"), 5, "70000 is out of range"),
    "a field the server lacks": (
        rule(server="listen", when="remote.address == 10.0.0.1"),
        5,
        "remote.address.*(accept|connect)",
    ),
    "a list that is not there": (rule(when="remote.address in @missing"), 5, "missing"),
    "no condition": (rule(when=None), 1, "when"),
    "a condition that stops": (rule(when="remote.port =="), 5, "."),
    "an authority that inherits": (rule(authority="inherit"), 4, "inherit"),
}


@pytest.mark.parametrize("what", BAD)
def test_an_error_names_file_line_and_column_and_nothing_is_applied(
    unharmed: Sandbox, what: str
) -> None:
    text, line, says = BAD[what]
    for command in ("check", "apply"):
        with pytest.raises(AgentRefused) as refused:
            unharmed.call(command, text=text, file="new.toml")
        assert refused.value.kind == "input"
        [problem] = refused.value.problems
        assert (problem.file, problem.line) == ("new.toml", line), str(problem)
        assert problem.column and problem.column >= 1
        assert re.search(says, str(problem), re.DOTALL), str(problem)
    assert unharmed.paths.rules.read_text() == RULES, "a refused text is not installed"


def test_every_error_is_reported(unharmed: Sandbox) -> None:
    with pytest.raises(AgentRefused) as refused:
        unharmed.apply(rule(when="remote.port == 0") + rule(server="sever") + rule(name="-"))
    assert [problem.line for problem in refused.value.problems] == [5, 7, 8, 12]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"10.0.0.1\n10.0.0.300\n", "hosts.txt:2:.*10.0.0.300"),
        (b"10.0.0.1\n\xff\xfe\x00\n", "hosts.txt:2:"),
    ],
)
def test_a_list_that_cannot_be_used_is_named(unharmed: Sandbox, content: bytes, says: str) -> None:
    file = unharmed.paths.lists / "hosts.txt"
    file.write_bytes(content)
    with pytest.raises(AgentRefused, match=says):
        unharmed.apply(rule(when="remote.address in @hosts"))
    file.unlink()


def test_a_list_that_cannot_be_read_is_named_where_it_is_used(unharmed: Sandbox) -> None:
    (unharmed.paths.lists / "folder.txt").mkdir()
    with pytest.raises(AgentRefused, match=r"test\.toml:5:27: the list @folder cannot be read"):
        unharmed.apply(rule(when="remote.address in @folder"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (EVERYBODY.encode()[:-9], r"rules\.toml:6:\d+: "),  # half written, as editors do
        (EVERYBODY.encode() + b"# \xff\n", r"rules\.toml:7:.*UTF-8"),
        (EVERYBODY.encode() + b"\0\0\0\0", r"rules\.toml:7:"),
    ],
)
def test_a_file_that_is_half_there_is_not_applied(
    unharmed: Sandbox, content: bytes, says: str
) -> None:
    unharmed.paths.rules.write_bytes(content)
    try:
        with pytest.raises(AgentRefused, match=says):
            unharmed.call("apply")
        assert unharmed.call("status")["ruleset"]["differs"]
        unharmed.apply(RULES)  # a good text replaces it
        assert unharmed.paths.rules.read_text() == RULES
    finally:
        unharmed.paths.rules.write_text(RULES)


def test_a_rule_file_that_is_a_folder_is_not_applied(unharmed: Sandbox) -> None:
    unharmed.paths.rules.unlink()
    unharmed.paths.rules.mkdir()
    try:
        with pytest.raises(AgentRefused, match=r"rules\.toml: cannot be read"):
            unharmed.call("apply")
        assert unharmed.call("status")["ruleset"]["differs"]
    finally:
        unharmed.paths.rules.rmdir()
        unharmed.paths.rules.write_text(RULES)


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("no-such-command", {}),
        ("apply", {"text": 5}),
        ("apply", {"colour": "red"}),
        ("check", {}),
        ("activate", {"servers": ["connect"], "mode": "enfroce"}),
        ("activate", {"servers": ["conect"], "mode": "off"}),
        ("activate", {"servers": 7, "mode": "off"}),
        ("decide", {"requests": [{"server": "connect", "remote": "127.0.0.1:99999"}]}),
        ("decide", {"requests": [7]}),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(
    unharmed: Sandbox, command: str, arguments: dict[str, object]
) -> None:
    with pytest.raises(AgentRefused) as refused:
        unharmed.call(command, **arguments)
    assert refused.value.kind == "input", refused.value


# -- clients that misbehave ---------------------------------------------------------------


@contextlib.contextmanager
def raw(box: Sandbox) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as connection, address_of(box.paths.socket) as address:
        connection.settimeout(20)
        connection.connect(address)
        yield connection


def answer_to(connection: socket.socket) -> dict[str, object]:
    """One answer; the agent then hangs up."""
    frames, answers = FrameReader(), []
    while data := connection.recv(1 << 16):
        answers += frames.feed(data)
    [answer] = answers
    return answer


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">I", LARGEST + 1),
        struct.pack(">I", 3) + b"\xc1\xc1\xc1",
        struct.pack(">I", 2) + msgpack.packb([1]),
        struct.pack(">I", 3) + msgpack.packb({1: 2}),
    ],
)
def test_garbage_is_answered_and_the_client_dropped(unharmed: Sandbox, garbage: bytes) -> None:
    with raw(unharmed) as connection:
        connection.sendall(garbage)
        answer = answer_to(connection)
    assert answer["ok"] is False
    assert "not a request" in str(answer["error"])


def test_a_request_without_a_command_is_answered(unharmed: Sandbox) -> None:
    with raw(unharmed) as connection:
        connection.sendall(encode({"no": "command"}) + encode({"command": "hits"}))
        frames, answers = FrameReader(), []
        while len(answers) < 2:
            answers += frames.feed(connection.recv(1 << 16))
    assert [answer["ok"] for answer in answers] == [False, True]


def test_others_are_served_while_clients_hang_or_vanish(unharmed: Sandbox) -> None:
    whole = encode({"command": "status"})
    with contextlib.ExitStack() as stack:
        for number in range(50):
            connection = stack.enter_context(raw(unharmed))
            connection.sendall(whole[: number % len(whole)])
        for length in range(len(whole) + 1):
            with raw(unharmed) as vanishing:
                vanishing.sendall(whole[:length])
        with raw(unharmed) as deaf:  # asks and asks, and never reads
            deaf.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                for _ in range(5000):
                    deaf.sendall(whole)
            assert unharmed.call("status")["enforcing"]
            assert unharmed.apply(RULES)["changed"] is False


ASK = """
import os, socket, sys
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from sockrules.control.client import AgentRefused, AgentUnreachable, Client
try:
    print("answered", Client(Path(f"/proc/self/fd/{sys.argv[1]}/control.sock")).call("hits"))
except (AgentRefused, AgentUnreachable) as error:
    print(type(error).__name__, error)
"""


def test_only_root_and_the_group_may_ask(unharmed: Sandbox) -> None:
    path = unharmed.paths.socket
    mode = path.stat().st_mode
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)

    def asked_by(user: int) -> str:
        drop = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        done = subprocess.run(
            [*drop, "/usr/bin/python3", "-c", ASK, str(folder), *_importable()],
            pass_fds=[folder],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        return done.stdout or done.stderr

    try:
        assert mode & 0o777 == 0o660
        assert asked_by(2000).startswith("AgentUnreachable you may not talk to the agent")
        path.chmod(0o666)  # the kernel's word on who asks is asked all the same
        assert asked_by(2000).startswith("AgentRefused only root and the group sockrules may ask")
        assert asked_by(0).startswith("answered")
    finally:
        path.chmod(mode & 0o777)
        os.close(folder)


# -- starting -----------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [b'[[rule]]\nname = "x\n', b"# \xff\n"])
def test_a_start_with_a_bad_file_keeps_what_was_applied_last(fresh: Sandbox, bad: bytes) -> None:
    fresh.configure(connect="enforce")
    fresh.start(RULES)
    revision = fresh.call("status")["ruleset"]["revision"]
    fresh.stop()
    fresh.paths.rules.write_bytes(bad)
    assert_in_force(fresh)
    fresh.start()
    assert_in_force(fresh)
    status = fresh.call("status")
    assert status["enforcing"]
    assert "the rule file has errors, the last applied rules stay in force" in status["sentence"]
    assert status["ruleset"]["revision"] == revision
    assert status["ruleset"]["differs"]
    assert re.search(r"rules\.toml:[12]:", status["ruleset"]["error"])
    fresh.apply(EVERYBODY)
    assert fresh.call("status")["ruleset"]["error"] is None
    assert fresh.client("connect", "plain", "127.0.0.1", 7301) == "ECONNREFUSED"


@pytest.mark.parametrize(
    ("file", "bad", "says"),
    [
        ("rules", b'[[rule]]\nname = "x\n', r"rules\.toml:2:\d+: "),
        ("rules", b"# fine\n# \xff\n", r"rules\.toml:2:.*UTF-8"),
        ("agent_config", b'[servers]\nconect = "enforce"\n', r"agent\.toml:2:1: .*conect"),
        ("agent_config", b"\xff", r"agent\.toml:1:.*UTF-8"),
    ],
)
def test_a_first_start_with_a_bad_file_says_what_is_wrong(
    fresh: Sandbox, file: str, bad: bytes, says: str
) -> None:
    Path(getattr(fresh.paths, file)).write_bytes(bad)
    fresh.start(wait=False)
    assert fresh.agent
    _, errors = fresh.agent.communicate(timeout=20)
    assert fresh.agent.returncode == 2
    assert re.search(says, errors), errors
    assert "Traceback" not in errors
    assert not (fresh.paths.pins / "links").exists()
    with pytest.raises(AgentUnreachable):
        fresh.call("status")


def _importable() -> list[str]:
    """Where the packages lie that the client needs; an unprivileged user may read them."""
    import sockrules

    return [str(Path(package.__path__[0]).parent) for package in (sockrules, msgpack)]
