# SPDX-License-Identifier: Apache-2.0
"""Socket diagnostics (sock_diag(7)): today's TCP sockets, and ending one of them.

Theory. The requests and answers are struct inet_diag_req_v2 and inet_diag_msg
of linux/inet_diag.h: host byte order, addresses and ports in network order. A
netlink socket is opened for each question; nothing here needs a thread or a
loop of its own.

pyroute2's DiagSocket is not used: it turns the kernel's error messages off, so that
a socket which could not be ended would look as if it had been, and cannot ask for
MPTCP's sockets. For 5 000 listeners it took 400 ms of processor time, this 25 ms
(pyroute2 0.9), and it would add 12 MB to the agent at rest.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from ..control.addresses import MAPPED

LISTEN = 10
STATES = {1: "established", 2: "syn-sent", 3: "syn-received", 4: "fin-wait-1", 5: "fin-wait-2"} | {
    8: "close-wait",
    LISTEN: "listen",
}
"""The states in which a socket is a listener or a conversation that goes on."""


_NETLINK_SOCK_DIAG = 4
_BY_FAMILY, _DESTROY = 20, 21  # SOCK_DIAG_BY_FAMILY, SOCK_DESTROY
_ERROR, _DONE = 2, 3  # NLMSG_ERROR, NLMSG_DONE
_REQUEST, _ACK, _DUMP = 1, 4, 0x300
_REQ_PROTOCOL = 3  # INET_DIAG_REQ_PROTOCOL
_MPTCP = 262
_NO_COOKIE = (1 << 64) - 1

_HEADER = struct.Struct("=IHHII")
_ASKED = struct.Struct("=BBBBI")
_ID = struct.Struct("!HH16s16s")  # ports and addresses of struct inet_diag_sockid
_ID_REST = struct.Struct("=IQ")  # interface and cookie
_STATE = struct.Struct("=BBBB")
_REST = struct.Struct("=IIIII")
_CODE = struct.Struct("=i")
_MESSAGE_SIZE = _STATE.size + _ID.size + _ID_REST.size + _REST.size


class CannotDestroy(Exception):
    """This kernel, or this process, may not end sockets; the text says why."""


@dataclass(frozen=True, slots=True)
class Socket:
    """One TCP socket. Addresses are 128-bit integers, IPv4 mapped; `raw` identifies it to
    the kernel. `uid` owns the socket's inode; `inode` is 0 when no process holds it."""

    state: int
    local_address: int
    local_port: int
    remote_address: int
    remote_port: int
    inode: int
    uid: int
    cookie: int
    family: int
    raw: bytes

    @property
    def listens(self) -> bool:
        return self.state == LISTEN


def listeners() -> list[Socket]:
    """The listeners alone, of the calling thread's network namespace."""
    return tcp_sockets((LISTEN,))


def tcp_sockets(among: Collection[int] = tuple(STATES)) -> list[Socket]:
    """The listeners and conversations of the calling thread's network namespace.

    Those of MPTCP carry the inode by which a process holds them (Linux 5.14; before, 0).
    """
    states = sum(1 << state for state in among)
    plain = [each for family in _families() for each in _dump(family, states, socket.IPPROTO_TCP)]
    held = {_ends(each): each.inode for each in _mptcp(states)}
    return [_with_inode(each, held.get(_ends(each), each.inode)) for each in plain]


def destroy(found: Socket) -> bool:
    """End a conversation at once, as if its peer had reset it; False when it was gone already.

    Raises CannotDestroy.
    """
    asked = _ASKED.pack(found.family, socket.IPPROTO_TCP, 0, 0, 1 << found.state) + found.raw
    try:
        for _ in _talk(_DESTROY, _REQUEST | _ACK, asked):
            pass
    except OSError as error:
        if error.errno == errno.ENOENT:
            return False
        if error.errno in (errno.EOPNOTSUPP, errno.EINVAL):
            raise CannotDestroy(
                "this kernel cannot end sockets (it was built without CONFIG_INET_DIAG_DESTROY);"
                " end the processes instead"
            ) from None
        if error.errno in (errno.EPERM, errno.EACCES):
            raise CannotDestroy("the agent may not end sockets (it needs CAP_NET_ADMIN)") from None
        raise
    return True


def _families() -> tuple[int, int]:
    return socket.AF_INET, socket.AF_INET6


def _ends(found: Socket) -> tuple[int, int, int, int]:
    return found.local_address, found.local_port, found.remote_address, found.remote_port


def _with_inode(found: Socket, inode: int) -> Socket:
    if inode == found.inode:
        return found
    return Socket(
        found.state,
        *_ends(found),
        inode,
        found.uid,
        found.cookie,
        found.family,
        found.raw,
    )


def _mptcp(states: int) -> list[Socket]:
    try:
        return [each for family in _families() for each in _dump(family, states, _MPTCP)]
    except OSError:  # a kernel without MPTCP, or without its diagnostics
        return []


def _dump(family: int, states: int, protocol: int) -> Iterator[Socket]:
    nobody = _ID.pack(0, 0, bytes(16), bytes(16)) + _ID_REST.pack(0, _NO_COOKIE)
    asked = _ASKED.pack(family, protocol & 0xFF, 0, 0, states) + nobody
    if protocol > 0xFF:
        asked += struct.pack("=HHI", 8, _REQ_PROTOCOL, protocol)
    for data in _talk(_BY_FAMILY, _REQUEST | _DUMP, asked):
        if len(data) >= _MESSAGE_SIZE:
            yield _socket(data)


def _socket(data: bytes) -> Socket:
    family, state, _, _ = _STATE.unpack_from(data)
    at = _STATE.size
    local_port, remote_port, local, remote = _ID.unpack_from(data, at)
    _, cookie = _ID_REST.unpack_from(data, at + _ID.size)
    _, _, _, uid, inode = _REST.unpack_from(data, at + _ID.size + _ID_REST.size)
    return Socket(
        state=state,
        local_address=_address(local, family),
        local_port=local_port,
        remote_address=_address(remote, family),
        remote_port=remote_port,
        inode=inode,
        uid=uid,
        cookie=cookie,
        family=family,
        raw=data[at : at + _ID.size + _ID_REST.size],
    )


def _address(data: bytes, family: int) -> int:
    if family == socket.AF_INET:
        return MAPPED | int.from_bytes(data[:4], "big")
    return int.from_bytes(data, "big")


def _talk(kind: int, flags: int, payload: bytes) -> Iterator[bytes]:
    """Put one question; the payloads of the answers. Raises the OSError that the kernel sends."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as channel:
        channel.settimeout(10)
        channel.send(_HEADER.pack(_HEADER.size + len(payload), kind, flags, 1, 0) + payload)
        while True:
            data = channel.recv(1 << 18)
            at = 0
            while at + _HEADER.size <= len(data):
                length, answer, _, _, _ = _HEADER.unpack_from(data, at)
                body = data[at + _HEADER.size : at + length]
                at += (length + 3) & ~3
                if answer == _DONE:
                    return
                if answer == _ERROR:
                    code = -_CODE.unpack_from(body)[0]
                    if code:
                        raise OSError(code, "sock_diag")
                    return
                yield body
