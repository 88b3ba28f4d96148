# SPDX-License-Identifier: Apache-2.0
"""Captures: from events to distinct transactions in the state database.

Rules. Events are folded into counts in memory and written in one transaction a
second, by a thread of its own with a connection of its own, so that neither the
drain nor the rest of the state waits for it. Memory is bounded: a request that
would be one transaction too many is counted as `overflow`. What the disk
refuses stays in memory and is tried again. What retention removes is counted
too, so the table says how much it does not hold.

A transaction's key is what the event itself carries; rule names and program
paths are looked up once a transaction and flush, not once an event.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ..control import abi, capture_store
from ..control.agent_file import AgentConfig
from ..control.captured import Captured, captured_to_json, filter_from_json
from ..control.model import Request, Server
from ..control.names import FixedNames
from .events import Event, ProgramId

FLUSH_EVERY = 1.0  # seconds
PRUNE_EVERY = 60.0  # seconds at most between looks for what is too old
_WORDED_AT_ONCE = 500  # transactions; some 5 ms
SAY_EVERY = 60.0  # seconds between two lines about losses of one kind
MOST_PENDING = 32768
"""Distinct transactions in memory between two flushes: some 20 MB."""
MOST_IN_ANSWER = 5000  # transactions; a client asks again for what is after them
_CHOSEN_BY_KERNEL = "tcp_listen"  # the hook that judges who listens without a bind of his choice
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_SHIPPED_RANGE = (32768, 60999)
_CAPTURE = abi.C["SR_CAPTURE"]
_NOBODY = FixedNames()  # users and groups cross the wire as numbers

Key = tuple[Any, ...]
Count = list[int]
"""How often, first and last (monotonic, ns), lowest and highest folded port."""


class Captures:
    """Takes events as a sink of the agent, answers `captures`, carries out `captures-clear`.

    Args:
        path: the state database.
        config: the configuration in force, for retention.
        rule_of: the name of a rule, from its event.
        path_of: the path of a program, as far as it is known.
        cgroup_of: the path of a cgroup by its id, as far as it is known.
        say: told when something was lost, in a sentence with a count.
    """

    def __init__(
        self,
        path: Path,
        config: Callable[[], AgentConfig],
        rule_of: Callable[[int, int], str],
        path_of: Callable[[ProgramId | None], str | None],
        cgroup_of: Callable[[int | None], str | None],
        say: Callable[..., None],
        most_pending: int = MOST_PENDING,
    ) -> None:
        self._config, self._rule_of, self._say = config, rule_of, say
        self._path_of, self._cgroup_of = path_of, cgroup_of
        self._most = most_pending
        self._pending: dict[Key, Count] = {}
        self._lost: dict[str, int] = {}
        self._ephemeral = ephemeral_range()
        self._refused: list[tuple[dict[Key, Count], dict[str, int]]] = []
        self._pruned_at = -PRUNE_EVERY
        self._unwritten = False
        self._unsaid: dict[str, int] = {}
        self._said_at = -SAY_EVERY
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="captures")
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(capture_store.SCHEMA)

    # -- taking -----------------------------------------------------------------------

    def take(self, event: Event) -> None:
        """Count the event, if its rule captures."""
        if not event.flags & _CAPTURE:
            return
        local_port, remote_port, folded = event.local_port, event.remote_port, 0
        if event.server is Server.ACCEPT:
            folded, remote_port = remote_port or 0, None
        elif (
            local_port is not None
            and self._ephemeral[0] <= local_port <= self._ephemeral[1]
            and (event.server is Server.CONNECT or event.hook == _CHOSEN_BY_KERNEL)
        ):
            folded, local_port = local_port, None
        key = (
            event.server, event.rejected, event.revision, event.rule,
            event.local_address, local_port, event.remote_address, remote_port,
            event.user, event.group, event.program, event.cgroup, folded > 0,
        )  # fmt: skip
        seen = self._pending.get(key)
        if seen is not None:
            seen[0] += 1
            seen[2] = event.monotonic
            if folded < seen[3]:
                seen[3] = folded
            elif folded > seen[4]:
                seen[4] = folded
        elif len(self._pending) < self._most:
            self._pending[key] = [1, event.monotonic, event.monotonic, folded, folded]
        else:
            self._lost["overflow"] = self._lost.get("overflow", 0) + 1

    # -- writing ----------------------------------------------------------------------

    def has_waiting(self) -> bool:
        """Whether there is something that is not in the database yet."""
        return bool(self._pending or self._lost or self._refused or self._unsaid)

    async def flush(self) -> None:
        """Write what is in memory and forget what is too old. Raises what the database raises."""
        self._take_back()
        batch, lost = self._pending, self._lost
        if not batch and not lost and time.monotonic() < self._pruned_at + PRUNE_EVERY:
            return
        self._pending, self._lost = {}, {}
        worded = []
        try:
            for one in self._worded(batch):
                worded.append(one)
                if not len(worded) % _WORDED_AT_ONCE:
                    await asyncio.sleep(0)  # the drain's turn
        except BaseException:
            self._refused.append((batch, lost))
            raise
        write = asyncio.get_running_loop().run_in_executor(
            self._thread, self._write_or_refuse, worded, batch, lost
        )
        try:
            removed = await asyncio.shield(write)  # once begun, it is carried out
        except sqlite3.Error as error:
            self._take_back()
            if not self._unwritten:
                self._unwritten = True
                self._say(
                    "captures-unwritten",
                    f"captured transactions cannot be written ({error}); they wait in memory",
                )
            raise
        self._unwritten = False
        self._report(lost | removed)

    def close(self) -> None:
        """Write what is in memory; what cannot be written any more is said."""
        self._thread.shutdown()
        self._take_back()
        worded = list(self._worded(self._pending))
        try:
            self._report(self._lost | self._write(worded, self._lost), at_once=True)
        except sqlite3.Error as error:
            count = sum(one.count for one in worded)
            what = f"{count} captured requests could not be written: {error}"
            self._say("captures-lost", what, lost=count, why="unwritten")
        self._pending, self._lost = {}, {}
        self._db.close()

    def _write_or_refuse(
        self, worded: list[Captured], batch: dict[Key, Count], lost: dict[str, int]
    ) -> dict[str, int]:
        """In the thread. What is refused is handed back, even if nobody waits any more."""
        try:
            return self._write(worded, lost)
        except BaseException:
            self._refused.append((batch, lost))
            raise

    def _take_back(self) -> None:
        while self._refused:
            self._keep(*self._refused.pop())

    def _keep(self, batch: dict[Key, Count], lost: dict[str, int]) -> None:
        """Put back what could not be written, as far as there is room."""
        for why, number in lost.items():
            self._lost[why] = self._lost.get(why, 0) + number
        for key, old in batch.items():
            new = self._pending.get(key)
            if new is not None:
                new[0] += old[0]
                new[1], new[2] = min(new[1], old[1]), max(new[2], old[2])
                new[3], new[4] = min(new[3], old[3]), max(new[4], old[4])
            elif len(self._pending) < self._most:
                self._pending[key] = old
            else:
                self._lost["overflow"] = self._lost.get("overflow", 0) + old[0]

    def _worded(self, batch: dict[Key, Count]) -> Iterator[Captured]:
        offset = time.time_ns() - time.monotonic_ns()
        for key, (count, first, last, low, high) in batch.items():
            server, rejected, revision, rule, *sides = key
            local, local_port, remote, remote_port, user, group, program, cgroup, folded = sides
            yield Captured(
                Request(
                    server,
                    local,
                    local_port,
                    remote,
                    remote_port,
                    user,
                    group,
                    self._path_of(program),
                    self._cgroup_of(cgroup),
                ),  # fmt: skip
                not rejected,
                self._rule_of(revision, rule),
                count,
                _utc(first + offset),
                _utc(last + offset),
                (low, high) if folded else None,
            )

    def _write(self, worded: list[Captured], lost: dict[str, int]) -> dict[str, int]:
        """One transaction; what retention removed, by reason."""
        config, now = self._config(), datetime.now(UTC)
        self._db.execute("BEGIN IMMEDIATE")
        try:
            capture_store.add(self._db, iter(worded))
            removed = self._prune(config, now)
            moment = _text(now)
            self._db.executemany(
                "INSERT INTO capture_losses (why, count, last) VALUES (?, ?, ?) ON CONFLICT (why)"
                " DO UPDATE SET count = count + excluded.count, last = excluded.last",
                [(why, number, moment) for why, number in (lost | removed).items() if number],
            )
            self._db.execute("COMMIT")
        except sqlite3.Error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        self._pruned_at = time.monotonic()
        return removed

    def _prune(self, config: AgentConfig, now: datetime) -> dict[str, int]:
        oldest = _text(now - timedelta(days=config.captures_keep_days))
        aged = self._db.execute("DELETE FROM captures WHERE last < ?", (oldest,)).rowcount
        excess = max(0, capture_store.count(self._db) - config.captures_keep_rows)
        if excess:
            self._db.execute(
                "DELETE FROM captures WHERE number IN"
                " (SELECT number FROM captures ORDER BY last, number LIMIT ?)",
                (excess,),
            )
        return {"aged": aged, "crowded": excess}

    def _report(self, lost: dict[str, int], *, at_once: bool = False) -> None:
        """Say what was lost, a line a minute at most. Age is no loss: it was asked for."""
        for why in ("overflow", "crowded"):
            self._unsaid[why] = self._unsaid.get(why, 0) + lost.get(why, 0)
        now = time.monotonic()
        if not at_once and now < self._said_at + SAY_EVERY:
            return
        for why, number in self._unsaid.items():
            if number:
                self._said_at = now
                what = capture_store.LOSSES[why]
                self._say("captures-lost", f"captures: {number} {what}", lost=number, why=why)
        self._unsaid = {}

    # -- answering --------------------------------------------------------------------

    async def answer(
        self, filter: dict[str, Any] | None = None, after: int = 0, most: int = MOST_IN_ANSWER
    ) -> dict[str, Any]:
        """`captures`: transactions by number, `more` when there are others above the last one."""
        chosen = filter_from_json(filter or {})
        if not isinstance(after, int) or not isinstance(most, int) or most < 1:
            raise ValueError("after and most are whole numbers, most at least 1")
        await self.flush()
        found: dict[str, Any] = await self._apart(
            self._list, chosen, after, min(most, MOST_IN_ANSWER)
        )
        return found

    async def clear(self, user: str, filter: dict[str, Any] | None = None) -> dict[str, Any]:
        """`captures-clear`: take out what the filter holds for; how many transactions."""
        chosen = filter_from_json(filter or {})
        await self.flush()
        cleared = await self._apart(capture_store.delete, self._db, chosen)
        self._say("captures-cleared", f"{user} cleared {cleared} captured transactions", user=user)
        return {"cleared": cleared}

    async def in_force(self) -> dict[str, Any]:
        """`in-force`: the rule file that was applied last, with the lists it read."""
        found = await self._apart(capture_store.in_force, self._db)
        if found is None:
            return {"revision": 0, "file": "", "text": "", "lists": {}}
        return {
            "revision": found.revision,
            "file": found.file,
            "text": found.text,
            "lists": dict(found.lists),
        }

    def _list(self, chosen: Any, after: int, most: int) -> dict[str, Any]:
        found = capture_store.select(self._db, chosen, after=after, most=most + 1)
        return {
            "captures": [captured_to_json(one, _NOBODY) for one in found[:most]],
            "more": len(found) > most,
            "lost": capture_store.losses(self._db),
        }

    async def _apart(self, work: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)


def ephemeral_range() -> tuple[int, int]:
    """The ports that the kernel hands out here, first and last."""
    try:
        first, last = _EPHEMERAL.read_text(encoding="ascii").split()
        return int(first), int(last)
    except (OSError, ValueError):
        return _SHIPPED_RANGE


def _utc(nanoseconds: int) -> str:
    return _text(datetime.fromtimestamp(nanoseconds / 1e9, UTC))


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
