# SPDX-License-Identifier: Apache-2.0
"""An agent that only talks: canned answers on a real socket, and a record of what it was asked."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sockrules.control.wire import FrameError, FrameReader, encode

Answer = dict[str, Any]


def refusal(kind: str, message: str, *problems: dict[str, Any]) -> Answer:
    """What an agent that says no answers."""
    error = {"kind": kind, "message": message, "problems": list(problems)}
    return {"ok": False, "error": error}


class FakeAgent:
    """Serves one connection after the other, until it is left.

    `results` holds what each command answers: a result, or a function of the
    question. `answers` holds whole answers instead, right or wrong. `instead` is
    sent, byte for byte, in place of any answer. `hangs` answers nothing at all.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked: list[dict[str, Any]] = []
        self.results: dict[str, Answer | Callable[[dict[str, Any]], Answer]] = {}
        self.answers: dict[str, Answer] = {}
        self.instead: bytes | None = None
        self.hangs = False
        self._over = threading.Event()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> FakeAgent:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._socket.bind(str(self.path))
        self._socket.listen()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
        self.path.unlink()

    def _serve(self) -> None:
        while not self._over.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError, FrameError):
                self._converse(connection)

    def _converse(self, connection: socket.socket) -> None:
        frames = FrameReader()
        while data := connection.recv(1 << 16):
            for question in frames.feed(data):
                self.asked.append(question)
                if self.hangs:
                    self._over.wait()
                    return
                if self.instead is not None:
                    connection.sendall(self.instead)
                    return
                connection.sendall(encode(self._answer(question)))

    def _answer(self, question: dict[str, Any]) -> Answer:
        command = question["command"]
        if command in self.answers:
            return self.answers[command]
        if command not in self.results:
            return refusal("input", f"{command}: no such command")
        result = self.results[command]
        return {"ok": True, "result": result(question) if callable(result) else result}
