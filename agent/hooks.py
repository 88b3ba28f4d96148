# SPDX-License-Identifier: Apache-2.0
"""The hooks: which BPF function goes where; and the ways, which serve a server by hooks.

Numbers are enum bpf_prog_type and enum bpf_attach_type of include/uapi/linux/bpf.h.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..control import abi
from ..control.model import Server


@dataclass(frozen=True, slots=True)
class Hook:
    """One attach point.

    `target` is what it is attached to: `cgroup`, `netns`, or `kernel`, the function
    `symbol` (as libbpf knows it for the attach type). `counts` is the number under which
    the program counts proofs (SR_HOOK_* of abi.h), `None` when it judges
    nothing; `family` is the one whose requests it sees alone.
    """

    name: str
    function: str
    program_type: int
    attach_type: int
    target: str
    counts: int | None = None
    family: int | None = None
    symbol: str = ""


def _cgroup(
    name: str, types: tuple[int, int], counts: str = "", family: int | None = None
) -> Hook:
    number = abi.C[f"SR_HOOK_{counts}"] if counts else None
    return Hook(name, f"sr_{name}", *types, "cgroup", number, family)


def _security(way: str, types: tuple[int, int], function: str, symbol: str) -> Hook:
    number = abi.C[f"SR_HOOK_{function.upper()}"]
    name = f"{way}-{function}"
    return Hook(name, f"sr_{function}", *types, "kernel", number, None, symbol)


CONNECT4 = _cgroup("connect4", (18, 10), "CONNECT4", 4)
CONNECT6 = _cgroup("connect6", (18, 11), "CONNECT6", 6)
BIND4 = _cgroup("bind4", (18, 8))
BIND6 = _cgroup("bind6", (18, 9))
POST_BIND4 = _cgroup("post_bind4", (9, 12), "POST_BIND4", 4)
POST_BIND6 = _cgroup("post_bind6", (9, 13), "POST_BIND6", 6)
SOCKOPS = _cgroup("sockops", (13, 3), "TCP_LISTEN")
SK_LOOKUP = Hook("sk_lookup", "sr_sk_lookup", 30, 36, "netns", abi.C["SR_HOOK_SK_LOOKUP"])

_FMOD_RET, _LSM = (26, 26), (29, 27)
FMOD_RET_LISTEN = _security(
    "fmod_ret", _FMOD_RET, "socket_listen", "security_socket_listen"
)
FMOD_RET_ACCEPT = _security(
    "fmod_ret", _FMOD_RET, "conn_request", "security_inet_conn_request"
)
LSM_LISTEN = _security("lsm", _LSM, "socket_listen", "socket_listen")
LSM_ACCEPT = _security("lsm", _LSM, "conn_request", "inet_conn_request")

GUARD = Hook("guard", "sr_task_prctl", *_FMOD_RET, "kernel", symbol="security_task_prctl")
"""Keeps programs from forging what they are; serves no server, and every one is better with it."""

HOOKS = (
    *(CONNECT4, CONNECT6, BIND4, BIND6, POST_BIND4, POST_BIND6, SOCKOPS, SK_LOOKUP),
    *(FMOD_RET_LISTEN, FMOD_RET_ACCEPT, LSM_LISTEN, LSM_ACCEPT),
    GUARD,
)

TRACKERS = (
    Hook("cgroup_mkdir", "sr_cgroup_mkdir", 17, 0, "tracepoint"),
    Hook("cgroup_rmdir", "sr_cgroup_rmdir", 17, 0, "tracepoint"),
)
"""They judge nothing: they keep what is known of cgroups (services.py)."""

PROBE = Hook("probe", "sr_probe", 6, -1, "nothing")
"""The test run: an XDP program that is loaded and never attached."""

FLUSH = Hook("flush", "sr_flush", 17, -1, "nothing")
"""Run by the reader of events, to have those that are not handed over yet."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a server is enforced: its hooks, all of which it needs, and what they cover.

    `word` is what agent.toml calls it. Listen needs besides an accept hook, which turns
    peers away from a listener that was rejected only after it had begun to listen.
    """

    word: str
    name: str
    hooks: tuple[Hook, ...]
    covers: str
    misses: str


_LISTEN_COVERS = (
    "listen() fails with EPERM; a listener on a port that the kernel chose in listen() is shut"
    " to every peer"
)
_ACCEPT_COVERS = "all network namespaces, each socket's own listener"
_ACCEPT_MISSES = "a peer that arrives within microseconds of listen(), before its owner is known"

WAYS: dict[Server, tuple[Way, ...]] = {
    Server.LISTEN: (
        Way(
            "fmod_ret",
            "fmod_ret/security_socket_listen",
            (SOCKOPS, FMOD_RET_LISTEN),
            _LISTEN_COVERS,
            "",
        ),
        Way("lsm", "lsm/socket_listen", (SOCKOPS, LSM_LISTEN), _LISTEN_COVERS, ""),
        Way(
            "post_bind",
            "cgroup/post_bind",
            (SOCKOPS, BIND4, BIND6, POST_BIND4, POST_BIND6),
            "bind() to a chosen port fails with EPERM; a listener on an ephemeral port is shut to"
            " every peer",
            "listen() is not refused: a client that binds a port of its choice is judged as a"
            " listener there",
        ),
    ),
    Server.ACCEPT: (
        Way(
            "fmod_ret",
            "fmod_ret/security_inet_conn_request",
            (SOCKOPS, FMOD_RET_ACCEPT),
            _ACCEPT_COVERS,
            _ACCEPT_MISSES,
        ),
        Way(
            "lsm",
            "lsm/inet_conn_request",
            (SOCKOPS, LSM_ACCEPT),
            _ACCEPT_COVERS,
            _ACCEPT_MISSES,
        ),
        Way(
            "sk_lookup",
            "sk_lookup",
            (SOCKOPS, SK_LOOKUP),
            "each network namespace with a listener",
            "the first milliseconds of a network namespace's first listener; in a SO_REUSEPORT"
            " group the last to listen answers for all",
        ),
    ),
    Server.CONNECT: (
        Way(
            "cgroup",
            "cgroup/connect",
            (CONNECT4, CONNECT6),
            "connect() fails with EPERM; all network namespaces of the cgroup",
            "",
        ),
    ),
}
"""For each server the best way first."""

HOOK_NAMES = (
    *("connect4", "connect6", "post_bind4", "post_bind6", "tcp_listen", "sk_lookup"),
    *("socket_listen", "inet_conn_request"),
)
"""What an event's hook number means (SR_HOOK_* of abi.h)."""
