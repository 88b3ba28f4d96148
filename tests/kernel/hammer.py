# SPDX-License-Identifier: Apache-2.0
"""One process that opens sockets over and over and counts what each met.

hammer.py TARGET...             (until stdin closes; prints `ready` after the first round)
hammer.py --rounds N TARGET...  (N rounds)

A single target is tried without a pause, so that no gap is too short to be met.

A target is connect:PORT, connect:PORT:SOURCE (the address it comes from), hasty:PORT
(a connect that waits for no second SYN) or listen:PORT, on loopback. The last line
is JSON: target -> outcome -> how often. An outcome is `ok` or the error's name.
Connections end with a reset, so that no port is left waiting.
"""

import errno
import json
import select
import socket
import struct
import sys

PAUSE = 0.001  # seconds after a round of several targets: others need the processor too
RESET = struct.pack("ii", 1, 0)  # struct linger, socket(7)


def attempt(target):
    action, port, *source = target.split(":")
    with socket.socket() as one:
        one.settimeout(0.5 if action == "hasty" else 10)
        try:
            if action == "listen":
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                one.bind(("127.0.0.1", int(port)))
                one.listen()
            else:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                if source:
                    one.bind((source[0], 0))
                one.connect(("127.0.0.1", int(port)))
        except OSError as error:
            return errno.errorcode.get(error.errno, "timeout")
    return "ok"


def main():
    arguments = sys.argv[1:]
    rounds = None
    if arguments[0] == "--rounds":
        rounds, arguments = int(arguments[1]), arguments[2:]
    counts = {target: {} for target in arguments}
    done = 0
    while done != rounds:
        for target, outcomes in counts.items():
            outcome = attempt(target)
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
        done += 1
        if rounds is None:
            if done == 1:
                print("ready", flush=True)
            if select.select([sys.stdin], [], [], PAUSE if len(counts) > 1 else 0)[0]:
                break
    print(json.dumps(counts), flush=True)


main()
