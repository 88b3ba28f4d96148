# SPDX-License-Identifier: Apache-2.0
"""The agent: one process that loads, drains, answers, and leaves enforcement behind.

Everything happens in one asyncio loop; what takes long (compiling, loading,
walking /proc) runs in one worker thread, so that the perf buffers are drained
meanwhile. Requests that change something are carried out one after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import sqlite3
import sys
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..control import abi, files
from ..control.agent_edit import set_mode
from ..control.agent_file import AgentConfig, parse_agent_config
from ..control.model import Mode, Server
from ..control.names import SystemNames
from ..control.paths import Paths
from ..control.problems import InputError, Problem
from ..control.requests import request_from_json, verdict_to_json
from ..control.walk import request_words, verdict
from . import status
from .audit import Folder, Log
from .bytecode import Cache
from .clock import TICK, Clock, Timekeeper
from .control_server import ControlServer, StateError, problem_document
from .enforcer import Enforcer, EnforcerError
from .events import Event, EventError, decode, document, state_document
from .hits import HitCounter
from .loader import LoadError
from .policy import Policy, read_policy
from .programs import ProgramPaths
from .state import State, now

DRAIN_EVERY = 0.1  # seconds between looks into the buffers: how live `audit --follow` is
UPKEEP_EVERY = 2.0
RECONCILE_EVERY = 10.0
_REVISIONS_KEPT = 16  # rule names of earlier revisions, for events still under way

_LOST_REPORTED = "lost-events-reported"
_AUDIT = abi.C["SR_AUDIT"]
_REJECT = abi.C["SR_REJECT"]
_EXHAUSTED = 0xFFFFFFFF


Answer = Callable[..., Awaitable[dict[str, Any]]]


class AgentRunning(Exception):
    """Another agent runs on the same root."""


class Agent:
    """One agent on one root."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.host = socket.gethostname()
        self.started = now()
        self.problems: list[str] = []
        self.sinks: list[Callable[[Event], None]] = []
        self.rules_error: str | None = None
        self.events: deque[bytes] = deque()
        self.received = 0
        self.malformed = 0
        self._lost_reported = 0
        self._rules: OrderedDict[int, list[tuple[str, int]]] = OrderedDict()
        self._offset = 0
        self._changing = asyncio.Lock()
        self._stop = asyncio.Event()
        self._detach = False
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="work")
        self.names = SystemNames(paths.lists)
        self.clock = Clock()
        self.timekeeper = Timekeeper(self)
        self.questions: dict[str, Answer] = {
            "status": self._status,
            "check": self._check,
            "decide": self._decide,
            "hits": self._hits,
            "stop": self._stop_command,
        }
        self.changes: dict[str, Answer] = {"apply": self._apply, "activate": self._activate}
        """Carried out one after the other, with the name of who asked as `user`."""
        self.config: AgentConfig
        self.state: State
        self.policy: Policy
        self.enforcer: Enforcer
        self.log: Log

    # -- life -------------------------------------------------------------------------

    async def run(self, detach: bool) -> None:
        """Start, serve until told to stop, and leave enforcement pinned unless `detach`."""
        self._detach = detach
        with self._only_one():
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._stop.set)
            await self._in_worker(self._load)
            server = ControlServer(self.paths.socket, self.handle)
            await server.start()
            self._say("agent-started", f"agent started: {self._sentence()}")
            print(self._sentence(), flush=True)
            tasks = [
                asyncio.create_task(self._every(DRAIN_EVERY, self.drain)),
                asyncio.create_task(self._every(UPKEEP_EVERY, self._upkeep)),
                asyncio.create_task(self._every(RECONCILE_EVERY, self._reconcile)),
                asyncio.create_task(self._every(TICK, self.timekeeper.tick)),
            ]
            await self._stop.wait()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await server.stop()
            async with self._changing:  # a change under way is finished first
                with self._noting("the last events"):
                    await self._in_worker(self.enforcer.silence)
                self._end()

    @contextlib.contextmanager
    def _only_one(self) -> Any:
        self.paths.run_dir.mkdir(parents=True, exist_ok=True)
        lock = self.paths.run_dir / "agent.lock"
        with lock.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                file.seek(0)
                raise AgentRunning(
                    f"an agent (process {file.read().strip() or 'unknown'}) already runs on root"
                    f" {self.paths.root}; stop it, or choose another --root"
                ) from error
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield

    def _load(self) -> None:
        self.config = self._read_config()
        self.state = State(self.paths.state_db)
        self.log = Log(
            self.paths.audit_log,
            self.config.audit_max_bytes,
            self.config.audit_keep,
            self._unwritten_line,
        )
        self.policy = self._first_policy()
        self.enforcer = Enforcer(
            self.paths.pins,
            self.config.cgroup,
            self.config.buffer_pages,
            self._take,
            Cache(self.paths.state_dir / "programs"),
        )
        self._remember_rules()
        self.enforcer.start(self.policy.table, dict(self.config.modes))
        self._lost_reported = self._lost_before()
        self.programs = ProgramPaths(
            lambda: self.enforcer.kernel.map("paths"),
            lambda: self.enforcer.registry.programs if self.enforcer.registry else {},
        )
        self.folder = Folder(self._word)
        self.hits = HitCounter(self.state)
        self.hits.follow(self.enforcer.kernel, self.policy.table.rules)

    def _lost_before(self) -> int:
        """How many lost events earlier agents reported; none of those that new maps count."""
        reported = self.state.fact(_LOST_REPORTED)
        if reported > sum(self.enforcer.kernel.lost_by_cpu().values()):
            reported = 0
            self.state.set_fact(_LOST_REPORTED, reported)
        return reported

    def _read_config(self) -> AgentConfig:
        path = self.paths.agent_config
        return parse_agent_config(_text_of(path), file=str(path))

    def _first_policy(self) -> Policy:
        """The rule file; when it is wrong, what was applied last."""
        last = self.state.latest()
        try:
            text = _text_of(self.paths.rules)
            policy = self._compile(
                text, str(self.paths.rules), "agent", (last.revision if last else 0) + 1
            )
        except InputError as error:
            if last is None:
                raise
            self.rules_error = str(error)
            policy = read_policy(
                last.text,
                file=last.file,
                user=last.user,
                number=last.revision,
                names=self.names,
                product=self.config.product,
                lists=last.lists,
                moment=self.clock.now(),
            )
            return Policy(last, policy.ruleset, policy.table, policy.warnings)
        if last and last.text == text and last.lists == policy.revision.lists:
            policy = self._compile(text, last.file, last.user, last.revision)
            return Policy(last, policy.ruleset, policy.table, policy.warnings)
        self.state.add(policy.revision)
        return policy

    def _end(self) -> None:
        for work in (self.drain, self._write_folded, self.hits.collect):
            with self._noting(work.__name__):
                work()
        if self._detach:
            self.enforcer.detach()
            self._say("agent-stopped", "agent stopped: detached, nothing is enforced")
        else:
            self._say("agent-stopped", "agent stopped: what was in force stays in force")
        self.enforcer.close()
        self.log.close()
        self.state.close()
        self._worker.shutdown(wait=False)

    async def _every(self, seconds: float, work: Any) -> None:
        while True:
            await asyncio.sleep(seconds)
            with self._noting(getattr(work, "__name__", "work")):
                result = work()
                if asyncio.iscoroutine(result):
                    await result

    async def _in_worker(self, work: Any, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work, *args)

    # -- events -----------------------------------------------------------------------

    def _take(self, cpu: int, data: bytes) -> None:
        """Called for each event while a buffer is consumed: no more than keeping the bytes."""
        self.events.append(data)

    def drain(self) -> None:
        """Take what waits in the buffers, word it, write it, and report what was lost."""
        self.enforcer.kernel.loaded.consume()
        self._offset = time.time_ns() - time.monotonic_ns()
        documents: list[dict[str, Any]] = []
        for event in self._decoded():
            for sink in self.sinks:
                sink(event)
            if event.flags & (_AUDIT | _REJECT):
                documents += self.folder.take(event)
        documents += self.folder.expire(time.monotonic_ns())
        losses = self._losses()
        self._write(documents + losses)
        if losses:
            self.state.set_fact(_LOST_REPORTED, self._lost_reported)

    def _decoded(self) -> list[Event]:
        """The events taken so far, in the order in which they happened on all CPUs."""
        events = []
        while self.events:
            self.received += 1
            try:
                events.append(decode(self.events.popleft()))
            except EventError:
                self.malformed += 1
        return sorted(events, key=lambda event: event.monotonic)

    def _write_folded(self) -> None:
        """Write what is folded now, before the rules' names are forgotten or the agent ends."""
        self._write(self.folder.flush())

    def _word(self, event: Event, count: int) -> dict[str, Any]:
        rules = self._rules.get(event.revision, [])
        name, sequence = rules[event.rule] if event.rule < len(rules) else ("exhausted", 0)
        return document(
            event,
            host=self.host,
            rule=name,
            sequence=sequence,
            program=self.programs.path_of(event.program),
            names=self.names,
            offset=self._offset,
            count=count,
        )

    def _losses(self) -> list[dict[str, Any]]:
        lost = self.enforcer.kernel.lost_by_cpu()
        total = sum(lost.values())
        if total == self._lost_reported:
            return []
        more, self._lost_reported = total - self._lost_reported, total
        return [
            self._state_line(
                "events-lost",
                f"{more} events were lost: the buffers were full or nobody read them",
                lost=more,
                lost_by_cpu={str(cpu): count for cpu, count in lost.items()},
            )
        ]

    def _write(self, documents: list[dict[str, Any]]) -> None:
        self.log.write(documents)

    def _unwritten_line(self, count: int) -> dict[str, Any]:
        message = f"{count} lines before this one could not be written"
        return self._state_line("lines-unwritten", message, lines=count)

    def _state_line(self, action: str, message: str, **facts: Any) -> dict[str, Any]:
        return state_document(action, message, host=self.host, now=datetime.now(UTC), **facts)

    def _say(self, action: str, message: str, **facts: Any) -> None:
        self._write(
            [self._state_line(action, message, revision=self.policy.revision.revision, **facts)]
        )

    @contextlib.contextmanager
    def _noting(self, what: str) -> Iterator[None]:
        """Errors meanwhile are shown in `status` and stop nothing: a full disk, for example."""
        try:
            yield
        except Exception as error:
            self._problem(f"{what}: {type(error).__name__}: {error}")

    def _problem(self, text: str) -> None:
        if text not in self.problems:
            self.problems = [*self.problems[-9:], text]
            print(text, file=sys.stderr, flush=True)

    # -- upkeep -----------------------------------------------------------------------

    async def _upkeep(self) -> None:
        async with self._changing:
            await self._in_worker(self.enforcer.refresh_programs)
            self.hits.collect()

    async def _reconcile(self) -> None:
        registry = self.enforcer.registry
        active = any(state.mode is not Mode.OFF for state in self.enforcer.servers.values())
        if registry and active:
            async with self._changing:
                await self._in_worker(registry.reconcile)

    def _remember_rules(self) -> None:
        table = self.policy.table
        self._rules[table.revision] = [(rule.name, rule.sequence) for rule in table.rules]
        while len(self._rules) > _REVISIONS_KEPT:
            self._rules.popitem(last=False)

    # -- what clients ask -------------------------------------------------------------

    async def handle(self, command: str, arguments: dict[str, Any], user: str) -> dict[str, Any]:
        """Carry out one request of the control socket."""
        if command in self.changes:
            async with self._changing:
                try:
                    return await self.changes[command](user=user, **arguments)
                except (EnforcerError, LoadError, files.FileBusy, OSError, sqlite3.Error) as error:
                    raise StateError(f"{command}: {error}; what was in force stays") from error
        if command not in self.questions:
            known = ", ".join(sorted({*self.questions, *self.changes}))
            raise ValueError(f"no such command; there are {known}")
        return await self.questions[command](**arguments)

    async def _status(self) -> dict[str, Any]:
        return status.report(self)

    def _sentence(self) -> str:
        return str(status.report(self)["sentence"])

    def rules_differ(self) -> bool:
        """Whether the rule file is not what is in force."""
        return not self._file_holds(self.policy.revision.text)

    def _file_holds(self, text: str) -> bool:
        try:
            return _text_of(self.paths.rules) == text
        except InputError:
            return False

    def _compile(self, text: str, file: str, user: str, number: int) -> Policy:
        if not isinstance(text, str) or not isinstance(file, str):
            raise ValueError("`text` and `file` are texts")
        return read_policy(
            text,
            file=file,
            user=user,
            number=number,
            names=self.names,
            product=self.config.product,
            moment=self.clock.now(),
        )

    async def _check(self, text: str, file: str = "rules.toml") -> dict[str, Any]:
        policy = await self._in_worker(self._compile, text, file, "check", 0)
        return self._applied(policy, changed=False)

    async def _apply(
        self, user: str, text: str | None = None, file: str | None = None
    ) -> dict[str, Any]:
        self.names = SystemNames(self.paths.lists)  # users and groups as they are now
        source = str(self.paths.rules) if text is None else (file or "rules.toml")
        wanted = _text_of(self.paths.rules) if text is None else text
        self.config = self._read_config()
        number = self.policy.revision.revision + 1
        policy: Policy = await self._in_worker(self._compile, wanted, source, user, number)
        if text is not None and not self._file_holds(text):
            await self._in_worker(files.write_atomically, self.paths.rules, text)
        same = (
            policy.ruleset == self.policy.ruleset
            and policy.revision.lists == self.policy.revision.lists
        )
        if same and policy.revision.text == self.policy.revision.text:
            self.rules_error = None
            return self._applied(self.policy, changed=False)
        self.state.add(policy.revision)
        try:
            await self._put_in_force(policy)
        except Exception:
            self.state.remove(policy.revision.revision)
            raise
        self.rules_error = None
        self._say("rules-applied", f"{user} applied {source} as revision {number}", user=user)
        return self._applied(policy, changed=True)

    async def _put_in_force(self, policy: Policy) -> None:
        names_of_new = [(rule.name, rule.sequence) for rule in policy.table.rules]
        self._rules[policy.table.revision] = names_of_new
        before = await self._in_worker(self.enforcer.install, policy.table)
        self.policy = policy  # it is in force: what goes wrong from here on does not undo it
        with self._noting("hits"):
            self.hits.collect()  # the last of the old table's
        self.hits.follow(self.enforcer.kernel, policy.table.rules)
        with self._noting("apply"):
            await self._in_worker(self.enforcer.retire, before)
            await self._in_worker(self.enforcer.reopen_listeners)
        with self._noting("drain"):
            self.drain()
            self._write_folded()
        self._remember_rules()

    def _applied(self, policy: Policy, changed: bool) -> dict[str, Any]:
        return {
            "revision": policy.revision.revision,
            "rules": len(policy.ruleset.rules),
            "active": len(policy.ruleset.active()),
            "steps": policy.table.steps,
            "changed": changed,
            "warnings": [problem_document(problem) for problem in policy.warnings],
        }

    async def _activate(self, user: str, servers: list[str], mode: str) -> dict[str, Any]:
        wanted = Mode[mode.upper()]
        chosen = {Server[name.upper()]: wanted for name in servers}
        await self._in_worker(self.enforcer.set_modes, chosen)
        await self._in_worker(self.enforcer.reopen_listeners)
        path = self.paths.agent_config
        text = _text_of(path)
        for server in chosen:
            text = set_mode(text, server, wanted)
        await self._in_worker(files.write_atomically, path, text)
        self._say("servers-activated", f"{user} set {', '.join(servers)} to {mode}", user=user)
        return {"servers": status.report(self)["servers"]}

    async def _decide(self, requests: list[dict[str, Any]]) -> dict[str, Any]:
        table, kernel = self.policy.table, self.enforcer.kernel
        verdicts = []
        for doc in requests:
            request = request_from_json(doc, self.names)
            word = kernel.decide(request_words(table, request))
            if word == _EXHAUSTED:
                raise StateError("the walk ran out of steps; this request is rejected in force")
            verdicts.append(verdict_to_json(verdict(table, word)))
        return {"verdicts": verdicts}

    async def _hits(self) -> dict[str, Any]:
        self.hits.collect()
        return {
            "rules": {
                rule: {"hits": hits, "last": last}
                for rule, (hits, last) in self.state.hits().items()
            }
        }

    async def _stop_command(self, detach: bool = False) -> dict[str, Any]:
        self._detach = self._detach or detach
        self._stop.set()
        return {}


def _text_of(path: Path) -> str:
    """A file that a person wrote; empty when there is none. Raises InputError."""
    try:
        return files.read_text(path)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise InputError(
            [Problem(str(path), None, None, f"cannot be read: {error.strerror}")]
        ) from None


def run(paths: Paths, detach: bool = False) -> None:
    """Run an agent in the foreground until SIGTERM or SIGINT."""
    asyncio.run(Agent(paths).run(detach))
