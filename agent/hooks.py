# SPDX-License-Identifier: Apache-2.0
"""The hooks: which BPF function goes where, for which server, and what it covers.

Numbers are enum bpf_prog_type and enum bpf_attach_type of include/uapi/linux/bpf.h.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..control.model import Server


@dataclass(frozen=True, slots=True)
class Hook:
    """One attach point. `target` is what it is attached to: `cgroup`, `netns`, ..."""

    name: str
    function: str
    program_type: int
    attach_type: int
    target: str


CONNECT4 = Hook("connect4", "sr_connect4", 18, 10, "cgroup")
CONNECT6 = Hook("connect6", "sr_connect6", 18, 11, "cgroup")
BIND4 = Hook("bind4", "sr_bind4", 18, 8, "cgroup")
BIND6 = Hook("bind6", "sr_bind6", 18, 9, "cgroup")
POST_BIND4 = Hook("post_bind4", "sr_post_bind4", 9, 12, "cgroup")
POST_BIND6 = Hook("post_bind6", "sr_post_bind6", 9, 13, "cgroup")
SOCKOPS = Hook("sockops", "sr_sockops", 13, 3, "cgroup")
SK_LOOKUP = Hook("sk_lookup", "sr_sk_lookup", 30, 36, "netns")

HOOKS = (CONNECT4, CONNECT6, BIND4, BIND6, POST_BIND4, POST_BIND6, SOCKOPS, SK_LOOKUP)

TRACKERS = (
    Hook("cgroup_mkdir", "sr_cgroup_mkdir", 17, 0, "tracepoint"),
    Hook("cgroup_rmdir", "sr_cgroup_rmdir", 17, 0, "tracepoint"),
)
"""They judge nothing: they keep what is known of cgroups (services.py)."""

PROBE = Hook("probe", "sr_probe", 6, -1, "nothing")
"""The test run: an XDP program that is loaded and never attached."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a server is enforced: its hooks, all of which it needs, and what they cover."""

    name: str
    hooks: tuple[Hook, ...]
    covers: str


WAYS: dict[Server, Way] = {
    Server.LISTEN: Way(
        "cgroup/post_bind",
        (SOCKOPS, BIND4, BIND6, POST_BIND4, POST_BIND6, SK_LOOKUP),
        "bind() to a chosen port fails with EPERM; a listener on an ephemeral port is shut to"
        " every peer",
    ),
    Server.ACCEPT: Way(
        "sk_lookup",
        (SOCKOPS, SK_LOOKUP),
        "peers get a reset; the agent's network namespace",
    ),
    Server.CONNECT: Way(
        "cgroup/connect",
        (CONNECT4, CONNECT6),
        "connect() fails with EPERM; all network namespaces of the cgroup",
    ),
}

HOOK_NAMES = ("connect4", "connect6", "post_bind4", "post_bind6", "tcp_listen", "sk_lookup")
"""What an event's hook number means (SR_HOOK_* of abi.h)."""
