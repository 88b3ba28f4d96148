# SPDX-License-Identifier: Apache-2.0
"""Captured transactions for tests, written as people would."""

from __future__ import annotations

from sockrules.control.addresses import parse_endpoint
from sockrules.control.captured import Captured
from sockrules.control.model import Request, Server
from sockrules.control.names import FixedNames

USERS = {"root": 0, "www-data": 33, "redis": 110, "app": 1000}
NAMES = FixedNames(users=USERS, groups=USERS)
EPHEMERAL = (32768, 60999)


def captured(
    server: str,
    program: str | None = None,
    user: str | None = "root",
    local: str = "",
    remote: str = "",
    *,
    count: int = 1,
    folded: tuple[int, int] | None = None,
) -> Captured:
    """One transaction; accept has a folded port unless it is given one."""
    kind = Server[server.upper()]
    here = parse_endpoint(local) if local else (None, None)
    there = parse_endpoint(remote) if remote else (None, None)
    number = None if user is None else USERS[user]
    request = Request(kind, *here, *there, number, number, program)
    if kind is Server.ACCEPT and folded is None:
        folded = EPHEMERAL
    times = ("2025-01-01T10:00:00Z", "2025-01-05T10:00:00Z")
    return Captured(request, True, f"default-{server}", count, *times, folded)


def host() -> list[Captured]:
    """A host with nginx for the world, redis for itself, sshd for a network, and a cron job."""
    nginx, redis, sshd = "/usr/sbin/nginx", "/usr/bin/redis-server", "/usr/sbin/sshd"
    found = [captured("listen", nginx, local=f"{any_}:{port}")
             for any_ in ("0.0.0.0", "[::]") for port in (80, 443)]  # fmt: skip
    found += [captured("listen", sshd, local=f"{any_}:22") for any_ in ("0.0.0.0", "[::]")]
    found.append(captured("listen", redis, "redis", "127.0.0.1:6379"))
    found += [
        captured("accept", nginx, local="10.0.0.5:443", remote=f"{first}.7.{first}.9", count=first)
        for first in (5, 23, 45, 67, 81, 93, 109, 151, 185, 203)
    ]
    found += [
        captured("accept", nginx, local="10.0.0.5:80", remote=f"93.{at}.2.7") for at in (1, 2)
    ]
    found += [
        captured("accept", sshd, local="10.0.0.5:22", remote=f"10.20.0.{at}")
        for at in (3, 7, 9, 40)
    ]
    found.append(captured("accept", redis, "redis", "127.0.0.1:6379", "127.0.0.1", count=900))
    found.append(
        captured("connect", "/opt/shop/bin/shop", "app", remote="127.0.0.1:6379", count=900)
    )
    found.append(captured("connect", "/usr/bin/curl", remote="151.101.2.132:443", count=24))
    return found
