# SPDX-License-Identifier: Apache-2.0
"""Frames of the control socket: a length of four bytes, big-endian, then that many of msgpack.

Rules. A frame is one map whose keys are texts; values are what JSON knows, and
bytes. No frame is longer than `LARGEST`. What breaks these rules is a
`FrameError`, after which the stream is of no use: nobody knows where its next
frame begins.

Example: {"command": "hits"} is 00 00 00 0e, 81 a7 "command" a4 "hits".
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import msgpack

LARGEST = 64 * 1024 * 1024
"""Bytes of a frame's body: 100 000 rules are some 20 MB of text."""

_LENGTH = struct.Struct(">I")


class FrameError(Exception):
    """Bytes that are not a frame, or a message that does not fit into one."""


def encode(message: Mapping[str, Any]) -> bytes:
    """The frame of a message. Raises FrameError when it holds what a frame cannot."""
    try:
        body: bytes = msgpack.packb(dict(message), use_bin_type=True)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise FrameError(f"the message cannot be put into a frame: {error}") from None
    if len(body) > LARGEST:
        raise FrameError(f"the message has {len(body)} bytes; a frame holds at most {LARGEST}")
    return _LENGTH.pack(len(body)) + body


class FrameReader:
    """Turns a stream of bytes, cut anywhere, into messages."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._broken: str | None = None

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """The messages that these bytes complete. Raises FrameError, from then on always.

        Messages that were complete before the garbage in the same `data` are
        lost with it; a peer that sends garbage is not owed an answer.
        """
        if self._broken:
            raise FrameError(self._broken)
        self._bytes += data
        messages = []
        try:
            while (body := self._next_body()) is not None:
                messages.append(_decode(body))
        except FrameError as error:
            self._broken = str(error)
            self._bytes.clear()
            raise
        return messages

    @property
    def pending(self) -> int:
        """Bytes of a frame that is not complete yet."""
        return len(self._bytes)

    def _next_body(self) -> bytes | None:
        if len(self._bytes) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._bytes)
        if length > LARGEST:
            raise FrameError(f"a frame of {length} bytes; at most {LARGEST} are allowed")
        end = _LENGTH.size + length
        if len(self._bytes) < end:
            return None
        body = bytes(self._bytes[_LENGTH.size : end])
        del self._bytes[:end]
        return body


def _decode(body: bytes) -> dict[str, Any]:
    try:
        message = msgpack.unpackb(body, ext_hook=_no_extensions)
    except (ValueError, RecursionError, msgpack.UnpackException) as error:
        reason = str(error) or type(error).__name__
        raise FrameError(f"a frame that is not msgpack: {reason}") from None
    if not isinstance(message, dict) or not all(isinstance(key, str) for key in message):
        raise FrameError("a frame that is not a map with texts as keys")
    return message


def _no_extensions(code: int, _: bytes) -> Any:
    raise ValueError(f"extension type {code}")
