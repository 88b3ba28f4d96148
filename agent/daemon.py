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
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..control import files
from ..control.agent_edit import set_mode
from ..control.agent_file import AgentConfig, parse_agent_config
from ..control.model import Mode, Server
from ..control.names import SystemNames
from ..control.paths import Paths
from ..control.problems import InputError, Problem, problem_document
from ..control.requests import request_from_json, verdict_to_json
from ..control.rules_file import RuleMemory
from ..control.walk import request_words, verdict
from . import status
from .arrivals import ArrivalWatch
from .bytecode import Cache
from .captures import Captures
from .changes import Changes
from .clock import Clock, Timekeeper
from .compiler import CompileError
from .control_server import ControlServer, StateError
from .enforcer import Enforcer, EnforcerError
from .hits import HitCounter
from .memory import give_back, one_heap
from .messages import Messages
from .policy import Policy, read_policy
from .programs import ProgramPaths
from .record import Record
from .state import State, now
from .upkeep import Upkeep

REST_AFTER = 1.0  # seconds after a change: the answer comes first, and changes come in bursts
_EXHAUSTED = 0xFFFFFFFF

_REFUSALS = (EnforcerError, CompileError, files.FileBusy, OSError, sqlite3.Error)
"""What a change may fail with; what was in force stays."""

Answer = Callable[..., Awaitable[dict[str, Any]]]


class AgentRunning(Exception):
    """Another agent runs on the same root."""


class Agent:
    """One agent on one root."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.started = now()
        self.rules_error: str | None = None
        self.changing = asyncio.Lock()
        self._stop = asyncio.Event()
        self._detach = False
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="work")
        self.names = SystemNames(paths.lists)
        self.memory = RuleMemory()  # the worker's
        self.clock = Clock()
        self.timekeeper = Timekeeper(self)
        self.upkeep = Upkeep(self)
        self.questions: dict[str, Answer] = {
            "status": self._status,
            "check": self._check,
            "decide": self._decide,
            "hits": self._hits,
            "stop": self._stop_command,
        }
        self.changes: dict[str, Answer] = {"activate": self._activate}
        """Carried out one after the other, with the name of who asked as `user`."""
        self.countdown = Changes(self).countdown
        self.config: AgentConfig
        self.state: State
        self.policy: Policy
        self.enforcer: Enforcer
        self.messages: Messages
        self.record: Record
        self.arrivals: ArrivalWatch

    # -- life -------------------------------------------------------------------------

    async def run(self, detach: bool) -> None:
        """Start, serve until told to stop, and leave enforcement pinned unless `detach`."""
        self._detach = detach
        with self._only_one():
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._stop.set)
            await self.in_worker(self._load)
            server = ControlServer(self.paths.socket, self.handle)
            await server.start()
            self.record.say("agent-started", f"agent started: {self._sentence()}")
            print(self._sentence(), flush=True)
            if why := self.enforcer.attachment.answer.why:
                print(why, file=sys.stderr, flush=True)
            self.arrivals = ArrivalWatch(self.enforcer, self.record)
            self.arrivals.follow()
            loop.call_later(REST_AFTER, self._rest)
            self.upkeep.begin()
            await self._stop.wait()
            await self.upkeep.end()
            await server.stop()
            await self.arrivals.close()
            async with self.changing:  # a change under way is finished first
                with self.record.noting("the last events"):
                    await self.in_worker(self.enforcer.silence)
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
        self.config = self.read_config()
        self.state = State(self.paths.state_db)
        self.record = Record(self.paths.audit_log, self.config, self.state, lambda: self.names)
        self.policy = self.countdown.at_start() or self._first_policy()
        self.enforcer = Enforcer(
            self.paths.pins,
            self.config.cgroup,
            self.config.hooks.forced(),
            self.config.reject_with,
            self.config.buffer_pages,
            self.record.take,
            Cache(self.paths.state_dir / "programs"),
        )
        self.record.in_force(self.policy.table)
        self.enforcer.start(self.policy.table, dict(self.config.modes))
        self.programs = ProgramPaths(
            lambda: self.enforcer.kernel.map("paths"),
            lambda: self.enforcer.registry.programs if self.enforcer.registry else {},
        )
        cgroup_of = self.enforcer.cgroups.path_of
        self.record.begin(lambda: self.enforcer.kernel, self.programs.path_of, cgroup_of)
        self.captures = Captures(
            self.paths.state_db,
            lambda: self.config,
            lambda revision, rule: self.record.rule_of(revision, rule)[0],
            self.programs.path_of,
            cgroup_of,
            self.record.say,
        )
        self.questions |= {"captures": self.captures.answer, "in-force": self.captures.in_force}
        self.changes["captures-clear"] = self.captures.clear
        self.hits = HitCounter(self.state)
        self.hits.follow(self.enforcer.kernel, self.policy.table.rules)
        self.messages = Messages(
            self.paths.state_db, self.config.messages, self.record.word, self.record.host
        )
        self.messages.start()
        self.record.sinks += [self.captures.take, self.messages.take]
        self.record.expiring.append(self.messages.expire)
        self.record.flushing.append(self.messages.flush)

    def read_config(self) -> AgentConfig:
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
                memory=self.memory,
            )
            return replace(policy, revision=last)
        if last and last.text == text and last.lists == policy.revision.lists:
            policy = self._compile(text, last.file, last.user, last.revision)
            return replace(policy, revision=last)
        self.state.add(policy.revision)
        return policy

    def _end(self) -> None:
        sinks = (self.messages.close, self.captures.close)
        for work in (self.record.drain, self.record.write_folded, *sinks, self.hits.collect):
            with self.record.noting(work.__name__):
                work()
        if self._detach:
            self.enforcer.detach()
            self.record.say("agent-stopped", "agent stopped: detached, nothing is enforced")
        else:
            self.record.say("agent-stopped", "agent stopped: what was in force stays in force")
        self.enforcer.close()
        self.record.log.close()
        self.countdown.close()
        self.state.close()
        self._worker.shutdown(wait=False)

    async def in_worker(self, work: Any, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work, *args)

    # -- what clients ask -------------------------------------------------------------

    async def handle(self, command: str, arguments: dict[str, Any], user: str) -> dict[str, Any]:
        """Carry out one request of the control socket."""
        if command in self.changes:
            async with self.changing:
                try:
                    return await self.changes[command](user=user, **arguments)
                except _REFUSALS as error:
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
        return not self.file_holds(self.policy.revision.text)

    def rules_text(self) -> str:
        """The rule file; empty when there is none. Raises InputError."""
        return _text_of(self.paths.rules)

    def file_holds(self, text: str) -> bool:
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
            memory=self.memory,
        )

    async def _check(self, text: str, file: str = "rules.toml") -> dict[str, Any]:
        policy = await self.in_worker(self._compile, text, file, "check", 0)
        return self.applied(policy, changed=False)

    async def compiled(self, user: str, text: str | None, file: str | None) -> Policy:
        """The rules of a text, or of the rule file, with names and lists as they are now."""
        self.names = SystemNames(self.paths.lists)
        source = str(self.paths.rules) if text is None else (file or "rules.toml")
        wanted = _text_of(self.paths.rules) if text is None else text
        self.config = self.read_config()
        self.messages.configure(self.config.messages)
        number = self.policy.revision.revision + 1
        policy: Policy = await self.in_worker(self._compile, wanted, source, user, number)
        return policy

    def differs(self, policy: Policy) -> bool:
        """Whether a policy is another than the one in force."""
        now = self.policy
        return (
            policy.revision.text != now.revision.text
            or policy.revision.lists != now.revision.lists
            or policy.ruleset != now.ruleset
        )

    async def bring_in(self, policy: Policy, text: str | None) -> dict[str, Any]:
        """Put a policy in force, and its text into the rule file where one is given."""
        if text is not None and not self.file_holds(text):
            await self.in_worker(files.write_atomically, self.paths.rules, text)
        if not self.differs(policy):
            self.rules_error = None
            return self.applied(self.policy, changed=False)
        self.state.add(policy.revision)
        try:
            await self.put_in_force(policy)
        except Exception:
            self.state.remove(policy.revision.revision)
            raise
        self.rules_error = None
        revision = policy.revision
        message = f"{revision.user} applied {revision.file} as revision {revision.revision}"
        self.record.say("rules-applied", message, user=revision.user)
        return self.applied(policy, changed=True)

    async def put_in_force(self, policy: Policy) -> None:
        self.record.expect(policy.table)
        before = await self.in_worker(self.enforcer.install, policy.table)
        if before is not self.enforcer.kernel:
            self.arrivals.follow()
        self.policy = policy  # it is in force: what goes wrong from here on does not undo it
        with self.record.noting("hits"):
            self.hits.collect()  # the last of the old table's
        self.hits.follow(self.enforcer.kernel, policy.table.rules)
        with self.record.noting("apply"):
            await self.in_worker(self.enforcer.retire, before)
            await self.in_worker(self.enforcer.reopen_listeners)
        with self.record.noting("drain"):
            self.record.drain()
            self.record.write_folded()
        self.record.in_force(policy.table)
        self.upkeep.look_anew()
        asyncio.get_running_loop().call_later(REST_AFTER, self._rest)

    def _rest(self) -> None:
        """Give back what the change left; in the worker, when it has nothing else to do."""
        if not self._stop.is_set():
            self._worker.submit(give_back)

    def applied(self, policy: Policy, changed: bool) -> dict[str, Any]:
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
        await self.in_worker(self.enforcer.set_modes, chosen)
        self.arrivals.meet_soon()
        await self.in_worker(self.enforcer.reopen_listeners)
        path = self.paths.agent_config
        text = _text_of(path)
        for server in chosen:
            text = set_mode(text, server, wanted)
        await self.in_worker(files.write_atomically, path, text)
        self.record.say(
            "servers-activated", f"{user} set {', '.join(servers)} to {mode}", user=user
        )
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
    one_heap()
    asyncio.run(Agent(paths).run(detach))
