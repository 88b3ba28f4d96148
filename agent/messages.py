# SPDX-License-Identifier: Apache-2.0
"""The agent's messages: from decided requests to the queue, syslog, the journal and a command.

Rules. `take` is a sink of the drain: it folds what is identical, words it and
puts it into a bounded queue; it never waits and never fails. A thread of its
own stores each message and sends it on; the command has another. Whatever
cannot be delivered is counted, shown by `status`, and told in a message of its
own once it is over.

Theory. Storing and sending on are independent: with a full disk messages still
reach syslog, only without a number; without any log daemon they are still in
the queue.
"""

from __future__ import annotations

import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..control import abi, messages
from ..control.agent_file import MessageSettings
from ..control.messages import Kind, Message
from .audit import Folder
from .events import Event
from .message_command import Command
from .message_sinks import Logs, Tally
from .message_store import Store

_MESSAGE = abi.C["SR_MESSAGE"]
_MOST_WAITING = 20_000
_AT_ONCE = 500
_TICK = 2.0  # seconds between looks at what is due when there is nothing to deliver
_PATIENCE = 5.0  # seconds that the end of the agent waits for what is left


class Messages:
    """The messages of one agent.

    Args:
        database: the state database, which holds the queue.
        word: the audit line of an event and its count; called by `take` and `expire`.
        host: the name that messages carry.
    """

    def __init__(
        self,
        database: Path,
        settings: MessageSettings,
        word: Callable[[Event, int], dict[str, Any]],
        host: str,
    ) -> None:
        self._host = host
        self._word = word
        self._folder = Folder(lambda event, count: {"message": self._of(event, count)})
        self._waiting: queue.Queue[Message | None] = queue.Queue(_MOST_WAITING)
        self._settings = settings
        self._wanted = settings  # what the thread is to go on with
        self._store = Store(database, settings.keep, settings.keep_days)
        self._logs = Logs(settings)
        self._command = Command(settings)
        self._stored = Tally()
        self._sent_on = Tally()  # only its failures: mistakes of ours, not of a daemon
        self._dropped = 0  # counted by the drain ...
        self._drops_told = 0  # ... and told by the thread
        self._unstored = 0
        self._why_unstored = ""
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name="messages", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def configure(self, settings: MessageSettings) -> None:
        """Go on with other settings: agent.toml was read again."""
        self._wanted = settings
        self._nudge()

    # -- the drain's side: nothing here waits ---------------------------------------------

    def take(self, event: Event) -> None:
        """An event was read; if its rule asks for a message, there will be one."""
        if event.flags & _MESSAGE:
            self._put(lambda: self._folder.take(event))

    def expire(self, now: int) -> None:
        """Messages for repetitions whose time is over at `now` (monotonic, ns)."""
        self._put(lambda: self._folder.expire(now))

    def flush(self) -> None:
        """Messages for all repetitions so far: before rules' names are forgotten, or the end."""
        self._put(self._folder.flush)

    def _of(self, event: Event, count: int) -> Message:
        return messages.of_request(self._word(event, count))

    def _put(self, words: Callable[[], list[dict[str, Any]]]) -> None:
        try:
            worded = words()
        except Exception as error:  # what cannot be worded must not cost the drain other events
            self._sent_on.bad(f"{type(error).__name__}: {error}")
            return
        for each in worded:
            try:
                self._waiting.put_nowait(each["message"])
            except queue.Full:
                self._dropped += 1

    # -- what `status` shows --------------------------------------------------------------

    def report(self) -> dict[str, Any]:
        """The `messages` of the status document."""
        command = self._command
        return {
            "waiting": self._waiting.qsize(),
            "dropped": self._dropped,
            "queue": self._stored.report(),
            "syslog": self._logs.syslog.report(),
            "journal": self._logs.journal.report(),
            "command": {
                **command.tally.report(),
                "killed": command.killed,
                "suppressed": command.suppressed,
            },
        }

    def problems(self) -> list[str]:
        """What does not work now, in sentences."""
        failing = {
            "the message queue": self._stored,
            "syslog": self._logs.syslog,
            "the journal": self._logs.journal,
            "the message command": self._command.tally,
            "anything": self._sent_on,
        }
        return [
            f"messages do not reach {name}: {tally.error} ({tally.failed} so far)"
            for name, tally in failing.items()
            if tally.error is not None
        ]

    # -- the delivering thread ------------------------------------------------------------

    def close(self) -> None:
        """Deliver what is left, in a few seconds at most, and end."""
        self.flush()
        self._ending.set()
        self._nudge()
        if self._thread.is_alive():
            self._thread.join(_PATIENCE)

    def _work(self) -> None:
        while True:
            ending = self._ending.is_set()
            batch = self._batch()
            try:
                self._configure()
                self._deliver(batch)
                self._tell()
                self._forget()
            except Exception as error:  # one message that cannot be worded must not end them all
                self._sent_on.bad(f"{type(error).__name__}: {error}", len(batch))
            if ending and not batch:
                break
        if untold := self._command.close():
            reason = "the agent stopped"
            self._deliver([self._own(messages.SUPPRESSED, messages=untold, reason=reason)])
        self._store.close()
        self._logs.close()

    def _batch(self) -> list[Message]:
        batch: list[Message | None] = []
        with contextlib.suppress(queue.Empty):
            batch.append(self._waiting.get(timeout=0 if self._ending.is_set() else _TICK))
            while len(batch) < _AT_ONCE:
                batch.append(self._waiting.get_nowait())
        return [message for message in batch if message is not None]

    def _nudge(self) -> None:
        """Have the thread look about now; if it has messages to see to, it does so anyway."""
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(None)

    def _configure(self) -> None:
        settings = self._wanted
        if settings == self._settings:
            return
        self._settings = settings
        self._store.keep, self._store.keep_days = settings.keep, settings.keep_days
        self._logs.configure(settings)
        self._command.configure(settings)

    def _deliver(self, batch: list[Message], *, always: bool = False) -> None:
        for message in self._numbered(batch):
            self._logs.deliver(message)
            self._command.offer(message, time.monotonic(), always=always)

    def _numbered(self, batch: list[Message]) -> list[Message]:
        """The messages as they were stored, or as they are where that failed."""
        if not batch:
            return []
        try:
            stored = self._store.add(batch)
        except (sqlite3.Error, OSError) as error:
            self._store.close()  # the next attempt begins anew
            self._stored.bad(error, len(batch))
            self._unstored += len(batch)
            self._why_unstored = str(error)
            return batch
        self._stored.good(len(batch))
        return stored

    def _tell(self) -> None:
        """Messages about messages: what was lost, unstored or suppressed, when it is over."""
        if drops := self._dropped - self._drops_told:
            self._drops_told += drops
            self._deliver([self._own(messages.DROPPED, messages=drops)], always=True)
        if self._unstored and self._stored.error is None:
            unstored, self._unstored = self._unstored, 0
            told = self._own(messages.UNSTORED, messages=unstored, reason=self._why_unstored)
            self._deliver([told], always=True)
        if suppressed := self._command.due(time.monotonic()):
            limit = self._command.limit
            reason = f"it is started at most {limit} times a minute, one run after the other"
            told = self._own(messages.SUPPRESSED, messages=suppressed, reason=reason)
            self._deliver([told], always=True)

    def _forget(self) -> None:
        try:
            self._store.forget(time.monotonic())
        except (sqlite3.Error, OSError) as error:
            self._store.close()
            self._stored.error = str(error)

    def _own(self, kind: Kind, **data: messages.Value) -> Message:
        return messages.of_agent(kind, datetime.now(UTC), self._host, **data)
