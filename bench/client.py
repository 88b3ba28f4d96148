# SPDX-License-Identifier: Apache-2.0
"""Listens and connects to itself, and times it; ordered about by latency.py on stdin.

    client.py CPU        then, line by line:  rounds N | listens N | varied N RULES

One process on one processor is client and server: connect() on loopback is done when
it returns, so nobody waits for a scheduler. Sockets are made before they are timed,
closed by reset (no TIME_WAIT uses up ports), and nothing is collected meanwhile.
"""

import contextlib
import gc
import json
import os
import random
import socket
import struct
import sys
import time

PORT = 7777
RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds


def rounds(count):
    """Medians in ns: of connect(), and of connect-accept-close."""
    listener, now = LISTENER, time.perf_counter_ns
    connects, cycles = [], []
    for number in range(count + 10):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        start = now()
        client.connect(("127.0.0.1", PORT))
        connected = now()
        served, _ = listener.accept()
        client.close()
        served.close()
        end = now()
        if number >= 10:  # the first ones find cold caches
            connects.append(connected - start)
            cycles.append(end - start)
    return {"connect": sorted(connects)[count // 2], "cycle": sorted(cycles)[count // 2]}


def listens(count):
    """So many sockets bound, listening and closed."""
    for number in range(count):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 20000 + number % 10000))
        listener.listen(8)
        listener.close()
    return {}


def varied(count, rules):
    """Connects to as many places; 85 % of them are named by one of the rules."""
    rng = random.Random(count)
    for _ in range(count):
        n = rng.randrange(rules)
        host = f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}"
        port = 1 + n % 60_000
        if rng.random() >= 0.85:
            host, port = f"10.{rng.randrange(200)}.7.{rng.randrange(250)}", rng.randint(1, 65535)
        with contextlib.suppress(OSError), socket.socket() as client:
            client.connect((host, port))
    return {}


os.sched_setaffinity(0, {int(sys.argv[1])})
with contextlib.suppress(OSError):
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
LISTENER = socket.socket()
LISTENER.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
LISTENER.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
LISTENER.bind(("127.0.0.1", PORT))
LISTENER.listen(64)
gc.disable()
print("ready", flush=True)
for line in sys.stdin:
    what, *numbers = line.split()
    order = {"rounds": rounds, "listens": listens, "varied": varied}[what]
    print(json.dumps(order(*map(int, numbers))), flush=True)
