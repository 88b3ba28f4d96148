# SPDX-License-Identifier: Apache-2.0
"""Binds a port in another network namespace, comes home, and listens from there.

wanderer.py NAMESPACE PORT     (holds until stdin closes; prints the port)
"""

import ctypes
import os
import socket
import sys

NEWNET = 0x40000000  # CLONE_NEWNET


def main():
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    away = os.open(sys.argv[1], os.O_RDONLY)
    assert libc.setns(away, NEWNET) == 0
    listener = socket.socket()
    listener.bind(("127.0.0.1", int(sys.argv[2])))
    assert libc.setns(home, NEWNET) == 0
    os.close(away)
    listener.listen()
    print(listener.getsockname()[1], flush=True)
    sys.stdin.read()


main()
