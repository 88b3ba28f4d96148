# SPDX-License-Identifier: Apache-2.0
"""What the agent writes down: decided requests, losses, and what it says of itself.

The buffers are emptied on a timer, in the loop; decoding and wording happen
here, and whoever else wants events (captures, messages) is handed each of them.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..control import abi
from ..control.agent_file import AgentConfig
from ..control.model import DefaultRule, Rule
from ..control.names import Names
from ..control.table import Table
from .audit import Folder, Log
from .events import Event, EventError, ProgramId, decode, document, events_in, state_document
from .kernel import Kernel
from .state import State

_REVISIONS_KEPT = 16  # rule names of earlier revisions, for events still under way
_WAITING_MOST = 1 << 26  # bytes that wait to be worded
_LOSSES_EVERY = 500_000_000  # ns between looks at the counters
_LOST_REPORTED = "lost-events-reported"
_TOLD = abi.C["SR_AUDIT"] | abi.C["SR_REJECT"]


class Record:
    """The audit log of one agent, and what feeds it. Nothing is drained before `begin`."""

    def __init__(self, log: Path, config: AgentConfig, state: State, names: Callable[[], Names]):
        self.host = socket.gethostname()
        self.log = Log(log, config.audit_max_bytes, config.audit_keep, self._unwritten)
        self.received = 0
        self.malformed = 0
        self.problems: list[str] = []
        self.sinks: list[Callable[[Event], None]] = []
        """Get every event as it is drained."""
        self.expiring: list[Callable[[int], None]] = []
        """Called at every drain with the monotonic time in ns."""
        self.flushing: list[Callable[[], None]] = []
        """Called when what is folded has to be written."""
        self._state = state
        self._names = names
        self._waiting: deque[bytes] = deque()
        self._taken = self._worded = 0  # bytes; whoever takes holds the lock of the rings
        self._folder = Folder(self.word)
        self._rules: OrderedDict[int, Sequence[Rule | DefaultRule]] = OrderedDict()
        self._revision = 0
        self._offset = 0
        self._lost_reported = 0
        self._overrun: Counter[int] = Counter()
        self._overrun_reported = 0
        self._losses_due = 0

    def begin(
        self,
        kernel: Callable[[], Kernel],
        path_of: Callable[[ProgramId | None], str | None],
        cgroup_of: Callable[[int | None], str | None],
    ) -> None:
        """With the programs in force, what a program is called and where a cgroup is.

        Losses that earlier agents reported are not reported again; new maps count anew.
        """
        self._kernel, self._path_of, self._cgroup_of = kernel, path_of, cgroup_of
        self._lost_reported = self._state.fact(_LOST_REPORTED)
        if self._lost_reported > sum(kernel().lost_by_cpu().values()):
            self._lost_reported = 0
            self._state.set_fact(_LOST_REPORTED, 0)

    # -- events -----------------------------------------------------------------------

    def take(self, cpu: int, data: bytes) -> None:
        """Called for each record while a buffer is consumed: no more than keeping the bytes.

        From any thread; what is too much to be worded is counted as lost.
        """
        if self._taken - self._worded < _WAITING_MOST:
            self._taken += len(data)
            self._waiting.append(data)
        else:
            self._overrun[cpu] += len(events_in(data))

    def drain(self) -> None:
        """Take what waits in the buffers, word it, write it, and report what was lost."""
        self._kernel().loaded.consume()
        self._offset = time.time_ns() - time.monotonic_ns()
        documents: list[dict[str, Any]] = []
        for event in self._decoded():
            for sink in self.sinks:
                sink(event)
            if event.flags & _TOLD:
                documents += self._folder.take(event)
        present = time.monotonic_ns()
        documents += self._folder.expire(present)
        for expire in self.expiring:
            expire(present)
        losses = []
        if present >= self._losses_due:
            self._losses_due = present + _LOSSES_EVERY
            losses = self._losses()
        self.log.write(documents + losses)
        if losses:
            self._state.set_fact(_LOST_REPORTED, self._lost_reported)

    def _decoded(self) -> list[Event]:
        """The events taken so far, in the order in which they happened on all CPUs."""
        events = []
        while self._waiting:
            record = self._waiting.popleft()
            self._worded += len(record)
            for data in events_in(record):
                self.received += 1
                try:
                    events.append(decode(data))
                except EventError:
                    self.malformed += 1
        return sorted(events, key=lambda event: event.monotonic)

    def write_folded(self) -> None:
        """Write what is folded now, before the rules' names are forgotten or the agent ends."""
        self.log.write(self._folder.flush())
        for flush in self.flushing:
            flush()

    def word(self, event: Event, count: int) -> dict[str, Any]:
        """The audit line of an event that stands for `count` of its kind."""
        name, sequence = self.rule_of(event.revision, event.rule)
        return document(
            event,
            host=self.host,
            rule=name,
            sequence=sequence,
            program=self._path_of(event.program),
            cgroup=self._cgroup_of(event.cgroup),
            names=self._names(),
            offset=self._offset,
            count=count,
        )

    def lost_by_cpu(self) -> dict[int, int]:
        """Events that were never told, for each CPU that lost any."""
        return dict(sorted((Counter(self._kernel().lost_by_cpu()) + self._overrun).items()))

    def _losses(self) -> list[dict[str, Any]]:
        lost, overrun = self.lost_by_cpu(), self._overrun.total()
        total = sum(lost.values()) - overrun
        more = total - self._lost_reported + overrun - self._overrun_reported
        if not more:
            return []
        self._lost_reported, self._overrun_reported = total, overrun
        return [
            self._line(
                "events-lost",
                f"{more} events were lost: the buffers were full or nobody read them",
                lost=more,
                lost_by_cpu={str(cpu): count for cpu, count in lost.items()},
            )
        ]

    # -- the rules that events name ---------------------------------------------------

    def expect(self, table: Table) -> None:
        """Events may name this table's rules from now on."""
        self._rules[table.revision] = table.rules  # most are the very rules of the next one

    def in_force(self, table: Table) -> None:
        """This table's rules decide; those of the oldest tables are forgotten."""
        self.expect(table)
        self._revision = table.revision
        while len(self._rules) > _REVISIONS_KEPT:
            self._rules.popitem(last=False)

    def rule_of(self, revision: int, rule: int) -> tuple[str, int]:
        """Name and sequence of a rule in its revision."""
        rules = self._rules.get(revision, ())
        if rule >= len(rules):
            return "exhausted", 0
        return rules[rule].name, rules[rule].sequence

    # -- the agent's own words --------------------------------------------------------

    def say(self, action: str, message: str, **facts: Any) -> None:
        """A line about the agent itself."""
        self.log.write([self._line(action, message, revision=self._revision, **facts)])

    def _line(self, action: str, message: str, **facts: Any) -> dict[str, Any]:
        return state_document(action, message, host=self.host, now=datetime.now(UTC), **facts)

    def _unwritten(self, count: int) -> dict[str, Any]:
        message = f"{count} lines before this one could not be written"
        return self._line("lines-unwritten", message, lines=count)

    @contextlib.contextmanager
    def noting(self, what: str) -> Iterator[None]:
        """Errors meanwhile are shown in `status` and stop nothing: a full disk, for example."""
        try:
            yield
        except Exception as error:
            self.problem(f"{what}: {type(error).__name__}: {error}")

    def problem(self, text: str) -> None:
        """Something that went wrong and did not end the agent; `status` shows the last ten."""
        if text not in self.problems:
            self.problems = [*self.problems[-9:], text]
            print(text, file=sys.stderr, flush=True)
