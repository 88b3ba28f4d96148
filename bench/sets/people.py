# SPDX-License-Identifier: Apache-2.0
"""Who asks, in rules and in requests: users, groups, programs and services of an invented host."""

from __future__ import annotations

USERS = (0, 33, 101, 105, 106, 107, 110, 999, *range(1000, 1040))
GROUPS = (0, 4, 27, 33, 100, 110, 999, *range(1000, 1010))
DIRECTORIES = ("/usr/bin/", "/usr/sbin/", "/opt/app/bin/", "/opt/agents/")
PROGRAMS = (
    *(f"/usr/bin/{name}" for name in ("curl", "wget", "ssh", "git", "python3.11", "perl")),
    *(f"/usr/sbin/{name}" for name in ("nginx", "sshd", "postfix", "named", "ntpd")),
    *(f"/opt/app/bin/server-{number}" for number in range(20)),
    *(f"/opt/agents/agent-{number}" for number in range(8)),
    "/usr/lib/postgresql/15/bin/postgres",
)
UNITS = (
    *("nginx.service", "postgresql.service", "ssh.service", "postfix.service", "named.service"),
    *(f"app-{number}.service" for number in range(20)),
)
SLICES = ("system.slice", "user.slice")


def cgroup_of(unit: str) -> str:
    """The path of the cgroup that a unit's processes are in."""
    return f"/system.slice/{unit}"
