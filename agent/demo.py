# SPDX-License-Identifier: Apache-2.0
"""`make run`: the agent in the foreground on a scratch root, and six requests to watch.

Nothing of the host is governed: the demonstration makes a network namespace and
a cgroup of its own, runs agent and requests inside, and removes both at the end.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from pyroute2 import NetNS, netns

from ..control.paths import Paths
from .enforcer import cgroup_mount, mount_bpffs, remove_pins
from .links import Links

RULES = """\
# The first rule that matches decides; a server's default decides the rest.

[[rule]]
name      = "web-may-listen"
server    = "listen"
authority = "yes"
when      = "local.port == 8080"

[[rule]]
name      = "nothing-else-listens"
server    = "listen"
authority = "no"
when      = "any"

[[rule]]
name      = "not-from-the-lab"
server    = "accept"
authority = "no"
when      = "local.port == 8080 and remote.address in 127.66.0.0/16"

[[rule]]
name      = "no-mail-from-root"
server    = "connect"
authority = "no"
when      = "remote.port in {25, 465, 587} and user == root"
"""

CONFIG = """\
[product]
audit = "yes"      # every decision is logged, not only rejections

[servers]
listen  = "enforce"
accept  = "enforce"
connect = "enforce"

[agent]
cgroup = "{cgroup}"
"""

_LISTEN = """
import socket, sys
listener = socket.socket()
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen()
print("listening", flush=True)
sys.stdin.read()
"""

_CONNECT = """
import socket, sys
client = socket.socket()
client.bind((sys.argv[1], 0))
client.connect(("127.0.0.1", int(sys.argv[2])))
"""

_HINTS = """
The agent goes on; in another terminal, as root:

  {command} --root {root} status
  {command} --root {root} audit --follow
  {command} --root {root} test connect --user root --remote 127.0.0.1:25 --trace

and a shell in which these rules are in force:

  nsenter --net={network} sh -c 'echo $$ > {cgroup}/cgroup.procs; exec sh'

Ctrl-C ends it and removes everything.
"""

REQUESTS = (
    ("listen on port 8081: rejected", (_LISTEN, "8081")),
    ("connect to port 8080: allowed, and accepted", (_CONNECT, "127.0.0.1", "8080")),
    ("the same from 127.66.0.9: not accepted", (_CONNECT, "127.66.0.9", "8080")),
    ("connect to port 25: rejected", (_CONNECT, "127.0.0.1", "25")),
)

_AUDIT_PATIENCE = 0.6
"""Seconds: the agent looks at what has come ten times a second, the reader at the log likewise."""


def demo() -> int:
    """Run until SIGINT or SIGTERM; 0 when everything could be shown."""
    _interrupt_at_sigterm()
    with _scratch() as (root, cgroup), _network(root.name) as network:
        paths = Paths(root)
        paths.rules.parent.mkdir(parents=True)
        paths.rules.write_text(RULES)
        paths.agent_config.write_text(CONFIG.format(cgroup=cgroup))
        print(f"The rules ({paths.rules}):\n\n{RULES}", flush=True)
        agent = subprocess.Popen(
            ["nsenter", f"--net={network}",
             sys.executable, "-m", "sockrules.agent", "run", "--root", str(root), "--detach"]
        )  # fmt: skip
        try:
            _wait_for(paths.socket, agent)
            _show(paths, network, cgroup)
            print(
                _HINTS.format(command=_command(), root=root, network=network, cgroup=cgroup),
                flush=True,
            )
            agent.wait()
            return 0
        except KeyboardInterrupt:
            return 0
        finally:
            agent.terminate()
            agent.wait()
            _remove(paths.pins)


def _remove(pins: Path) -> None:
    """What an agent that was killed has left in force."""
    if pins.exists():
        Links(pins / "links").detach_all()
        remove_pins(pins)


def _command() -> Path:
    return Path(sys.executable).parent / "sockrules"


def _interrupt_at_sigterm() -> None:
    """In this process alone: pyroute2 ends children, forks of it, by SIGTERM, and what unwound
    there would take the demonstration's network away."""
    here = os.getpid()

    def interrupt(_: int, __: FrameType | None) -> None:
        if os.getpid() != here:
            os._exit(0)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


@contextlib.contextmanager
def _scratch() -> Iterator[tuple[Path, Path]]:
    """A root and a cgroup that are gone afterwards."""
    mount_bpffs()
    root = Path(tempfile.mkdtemp(prefix="sockrules-demo-"))
    cgroup = cgroup_mount() / root.name
    cgroup.mkdir()
    try:
        yield root, cgroup
    finally:
        for _ in range(20):  # the last process may still be leaving
            with contextlib.suppress(OSError):
                cgroup.rmdir()
                break
            time.sleep(0.1)
        shutil.rmtree(root, ignore_errors=True)


@contextlib.contextmanager
def _network(name: str) -> Iterator[Path]:
    """A network namespace with a loopback interface that is up; its path."""
    netns.create(name)
    try:
        with NetNS(name) as network:
            network.link("set", ifname="lo", state="up")
        yield Path(netns.NETNS_RUN_DIR, name)
    finally:
        netns.remove(name)


def _wait_for(socket: Path, agent: subprocess.Popen[bytes]) -> None:
    while not socket.exists():
        if agent.poll() is not None:
            raise SystemExit(agent.returncode or 1)
        time.sleep(0.05)


def _show(paths: Paths, network: Path, cgroup: Path) -> None:
    """Make the requests while `sockrules audit --follow` tells what was decided."""
    print("\nSix requests, and what `sockrules audit --follow` says of each:", flush=True)
    follow = subprocess.Popen([_command(), "--root", str(paths.root), "audit", "--follow"])
    try:
        time.sleep(1)  # it is about to open the log
        with _inside(network, cgroup, (_LISTEN, "8080")) as listener:
            assert listener.stdout
            listener.stdout.readline()
            _explain("listen on port 8080: allowed")
            for what, arguments in REQUESTS:
                with _inside(network, cgroup, arguments) as process:
                    process.communicate()
                _explain(what)
    finally:
        follow.terminate()
        follow.wait()


def _explain(what: str) -> None:
    """Say what was done, then leave its audit lines time to appear."""
    print(f"\n# {what}", flush=True)
    time.sleep(_AUDIT_PATIENCE)


@contextlib.contextmanager
def _inside(
    network: Path, cgroup: Path, arguments: tuple[str, ...]
) -> Iterator[subprocess.Popen[str]]:
    """A Python process in the network namespace and in the cgroup."""
    enter = f'echo $$ > {cgroup}/cgroup.procs && exec "$@"'
    process = subprocess.Popen(
        ["nsenter", f"--net={network}", "sh", "-c", enter, "sh",
         "/usr/bin/python3", "-I", "-S", "-c", *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()
