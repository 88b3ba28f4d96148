# SPDX-License-Identifier: Apache-2.0
"""The control socket's client end: one question, one answer, or a sentence that says why not."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .problems import Problem
from .wire import FrameError, FrameReader, encode

PATIENCE = 60.0
"""Seconds for a whole answer: compiling and loading a large rule set takes some of them."""

_PIECE = 1 << 16
_LONGEST_NAME = 107  # sun_path holds 108 bytes, one of them a zero (unix(7))


class AgentUnreachable(Exception):
    """No usable answer. `absent`: nobody is there to ask; `hint`: what to do."""

    def __init__(self, message: str, hint: str = "", *, absent: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.absent = absent


class AgentRefused(Exception):
    """The agent says no. `kind` is `input`, `state` or `internal`."""

    def __init__(self, kind: str, message: str, problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.problems = problems


class Client:
    """Asks the agent that listens on a socket; every call is a connection of its own."""

    def __init__(self, socket_path: Path, patience: float = PATIENCE) -> None:
        self._path = socket_path
        self._patience = patience

    def call(self, command: str, **arguments: Any) -> dict[str, Any]:
        """The result of a command. Raises AgentUnreachable or AgentRefused."""
        try:
            frame = encode({"command": command, **arguments})
        except FrameError as error:
            raise AgentRefused("input", str(error)) from None
        return _result(self._exchange(command, frame), self._path)

    def _exchange(self, command: str, frame: bytes) -> dict[str, Any]:
        until = time.monotonic() + self._patience
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(self._patience)
                with address_of(self._path) as address:
                    connection.connect(address)
                # An agent that refuses the peer answers without reading the question.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    connection.sendall(frame)
                return self._receive(connection, until)
        except TimeoutError:
            raise AgentUnreachable(
                f"the agent at {self._path} did not answer `{command}` within {self._patience:g} s",
                "it may be busy or stuck; look at its own output or journal",
            ) from None
        except FrameError as error:
            raise AgentUnreachable(
                f"what answers at {self._path} does not speak sockrules' protocol: {error}",
                "agent and command line may be of different versions; restart the agent",
            ) from None
        except OSError as error:
            raise self._no_connection(error) from None

    def _receive(self, connection: socket.socket, until: float) -> dict[str, Any]:
        frames = FrameReader()
        while True:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            connection.settimeout(left)
            data = connection.recv(_PIECE)
            if not data:
                what = "in the middle of its answer" if frames.pending else "without an answer"
                raise AgentUnreachable(
                    f"the agent at {self._path} closed the connection {what}",
                    "it may have been stopped; look at its own output or journal",
                )
            if messages := frames.feed(data):
                return messages[0]

    def _no_connection(self, error: OSError) -> AgentUnreachable:
        nobody = f"no agent answers at {self._path}"
        start = "start one with: sockrules agent run"
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            return AgentUnreachable(f"{nobody} (there is no such socket)", start, absent=True)
        if isinstance(error, ConnectionRefusedError):
            return AgentUnreachable(f"{nobody} (nobody listens there)", start, absent=True)
        if isinstance(error, PermissionError):
            return AgentUnreachable(
                f"you may not talk to the agent at {self._path}",
                "be root, or a member of the group sockrules",
            )
        return AgentUnreachable(f"{nobody} ({(error.strerror or str(error)).lower()})", start)


@contextlib.contextmanager
def address_of(path: Path) -> Iterator[str]:
    """An address to connect to while the context lasts, however long the path is."""
    if len(os.fsencode(path)) <= _LONGEST_NAME:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _result(answer: Mapping[str, Any], path: Path) -> dict[str, Any]:
    result = answer.get("result")
    if answer.get("ok") is True and isinstance(result, dict):
        return result
    error = answer.get("error")
    if answer.get("ok") is False and isinstance(error, dict):
        problems = error.get("problems")
        raise AgentRefused(
            str(error.get("kind", "internal")),
            str(error.get("message", "it does not say why")),
            tuple(problems_of(problems)),
        )
    raise AgentUnreachable(
        f"the agent at {path} gave an answer that is neither a result nor an error",
        "agent and command line may be of different versions; restart the agent",
    )


def problems_of(documents: object) -> Iterator[Problem]:
    """Problems as they came over the wire; what is not one is left out."""
    for doc in documents if isinstance(documents, list) else []:
        if isinstance(doc, dict) and "message" in doc:
            yield Problem(
                file=str(doc.get("file", "")),
                line=_number(doc.get("line")),
                column=_number(doc.get("column")),
                message=str(doc["message"]),
                hint=str(doc.get("hint", "")),
                severity=str(doc.get("severity", "error")),
            )


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None
