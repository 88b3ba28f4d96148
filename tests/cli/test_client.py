# SPDX-License-Identifier: Apache-2.0
"""Whatever happens on the control socket, the client ends, and says what happened."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from fake_agent import FakeAgent, refusal
from sockrules.control.client import AgentRefused, AgentUnreachable, Client
from sockrules.control.paths import Paths
from sockrules.control.problems import Problem
from sockrules.control.wire import encode


def unreachable(path: Path, patience: float = 5.0) -> AgentUnreachable:
    with pytest.raises(AgentUnreachable) as caught:
        Client(path, patience).call("status")
    return caught.value


def test_a_question_and_its_answer(agent: FakeAgent) -> None:
    agent.results["apply"] = {"revision": 7}
    assert Client(agent.path).call("apply", text="ü", file="x") == {"revision": 7}
    assert agent.asked == [{"command": "apply", "text": "ü", "file": "x"}]


def test_a_long_answer(agent: FakeAgent) -> None:
    agent.results["hits"] = {"rules": "x" * 3_000_000}
    assert len(Client(agent.path).call("hits")["rules"]) == 3_000_000


def test_a_refusal_with_its_problems(agent: FakeAgent) -> None:
    problem = Problem("rules.toml", 3, 9, "wrong", "use right", "error")
    document = {key: getattr(problem, key) for key in Problem.__dataclass_fields__}
    agent.answers["apply"] = refusal("input", "1 error", document)
    with pytest.raises(AgentRefused) as caught:
        Client(agent.path).call("apply")
    assert (caught.value.kind, caught.value.message) == ("input", "1 error")
    assert caught.value.problems == (problem,)


def test_nobody_there(paths: Paths) -> None:
    error = unreachable(paths.socket)
    assert error.absent
    assert f"no agent answers at {paths.socket} (there is no such socket)" in error.message
    assert "sockrules agent run" in error.hint


def test_a_socket_that_was_left_behind(paths: Paths) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(paths.socket))
    error = unreachable(paths.socket)
    assert error.absent
    assert "nobody listens there" in error.message


def test_one_who_may_not_ask(agent: FakeAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    error = unreachable(agent.path)
    assert not error.absent
    assert "you may not talk to the agent" in error.message
    assert "group sockrules" in error.hint


@pytest.mark.parametrize(
    ("bytes_", "said"),
    [
        (b"", "closed the connection without an answer"),
        (encode({"ok": True, "result": {}})[:9], "closed the connection in the middle"),
        (b"\x00\x00", "closed the connection in the middle"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak sockrules' protocol"),
        (b"\x00\x00\x00\x01\xc1", "does not speak sockrules' protocol"),
        (encode({"ok": True}), "neither a result nor an error"),
        (encode({"ok": True, "result": 3}), "neither a result nor an error"),
        (encode({"ok": False}), "neither a result nor an error"),
        (encode({}), "neither a result nor an error"),
    ],
)
def test_garbage(agent: FakeAgent, bytes_: bytes, said: str) -> None:
    agent.instead = bytes_
    error = unreachable(agent.path)
    assert said in error.message
    assert str(agent.path) in error.message
    assert error.hint
    assert not error.absent


def test_a_refusal_in_strange_words(agent: FakeAgent) -> None:
    agent.answers["status"] = {"ok": False, "error": {"problems": [3, {"message": "x"}, None]}}
    with pytest.raises(AgentRefused) as caught:
        Client(agent.path).call("status")
    assert caught.value.problems == (Problem("", None, None, "x"),)


def test_an_agent_that_hangs(agent: FakeAgent) -> None:
    agent.hangs = True
    error = unreachable(agent.path, patience=0.05)
    assert "did not answer `status` within 0.05 s" in error.message
    assert not error.absent


def test_a_path_that_is_too_long_for_a_socket_address(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    short = Path("/tmp") / f"sockrules-{tmp_path.name[-40:]}.sock"
    with FakeAgent(short) as agent:
        agent.results["status"] = {"sentence": "here"}
        (deep / "control.sock").symlink_to(short)
        assert Client(deep / "control.sock").call("status") == {"sentence": "here"}


def test_a_question_that_fits_no_frame(agent: FakeAgent) -> None:
    with pytest.raises(AgentRefused, match="cannot be put into a frame"):
        Client(agent.path).call("apply", text=object())
    assert agent.asked == []
