# SPDX-License-Identifier: Apache-2.0
"""Listeners that are not served by the process that called listen().

handover.py pass PORT UID        listens, hands the socket to a process of UID by SCM_RIGHTS, ends
handover.py activate PORT UID    listens, then becomes a program of UID that finds the socket as
                                 descriptor 3, as sd_listen_fds(3) has it
handover.py serve                what `activate` becomes
handover.py group PORT           joins the SO_REUSEPORT group of the port; serves

Each prints `ready` when it serves, and ends when stdin closes. A peer gets the number of
the user that serves it.
"""

import array
import os
import select
import socket
import sys


def listener(port, shared=False):
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", int(port)))
    made.listen(128)
    return made


def become(uid):
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def serve(serving):
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([serving, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        with serving.accept()[0] as peer:
            peer.sendall(b"%d" % os.getuid())


def hand_over(port, uid):
    ours, theirs = socket.socketpair()
    if os.fork():
        theirs.close()
        with listener(port) as made:
            socket.send_fds(ours, [b"x"], [made.fileno()])
        os._exit(0)
    ours.close()
    become(int(uid))
    _, fds, _, _ = socket.recv_fds(theirs, 1, 1)
    serve(socket.socket(fileno=array.array("i", fds)[0]))


def activate(port, uid):
    made = listener(port)
    os.dup2(made.fileno(), 3)
    os.set_inheritable(3, True)  # it may have been 3 before
    become(int(uid))
    os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
    command = sys.orig_argv[: -len(sys.argv[1:])]  # the interpreter and this text
    os.execv(sys.executable, [*command, "serve"])


def main():
    action, *arguments = sys.argv[1:]
    if action == "pass":
        hand_over(*arguments)
    elif action == "activate":
        activate(*arguments)
    elif action == "serve":
        serve(socket.socket(fileno=3))
    else:
        serve(listener(*arguments, shared=True))


main()
