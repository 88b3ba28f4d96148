# SPDX-License-Identifier: Apache-2.0
"""What the running kernel pays for each hook: a report on stdout, one line of JSON.

    python3 -m vm.costs    in the machine or on the host, as root

Instructions are the verifier's, as it counts what it went through. The nanoseconds are the
kernel's own account (bpf_stats) of programs that judged real connects, listens and peers
by a handful of rules, none of which logged anything. They include what the program waits
for, and bpf_stats itself, some 20 ns natively.
"""

from __future__ import annotations

import json
import platform
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from kernel.processes import PYTHON
from kernel.run_stats import Runs, counted, programs, since
from kernel.sandbox import FALLBACK, Sandbox, sweep
from sockrules.agent.compiler import compile_apart, source_text
from sockrules.agent.hooks import HOOKS
from sockrules.control.model import Server

from .loading import loads
from .programs import KEPT, flags

REPORT = "costs: "
ROUNDS = 300

RULES = """
[[rule]]
name = "no-mail"
server = "connect"
authority = "no"
when = "remote.port == 25 and user != root"

[[rule]]
name = "not-from-the-lab"
server = "accept"
authority = "no"
when = "remote.address in {192.0.2.0/24, 2001:db8::/32}"

[[rule]]
name = "low-ports-for-root"
server = "listen"
authority = "no"
when = "local.port < 1024 and user != root"
"""

TRAFFIC = f"""
import socket
for family, place in ((2, "127.0.0.1"), (10, "::1")):
    for _ in range({ROUNDS}):
        with socket.socket(family) as listener, socket.socket(family) as client:
            listener.setsockopt(1, 2, 1)  # SO_REUSEADDR
            listener.bind((place, 4000))
            listener.listen(8)
            client.connect((place, 4000))
            listener.accept()[0].close()
"""
"""Each round is a bind, a listen, a connect and an accept."""


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds until an agent with the wanted ways has proven its hooks, from its command on."""

    ways: str
    seconds: float


def label(hook: str) -> str:
    """What the kernel calls the program of a hook (libbpf.prog_load)."""
    return hook.replace("-", "_")[:15]


def enforced(ways: dict[str, str]) -> tuple[Start, dict[str, int]] | None:
    """Start an agent that takes these ways: how long that took, and nanoseconds by hook.

    None where the kernel does not allow them.
    """
    with tempfile.TemporaryDirectory() as place:
        box = Sandbox(Path(place))
        box.open()
        try:
            box.configure(product="", hooks=ways, listen="enforce", accept="enforce",
                          connect="enforce")  # fmt: skip
            started = time.perf_counter()
            box.start(RULES)
            seconds = time.perf_counter() - started
            if not box.call("status")["enforcing"]:
                return None
            taken = ", ".join(box.way(each).word for each in Server)
            with counted():
                before = programs()
                done = box.inside([PYTHON, "-I", "-S", "-c", TRAFFIC])
                ran = since(before)
            assert done.returncode == 0, done.stderr
        finally:
            box.close()
    return Start(taken, seconds), {
        hook.name: mean
        for hook in HOOKS
        if (mean := nanoseconds(ran.get(label(hook.name))))
    }


def nanoseconds(ran: Runs | None) -> int:
    """The mean of so many runs, 0 where there were too few."""
    if not ran or ran.count < ROUNDS:
        return 0
    return round(ran.nanoseconds / ran.count)


def compiled() -> float:
    """Seconds that clang takes for the programs."""
    started = time.perf_counter()
    compile_apart(source_text(), flags())
    return time.perf_counter() - started


def report() -> dict[str, object]:
    sweep()
    Sandbox.programs = Path(KEPT)
    Path(KEPT).mkdir(exist_ok=True)
    hooks = {each.hook: asdict(each) for each in loads()}
    starts = []
    wanted: tuple[dict[str, str], ...] = ({}, {"listen": "lsm", "accept": "lsm"}, FALLBACK)
    for ways in wanted:
        found = enforced(ways)
        if found and asdict(found[0])["ways"] not in [start["ways"] for start in starts]:
            starts.append(asdict(found[0]))
            for hook, mean in found[1].items():
                hooks[hook].setdefault("nanoseconds", mean)
    return {
        "kernel": platform.release(),
        "compile": compiled(),
        "starts": starts,
        "hooks": list(hooks.values()),
    }


if __name__ == "__main__":
    print(REPORT + json.dumps(report()), flush=True)
