# SPDX-License-Identifier: Apache-2.0
"""Where messages go besides the queue: syslog and the journal, by datagrams to local sockets.

The standard library's SysLogHandler is not used: it waits without end for a
daemon that has stopped reading, and reports nothing that a caller could count.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..control import messages
from ..control.agent_file import MessageSettings
from ..control.messages import Message

_PATIENCE = 0.5  # seconds to wait for a daemon that does not read
_DEAF = 5.0  # seconds for which it is not tried again, or it would hold up the queue
_FORMATS: dict[str, Callable[[Message, int, int], bytes]] = {
    "rfc5424": messages.rfc5424,
    "rfc3164": messages.rfc3164,
}
_JOURNALS = Path("/run/systemd/journal")


@dataclass(slots=True)
class Tally:
    """What became of the messages at one place. `error`: the last failure, while it lasts."""

    delivered: int = 0
    failed: int = 0
    error: str | None = None

    def good(self, count: int = 1) -> None:
        self.delivered += count
        self.error = None

    def bad(self, why: object, count: int = 1) -> None:
        self.failed += count
        self.error = str(why)

    def report(self) -> dict[str, Any]:
        return {"delivered": self.delivered, "failed": self.failed, "error": self.error}


class LocalSocket:
    """A daemon's socket at a path, connected when needed, and again when the daemon is new."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._socket: socket.socket | None = None
        self._stream = False
        self._deaf_until = float("-inf")

    def send(self, data: bytes) -> None:
        """Send a datagram. Raises OSError, a TimeoutError when nobody reads there."""
        if time.monotonic() < self._deaf_until:
            raise TimeoutError
        try:
            self._attempt(data)
        except TimeoutError:
            self.close()
            self._deaf_until = time.monotonic() + _DEAF
            raise
        except OSError:
            self.close()
            raise

    def _attempt(self, data: bytes) -> None:
        if self._socket is not None:
            try:
                self._send(self._socket, data)
                return
            except TimeoutError:
                raise
            except OSError:  # the daemon may have been started anew
                self.close()
        self._socket = self._connect()
        self._send(self._socket, data)

    def _send(self, to: socket.socket, data: bytes) -> None:
        if self._stream:  # as syslog(3) frames it: a NUL at the end
            to.sendall(data + b"\0")
        else:
            to.send(data)

    def _connect(self) -> socket.socket:
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            made = socket.socket(socket.AF_UNIX, kind | socket.SOCK_CLOEXEC)
            made.settimeout(_PATIENCE)
            try:
                made.connect(self.path)
            except OSError as error:
                made.close()
                if isinstance(error, TimeoutError):
                    raise
                if error.errno == errno.EPROTOTYPE and kind == socket.SOCK_DGRAM:
                    continue
                raise OSError(error.errno, os.strerror(error.errno or 0), self.path) from None
            self._stream = kind == socket.SOCK_STREAM
            return made
        raise AssertionError("a socket is one of the two")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Logs:
    """Syslog and the journal, as agent.toml wants them; for one thread.

    A journal that was never there is no failure. Where the journal took a
    message and reads the syslog socket itself, it is not sent there a second time.
    """

    def __init__(self, settings: MessageSettings) -> None:
        self.syslog = Tally()
        self.journal = Tally()
        self._journal_seen = False
        self._use(settings)

    def configure(self, settings: MessageSettings) -> None:
        """Go on with other settings; the tallies stay."""
        self.close()
        self._use(settings)

    def _use(self, settings: MessageSettings) -> None:
        self._settings = settings
        self._to_syslog = LocalSocket(settings.syslog_socket)
        self._to_journal = LocalSocket(settings.journal_socket)
        self.syslog.error = self.journal.error = None

    def deliver(self, message: Message) -> None:
        """Send a message to both. What fails is counted, nothing is raised."""
        facility = messages.FACILITIES[self._settings.syslog_facility]
        taken = self._settings.journal and self._journal(messages.journal(message, facility))
        if self._settings.syslog and not (taken and self._is_the_journals()):
            data = _FORMATS[self._settings.syslog_format](message, facility, os.getpid())
            self._attempt(self._to_syslog, data, self.syslog)

    def _journal(self, data: bytes) -> bool:
        if not self._journal_seen and not os.path.exists(self._settings.journal_socket):
            return False
        self._journal_seen = True
        return self._attempt(self._to_journal, data, self.journal)

    @staticmethod
    def _attempt(to: LocalSocket, data: bytes, tally: Tally) -> bool:
        try:
            to.send(data)
        except TimeoutError:
            tally.bad(f"{to.path}: nobody reads it")
            return False
        except OSError as error:
            tally.bad(f"{to.path}: {(error.strerror or str(error)).lower()}")
            return False
        tally.good()
        return True

    def _is_the_journals(self) -> bool:
        with contextlib.suppress(OSError):
            return Path(self._settings.syslog_socket).resolve().is_relative_to(_JOURNALS)
        return False

    def close(self) -> None:
        self._to_syslog.close()
        self._to_journal.close()
