# SPDX-License-Identifier: Apache-2.0
"""A listener that one user opens and another serves.

handover.py pass|inherit PORT LISTENS SERVES   (users; until stdin closes; prints `ready`)

pass: the descriptor goes over a socket to a process that runs already (SCM_RIGHTS), and
the one that listened ends. inherit: the process that listened starts the one that
serves, as socket activation does, and stays.
"""

import os
import select
import socket
import sys


def serve(listener, user):
    os.setuid(user)
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        listener.accept()[0].close()


def main():
    how, port, listens, serves = sys.argv[1], *map(int, sys.argv[2:])
    if how == "inherit":
        os.setresuid(listens, listens, 0)  # root again later, as a service manager is
        listener = socket.create_server(("127.0.0.1", port))
        os.setresuid(0, 0, 0)
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            return
    else:
        ours, theirs = socket.socketpair()
        if not os.fork():
            os.setuid(listens)
            listener = socket.create_server(("127.0.0.1", port))
            socket.send_fds(theirs, [b"here"], [listener.fileno()])
            os._exit(0)
        _, descriptors, _, _ = socket.recv_fds(ours, 16, 1)
        os.wait()
        listener = socket.socket(fileno=descriptors[0])
    serve(listener, serves)


main()
