# SPDX-License-Identifier: Apache-2.0
"""Going back to an earlier revision: asked for, or because nobody confirmed the one in force.

Rules. A revision that waits to be confirmed is on disk as such before its rules
are in force. When nobody confirms it in time, the revision before it comes
back: at the deadline; or, when no agent runs then, as the next agent starts,
before it loads anything. An agent that starts earlier goes on with what is left
of the time. While no agent runs, the kernel goes on with the unconfirmed rules.
A revision that came back keeps the lists that were recorded with it, also over
restarts, until rules are applied anew.
"""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ..control import files
from ..control.files import FileBusy
from ..control.names import SystemNames
from ..control.problems import InputError
from .control_server import StateError
from .pending import Pending
from .policy import Policy, read_policy
from .state import Revision

if TYPE_CHECKING:
    from .daemon import Agent


class Countdown:
    """What waits to be confirmed on one agent, and the way back."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._to_say: list[str] = []
        self._pending: Pending | None = None

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
            if latest and held == latest.revision and self._agent.file_holds(latest.text):
                policy = self.read(latest, latest.revision, latest.user)
                return replace(policy, revision=latest)
        except InputError as error:
            self._agent.record.problem(f"cannot go back to an earlier revision: {error}")
        return None

    def _take_back_at_start(self, unconfirmed: int, back: Revision, latest: Revision) -> Policy:
        done = latest.text == back.text and latest.lists == back.lists
        number = latest.revision + (0 if done else 1)
        policy = self.read(back, number, "agent")
        if done:
            policy = replace(policy, revision=latest)
        try:
            self._install_file(back.text)
            if not done:
                self._agent.state.add(policy.revision)
            self.pending.hold_lists(number)
            self.pending.clear()
        except (OSError, FileBusy, sqlite3.Error) as error:  # look() tries it again
            self._agent.record.problem(
                f"back to revision {back.revision}, not on disk yet: {error}"
            )
        else:
            self._to_say.append(_taken_back(unconfirmed, back.revision, number))
        return policy

    def is_running(self) -> bool:
        """Whether a revision waits to be confirmed, or something to be said of one."""
        return bool(self._to_say) or self.pending.waiting is not None

    async def look(self) -> None:
        """Take back what was not confirmed in time. To be called every now and then."""
        while self._to_say:
            self._agent.record.say("rules-rolled-back", self._to_say.pop(0), user="agent")
        if self.pending.waiting is None or self.pending.left() > 0:
            return
        async with self._agent.changing:
            waiting = self.pending.waiting
            if waiting is None or self.pending.left() > 0:
                return
            back = self.existing(waiting.previous)
            policy = await self.read_back(back, "agent")
            try:
                answer = await self.go_back(back, policy)
            except (
                OSError,
                FileBusy,
                sqlite3.Error,
            ):  # a full disk must not keep anybody locked out
                if self._agent.differs(policy):
                    await self._agent.put_in_force(policy)
                raise
            message = _taken_back(waiting.revision, waiting.previous, answer["revision"])
            self._agent.record.say("rules-rolled-back", message, user="agent")

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

    # -- going back ---------------------------------------------------------------------

    async def read_back(self, back: Revision, user: str) -> Policy:
        number = self._agent.policy.revision.revision + 1
        policy: Policy = await self._agent.in_worker(self.read, back, number, user)
        return policy

    async def go_back(self, back: Revision, policy: Policy) -> dict[str, Any]:
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

    def target(self, revision: int) -> Revision:
        """The revision of that number; for 0 the one that a rollback without one goes to."""
        if revision:
            return self.existing(revision)
        if self.pending.waiting is not None:
            return self.existing(self.pending.waiting.previous)
        number = self._agent.policy.revision.revision
        before = self._agent.state.before(number)
        if before is None:
            raise StateError(f"there is no revision before {number}, which is in force")
        return before

    def existing(self, revision: int) -> Revision:
        found = self._agent.state.revision(revision)
        if found is None:
            raise StateError(f"there is no revision {revision}; `sockrules history` lists them")
        return found

    def read(self, revision: Revision, number: int, user: str) -> Policy:
        """An earlier revision with its lists, as a new one of that number."""
        return read_policy(
            revision.text,
            file=f"revision {revision.revision}",
            user=user,
            number=number,
            names=SystemNames(self._agent.paths.lists),
            product=self._agent.config.product,
            lists=revision.lists,
            memory=self._agent.memory,
        )

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


def _taken_back(unconfirmed: int, back: int, number: int) -> str:
    return (
        f"revision {unconfirmed} was not confirmed in time:"
        f" back to revision {back}, as revision {number}"
    )
