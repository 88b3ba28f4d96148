# SPDX-License-Identifier: Apache-2.0
"""What real programs do with sockets, one action a run: prints `ok` or the error's name.

client.py connect KIND ADDRESS PORT [SOURCE [SOURCE_PORT]]
client.py listen KIND ADDRESS PORT      (holds until stdin closes; prints the port)
client.py stages KIND ADDRESS PORT      (prints what came of bind() and of two listen()s)
"""

import errno
import os
import select
import socket
import sys

MPTCP = 262
FASTOPEN_CONNECT = 30  # TCP_FASTOPEN_CONNECT, tcp(7)
SILENCE = 2  # seconds; a SYN that was dropped is sent again after one
V6ONLY_OFF = (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)


def make(kind, address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if kind.startswith("udp"):
        return socket.socket(family, socket.SOCK_DGRAM)
    made = socket.socket(family, socket.SOCK_STREAM, MPTCP if kind.startswith("mptcp") else 0)
    made.settimeout(None if kind.startswith("fastopen") else 1 if kind == "hasty" else SILENCE)
    return made


def connect(kind, address, port, source=None, source_port="0"):
    client = make(kind, address)
    if source:
        client.bind((source, int(source_port)))
    peer = (address, int(port))
    if kind == "nonblocking":
        client.setblocking(False)
        result = client.connect_ex(peer)
        if result == errno.EINPROGRESS:
            select.select([], [client], [], SILENCE)
            result = client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if result:
            raise OSError(result, os.strerror(result))
    elif kind == "fastopen-sendto":
        client.sendto(b"hello", socket.MSG_FASTOPEN, peer)
    elif kind == "fastopen-connect":
        client.setsockopt(socket.IPPROTO_TCP, FASTOPEN_CONNECT, 1)
        client.connect(peer)
        client.send(b"hello")
    elif kind == "udp":
        client.connect(peer)
        client.send(b"hello")
    elif kind == "many":  # as many connections as the address's port allows in a second or so
        client.close()
        for _ in range(300):
            one = socket.socket()
            one.settimeout(SILENCE)
            one.connect_ex(peer)
            one.close()
    else:
        client.connect(peer)


def listen(kind, address, port):
    listener = make(kind, address)
    if kind in ("dual", "dual-unbound"):
        listener.setsockopt(*V6ONLY_OFF)
    if kind == "group":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if "unbound" not in kind:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, int(port)))
    if not kind.startswith("udp"):
        listener.listen(128)
    print(listener.getsockname()[1], flush=True)
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        if kind.startswith("udp"):
            listener.recv(100)
        else:
            listener.accept()[0].close()


def outcome(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "ok"


def stages(kind, address, port):
    listener = make(kind, address)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound = outcome(listener.bind, (address, int(port)))
    print(bound, outcome(listener.listen, 5), outcome(listener.listen, 6), flush=True)


def main():
    action, *arguments = sys.argv[1:]
    try:
        {"connect": connect, "listen": listen, "stages": stages}[action](*arguments)
    except OSError as error:
        print(
            errno.errorcode.get(
                error.errno, "timeout" if "timed out" in str(error) else str(error)
            ),
            flush=True,
        )
        return
    if action == "connect":
        print("ok", flush=True)


main()
