# SPDX-License-Identifier: Apache-2.0
"""Conversations for test_safe_change.py.

login_server.py serve PORT COMMAND...   runs a command for each peer, as sshd runs a shell
login_server.py visit PORT              sends lines from stdin to such a server, prints answers
login_server.py talk PORT               connects to itself; `alive` or the error's name per line
"""

import errno
import os
import socket
import subprocess
import sys


def serve(port, *command):
    listener = socket.create_server(("127.0.0.1", int(port)))
    print("ready", flush=True)
    while True:
        peer = listener.accept()[0]
        if os.fork():
            peer.close()
            continue
        listener.close()
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as shell:
            lines = peer.makefile("rw")
            for line in lines:
                shell.stdin.write(line)
                shell.stdin.flush()
                lines.write(shell.stdout.readline())
                lines.flush()
        os._exit(0)


def visit(port):
    with socket.create_connection(("127.0.0.1", int(port))) as server:
        lines = server.makefile("rw")
        print("ready", flush=True)
        for line in sys.stdin:
            lines.write(line)
            lines.flush()
            print(lines.readline().strip(), flush=True)


def talk(port):
    listener = socket.create_server(("127.0.0.1", int(port)))
    client = socket.create_connection(("127.0.0.1", int(port)))
    server = listener.accept()[0]
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            client.sendall(line.encode())
            print("alive" if server.recv(100) else "closed", flush=True)
        except OSError as error:
            print(errno.errorcode[error.errno], flush=True)


{"serve": serve, "visit": visit, "talk": talk}[sys.argv[1]](*sys.argv[2:])
