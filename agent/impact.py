# SPDX-License-Identifier: Apache-2.0
"""What rules would do to the sockets of today, and ending those that should not be."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from ..control.model import Mode, Server
from ..control.names import Names
from . import diag
from .control_server import StateError
from .session import dangers as words_of_danger
from .sockets import Conversation, Judge, document

MOST_TOLD = 1000
"""Sockets that a report lists; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Found:
    """The sockets of one moment, who asks, and who judges."""

    conversations: list[Conversation]
    session: list[Conversation]
    """The connections over which whoever asks is logged in."""
    login_listeners: list[Conversation]
    judge: Judge
    modes: dict[Server, Mode]

    def rejected(self) -> Iterator[Conversation]:
        """The conversations that could not begin now."""
        return (each for each in self.conversations if self.judge.rejects(each))

    def document(self, each: Conversation, names: Names) -> dict[str, Any]:
        """One conversation as JSON."""
        doc = document(each, self.judge.verdict(each), self.modes[each.server], names)
        return {**doc, "session": self._cookie(each) in map(self._cookie, self.session)}

    @staticmethod
    def _cookie(each: Conversation) -> int:
        return each.found.cookie


def report(found: Found, now: Judge, names: Names) -> dict[str, Any]:
    """What the judge's rules would reject: `{"judged", "count", "rejected": [...]}`.

    `already` is true where `now`, the judge of what is in force, rejects it as well.
    """
    rejected = list(found.rejected())
    return {
        "judged": len(found.conversations),
        "count": len(rejected),
        "rejected": [
            {**found.document(each, names), "already": now.rejects(each)}
            for each in rejected[:MOST_TOLD]
        ],
    }


def dangers(found: Found) -> list[str]:
    """What would lock out whoever asks, in words."""
    return words_of_danger(found.session, found.login_listeners, found.judge, found.modes)


def session(found: Found) -> list[dict[str, str]]:
    """The ends of the session's connections."""
    return [{"local": each.ends[0], "remote": each.ends[1]} for each in found.session]


def sockets(found: Found, names: Names, only_rejected: bool) -> dict[str, Any]:
    """All sockets with their verdicts, or those that could not begin now."""
    chosen = list(found.rejected()) if only_rejected else found.conversations
    return {
        "judged": len(found.conversations),
        "violating": sum(1 for _ in found.rejected()),
        "sockets": [found.document(each, names) for each in chosen],
    }


def destroy(
    found: Found,
    names: Names,
    cookies: Collection[int],
    force: bool,
    end: Callable[[diag.Socket], bool] = diag.destroy,
) -> dict[str, Any]:
    """End those of the named connections that the rules in force reject.

    Spared are connections of servers that are not enforced, and, without
    `force`, the session's own: `{"destroyed": [...], "gone": [...], "spared": [...]}`.
    A spared one says `why`.

    Raises:
        StateError: nothing can be ended on this kernel.
    """
    answer: dict[str, list[dict[str, Any]]] = {"destroyed": [], "gone": [], "spared": []}
    for each in found.rejected():
        if each.found.listens or each.found.cookie not in cookies:
            continue
        doc = found.document(each, names)
        mode = found.modes[each.server]
        if mode is not Mode.ENFORCE:
            why = f"{each.server.word} is {'off' if mode is Mode.OFF else 'only simulated'}"
            answer["spared"].append({**doc, "why": why})
        elif doc["session"] and not force:
            answer["spared"].append({**doc, "why": "it is this very session; use --force"})
        else:
            try:
                done = end(each.found)
            except diag.CannotDestroy as error:
                raise StateError(str(error)) from None
            answer["destroyed" if done else "gone"].append(doc)
    return answer
