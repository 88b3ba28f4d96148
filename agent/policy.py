# SPDX-License-Identifier: Apache-2.0
"""From the text of a rule file to a table, and what was read on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from ..control.compile import compile_table
from ..control.model import Product, RuleSet
from ..control.names import Names
from ..control.problems import Problem
from ..control.rules_file import RuleMemory, parse_rules
from ..control.same import Same, grouped, identified, named
from ..control.table import Table
from .inodes import inodes_of
from .state import Revision, now


class Recorder:
    """Names that remember which lists were read, and can read them from memory again."""

    def __init__(self, names: Names, lists: Mapping[str, str] | None = None) -> None:
        self._names = names
        self._from_memory = lists
        self.lists: dict[str, str] = {}

    def uid(self, name: str) -> int | None:
        return self._names.uid(name)

    def gid(self, name: str) -> int | None:
        return self._names.gid(name)

    def user_name(self, uid: int) -> str | None:
        return self._names.user_name(uid)

    def group_name(self, gid: int) -> str | None:
        return self._names.group_name(gid)

    def read_list(self, name: str) -> str:
        if self._from_memory is not None and name in self._from_memory:
            text = self._from_memory[name]
        else:
            text = self._names.read_list(name)
        self.lists[name] = text
        return text


@dataclass(frozen=True, slots=True)
class Policy:
    """A compiled rule file: its revision, its rules, its table, and what to warn of."""

    revision: Revision
    ruleset: RuleSet
    table: Table
    warnings: tuple[Problem, ...]
    same: Same = field(default_factory=dict)
    """The paths of programs that were one file when the table was made."""


def read_policy(
    text: str,
    *,
    file: str,
    user: str,
    number: int,
    names: Names,
    product: Product,
    lists: Mapping[str, str] | None = None,
    moment: datetime | None = None,
    memory: RuleMemory | None = None,
) -> Policy:
    """Parse and compile; nothing is done with it yet.

    Args:
        number: the revision it is to have.
        lists: texts of lists to use instead of the files.
        moment: when it is to be in force, in the host's zone; now, when left out.
        memory: of the rule file that was read before.

    Raises:
        InputError: with everything that is wrong.
    """
    recorder = Recorder(names, lists)
    parsed = parse_rules(text, file=file, names=recorder, product=product, memory=memory)
    active = parsed.ruleset.active()
    same = same_now(parsed.ruleset)
    table = compile_table(
        parsed.ruleset, identified(active, same), revision=number, moment=moment
    )
    revision = Revision(number, now(), user, file, text, recorder.lists)
    return Policy(revision, parsed.ruleset, table, parsed.warnings, same)


def same_now(ruleset: RuleSet) -> Same:
    """Which programs of the active rules are one file at present."""
    return grouped(inodes_of(named(ruleset.active())))


def compiled_again(policy: Policy, moment: datetime | None, same: Same) -> Policy:
    """The same rules as of another moment, or with other files.

    Raises:
        CompileError: they do not fit any more.
    """
    rules = identified(policy.ruleset.active(), same)
    number = policy.revision.revision
    table = compile_table(policy.ruleset, rules, revision=number, moment=moment)
    return replace(policy, table=table, same=same)
