# SPDX-License-Identifier: Apache-2.0
"""Under what connect() is measured: each condition in a sandbox of its own, all at once.

Each has its network namespace and cgroup, and its agent or its nftables rules stay in
place while the others are measured: going from one to the next takes no time, so rounds
can be short and many, and what disturbs the machine disturbs all alike. Agents run on
the other processors. Hooks are those of cgroup and network namespace (`sk_lookup` for
accept), which no other sandbox feels.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyroute2 import NetNS

from kernel.processes import PYTHON
from kernel.sandbox import Sandbox, sweep
from sockrules.control.model import Server

from . import nft, sets
from .sets.text import write

SERVERS = ("listen", "accept", "connect")
CLIENT = Path(__file__).with_name("client.py")


@dataclass(frozen=True, slots=True)
class Condition:
    """`rules` of `connect` for an agent with these servers in this mode, or an nftables ruleset."""

    name: str
    rules: int = 0
    mode: str = ""
    servers: tuple[str, ...] = ("connect",)
    audit: str = "no"
    policy: str = ""
    nftables: Callable[[], str] | None = None


NOTHING = Condition("nothing")
AGAIN = Condition("nothing, again")
SOCKRULES = (
    Condition("sockrules off, 10 000 rules", 10_000, "off"),
    Condition("connect simulated, 10 000 rules", 10_000, "simulate"),
    Condition("connect enforced, 10 rules", 10, "enforce"),
    Condition("connect enforced, 1 000 rules", 1_000, "enforce"),
    Condition("connect enforced, 10 000 rules", 10_000, "enforce"),
    Condition("connect enforced, corporate 10 000", 10_000, "enforce", policy="corporate"),
    Condition("connect enforced and audited, 10 000", 10_000, "enforce", audit="yes"),
    Condition("all enforced, 10 000 rules", 10_000, "enforce", SERVERS),
    Condition("all enforced and audited, 10 000", 10_000, "enforce", SERVERS, "yes"),
)
NFTABLES = (
    Condition("nftables, 10 rules", nftables=lambda: nft.linear(10)),
    Condition("nftables, 1 000 rules", nftables=lambda: nft.linear(1_000)),
    Condition("nftables, 10 000 rules", nftables=lambda: nft.linear(10_000)),
    Condition("nftables, a set of 10 000", nftables=lambda: nft.one_set(10_000)),
    Condition("nftables, a set, no conntrack", nftables=lambda: nft.one_set(10_000, False)),
)
CONDITIONS = (NOTHING, AGAIN, *SOCKRULES, *NFTABLES)


class Subject:
    """One condition in force, and the client that lives under it."""

    def __init__(self, condition: Condition, directory: Path) -> None:
        self.condition = condition
        self.box = Sandbox(directory)
        self._client: subprocess.Popen[str] | None = None
        self._cpu = 0

    def open(self) -> None:
        self.box.open()
        with NetNS(self.box.name) as network:  # all of 10.0.0.0/8 is this host, as 127/8 is
            lo = network.link_lookup(ifname="lo")[0]
            network.route("add", dst="10.0.0.0/8", oif=lo, type="local", scope="host", table=255)
        if self.condition.nftables:
            subprocess.run(
                self.box.enter(["nft", "-f", "-"]),
                input=self.condition.nftables(),
                text=True,
                check=True,
            )
        elif self.condition.mode:
            self.box.configure('audit = "no"')
            self.box.start()

    def settle(self, cpu: int) -> None:
        """Put the rules in force and start the client on the processor, the agent elsewhere."""
        condition, box = self.condition, self.box
        if condition.mode:
            assert box.agent
            _keep_off(box.agent.pid, cpu)
            box.apply(self._rules())
            box.activate(condition.mode, *condition.servers)
        self._cpu = cpu
        self.renew()

    def renew(self) -> None:
        """A new client: each process lies elsewhere in memory, and is a little faster or slower
        for that."""
        self._end_client()
        self._client = subprocess.Popen(
            self.box.governed([PYTHON, "-I", "-S", str(CLIENT), str(self._cpu)], None),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._client.stdout
        if self._client.stdout.readline().strip() != "ready":
            raise OSError(f"the client under `{self.condition.name}` did not start")

    def _end_client(self) -> None:
        if self._client:
            self._client.kill()
            self._client.communicate()

    def _rules(self) -> str:
        condition = self.condition
        if condition.policy:
            path = write(sets.make(condition.policy, condition.rules), self.box.paths.rules.parent)
            return path.read_text()
        defaults = "".join(
            f'\n[default.{server.word}]\nauthority = "yes"\naudit = "{condition.audit}"\n'
            for server in Server
        )
        return _rules(condition.rules) + defaults

    def order(self, *words: str | int) -> dict[str, Any]:
        """Have the client do something; what it says."""
        assert self._client and self._client.stdin and self._client.stdout
        self._client.stdin.write(" ".join(map(str, words)) + "\n")
        self._client.stdin.flush()
        return dict(json.loads(self._client.stdout.readline()))

    def lost(self) -> int:
        """Events that found no room."""
        return int(self.box.call("status")["events"]["lost_total"])

    def close(self) -> None:
        self._end_client()
        self.box.close()


@contextlib.contextmanager
def subjects(directory: Path, wanted: tuple[Condition, ...], cpu: int) -> Iterator[list[Subject]]:
    """All conditions in force, meanwhile."""
    sweep()
    Sandbox.programs = directory / "programs"
    Sandbox.programs.mkdir()
    made: list[Subject] = []
    try:
        for condition in wanted:
            if condition.nftables is None or shutil.which("nft"):
                made.append(Subject(condition, directory))
                made[-1].open()
                made[-1].settle(cpu)
        yield made
    finally:
        for subject in made:
            subject.close()


def _keep_off(pid: int, cpu: int) -> None:
    others = os.sched_getaffinity(0) | set(range(os.cpu_count() or 1))
    others -= {cpu}
    if others:
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                os.sched_setaffinity(int(task.name), others)


def _rules(count: int) -> str:
    """Rules of `connect` that name a host and a port each, as nft.linear does."""
    return "\n".join(
        f'[[rule]]\nname = "r{n}"\nserver = "connect"\nauthority = "yes"\naudit = "no"\n'
        f'when = "remote.address == {nft.address(n)} and remote.port == {1 + n % 60_000}"\n'
        for n in range(count)
    )
