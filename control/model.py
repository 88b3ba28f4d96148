# SPDX-License-Identifier: Apache-2.0
"""The words of sockrules: servers, requests, rules, rule sets and verdicts.

Everything here is immutable and knows nothing of files, kernels or terminals.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .condition import Condition

DEFAULT_SEQUENCE = 99999
"""Where every server's default rule stands; listed rules must stay below it."""

SEQUENCE_STEP = 10
"""Rules are shown at 10, 20, 30, ...; with 10 000 rules and more at 1, 2, 3, ..."""


class Server(enum.IntEnum):
    """One of the three points in a TCP conversation. The value is abi.h's number."""

    LISTEN = 0
    ACCEPT = 1
    CONNECT = 2

    __hash__ = int.__hash__  # an enumeration's own costs as much as the rest of a look-up

    @property
    def word(self) -> str:
        """The name that people and files use: `listen`, `accept`, `connect`."""
        return self.name.lower()


class Mode(enum.IntEnum):
    """What a server does with its decisions. The value is abi.h's number."""

    OFF = 0
    SIMULATE = 1
    ENFORCE = 2

    @property
    def word(self) -> str:
        return self.name.lower()


class Field(enum.StrEnum):
    """A field that a condition can ask about."""

    LOCAL_PORT = "local.port"
    LOCAL_ADDRESS = "local.address"
    REMOTE_PORT = "remote.port"
    REMOTE_ADDRESS = "remote.address"
    USER = "user"
    GROUP = "group"
    PROGRAM = "program"
    SERVICE = "service"

    __hash__ = str.__hash__


FIELDS_OF: dict[Server, frozenset[Field]] = {
    Server.LISTEN: frozenset(Field) - {Field.REMOTE_PORT, Field.REMOTE_ADDRESS},
    Server.ACCEPT: frozenset(Field),
    Server.CONNECT: frozenset(Field),
}


class Switch(enum.StrEnum):
    """A switch that may be inherited: rule, then its server's default rule, then the product."""

    YES = "yes"
    NO = "no"
    INHERIT = "inherit"

    __hash__ = str.__hash__


@dataclass(frozen=True, slots=True)
class Request:
    """What a server was asked. `None` is unknown, a value of its own in every field.

    Addresses are 128-bit integers; an IPv4 address is its mapped form
    ::ffff:a.b.c.d. Ports are 1-65535 (port 0 is unknown, so it is `None`).
    `program` is an absolute path; `service` a cgroup's path, counted from the root of the
    cgroup v2 hierarchy, or the name of a systemd unit where the path is not known.
    """

    server: Server
    local_address: int | None = None
    local_port: int | None = None
    remote_address: int | None = None
    remote_port: int | None = None
    user: int | None = None
    group: int | None = None
    program: str | None = None
    service: str | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of the list. `sequence` follows from its place in the file.

    `expires` is aware of its offset; from that moment on the rule matches nothing.
    """

    name: str
    server: Server
    authority: bool
    when: Condition
    sequence: int
    audit: Switch = Switch.INHERIT
    message: Switch = Switch.INHERIT
    capture: Switch = Switch.INHERIT
    active: bool = True
    test: bool = True
    description: str = ""
    expires: datetime | None = None

    def expired(self, moment: datetime) -> bool:
        """Whether the rule no longer applies; it does until just before `expires`."""
        return self.expires is not None and moment >= self.expires


@dataclass(frozen=True, slots=True)
class DefaultRule:
    """Decides what no rule of its server matched; always active and in test."""

    server: Server
    authority: bool = True
    audit: Switch = Switch.INHERIT
    message: Switch = Switch.INHERIT
    capture: Switch = Switch.INHERIT

    @property
    def name(self) -> str:
        return f"default-{self.server.word}"

    @property
    def sequence(self) -> int:
        return DEFAULT_SEQUENCE


@dataclass(frozen=True, slots=True)
class Product:
    """The host's defaults. As shipped: only rejections are audited, nothing else happens."""

    audit: bool = False
    message: bool = False
    capture: bool = False


def _shipped_defaults() -> dict[Server, DefaultRule]:
    return {server: DefaultRule(server) for server in Server}


@dataclass(frozen=True, slots=True)
class RuleSet:
    """The whole list in order, the three default rules, and the product configuration."""

    rules: tuple[Rule, ...] = ()
    defaults: dict[Server, DefaultRule] = field(default_factory=_shipped_defaults)
    product: Product = Product()

    def active(self) -> tuple[Rule, ...]:
        """The rules that the kernel evaluates."""
        return tuple(rule for rule in self.rules if rule.active)

    def in_test(self) -> tuple[Rule, ...]:
        """The rules that the test facility evaluates."""
        return tuple(rule for rule in self.rules if rule.test)


@dataclass(frozen=True, slots=True)
class Effective:
    """A switch's value in force and where it came from: `rule`, `default` or `product`."""

    value: bool
    source: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which rule decides a request, and what follows.

    `audit` is whether a line is written for this very verdict: a rejection
    always is, whatever the rule's switch says.
    """

    server: Server
    authority: bool
    rule: str
    sequence: int
    audit: bool
    message: bool
    capture: bool


def effective(ruleset: RuleSet, rule: Rule | DefaultRule, switch: str) -> Effective:
    """The value of `audit`, `message` or `capture` for a rule, and its source."""
    own: Switch = getattr(rule, switch)
    if own is not Switch.INHERIT:
        return Effective(own is Switch.YES, "rule")
    from_default: Switch = getattr(ruleset.defaults[rule.server], switch)
    if from_default is not Switch.INHERIT:
        return Effective(from_default is Switch.YES, "default")
    return Effective(bool(getattr(ruleset.product, switch)), "product")


def verdict_of(ruleset: RuleSet, rule: Rule | DefaultRule) -> Verdict:
    """The verdict when `rule` decides."""
    return Verdict(
        server=rule.server,
        authority=rule.authority,
        rule=rule.name,
        sequence=rule.sequence,
        audit=not rule.authority or effective(ruleset, rule, "audit").value,
        message=effective(ruleset, rule, "message").value,
        capture=effective(ruleset, rule, "capture").value,
    )
