# SPDX-License-Identifier: Apache-2.0
"""What a connect() on loopback feels: nothing loaded, sockrules, nftables.

One client in a sandbox times its connects; between its rounds the conditions
change, so that every condition sees the same machine. nftables is measured when
`nft` is installed.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kernel.sandbox import PYTHON, Sandbox, sweep

ROUNDS = 7
CONNECTS = 1500
PORT = 7777

CLIENT = f"""
import socket, statistics, sys, time
for line in sys.stdin:
    times = []
    for _ in range({CONNECTS}):
        client = socket.socket()
        start = time.perf_counter_ns()
        client.connect(("127.0.0.1", {PORT}))
        times.append(time.perf_counter_ns() - start)
        client.close()
    print(statistics.median(times), flush=True)
"""

SERVER = f"""
import socket
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", {PORT}))
listener.listen(1024)
while True:
    listener.accept()[0].close()
"""


def connects(directory: Path) -> list[dict[str, Any]]:
    """A row for each condition: its median and its ratio to the bare call of the same round."""
    sweep()
    box = Sandbox(directory)
    box.open()
    try:
        box.configure('audit = "no"')
        box.start()
        with box.background([PYTHON, "-I", "-S", "-c", SERVER]):
            box.wait_until(lambda: box.client("connect", "plain", "127.0.0.1", PORT) == "ok", 5)
            return _measure(box, _conditions(box))
    finally:
        box.close()


def _measure(box: Sandbox, conditions: dict[str, Callable[[], None]]) -> list[dict[str, Any]]:
    times: dict[str, list[float]] = {name: [] for name in conditions}
    with subprocess.Popen(
        box._governed([PYTHON, "-I", "-S", "-c", CLIENT], None),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as client:
        assert client.stdin and client.stdout
        for number in range(ROUNDS):
            for name, arrange in conditions.items():
                arrange()
                client.stdin.write("go\n")
                client.stdin.flush()
                times[name].append(float(client.stdout.readline()))
            print(f"  round {number + 1} of {ROUNDS}", file=sys.stderr, flush=True)
        client.stdin.close()
    bare = times["nothing"]
    rows = []
    for name, own in times.items():
        ratios = [mine / theirs for mine, theirs in zip(own, bare, strict=True)]
        rows.append(
            {
                "with": name,
                "median_us": statistics.median(own) / 1000,
                "ratio": statistics.median(ratios),
                "lowest": min(ratios),
                "highest": max(ratios),
            }
        )
    return rows


def _conditions(box: Sandbox) -> dict[str, Callable[[], None]]:
    def off() -> None:
        box.activate("off")
        _nft(box, "flush ruleset")

    def with_rules(count: int, mode: str, audit: str = "no", *servers: str) -> Callable[[], None]:
        text = _rules(count) + f'\n[default.connect]\nauthority = "yes"\naudit = "{audit}"\n'
        text += f'[default.accept]\nauthority = "yes"\naudit = "{audit}"\n'

        def arrange() -> None:
            off()
            box.apply(text)
            box.activate(mode, *(servers or ("connect",)))

        return arrange

    found: dict[str, Callable[[], None]] = {
        "nothing": off,
        "connect enforced, 10 rules": with_rules(10, "enforce"),
        "connect simulated, 1 000 rules": with_rules(1_000, "simulate"),
        "connect enforced, 1 000 rules": with_rules(1_000, "enforce"),
        "connect enforced, 10 000 rules": with_rules(10_000, "enforce"),
        "connect enforced and audited": with_rules(10, "enforce", "yes"),
        "all servers, 1 000 rules": with_rules(
            1_000, "enforce", "no", "connect", "accept", "listen"
        ),
        "all servers audited": with_rules(10, "enforce", "yes", "connect", "accept", "listen"),
    }
    if shutil.which("nft"):
        found["nftables, 10 rules, conntrack"] = _nft_rules(box, off, 10)
        found["nftables, 1 000 rules, conntrack"] = _nft_rules(box, off, 1_000)
        found["nftables, a set of 10 000"] = _nft_set(box, off, 10_000)
    return found


def _address(number: int) -> str:
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def _rules(count: int) -> str:
    return "\n".join(
        f'[[rule]]\nname = "r{n}"\nserver = "connect"\nauthority = "no"\n'
        f'when = "remote.address == {_address(n)} and remote.port == {1 + n % 60_000}"\n'
        for n in range(count)
    )


_HEAD = """flush ruleset
table inet bench {
  %s
  chain output {
    type filter hook output priority 0; policy accept;
    ct state established,related accept
    %s
  }
}
"""


def _nft_rules(box: Sandbox, off: Callable[[], None], count: int) -> Callable[[], None]:
    rules = "\n".join(
        f"ip daddr {_address(n)} tcp dport {1 + n % 60_000} reject" for n in range(count)
    )
    return _with_nft(box, off, _HEAD % ("", rules))


def _nft_set(box: Sandbox, off: Callable[[], None], count: int) -> Callable[[], None]:
    elements = ", ".join(_address(n) for n in range(count))
    named = f"set denied {{ type ipv4_addr; elements = {{ {elements} }} }}"
    return _with_nft(box, off, _HEAD % (named, "ip daddr @denied reject"))


def _with_nft(box: Sandbox, off: Callable[[], None], ruleset: str) -> Callable[[], None]:
    def arrange() -> None:
        off()
        _nft(box, ruleset)

    return arrange


def _nft(box: Sandbox, ruleset: str) -> None:
    if shutil.which("nft"):
        subprocess.run(box._enter(["nft", "-f", "-"]), input=ruleset, text=True, check=True)
