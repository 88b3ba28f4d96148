# SPDX-License-Identifier: Apache-2.0
"""restarts.py CGROUP ADDRESS PORT ROUNDS: a unit that is started again and again.

Each round makes the cgroup anew, moves a process into it that connects at once,
and removes it. Prints how often each outcome was met, as JSON.
"""

import errno
import json
import os
import socket
import sys


def connect_from(procs: str, address: str, port: int) -> int:
    """A process of its own: what came of its connect, as an exit status."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    client = socket.socket()
    with open(procs, "w") as file:
        file.write("0")
    os._exit(client.connect_ex((address, port)))


def main() -> None:
    cgroup, address, port, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    met: dict[str, int] = {}
    for _ in range(rounds):
        os.mkdir(cgroup)
        result = connect_from(f"{cgroup}/cgroup.procs", address, port)
        os.rmdir(cgroup)
        word = errno.errorcode.get(result, "ok") if result else "ok"
        met[word] = met.get(word, 0) + 1
    print(json.dumps(met))


main()
