# SPDX-License-Identifier: Apache-2.0
"""client.py and steps.py, run in forks of one process that has read them (forks.py).

forker.py FILE...    each request on stdin, a socket: JSON, and the three descriptors of the
                     new process; the answer is its number

A request is `{"file": ..., "arguments": [...], "netns": PATH, "cgroup": PATH, "user": N}`.
"""

# what the files import: read here, once
import array  # noqa: F401, I001
import ctypes
import errno  # noqa: F401
import fcntl  # noqa: F401
import json
import mmap  # noqa: F401
import os
import select  # noqa: F401
import signal
import socket
import struct  # noqa: F401
import sys
import time  # noqa: F401
import traceback

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
PR_SET_DUMPABLE = 4


def checked(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def enter(request):
    """Namespace, cgroup and user of the request."""
    namespace = os.open(request["netns"], os.O_RDONLY)
    checked(LIBC.setns(namespace, CLONE_NEWNET))
    os.close(namespace)
    with open(f"{request['cgroup']}/cgroup.procs", "w") as procs:
        procs.write(str(os.getpid()))
    if request["user"] is not None:
        os.setgroups([])
        os.setresgid(*[request["user"]] * 3)
        os.setresuid(*[request["user"]] * 3)
        checked(LIBC.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))  # as it is after exec


def become(request, code, descriptors):
    """In the fork: what was asked for, and never back."""
    status = 1
    try:
        for number, fd in enumerate(descriptors):
            os.dup2(fd, number)
        os.closerange(3, 256)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        enter(request)
        sys.argv = ["-c", *request["arguments"]]
        sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
        exec(code, {"__name__": "__main__"})
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main(files):
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    code = {}
    for file in files:
        with open(file) as text:
            code[file] = compile(text.read(), file, "exec")
    asked = socket.socket(fileno=os.dup(0))
    while True:
        message, descriptors, _, _ = socket.recv_fds(asked, 65536, 3)
        if not message:
            return
        request = json.loads(message)
        child = os.fork()
        if not child:
            become(request, code[request["file"]], descriptors)
        for fd in descriptors:
            os.close(fd)
        asked.send(str(child).encode())


main(sys.argv[1:])
