# SPDX-License-Identifier: Apache-2.0
"""Socket diagnostics: what the kernel says is read right, its refusals included."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from sockrules.agent import diag
from sockrules.control.addresses import format_endpoint


def of(one: socket.socket) -> diag.Socket:
    inode = os.fstat(one.fileno()).st_ino
    [found] = [each for each in diag.tcp_sockets() if each.inode == inode]
    return found


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("protocol", [socket.IPPROTO_TCP, 262], ids=["tcp", "mptcp"])
def test_own_sockets_are_seen(address: str, protocol: int) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with ExitStack() as stack:
        try:
            listener = stack.enter_context(socket.socket(family, socket.SOCK_STREAM, protocol))
            listener.bind((address, 0))
        except OSError as error:
            pytest.skip(f"this host has no such sockets: {error}")
        listener.listen()
        client = stack.enter_context(socket.socket(family, socket.SOCK_STREAM, protocol))
        client.connect(listener.getsockname())
        server = stack.enter_context(listener.accept()[0])
        seen = of(listener)
        assert seen.listens
        assert format_endpoint(seen.local_address, seen.local_port).endswith(
            f":{listener.getsockname()[1]}"
        )
        ours, theirs = of(client), of(server)
        assert (ours.local_address, ours.local_port) == (theirs.remote_address, theirs.remote_port)
        assert ours.local_port == client.getsockname()[1]
        assert diag.STATES[ours.state] == "established"
        assert ours.uid == os.geteuid()
        assert ours.cookie not in (0, theirs.cookie)


@pytest.mark.parametrize(
    ("code", "words"),
    [(errno.EOPNOTSUPP, "CONFIG_INET_DIAG_DESTROY"), (errno.EPERM, "CAP_NET_ADMIN")],
)
def test_a_refusal_is_said_in_words(monkeypatch: pytest.MonkeyPatch, code: int, words: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = of(listener)

    def refuse(*_: object) -> Iterator[bytes]:
        raise OSError(code, "no")

    monkeypatch.setattr(diag, "_talk", refuse)
    with pytest.raises(diag.CannotDestroy, match=words):
        diag.destroy(found)


def test_a_socket_that_is_gone_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = of(listener)

    def gone(*_: object) -> Iterator[bytes]:
        raise OSError(errno.ENOENT, "no")

    monkeypatch.setattr(diag, "_talk", gone)
    assert diag.destroy(found) is False
