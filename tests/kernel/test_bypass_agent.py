# SPDX-License-Identifier: Apache-2.0
"""Ways round the agent itself (docs/bypasses.md), tried; more of them in test_agent.py."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from .processes import PYTHON
from .roundabout import TURNED_AWAY, steps, walking
from .sandbox import Sandbox

pytestmark = pytest.mark.kernel

RULES = """
[[rule]]
name = "no-connect-9001"
server = "connect"
authority = "no"
when = "remote.port == 9001"

[[rule]]
name = "no-peers-on-9002"
server = "accept"
authority = "no"
when = "local.port == 9002"
"""


@pytest.fixture
def running(fresh: Sandbox) -> Iterator[Sandbox]:
    """An agent that enforces RULES."""
    fresh.configure(connect="enforce", accept="enforce")
    fresh.start(RULES)
    yield fresh


def test_what_is_older_than_the_agent(fresh: Sandbox) -> None:
    """A connection goes on; a socket, a process and a listener are judged like any other."""
    with (
        walking(fresh, "socket inet", "bind 127.0.0.1 9001", "listen", "serve"),
        walking(fresh, "socket inet", "bind 127.0.0.1 9002", "listen", "serve"),
        walking(fresh, "socket inet", "connect 127.0.0.1 9001", "wait", "send") as connected,
        walking(fresh, "socket inet", "connect 127.0.0.1 9001", "wait", "disconnect",
                "connect 127.0.0.1 9001") as again,
        walking(fresh, "socket inet", "wait", "connect 127.0.0.1 9001") as unconnected,
    ):  # fmt: skip
        fresh.configure(connect="enforce", accept="enforce")
        fresh.start(RULES)
        for walk, met in ((connected, "ok"), (again, "EPERM"), (unconnected, "EPERM")):
            walk.go_on()
            assert walk.listen() == met
        assert fresh.client("connect", "plain", "127.0.0.1", 9002) in TURNED_AWAY


BPF = """
import ctypes, errno, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
number = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
def bpf(command, *attributes):
    raw = b"".join(attributes).ljust(128, bytes(1))
    done = libc.syscall(number, command, ctypes.create_string_buffer(raw, 128), 128)
    return "ok" if done >= 0 else errno.errorcode[ctypes.get_errno()]
path = ctypes.create_string_buffer(sys.argv[1].encode())
print(bpf(7, struct.pack("=QII", ctypes.addressof(path), 0, 0)))  # BPF_OBJ_GET
for command in (11, 12, 31, 13, 14, 30):  # the next program, map, link; one of each by number
    print(bpf(command, struct.pack("=III", 1, 0, 0)))
"""


def test_users_reach_neither_maps_nor_links_nor_programs(running: Sandbox) -> None:
    pins = [path for path in running.paths.pins.rglob("*") if not path.is_dir()]
    assert {path.parent.name.partition("-")[0] for path in pins} == {"links", "maps"}
    for path in pins:
        by_user = running.inside([PYTHON, "-I", "-S", "-c", BPF, str(path)], user=2000)
        assert set(by_user.stdout.split()) <= {"EPERM", "EACCES"}, (path, by_user)
        by_root = running.inside([PYTHON, "-I", "-S", "-c", BPF, str(path)])
        assert by_root.stdout.split()[0] == "ok", (path, by_root)
        assert running.inside(["rm", "-f", str(path)], user=2000).returncode == 1
    assert steps(running, "socket inet", "connect 127.0.0.1 9001") == "EPERM"


ASK = """
import os, socket, sys
os.chdir(sys.argv[1])  # where a user could not go: the way to a test's folder is closed
os.setgroups([])
os.setresgid(*[int(sys.argv[3])] * 3)
os.setresuid(*[int(sys.argv[3])] * 3)
try:
    socket.socket(socket.AF_UNIX).connect(sys.argv[2])
    print("connected")
except PermissionError:
    print("refused")
"""


@pytest.mark.parametrize(("user", "answer"), [("0", "connected"), ("2000", "refused")])
def test_users_do_not_command_the_agent(running: Sandbox, user: str, answer: str) -> None:
    place = running.paths.socket
    asked = running.inside([PYTHON, "-I", "-S", "-c", ASK, str(place.parent), place.name, user])
    assert asked.stdout.strip() == answer, asked


def test_a_link_that_root_removes_is_put_back(running: Sandbox) -> None:
    connect = ("socket inet", "connect 127.0.0.1 9001")
    link = running.paths.pins / "links" / "connect4"
    link.unlink()
    assert steps(running, *connect) == "EPERM", "the agent holds it"
    running.wait_until(link.exists, 10, "the link to be pinned again")
    running.stop()
    assert steps(running, *connect) == "EPERM"


def test_a_host_without_a_cgroup_v2_hierarchy_is_told_so(fresh: Sandbox) -> None:
    agent = f"exec {sys.executable} -m sockrules.agent run --root {fresh.paths.root}"
    unmounted = f"umount -l {fresh.cgroup.parent} && {agent}"
    done = fresh.inside(["unshare", "--mount", "sh", "-c", unmounted])
    assert done.returncode == 1, done
    assert "no cgroup v2 hierarchy is mounted" in done.stderr
