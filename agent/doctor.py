# SPDX-License-Identifier: Apache-2.0
"""What this kernel can do, found out by loading, and what is missing for more."""

from __future__ import annotations

import os
import platform
from typing import Any

from ..control.model import Server
from ..control.paths import Paths
from .btf import BtfError, offset_macros
from .compiler import CompileError, compiler_version
from .enforcer import EnforcerError, cgroup_mount, mount_bpffs
from .hooks import WAYS
from .loader import Capacity, Loaded, load
from .services import Services

_SMALL = Capacity(steps=96, entries=1024, slots=1024, bounds=1024, rules=256, known=256)


def examine(paths: Paths) -> dict[str, Any]:
    """Try everything the agent needs, attach nothing, leave nothing behind."""
    checks: list[dict[str, Any]] = []

    def check(name: str, fix: str, attempt: Any) -> Any:
        try:
            result = attempt()
        except (OSError, BtfError, EnforcerError, CompileError) as error:
            checks.append({"name": name, "ok": False, "detail": str(error), "fix": fix})
            return None
        checks.append({"name": name, "ok": True, "detail": str(result), "fix": ""})
        return result

    check("root", "run as root", _must_be_root)
    check("bpf file system", "mount -t bpf bpf /sys/fs/bpf", _bpf_file_system)
    check("cgroup v2", "mount -t cgroup2 none /sys/fs/cgroup", cgroup_mount)
    found: dict[str, int] = {}
    check(
        "kernel types (BTF)",
        "a kernel built with CONFIG_DEBUG_INFO_BTF=y",
        lambda: _offsets(found),
    )
    servers = _servers(found, checks) if all(each["ok"] for each in checks) else {}
    return {
        "kernel": platform.release(),
        "bcc": _bcc(),
        "checks": checks,
        "servers": servers,
    }


def _bcc() -> str:
    try:
        return compiler_version()
    except CompileError as error:
        return f"not usable: {error}"


def _bpf_file_system() -> str:
    mount_bpffs()
    return "/sys/fs/bpf"


def _offsets(found: dict[str, int]) -> str:
    found.update(offset_macros())
    return f"{len(found)} offsets found"


def _must_be_root() -> str:
    if os.geteuid() != 0:
        raise OSError("not root")
    return "yes"


def _services(loaded: Loaded) -> str:
    """How services would be kept: the tracepoints are attached, proven and let go."""
    services = Services(loaded, cgroup_mount())
    services.close()
    if services.refused:
        return f"known a moment late, as the tracepoint is refused: {services.refused}"
    return "known as cgroups are made"


def _servers(offsets: dict[str, int], checks: list[dict[str, Any]]) -> dict[str, Any]:
    try:
        loaded = load(_SMALL, offsets)
    except (CompileError, OSError) as error:
        checks.append(
            {"name": "BCC", "ok": False, "detail": str(error), "fix": "apt install python3-bpfcc"}
        )
        return {}
    checks.append({"name": "BCC", "ok": True, "detail": compiler_version(), "fix": ""})
    checks.append({"name": "services", "ok": True, "detail": _services(loaded), "fix": ""})
    servers = {}
    for server in Server:
        way = WAYS[server]
        refused = {
            hook.name: loaded.refused[hook.name]
            for hook in way.hooks
            if hook.name in loaded.refused
        }
        servers[server.word] = {
            "hook": way.name,
            "ok": not refused,
            "detail": way.covers
            if not refused
            else "; ".join(f"{name}: {why}" for name, why in refused.items()),
        }
    loaded.close()
    return servers
