# SPDX-License-Identifier: Apache-2.0
"""What the agent runs to prove its hooks; a program of its own, with no imports of ours.

Argument: the cgroup.procs file to enter. Waits for a line, then listens on loopback and
connects to itself, by IPv4 and by IPv6. Answers a line for each family that this host
has: its number, or what went wrong.
"""

import errno
import os
import socket
import sys

FAMILIES = ((4, socket.AF_INET, "127.0.0.1"), (6, socket.AF_INET6, "::1"))
NOT_HERE = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


def main() -> None:
    try:
        with open(sys.argv[1], "w", encoding="ascii") as procs:
            procs.write(str(os.getpid()))
    except OSError as error:
        print(f"cannot enter {sys.argv[1]}: {error.strerror}", flush=True)
        return
    sys.stdin.readline()
    for number, family, address in FAMILIES:
        try:
            with socket.socket(family) as scout:
                scout.bind((address, 0))
                port = scout.getsockname()[1]
        except OSError as error:
            if error.errno not in NOT_HERE:
                print(f"cannot bind to {address}: {error.strerror}", flush=True)
            continue
        print(converse(family, address, port) or number, flush=True)


def converse(family: int, address: str, port: int) -> str:
    """Listen on a chosen port, as servers do, and connect to it; what went wrong."""
    with socket.socket(family) as listener:
        try:
            listener.bind((address, port))
            listener.listen()
        except OSError as error:
            return f"cannot listen on {address}: {error.strerror}"
        try:
            socket.create_connection((address, port), timeout=2).close()
        except OSError as error:
            return f"cannot connect to {address}: {error.strerror or error}"
    return ""


main()
