# SPDX-License-Identifier: Apache-2.0
"""Where captured transactions are read: from the agent, or from the state of one that is gone.

The agent is asked first, because it knows of the last second as well. When
nobody is there to ask, the state database is read; an agent that is there and
does not answer is an error, not a reason to look behind its back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from . import capture_store
from .capture_store import EVERYTHING, InForce
from .captured import Captured, Filter, captured_from_json, filter_to_json
from .client import AgentUnreachable, Client
from .model import RuleSet
from .names import Names
from .paths import Paths
from .rules_file import parse_rules


@dataclass(frozen=True, slots=True)
class Captures:
    """What was captured, and how much of it is missing by the keys of capture_store.LOSSES."""

    transactions: tuple[Captured, ...]
    lost: Mapping[str, int]


class RecordedNames:
    """Names of the host, with the lists as they were when a rule file was applied."""

    def __init__(self, names: Names, lists: Mapping[str, str]) -> None:
        self._lists = lists
        self.uid, self.gid = names.uid, names.gid
        self.user_name, self.group_name = names.user_name, names.group_name

    def read_list(self, name: str) -> str:
        try:
            return self._lists[name]
        except KeyError:
            raise FileNotFoundError(2, "No such file or directory", f"{name}.txt") from None


def captures(paths: Paths, chosen: Filter = EVERYTHING) -> Captures:
    """Transactions by number. Raises AgentUnreachable, AgentRefused, OSError.

    A host that never captured anything has none.
    """
    client = Client(paths.socket)
    try:
        return _from_agent(client, chosen)
    except AgentUnreachable as error:
        if not error.absent:
            raise
    try:
        db = capture_store.open_to_read(paths.state_db)
    except FileNotFoundError:
        return Captures((), {})
    try:
        return Captures(tuple(capture_store.select(db, chosen)), capture_store.losses(db))
    except sqlite3.Error as error:
        raise OSError(None, f"cannot be read: {error}", str(paths.state_db)) from None
    finally:
        db.close()


def in_force(paths: Paths) -> InForce | None:
    """The rule file applied last; `None` where none ever was. Raises as `captures` does."""
    try:
        answer = Client(paths.socket).call("in-force")
        if not answer["revision"]:
            return None
        lists = {str(name): str(text) for name, text in answer["lists"].items()}
        return InForce(int(answer["revision"]), str(answer["file"]), str(answer["text"]), lists)
    except AgentUnreachable as error:
        if not error.absent:
            raise
    try:
        db = capture_store.open_to_read(paths.state_db)
    except FileNotFoundError:
        return None
    try:
        return capture_store.in_force(db)
    except sqlite3.Error as error:
        raise OSError(None, f"cannot be read: {error}", str(paths.state_db)) from None
    finally:
        db.close()


def rules_in_force(found: InForce | None, names: Names) -> RuleSet:
    """Its rule set; as shipped, where nothing was applied. Raises InputError."""
    if found is None:
        return RuleSet()
    recorded = RecordedNames(names, found.lists)
    file = f"revision {found.revision} ({found.file})"
    return parse_rules(found.text, file=file, names=recorded).ruleset


def _from_agent(client: Client, chosen: Filter) -> Captures:
    transactions: list[Captured] = []
    while True:
        after = transactions[-1].number if transactions else 0
        answer = client.call("captures", filter=filter_to_json(chosen), after=after)
        try:
            transactions += map(captured_from_json, answer["captures"])
        except (KeyError, TypeError, ValueError) as error:
            raise AgentUnreachable(
                f"the agent's captured transactions cannot be understood: {error}",
                "agent and command line may be of different versions; restart the agent",
            ) from None
        if not answer.get("more") or not answer["captures"]:
            return Captures(tuple(transactions), answer.get("lost") or {})
