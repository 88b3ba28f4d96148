# SPDX-License-Identifier: Apache-2.0
"""Changing the rules without being locked out: preview, apply, confirm, history, rollback.

Rules. What would lock out the session that asks, or the last login server, is
not done without `force`. A revision that waits to be confirmed is on disk as
such before its rules are in force. When nobody confirms it in time, the
revision before it comes back: at the deadline; or, when no agent runs then, as
the next agent starts, before it loads anything. An agent that starts earlier
goes on with what is left of the time. While no agent runs, the kernel goes on
with the unconfirmed rules. A revision that came back keeps the lists that were
recorded with it, also over restarts, until rules are applied anew.
"""

from __future__ import annotations

import re
import sqlite3
import tomllib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ..control import difference, files
from ..control.names import SystemNames
from ..control.problems import InputError
from . import impact
from .control_server import PEER, StateError, problem_document
from .inodes import inodes_of
from .pending import Pending
from .policy import Policy, read_policy
from .session import ancestors, connections_of, login_listeners, program_name
from .sockets import Judge, survey
from .state import Revision

if TYPE_CHECKING:
    from .daemon import Agent

LONGEST_CONFIRM = 86_400.0
_FIRST_SHOWN = 50
_RULE = re.compile(r"^[ \t]*\[\[[ \t]*rule[ \t]*\]\]", re.MULTILINE)


class Changes:
    """The commands; hooks itself into an agent's `questions` and `changes`."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._to_say: list[str] = []
        self._pending: Pending | None = None
        agent.questions.update(
            preview=self._preview,
            history=self._history,
            revision=self._revision,
            sockets=self._sockets,
        )
        agent.changes.update(
            apply=self._apply,
            confirm=self._confirm,
            rollback=self._rollback,
            destroy=self._destroy,
        )

    # -- life -------------------------------------------------------------------------

    @property
    def pending(self) -> Pending:
        """What waits to be confirmed, once the state database is open."""
        if self._pending is None:
            self._pending = Pending(self._agent.paths.state_db)
        return self._pending

    def at_start(self) -> Policy | None:
        """The policy to start with, where it is not simply that of the rule file.

        Takes back, before anything is loaded, what was not confirmed in time.
        """
        waiting, latest = self.pending.waiting, self._agent.state.latest()
        try:
            if waiting is not None and self.pending.left() <= 0:
                back = self._agent.state.revision(waiting.previous)
                if back is not None and latest is not None:
                    return self._take_back_at_start(waiting.revision, back, latest)
            held = self.pending.held_lists()
            if latest and held == latest.revision and self._agent._rules_text() == latest.text:
                policy = self._read(latest, latest.revision, latest.user)
                return Policy(latest, policy.ruleset, policy.table, policy.warnings)
        except InputError as error:
            self._agent._problem(f"cannot go back to an earlier revision: {error}")
        return None

    def _take_back_at_start(self, unconfirmed: int, back: Revision, latest: Revision) -> Policy:
        done = latest.text == back.text and latest.lists == back.lists
        number = latest.revision + (0 if done else 1)
        policy = self._read(back, number, "agent")
        self._install_file(back.text)
        if done:
            policy = Policy(latest, policy.ruleset, policy.table, policy.warnings)
        else:
            self._agent.state.add(policy.revision)
        self.pending.hold_lists(number)
        self.pending.clear()
        self._to_say.append(_taken_back(unconfirmed, back.revision, number))
        return policy

    async def look(self) -> None:
        """Take back what was not confirmed in time. To be called every now and then."""
        while self._to_say:
            self._agent._say("rules-rolled-back", self._to_say.pop(0), user="agent")
        if self.pending.waiting is None or self.pending.left() > 0:
            return
        async with self._agent._changing:
            waiting = self.pending.waiting
            if waiting is None or self.pending.left() > 0:
                return
            back = self._existing(waiting.previous)
            policy = await self._read_back(back, "agent")
            try:
                answer = await self._go_back(back, policy)
            except (OSError, sqlite3.Error):  # a full disk must not keep anybody locked out
                if self._agent.differs(policy):
                    await self._agent._put_in_force(policy)
                raise
            message = _taken_back(waiting.revision, waiting.previous, answer["revision"])
            self._agent._say("rules-rolled-back", message, user="agent")

    def close(self) -> None:
        """Let go of the database; what waits goes on waiting there."""
        if self._pending is not None:
            self._pending.close()

    def waiting(self) -> dict[str, Any] | None:
        """What waits to be confirmed: `{"revision", "previous", "left", "deadline", "user"}`."""
        waiting = self.pending.waiting
        if waiting is None:
            return None
        return {
            "revision": waiting.revision,
            "previous": waiting.previous,
            "seconds": waiting.seconds,
            "left": round(max(self.pending.left(), 0), 1),
            "deadline": datetime.fromtimestamp(waiting.deadline, UTC)
            .isoformat(timespec="seconds")
            .replace("+00:00", "Z"),
            "user": waiting.user,
        }

    def sentence(self) -> str:
        """What the status sentence ends with while something waits; otherwise nothing."""
        waiting = self.waiting()
        if waiting is None:
            return ""
        back, left = waiting["previous"], waiting["left"]
        return f"; goes back to revision {back} in {left:.0f} s unless confirmed"

    # -- preview and apply --------------------------------------------------------------

    async def _preview(
        self,
        text: str | None = None,
        file: str | None = None,
        revision: int | None = None,
        ssh_connection: str | None = None,
    ) -> dict[str, Any]:
        agent = self._agent
        if revision is not None:
            policy = await agent._in_worker(self._read, self._target(revision), 0, "preview")
        else:
            wanted = agent._rules_text() if text is None else text
            source = file or str(agent.paths.rules)
            policy = await agent._in_worker(self._read_new, wanted, source)
        found = await self._look_around(policy, ssh_connection)
        return {
            **agent._applied(policy, changed=agent.differs(policy)),
            "difference": difference.document(
                difference.compare(agent.policy.ruleset, policy.ruleset)
            ),
            "impact": impact.report(found, self._judge(), agent.names),
            "session": impact.session(found),
            "dangers": impact.dangers(found),
            "pending": self.waiting(),
            "warnings": [problem_document(problem) for problem in policy.warnings],
        }

    async def _apply(
        self,
        user: str,
        text: str | None = None,
        file: str | None = None,
        confirm: float | None = None,
        force: bool = False,
        ssh_connection: str | None = None,
    ) -> dict[str, Any]:
        agent, seconds = self._agent, _seconds(confirm)
        before = self.pending.waiting
        if before is not None and seconds is None:
            raise StateError(
                f"revision {before.revision} waits to be confirmed; confirm it or roll it back"
                " first, or give this one a time to confirm it, too"
            )
        policy = await agent.compiled(user, text, file)
        if not agent.differs(policy):
            return await agent.bring_in(policy, text)
        if not force:
            await self._refuse_danger(policy, ssh_connection)
        if seconds is None:
            return await agent.bring_in(policy, text)
        back = before.previous if before is not None else agent.policy.revision.revision
        file_before = agent._rules_text()
        self.pending.begin(policy.revision.revision, back, seconds, user)
        try:
            answer = await agent.bring_in(policy, text)
        except Exception:
            if text is not None:
                files.write_atomically(agent.paths.rules, file_before)
            self.pending.put_back(before)
            raise
        self.pending.begin(policy.revision.revision, back, seconds, user)
        return {**answer, "pending": self.waiting()}

    async def _refuse_danger(self, policy: Policy, ssh_connection: str | None) -> None:
        found = await self._look_around(policy, ssh_connection)
        if dangers := impact.dangers(found):
            raise StateError(
                "nothing was changed: "
                + "; ".join(dangers)
                + "; to do it nevertheless, use --force, best with a time to confirm it"
            )

    # -- confirm, history, rollback -----------------------------------------------------

    async def _confirm(self, user: str) -> dict[str, Any]:
        waiting = self.pending.waiting
        if waiting is None:
            raise StateError(
                "nothing waits to be confirmed:"
                f" revision {self._agent.policy.revision.revision} is in force"
            )
        self.pending.clear()
        revision = self._agent.policy.revision.revision
        self._agent._say("rules-confirmed", f"{user} confirmed revision {revision}", user=user)
        return {"revision": revision}

    async def _history(self, most: int | None = _FIRST_SHOWN) -> dict[str, Any]:
        known = self._agent.state.revisions()
        shown = [each for number, each in enumerate(known) if most is None or number < most]
        return {
            "in_force": self._agent.policy.revision.revision,
            "pending": self.waiting(),
            "revisions": [
                {
                    "revision": each.revision,
                    "applied": each.applied,
                    "user": each.user,
                    "file": each.file,
                    "rules": _count_rules(each.text),
                    "in_force": each.revision == self._agent.policy.revision.revision,
                }
                for each in shown
            ],
        }

    async def _revision(self, revision: int) -> dict[str, Any]:
        found = self._existing(revision)
        before = self._agent.state.before(revision)
        return {
            "revision": found.revision,
            "applied": found.applied,
            "user": found.user,
            "file": found.file,
            "text": found.text,
            "lists": dict(found.lists),
            "before": before.revision if before else None,
            "in_force": found.revision == self._agent.policy.revision.revision,
        }

    async def _rollback(
        self,
        user: str,
        revision: int | None = None,
        force: bool = False,
        ssh_connection: str | None = None,
    ) -> dict[str, Any]:
        target = self._target(revision or 0)
        policy = await self._read_back(target, user)
        if not force:
            await self._refuse_danger(policy, ssh_connection)
        return await self._go_back(target, policy)

    async def _read_back(self, back: Revision, user: str) -> Policy:
        number = self._agent.policy.revision.revision + 1
        policy: Policy = await self._agent._in_worker(self._read, back, number, user)
        return policy

    async def _go_back(self, back: Revision, policy: Policy) -> dict[str, Any]:
        agent = self._agent
        saved = self._install_file(back.text)
        answer = await agent.bring_in(policy, None)
        if agent.state.revision(answer["revision"]) is None:
            agent.state.add(agent.policy.revision)
        self.pending.hold_lists(answer["revision"])
        self.pending.clear()
        return {
            **answer,
            "back_to": back.revision,
            "lists_differ": self._lists_that_differ(back),
            "saved": saved,
        }

    def _install_file(self, text: str) -> str | None:
        """Make this the rule file. One that was never applied is kept; where, if it was."""
        rules, saved = self._agent.paths.rules, None
        try:
            now = files.read_text(rules)
        except (OSError, InputError):
            now = ""
        if now == text:
            return None
        if now.strip() and not self._agent.state.has_text(now):
            saved = rules.with_name(f"{rules.name}.saved")
            files.write_atomically(saved, now)
        files.write_atomically(rules, text)
        return str(saved) if saved else None

    def _target(self, revision: int) -> Revision:
        """The revision of that number; for 0 the one that a rollback without one goes to."""
        if revision:
            return self._existing(revision)
        if self.pending.waiting is not None:
            return self._existing(self.pending.waiting.previous)
        number = self._agent.policy.revision.revision
        before = self._agent.state.before(number)
        if before is None:
            raise StateError(f"there is no revision before {number}, which is in force")
        return before

    def _existing(self, revision: int) -> Revision:
        found = self._agent.state.revision(revision)
        if found is None:
            raise StateError(f"there is no revision {revision}; `sockrules history` lists them")
        return found

    def _lists_that_differ(self, back: Revision) -> list[str]:
        differ = []
        for name, text in sorted(back.lists.items()):
            try:
                same = SystemNames(self._agent.paths.lists).read_list(name) == text
            except OSError:
                same = False
            if not same:
                differ.append(name)
        return differ

    # -- sockets ------------------------------------------------------------------------

    async def _sockets(
        self, violating: bool = False, ssh_connection: str | None = None
    ) -> dict[str, Any]:
        found = await self._look_around(self._agent.policy, ssh_connection)
        return impact.sockets(found, self._agent.names, only_rejected=violating)

    async def _destroy(
        self,
        user: str,
        cookies: list[int],
        force: bool = False,
        ssh_connection: str | None = None,
    ) -> dict[str, Any]:
        found = await self._look_around(self._agent.policy, ssh_connection)
        answer: dict[str, Any] = await self._agent._in_worker(
            impact.destroy, found, self._agent.names, frozenset(cookies), force
        )
        if answer["destroyed"]:
            count = len(answer["destroyed"])
            self._agent._say("sockets-destroyed", f"{user} ended {count} connections", user=user)
        return answer

    # -- reading and looking ------------------------------------------------------------

    def _read_new(self, text: str, file: str) -> Policy:
        config = self._agent._read_config()
        return read_policy(
            text,
            file=file,
            user="preview",
            number=0,
            names=SystemNames(self._agent.paths.lists),
            product=config.product,
        )

    def _read(self, revision: Revision, number: int, user: str) -> Policy:
        """An earlier revision with its lists, as a new one of that number."""
        return read_policy(
            revision.text,
            file=f"revision {revision.revision}",
            user=user,
            number=number,
            names=SystemNames(self._agent.paths.lists),
            product=self._agent.config.product,
            lists=revision.lists,
        )

    def _judge(self) -> Judge:
        return Judge(self._agent.policy.table, self._agent.enforcer.known)

    async def _look_around(self, policy: Policy, ssh_connection: str | None) -> impact.Found:
        found: impact.Found = await self._agent._in_worker(
            self._found, policy, PEER.get(), ssh_connection
        )
        return found

    def _found(self, policy: Policy, peer: int, ssh_connection: str | None) -> impact.Found:
        agent = self._agent
        registry = agent.enforcer.registry
        found = survey(
            agent.enforcer.cgroup_path,
            agent.enforcer.mount,
            registry.recorded() if registry else None,
        )
        logins = frozenset(agent.config.logins)
        known = inodes_of((*policy.table.programs, *policy.table.directories))
        session = connections_of(list(ancestors(peer)), ssh_connection, found, logins)
        return impact.Found(
            conversations=found,
            session=session,
            login_listeners=login_listeners(found, logins, program_name, session),
            judge=Judge(policy.table, known),
            modes={server: state.mode for server, state in agent.enforcer.servers.items()},
        )


def _taken_back(unconfirmed: int, back: int, number: int) -> str:
    return (
        f"revision {unconfirmed} was not confirmed in time:"
        f" back to revision {back}, as revision {number}"
    )


def _seconds(confirm: object) -> float | None:
    if confirm is None:
        return None
    if isinstance(confirm, bool) or not isinstance(confirm, int | float):
        raise ValueError(f"confirm: {confirm!r} is not a number of seconds")
    if not 1 <= confirm <= LONGEST_CONFIRM:
        raise ValueError(f"confirm: {confirm:g} s is out of range; use 1-{LONGEST_CONFIRM:g}")
    return float(confirm)


def _count_rules(text: str) -> int:
    """How many rules a rule file has, without reading them: a history can be long."""
    if count := len(_RULE.findall(text)):
        return count
    try:
        return len(tomllib.loads(text).get("rule", []))
    except (tomllib.TOMLDecodeError, TypeError):
        return 0
