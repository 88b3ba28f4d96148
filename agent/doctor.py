# SPDX-License-Identifier: Apache-2.0
"""What this kernel can do, found out by doing it, and what is missing for more."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ..control.model import Mode, Server
from ..control.paths import PINS, Paths
from .attachment import Attachment, ServerState, refused_ways
from .btf import BtfError
from .compiler import CompileError, compiler_version
from .enforcer import EnforcerError, cgroup_mount, mount_bpffs
from .features import kernel_macros
from .kernel import Kernel
from .loader import Capacity, Loaded, load
from .services import Services

_SMALL = Capacity(steps=96, entries=1024, rests=64, slots=1024, bounds=1024, rules=256, known=256)


def examine(paths: Paths) -> dict[str, Any]:
    """Try everything the agent needs, judge nothing, leave nothing behind."""
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
    found.update(kernel_macros())
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
    """Attach every server's best way, below a cgroup without processes of others, prove it,
    and take everything away again."""
    PINS.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix="doctor-", dir=PINS))
    cgroup = cgroup_mount() / f"sockrules-{place.name}"
    try:
        kernel = Kernel(load(_SMALL, offsets), _SMALL)
    except (CompileError, OSError) as error:
        shutil.rmtree(place, ignore_errors=True)
        checks.append(
            {"name": "BCC", "ok": False, "detail": str(error), "fix": "apt install python3-bpfcc"}
        )
        return {}
    checks.append({"name": "BCC", "ok": True, "detail": compiler_version(), "fix": ""})
    services = {"name": "services", "ok": True, "detail": _services(kernel.loaded), "fix": ""}
    checks.append(services)
    attachment = Attachment(place / "links", cgroup, {})
    try:
        cgroup.mkdir()
        kernel.govern(cgroup, whole_host=False)
        attachment.arrange(kernel, dict.fromkeys(Server, Mode.SIMULATE))
        return {server.word: _server(attachment.servers[server]) for server in Server}
    finally:
        attachment.links.detach_all()
        kernel.close()
        shutil.rmtree(place, ignore_errors=True)
        with contextlib.suppress(OSError):
            cgroup.rmdir()


def _server(state: ServerState) -> dict[str, Any]:
    way, proof = state.way, state.proof
    ok = state.attached and proof is not None and proof.ok
    return {
        "hook": way.name,
        "ok": ok,
        "detail": way.covers if ok else state.refused or (proof.why if proof else ""),
        "covers": way.covers if ok else None,
        "misses": (way.misses or None) if ok else None,
        "refused_ways": refused_ways(state),
    }
