# SPDX-License-Identifier: Apache-2.0
"""Changing the rules without being locked out: preview, apply, confirm, history, rollback.

Rules. What would lock out the session that asks, or the last login server, is
not done without `force`. What is applied with a time to confirm it counts as
waiting before it is in force.
"""

from __future__ import annotations

import re
import tomllib
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..control import difference, files
from ..control.names import SystemNames
from . import impact
from .control_server import PEER, StateError
from .countdown import Countdown
from .inodes import inodes_of
from .policy import Policy, read_policy
from .session import ancestors, connections_of, login_listeners, program_name
from .sockets import Judge, survey

if TYPE_CHECKING:
    from .daemon import Agent

LONGEST_CONFIRM = 86_400.0
_FIRST_SHOWN = 50
_RULE = re.compile(r"^[ \t]*\[\[[ \t]*rule[ \t]*\]\]", re.MULTILINE)


class Changes:
    """The commands; hooks itself into an agent's `questions` and `changes`."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.countdown = Countdown(agent)
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
            policy = await agent.in_worker(
                self.countdown.read, self.countdown.target(revision), 0, "preview"
            )
        else:
            wanted = agent.rules_text() if text is None else text
            source = file or str(agent.paths.rules)
            policy = await agent.in_worker(self._read_new, wanted, source)
        found = await self._look_around(policy, ssh_connection)
        shown: dict[str, Any] = await agent.in_worker(self._shown, policy, found)
        return {
            **agent.applied(policy, changed=agent.differs(policy)),
            **shown,
            "pending": self.countdown.waiting(),
        }

    def _shown(self, policy: Policy, found: impact.Found) -> dict[str, Any]:
        agent = self._agent
        before = agent.policy.ruleset
        now = Judge(agent.policy.table, agent.enforcer.identities.present)
        return {
            "difference": difference.document(difference.compare(before, policy.ruleset)),
            "impact": impact.report(found, now, agent.names),
            "session": impact.session(found),
            "dangers": impact.dangers(found),
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
        before = self.countdown.pending.waiting
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
        file_before = None if text is None else agent.rules_text()
        self.countdown.pending.begin(policy.revision.revision, back, seconds, user)
        try:
            answer = await agent.bring_in(policy, text)
        except Exception:
            if agent.policy is not policy:  # otherwise it is in force, and better taken back
                self.countdown.pending.put_back(before)
                if file_before is not None:
                    files.write_atomically(agent.paths.rules, file_before)
            raise
        self.countdown.pending.begin(policy.revision.revision, back, seconds, user)
        return {**answer, "pending": self.countdown.waiting()}

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
        waiting = self.countdown.pending.waiting
        if waiting is None:
            raise StateError(
                "nothing waits to be confirmed:"
                f" revision {self._agent.policy.revision.revision} is in force"
            )
        self.countdown.pending.clear()
        revision = self._agent.policy.revision.revision
        self._agent.record.say(
            "rules-confirmed", f"{user} confirmed revision {revision}", user=user
        )
        return {"revision": revision}

    async def _history(self, most: int | None = _FIRST_SHOWN) -> dict[str, Any]:
        shown = islice(self._agent.state.revisions(), most)
        return {
            "in_force": self._agent.policy.revision.revision,
            "pending": self.countdown.waiting(),
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
        found = self.countdown.existing(revision)
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
        target = self.countdown.target(revision or 0)
        policy = await self.countdown.read_back(target, user)
        if not force:
            await self._refuse_danger(policy, ssh_connection)
        answer: dict[str, Any] = await self.countdown.go_back(target, policy)
        return answer

    # -- sockets ------------------------------------------------------------------------

    async def _sockets(
        self, violating: bool = False, ssh_connection: str | None = None
    ) -> dict[str, Any]:
        found = await self._look_around(self._agent.policy, ssh_connection)
        answer: dict[str, Any] = await self._agent.in_worker(
            impact.sockets, found, self._agent.names, violating
        )
        return answer

    async def _destroy(
        self,
        user: str,
        cookies: list[int],
        force: bool = False,
        ssh_connection: str | None = None,
    ) -> dict[str, Any]:
        found = await self._look_around(self._agent.policy, ssh_connection)
        answer: dict[str, Any] = await self._agent.in_worker(
            impact.destroy, found, self._agent.names, frozenset(cookies), force
        )
        if answer["destroyed"]:
            count = len(answer["destroyed"])
            self._agent.record.say(
                "sockets-destroyed", f"{user} ended {count} connections", user=user
            )
        return answer

    # -- reading and looking ------------------------------------------------------------

    def _read_new(self, text: str, file: str) -> Policy:
        config = self._agent.read_config()
        return read_policy(
            text,
            file=file,
            user="preview",
            number=0,
            names=SystemNames(self._agent.paths.lists),
            product=config.product,
            memory=self._agent.memory,
        )

    async def _look_around(self, policy: Policy, ssh_connection: str | None) -> impact.Found:
        found: impact.Found = await self._agent.in_worker(
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
            agent.enforcer.cgroups.path_of,
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
