# SPDX-License-Identifier: Apache-2.0
"""What runs on the kernels: a small Debian of this host's release, with the Python packages
of the environment that runs the tests, as an image of a file system.

An image because Python and LLVM are read from a disk twice as fast as from a shared
directory, under emulation.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from . import cache
from .debian import ARCHITECTURE, codename, done, source

PACKAGES = (
    *("python3", "python3-bpfcc"),  # what the agent needs
    *("iproute2", "curl", "netcat-openbsd", "util-linux", "procps", "mount"),  # what tests call
    *("kmod", "udev"),  # what the machine needs; without udev its output is lost
)
MOUNT_POINTS = ("job", "usr/lib/modules")
NOT_NEEDED = (  # what checks code, installs it or boots machines
    *("mypy", "ruff", "pip", "setuptools", "virtme", "sockrules", "librt", "ast_serialize"),
    *("pkg_resources", "_distutils_hack", "usr"),
)
ROOM = 200  # megabytes of the image beyond what it holds
_RECIPE = "1"
"""Another one when `_install` or `_pack` make something else of the same packages."""


def image() -> Path:
    """The image of an ext4 file system, from the cache or made anew.

    Raises:
        CannotBeHad: Debian's packages could not be had, or mmdebstrap or mke2fs failed.
    """
    release = codename()
    root = cache.named_for(f"userland-{release}", _RECIPE, *PACKAGES)
    packages = list(_python_packages())
    name = cache.named_for(f"image-{release}", _RECIPE, root, _digest(packages))

    def make(draft: Path) -> None:
        _pack(cache.entry(root, lambda draft: _install(release, draft)), packages, draft)

    return cache.entry(name, make)


def _install(release: str, target: Path) -> None:
    done(
        [
            *("mmdebstrap", "--quiet", "--variant=minbase", "--mode=root"),
            *("--format=directory", f"--architectures={ARCHITECTURE}"),
            f"--include={','.join(PACKAGES)}",
            *(release, str(target), source(release)),
        ]
    )
    # Drivers are not looked for: those that the machine needs are in its initramfs.
    (target / "etc/udev/rules.d/80-drivers.rules").symlink_to("/dev/null")
    for each in MOUNT_POINTS:
        (target / each).mkdir(exist_ok=True)


def _python_packages() -> Iterable[Path]:
    """What of the environment's site-packages goes into the machine."""
    for path in sorted(Path(sysconfig.get_path("purelib")).iterdir()):
        name = path.name.removeprefix("__editable__.")
        compiled_checker = "__mypyc" in name or name.startswith("mypyc")
        if not (name.startswith(NOT_NEEDED) or compiled_checker or path.suffix == ".pth"):
            yield path


def _digest(packages: Iterable[Path]) -> str:
    """Of the versions that are installed; their directories of metadata are named for them."""
    names = [path.name for path in packages]
    return hashlib.sha256("\n".join([sys.version, *names]).encode()).hexdigest()


def _pack(root: Path, packages: Iterable[Path], target: Path) -> None:
    tree = target.with_name(f"{target.name}.tree")
    shutil.rmtree(tree, ignore_errors=True)
    try:
        done(["cp", "-al", str(root), str(tree)])
        major, minor = sys.version_info[:2]
        site = tree / f"usr/local/lib/python{major}.{minor}/dist-packages"
        site.mkdir(parents=True, exist_ok=True)
        done(["cp", "-a", *map(str, packages), str(site)])
        size = int(done(["du", "-sm", str(tree)]).split()[0]) + ROOM
        done(
            [
                *("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0"),
                *("-d", str(tree), str(target), f"{size}M"),
            ]
        )
        os.chmod(target, 0o444)
    finally:
        shutil.rmtree(tree, ignore_errors=True)
