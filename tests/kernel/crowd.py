# SPDX-License-Identifier: Apache-2.0
"""One of many processes that ask as fast as they can and check every answer themselves.

crowd.py SERVER SECONDS: asks SERVER at random and knows what it must answer;
prints JSON, how many attempts there were and the first wrong answers. The rules
that go with it are in `rejected`: a third of all combinations of port, address
and user, another third for each server.
"""

import errno
import json
import os
import random
import socket
import struct
import sys
import time

USERS = (2000, 2001, 2002, 2003)
OCTETS = (1, 2, 3, 4)  # of 127.0.0.x
PORTS = {"connect": range(7400, 7416), "listen": range(7420, 7436), "accept": range(7440, 7448)}
THIRD = {"connect": 0, "listen": 1, "accept": 2}
RESET = struct.pack("ii", 1, 0)  # struct linger, socket(7)


def rejected(server, port, octet, user):
    """Whether a request is rejected: of the caller's user, or of the listener's for accept."""
    return (port + octet + user) % 3 == THIRD[server]


def owner(port):
    """The user that listens on a port, or the only one that tries to."""
    return USERS[port % len(USERS)]


def rule(server, port, octet, user):
    side, peer = ("remote", "remote") if server == "connect" else ("local", "local")
    if server == "accept":
        peer = "remote"
    condition = f"{side}.port == {port} and {peer}.address == 127.0.0.{octet} and user == {user}"
    name = f"{server}-{port}-{octet}-{user}"
    head = f'[[rule]]\nname = "{name}"\nserver = "{server}"\nauthority = "no"\n'
    return f'{head}when = "{condition}"\n'


def rules():
    """The rule file."""
    return "".join(
        rule(server, port, octet, user)
        for server, ports in PORTS.items()
        for port in ports
        for octet in OCTETS
        for user in USERS
        if rejected(server, port, octet, user)
    )


def connect(user):
    port, octet = random.choice(PORTS["connect"]), random.choice(OCTETS)
    # nobody listens there: what is let through is refused by the network itself
    expected = "EPERM" if rejected("connect", port, octet, user) else "ECONNREFUSED"
    with socket.socket() as one:
        return (port, octet), expected, outcome(one.connect_ex((f"127.0.0.{octet}", port)))


def listen(user):
    own = [port for port in PORTS["listen"] if owner(port) == user]
    port, octet = random.choice(own), random.choice(OCTETS)
    expected = "EPERM" if rejected("listen", port, octet, user) else "ok"
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((f"127.0.0.{octet}", port))
            one.listen()
        except OSError as error:
            return (port, octet), expected, outcome(error.errno)
    return (port, octet), expected, "ok"


def accept(_):
    port, octet = random.choice(PORTS["accept"]), random.choice(OCTETS)
    expected = "ECONNREFUSED" if rejected("accept", port, octet, owner(port)) else "ok"
    with socket.socket() as one:
        one.settimeout(20)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        one.bind((f"127.0.0.{octet}", 0))
        return (port, octet), expected, outcome(one.connect_ex(("127.0.0.1", port)))


def outcome(number):
    return errno.errorcode[number] if number else "ok"


def main():
    ask = {"connect": connect, "listen": listen, "accept": accept}[sys.argv[1]]
    until = time.monotonic() + float(sys.argv[2])
    attempts, wrong, user = 0, [], os.getuid()
    while time.monotonic() < until:
        request, expected, met = ask(user)
        attempts += 1
        if met != expected and len(wrong) < 5:
            wrong.append([request, expected, met])
    print(json.dumps({"attempts": attempts, "wrong": wrong}))


if __name__ == "__main__":
    main()
