# SPDX-License-Identifier: Apache-2.0
"""The control socket: msgpack frames, for root and the group `sockrules` only.

A client that sends garbage gets an answer that says so and is disconnected; one
that sends half a frame and hangs is disconnected after a while and keeps nobody
else waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import grp
import os
import pwd
import socket
import struct
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from ..control.client import address_of
from ..control.problems import InputError, Problem, problem_document
from ..control.wire import FrameError, FrameReader, encode

GROUP = "sockrules"
PATIENCE = 30.0
"""Seconds a client may take between two pieces of a frame, or idle between requests."""

_CREDENTIALS = struct.Struct("=iII")  # struct ucred: pid, uid, gid (unix(7))

PEER: ContextVar[int] = ContextVar("PEER", default=0)
"""The process that asks, while its request is answered; 0 when that is not known."""

Handler = Callable[[str, dict[str, Any], str], Awaitable[dict[str, Any]]]


class StateError(Exception):
    """A request that is well-formed but cannot be carried out now."""


class ControlServer:
    """Answers on the socket. `handle(command, arguments, user)` returns the result."""

    def __init__(self, path: Path, handle: Handler, patience: float = PATIENCE) -> None:
        self._path = path
        self._handle = handle
        self._patience = patience
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        before = os.umask(0o117)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with address_of(self._path) as address:
                listener.bind(address)
        finally:
            os.umask(before)
        self._server = await asyncio.start_unix_server(self._serve, sock=listener)
        with contextlib.suppress(KeyError, PermissionError):
            os.chown(self._path, 0, grp.getgrnam(GROUP).gr_gid)

    async def stop(self) -> None:
        if self._server:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames = FrameReader()
        try:
            user = self._user_of(writer)
            if user is None:
                await self._send(
                    writer, _error("state", f"only root and the group {GROUP} may ask")
                )
                return
            while data := await asyncio.wait_for(reader.read(1 << 16), self._patience):
                for request in frames.feed(data):
                    await self._send(writer, await self._answer(request, user))
        except FrameError as error:
            with contextlib.suppress(OSError, TimeoutError):
                await self._send(writer, _error("input", f"not a request: {error}"))
        except (TimeoutError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _send(self, writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
        writer.write(encode(message))
        await asyncio.wait_for(writer.drain(), self._patience)

    async def _answer(self, request: dict[str, Any], user: str) -> dict[str, Any]:
        command = request.pop("command", None)
        if not isinstance(command, str):
            return _error("input", "a request needs a `command`")
        try:
            return {"ok": True, "result": await self._handle(command, request, user)}
        except InputError as error:
            return _error("input", str(error), error.problems)
        except (ValueError, TypeError, KeyError) as error:
            return _error("input", f"{command}: {error}")
        except StateError as error:
            return _error("state", str(error))
        except Exception as error:  # the agent goes on, whatever a request ran into
            return _error("internal", f"{command}: {type(error).__name__}: {error}")

    def _user_of(self, writer: asyncio.StreamWriter) -> str | None:
        """The peer's user name when it may ask, by the kernel's word (SO_PEERCRED)."""
        peer: socket.socket = writer.get_extra_info("socket")
        raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, gid = _CREDENTIALS.unpack(raw)
        PEER.set(pid)
        try:
            name = pwd.getpwuid(uid).pw_name
        except KeyError:
            name = str(uid)
        if uid in (0, os.geteuid()):
            return name
        try:
            group = grp.getgrnam(GROUP)
        except KeyError:
            return None
        return name if gid == group.gr_gid or name in group.gr_mem else None


def _error(kind: str, message: str, problems: tuple[Problem, ...] = ()) -> dict[str, Any]:
    return {
        "ok": False,
        "error": {
            "kind": kind,
            "message": message,
            "problems": [problem_document(problem) for problem in problems],
        },
    }
