# SPDX-License-Identifier: Apache-2.0
"""A way round, step by step on one socket, as a program that means it would go.

steps.py STEP... runs the steps in order and prints one line: `ok`, or the name of
the error that the last step met. An error at an earlier step is told together
with the step, so that nobody takes it for the answer. `serve` prints the port of
the listener and lets peers in until stdin closes.

socket FAMILY [PROTOCOL]    inet, inet6 or smc; tcp (the default), mptcp, smc
option NAME VALUE           setsockopt(2) of OPTIONS, below
bind PLACE, connect PLACE, listen
fastopen-sendto PLACE, fastopen-sendmsg PLACE
unspec-bind PORT            bind(2) with AF_UNSPEC, which Linux takes for 0.0.0.0
disconnect                  connect(2) with AF_UNSPEC
shutdown, send, receive, accept
                            accept: go on with the accepted socket
fail STEP...                a step that must fail, with whatever error
uring[-async|-sqpoll] STEP  connect, bind, listen, accept, fastopen-sendmsg by io_uring
user UID, effective-user UID, fork, pass, steal
                            go on as another user, in a child, or in a child that got
                            the socket by SCM_RIGHTS or by pidfd_getfd(2)
cgroup PATH, netns, userns  go on there
visit                       another socket connects to where this one listens
visit-until-refused         the same, over and over, until it is refused; at most 15 s
peer PLACE                  check who the peer is
wait                        print `waiting` and read a line
serve                       see above

A PLACE is an address and a port: `127.0.0.1 80`, `::1 80`.
"""

import array
import ctypes
import errno
import fcntl
import mmap
import os
import select
import socket
import struct
import sys
import time

LIBC = ctypes.CDLL(None, use_errno=True)
SYS_IO_URING_SETUP, SYS_IO_URING_ENTER, SYS_PIDFD_OPEN, SYS_PIDFD_GETFD = 425, 426, 434, 438
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
FAMILIES = {"inet": socket.AF_INET, "inet6": socket.AF_INET6, "smc": 43}
PROTOCOLS = {"tcp": 0, "mptcp": 262, "smc": 256}
OPTIONS = {  # ip(7), ipv6(7), tcp(7), socket(7); numbers of include/uapi/linux
    "fastopen-connect": (socket.IPPROTO_TCP, 30),
    "fastopen-no-cookie": (socket.IPPROTO_TCP, 34),
    "repair": (socket.IPPROTO_TCP, 19),
    "freebind": (socket.IPPROTO_IP, 15),
    "transparent": (socket.IPPROTO_IP, 19),
    "no-port": (socket.IPPROTO_IP, 24),  # IP_BIND_ADDRESS_NO_PORT
    "addrform": (socket.IPPROTO_IPV6, 1),
    "v6only": (socket.IPPROTO_IPV6, 26),
    "reuseaddr": (socket.SOL_SOCKET, 2),
    "reuseport": (socket.SOL_SOCKET, 15),
    "device": (socket.SOL_SOCKET, 25),
}

KEPT = []
"""Sockets that Python would close, being used no more."""


def checked(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def sockaddr(address, port):
    """struct sockaddr_in or sockaddr_in6."""
    if ":" in address:
        packed = socket.inet_pton(socket.AF_INET6, address)
        return struct.pack("=HHI16sI", socket.AF_INET6, socket.htons(int(port)), 0, packed, 0)
    packed = socket.inet_aton(address)
    return struct.pack("=HH4s8x", socket.AF_INET, socket.htons(int(port)), packed)


class Message(ctypes.Structure):
    """struct msghdr that carries `hello` to a place."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.POINTER(ctypes.c_size_t)),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    ]

    def __init__(self, place):
        self.data = ctypes.create_string_buffer(b"hello")
        self.vector = (ctypes.c_size_t * 2)(ctypes.addressof(self.data), 5)
        super().__init__(place, len(place), self.vector, 1)


class Ring:
    """An io_uring of one entry (io_uring(7)); `sqpoll` has a kernel thread submit."""

    ASYNC = 1 << 4  # IOSQE_ASYNC: a worker thread does it

    def __init__(self, sqpoll=False):
        self.sqpoll = sqpoll
        params = bytearray(120)
        struct.pack_into("=5I", params, 8, 2 if sqpoll else 0, 0, 1000, 0, 0)
        raw = (ctypes.c_char * 120).from_buffer(params)
        self.fd = checked(LIBC.syscall(SYS_IO_URING_SETUP, 1, raw))
        fields = struct.unpack("=2I5I3I10I10I", params)
        self.sq_entries, self.cq_entries = fields[0], fields[1]
        self.sq, self.cq = fields[10:20], fields[20:30]  # offsets of head, tail, mask, ...
        size = max(self.sq[6] + self.sq_entries * 4, self.cq[5] + self.cq_entries * 16)
        self.rings = mmap.mmap(self.fd, size, offset=0)
        self.entries = mmap.mmap(self.fd, self.sq_entries * 64, offset=0x10000000)

    def run(self, opcode, fd, address=0, length=0, offset=0, flags=0, op_flags=0):
        """Submit one operation and wait for it; its result. Raises OSError."""
        entry = struct.pack("=BBHiQQIIQ24x", opcode, flags, 0, fd, offset, address, length,
                            op_flags, 1)  # fmt: skip
        tail = struct.unpack_from("=I", self.rings, self.sq[1])[0]
        index = tail & struct.unpack_from("=I", self.rings, self.sq[2])[0]
        self.entries[index * 64 : index * 64 + 64] = entry
        struct.pack_into("=I", self.rings, self.sq[6] + index * 4, index)
        struct.pack_into("=I", self.rings, self.sq[1], tail + 1)
        wakeup = 2 if self.sqpoll else 0
        checked(LIBC.syscall(SYS_IO_URING_ENTER, self.fd, 1, 1, 1 | wakeup, None, 0))
        head = struct.unpack_from("=I", self.rings, self.cq[0])[0]
        mask = struct.unpack_from("=I", self.rings, self.cq[2])[0]
        result = struct.unpack_from("=Qi", self.rings, self.cq[5] + (head & mask) * 16)[1]
        struct.pack_into("=I", self.rings, self.cq[0], head + 1)
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return result


def uring(way, sock, step, *place):
    ring = Ring(way == "uring-sqpoll")
    flags = Ring.ASYNC if way == "uring-async" else 0
    raw = ctypes.create_string_buffer(sockaddr(*place)) if place else None
    at, size = (ctypes.addressof(raw), len(raw) - 1) if raw else (0, 0)
    if step == "connect":
        ring.run(16, sock.fileno(), at, offset=size, flags=flags)
    elif step == "bind":
        ring.run(56, sock.fileno(), at, offset=size, flags=flags)
    elif step == "accept":
        KEPT.append(sock)
        return socket.socket(fileno=ring.run(13, sock.fileno(), flags=flags))
    elif step == "listen":
        ring.run(57, sock.fileno(), length=128, flags=flags)
    else:
        message = Message(sockaddr(*place))
        ring.run(9, sock.fileno(), ctypes.addressof(message), 1, flags=flags,
                 op_flags=socket.MSG_FASTOPEN)  # fmt: skip
    return None


def set_option(sock, name, value):
    level, number = OPTIONS[name]
    sock.setsockopt(level, number, int(value) if value.isdigit() else value.encode())


def loopback_up():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", 1)  # IFF_UP
        fcntl.ioctl(any_socket, 0x8914, request)  # SIOCSIFFLAGS


def in_child():
    """Go on in a child; the parent repeats what became of it."""
    child = os.fork()
    if child:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def passed(sock):
    """The socket, in a child that does not inherit it but is sent it."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    child = os.fork()
    if child:
        here.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                               array.array("i", [sock.fileno()]))])  # fmt: skip
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    sock.close()
    got = there.recvmsg(1, 100)[1][0][2]
    return socket.socket(fileno=struct.unpack("i", got)[0])


def stolen(sock):
    """The socket, in a child that takes it from its parent."""
    parent, number = os.getpid(), sock.fileno()
    child = os.fork()
    if child:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    sock.close()
    pidfd = checked(LIBC.syscall(SYS_PIDFD_OPEN, parent, 0))
    return socket.socket(fileno=checked(LIBC.syscall(SYS_PIDFD_GETFD, pidfd, number, 0)))


def visit(sock):
    with socket.socket(sock.family, socket.SOCK_STREAM) as other:
        other.settimeout(2)
        try:
            other.connect(sock.getsockname())
        except TimeoutError:
            raise OSError(errno.ETIMEDOUT, "timed out") from None


def visit_until_refused(sock):
    until = time.monotonic() + 15
    while time.monotonic() < until:
        visit(sock)
        time.sleep(0.1)


def serve(sock):
    print(sock.getsockname()[1], flush=True)
    while sys.stdin not in (ready := select.select([sock, sys.stdin], [], [])[0]):
        for each in ready:
            KEPT.append(each.accept()[0])


def make(_, family, protocol="tcp"):
    made = socket.socket(FAMILIES[family], socket.SOCK_STREAM, PROTOCOLS[protocol])
    # no time limit of Python's: it would make the socket non-blocking
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", 5, 0))
    return made


def call(name, sock, *arguments):
    checked(getattr(LIBC, name)(sock.fileno(), *arguments))


def at_place(name):
    """bind(2) or connect(2)."""
    return lambda sock, *place: call(name, sock, raw := sockaddr(*place), len(raw))


def fastopen_sendto(sock, *place):
    raw = sockaddr(*place)
    call("sendto", sock, b"hello", 5, socket.MSG_FASTOPEN, raw, len(raw))


def fastopen_sendmsg(sock, *place):
    call("sendmsg", sock, ctypes.byref(Message(sockaddr(*place))), socket.MSG_FASTOPEN)


def unspec_bind(sock, port):
    raw = struct.pack("=HH12x", socket.AF_UNSPEC, socket.htons(int(port)))
    call("bind", sock, raw, len(raw))


def accept(sock):
    KEPT.append(sock)
    return sock.accept()[0]


def become_user(_, number):
    os.setgroups([])
    os.setresgid(*[int(number)] * 3)
    os.setresuid(*[int(number)] * 3)


def join_cgroup(_, path):
    with open(f"{path}/cgroup.procs", "w") as procs:
        procs.write(str(os.getpid()))


def leave_netns(_):
    checked(LIBC.unshare(CLONE_NEWNET))
    loopback_up()


def check_peer(sock, address, port):
    if sock.getpeername()[:2] != (address, int(port)):
        raise OSError(0, f"the peer is {sock.getpeername()}")


def wait(_):
    print("waiting", flush=True)
    sys.stdin.readline()


def fail(sock, *step):
    try:
        take(sock, *step)
    except OSError:
        return
    raise OSError(0, "did not fail")


STEPS = {
    "socket": make,
    "option": set_option,
    "bind": at_place("bind"),
    "connect": at_place("connect"),
    "listen": lambda sock: call("listen", sock, 128),
    "fastopen-sendto": fastopen_sendto,
    "fastopen-sendmsg": fastopen_sendmsg,
    "unspec-bind": unspec_bind,
    "disconnect": lambda sock: call("connect", sock, bytes(16), 16),
    "shutdown": lambda sock: call("shutdown", sock, 2),
    "send": lambda sock: call("send", sock, b"hello", 5, socket.MSG_NOSIGNAL),
    "receive": lambda sock: call("recv", sock, ctypes.create_string_buffer(100), 100, 0),
    "accept": accept,
    "fail": fail,
    "uring": lambda *step: uring("uring", *step),
    "uring-async": lambda *step: uring("uring-async", *step),
    "uring-sqpoll": lambda *step: uring("uring-sqpoll", *step),
    "user": become_user,
    "effective-user": lambda _, number: os.seteuid(int(number)),
    "fork": lambda _: in_child(),
    "pass": passed,
    "steal": stolen,
    "cgroup": join_cgroup,
    "netns": leave_netns,
    "userns": lambda _: checked(LIBC.unshare(CLONE_NEWUSER)) and None,
    "visit": visit,
    "visit-until-refused": visit_until_refused,
    "peer": check_peer,
    "wait": wait,
}


def take(sock, word, *rest):
    """One step; the socket to go on with."""
    return STEPS[word](sock, *rest) or sock


def main(steps):
    sock = None
    answer = steps[-2] if steps[-1] == "serve" and steps[1:] else steps[-1]
    for step in steps:
        try:
            if step == "serve":
                return serve(sock)
            sock = take(sock, *step.split())
        except OSError as error:
            name = errno.errorcode.get(error.errno, str(error))
            return print(name if step is answer else f"{step}: {name}", flush=True)
    return print("ok", flush=True)


main(sys.argv[1:])
