# SPDX-License-Identifier: Apache-2.0
"""Giving messages to a command: one run a message, the message as JSON on its standard input.

Rules. Runs are one after the other, in a thread of their own, and each is
killed, with all it started, when its time is over. In any minute at most so
many are started; what is more, or waits behind too many, is counted, and told
in one message when the minute is over. Nobody ever waits for a command.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import selectors
import signal
import subprocess
import threading
import time

from ..control.agent_file import MessageSettings
from ..control.messages import Message, document
from .message_sinks import Tally

MOST_WAITING = 1000
MINUTE = 60.0
_LAST_WORDS = 300  # bytes of standard error that are kept
_GRACE = 2.0  # seconds for what was killed to be gone


class CommandFailed(Exception):
    """A run that did not end well."""


class Command:
    """The command of agent.toml. `offer` and `due` are called by one thread, and never wait."""

    def __init__(self, settings: MessageSettings) -> None:
        self.tally = Tally()
        self.suppressed = 0
        self.killed = 0
        self._settings = settings
        self._untold = 0
        self._minute = float("-inf")
        self._started = 0
        self._waiting: queue.Queue[Message | None] = queue.Queue(MOST_WAITING)
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def limit(self) -> int:
        """How many runs a minute may have."""
        return self._settings.command_per_minute

    def configure(self, settings: MessageSettings) -> None:
        """Go on with other settings; what waits is run with them."""
        self._settings = settings
        self.tally.error = None

    def offer(self, message: Message, now: float, *, always: bool = False) -> None:
        """Run the command with a message, unless there are too many. `now`: monotonic, s."""
        if not self._settings.command:
            return
        if now >= self._minute + MINUTE:
            self._minute, self._started = now, 0
        if not always and self._started >= self.limit:
            self._suppress()
            return
        try:
            self._waiting.put_nowait(message)
        except queue.Full:
            self._suppress()
            return
        self._started += not always
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="message command", daemon=True)
            self._thread.start()

    def due(self, now: float) -> int:
        """How many were suppressed, once, when the minute in which they were is over; else 0."""
        if not self._untold or now < self._minute + MINUTE:
            return 0
        untold, self._untold = self._untold, 0
        return untold

    def close(self) -> int:
        """End what runs, and wait for no other; how many were not told of, those included."""
        self._ending.set()
        left = self._waiting.qsize()
        self.suppressed += left
        if self._thread is not None:
            with contextlib.suppress(queue.Full):
                self._waiting.put_nowait(None)
            self._thread.join(_GRACE + 1)
        return self._untold + left

    def _suppress(self) -> None:
        self.suppressed += 1
        self._untold += 1

    def _work(self) -> None:
        while (message := self._waiting.get()) is not None and not self._ending.is_set():
            settings = self._settings
            if not settings.command:
                continue
            try:
                self._run(settings, json.dumps(document(message)).encode() + b"\n")
            except (CommandFailed, OSError) as error:
                self.tally.bad(f"{settings.command[0]}: {error}")
            else:
                self.tally.good()

    def _run(self, settings: MessageSettings, data: bytes) -> None:
        """One run. Raises CommandFailed or OSError with the reason."""
        try:
            process = subprocess.Popen(
                settings.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise CommandFailed((error.strerror or str(error)).lower()) from None
        talk = _Conversation(process, data)
        try:
            until = time.monotonic() + settings.command_seconds
            while not talk.over(until) and not self._ending.is_set():
                pass
            ended = process.poll() is not None
            if not ended:
                _kill(process)
        finally:
            talk.close()
        if not ended:
            self.killed += 1
            raise CommandFailed(
                "killed, the agent stopped"
                if self._ending.is_set()
                else f"killed after {settings.command_seconds} s"
            )
        if process.returncode:
            said = f": {talk.last}" if talk.last else ""
            raise CommandFailed(f"exit status {process.returncode}{said}")


class _Conversation:
    """Feeding a process and hearing its standard error without ever waiting for it alone."""

    def __init__(self, process: subprocess.Popen[bytes], data: bytes) -> None:
        assert process.stdin is not None and process.stderr is not None
        self._process = process
        self._left = memoryview(data)
        self._tail = b""
        self._selector = selectors.DefaultSelector()
        for file, events in (
            (process.stdin, selectors.EVENT_WRITE),
            (process.stderr, selectors.EVENT_READ),
        ):
            os.set_blocking(file.fileno(), False)
            self._selector.register(file, events)

    @property
    def last(self) -> str:
        """The last line that it wrote to standard error."""
        lines = self._tail.decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def over(self, until: float) -> bool:
        """Wait a moment; whether the process has ended, or its time is over."""
        for key, _ in self._selector.select(0.02):
            if key.fileobj is self._process.stdin:
                self._write()
            else:
                self._read()
        if not self._selector.get_map():
            time.sleep(0.02)
        if self._process.poll() is None and time.monotonic() < until:
            return False
        self._read()
        return True

    def close(self) -> None:
        self._selector.close()
        for file in (self._process.stdin, self._process.stderr):
            assert file is not None
            with contextlib.suppress(OSError):
                file.close()

    def _write(self) -> None:
        assert self._process.stdin is not None
        try:
            self._left = self._left[os.write(self._process.stdin.fileno(), self._left) :]
        except BlockingIOError:
            return
        except BrokenPipeError:  # it need not read
            self._left = self._left[:0]
        if not self._left:
            self._selector.unregister(self._process.stdin)
            self._process.stdin.close()

    def _read(self) -> None:
        assert self._process.stderr is not None
        if self._process.stderr.closed or self._process.stderr not in self._selector.get_map():
            return
        with contextlib.suppress(BlockingIOError):
            piece = os.read(self._process.stderr.fileno(), 1 << 16)
            self._tail = (self._tail + piece)[-_LAST_WORDS:]
            if not piece:
                self._selector.unregister(self._process.stderr)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that was not waited for, with all it started; wait a while for its end."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE)
