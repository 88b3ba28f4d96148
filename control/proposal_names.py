# SPDX-License-Identifier: Apache-2.0
"""Names for proposed rules: what a person would call them.

A rule is named for its program and server: `nginx-accept`. Where a program has
several, the port is added, then the user, then a number. Ports have the names
that everybody knows; the host's own /etc/services is not asked, so the same
captures give the same names everywhere.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from .names import Names

if TYPE_CHECKING:
    from .proposals import Proposal

WELL_KNOWN = {
    21: "ftp", 22: "ssh", 25: "smtp", 53: "dns", 80: "http", 88: "kerberos", 110: "pop3",
    111: "rpcbind", 143: "imap", 179: "bgp", 389: "ldap", 443: "https", 445: "smb", 465: "smtps",
    587: "submission", 631: "ipp", 636: "ldaps", 853: "dns-tls", 873: "rsync", 993: "imaps",
    995: "pop3s", 1433: "mssql", 1883: "mqtt", 2049: "nfs", 2379: "etcd", 3128: "proxy",
    3306: "mysql", 3389: "rdp", 5432: "postgres", 5672: "amqp", 6379: "redis", 6443: "kubernetes",
    8080: "http-alt", 8883: "mqtts", 9090: "prometheus", 9092: "kafka", 9100: "node-exporter",
    9200: "elasticsearch", 11211: "memcached", 27017: "mongodb",
}  # fmt: skip
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")
_PORTS_IN_NAME = 2


def with_names(proposals: list[Proposal], names: Names, taken: Iterable[str]) -> list[Proposal]:
    """The same, named; no name twice and none that is taken."""
    used = set(taken)
    short = [_cleaned(f"{_what(one)}-{one.server.word}") for one in proposals]
    ported = [_cleaned(f"{name}{_port(one)}") for name, one in zip(short, proposals, strict=True)]
    once, ported_once = Counter(short), Counter(ported)
    named = []
    for one, brief, longer in zip(proposals, short, ported, strict=True):
        wanted = brief if once[brief] == 1 else longer
        if once[brief] > 1 and ported_once[longer] > 1:
            wanted = _cleaned(f"{longer}{_user(one, names)}")
        name, number = wanted, 2
        while name in used:
            name, number = f"{wanted}-{number}", number + 1
        used.add(name)
        named.append(replace(one, name=name))
    return named


def _what(one: Proposal) -> str:
    if one.program is not None:
        return one.program.rpartition("/")[2]
    return _port(one).removeprefix("-") or "unknown"


def _port(one: Proposal) -> str:
    ranges = one.ports.ranges
    if ranges is None:
        return ""
    numbers = [first for first, last in ranges for first in range(first, min(last, first + 2) + 1)]
    if len(numbers) > _PORTS_IN_NAME:
        return "-ports"
    return "".join(f"-{WELL_KNOWN.get(number, number)}" for number in numbers)


def _user(one: Proposal, names: Names) -> str:
    if not one.users or len(one.users) > 1:
        return ""
    return f"-{names.user_name(one.users[0]) or one.users[0]}"


def _cleaned(text: str) -> str:
    """The text as a rule's name."""
    name = _NOT_IN_NAMES.sub("-", text).lstrip(".-_") or "rule"
    return f"allow-{name}" if name.startswith("default-") else name
