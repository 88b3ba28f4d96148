# SPDX-License-Identifier: Apache-2.0
"""What the agent runs to prove its hooks; a program of its own, with no imports of ours.

Argument: the cgroup.procs file to enter. Reads `listen` and answers the port it
listens on; reads `connect`, connects to it, and says what went wrong, if anything.
"""

import os
import socket
import sys


def main() -> None:
    try:
        with open(sys.argv[1], "w", encoding="ascii") as procs:
            procs.write(str(os.getpid()))
    except OSError as error:
        print(f"cannot enter {sys.argv[1]}: {error.strerror}", flush=True)
        return
    sys.stdin.readline()
    try:
        with socket.socket() as scout:
            scout.bind(("127.0.0.1", 0))
            port = scout.getsockname()[1]
        listener = socket.socket()
        listener.bind(("127.0.0.1", port))  # a chosen port, as servers do
        listener.listen()
    except OSError as error:
        print(f"cannot listen on loopback: {error.strerror}", flush=True)
        return
    print(port, flush=True)
    sys.stdin.readline()
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=3):
            pass
    except OSError as error:
        print(f"cannot connect on loopback: {error.strerror or error}", flush=True)
    listener.close()


main()
