# SPDX-License-Identifier: Apache-2.0
"""Which kernels the machines boot: those of Debian's suites, by package name, or one by path.

A kernel of Debian's is that of the suite's last point release, on its own archive; where
that one cannot be had, any of the same line, from its security archive too.
"""

from __future__ import annotations

import re
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path

from . import cache
from .cache import CannotBeHad
from .debian import ARCHITECTURE, Apt, done, source

SUITES = {"5.10": "bullseye", "6.1": "bookworm", "6.12": "trixie"}
"""The suite of each line of kernels."""
_RECIPE = "1"
"""Another one when `_fetch` makes something else of the same suite."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel's `image` (bzImage), and the directory with the modules of its `release`, if any."""

    release: str
    image: Path
    modules: Path | None


def debian(line: str) -> Kernel:
    """Debian's kernel of a line, from the cache or from Debian.

    Raises:
        CannotBeHad: from neither.
    """
    suite = SUITES[line]
    name = cache.named_for(f"kernel-{line}", suite, _RECIPE)
    return _in_tree(cache.entry(name, lambda draft: _fetch(line, suite, draft)))


def own(image: Path, modules: Path | None) -> Kernel:
    """A kernel by path; without `modules`, those of its release that lie beside it.

    Raises:
        CannotBeHad: it is no kernel, or the modules are another's.
    """
    release = release_of(image)
    beside = [image.parent / "../lib/modules", image.parent / "../usr/lib/modules"]
    candidates = [modules, modules and modules / release] if modules else [
        each / release for each in (*beside, Path("/lib/modules"))
    ]  # fmt: skip
    found = [each for each in candidates if each and (each / "modules.builtin").exists()]
    if modules and not found:
        raise CannotBeHad(f"{modules}: no modules of {release} (no modules.builtin there)")
    return Kernel(release, image.resolve(), found[0].resolve() if found else None)


def release_of(image: Path) -> str:
    """What `uname -r` will say, from the image's header (Documentation/arch/x86/boot.rst)."""
    try:
        head = image.read_bytes()[:65536]
    except OSError as error:
        raise CannotBeHad(str(error)) from error
    if head[0x202:0x206] != b"HdrS":
        raise CannotBeHad(f"{image}: not a kernel for x86 (bzImage)")
    at = struct.unpack_from("<H", head, 0x20E)[0] + 0x200
    return head[at : at + 256].split(b"\0")[0].split()[0].decode()


def _fetch(line: str, suite: str, target: Path) -> None:
    try:
        _fetch_from(line, [source(suite)], target)
    except CannotBeHad as first:
        try:
            security = source(f"{suite}-security", "Debian-Security")
            _fetch_from(line, [source(suite), security], target)
        except CannotBeHad as second:
            raise CannotBeHad(f"Linux {line} of {suite}: {first}\nand then: {second}") from second


def _fetch_from(line: str, sources: list[str], target: Path) -> None:
    """The kernel of the first source's metapackage, or of all sources the newest to be had."""
    with tempfile.TemporaryDirectory(prefix="sockrules-apt-") as place:
        apt = Apt(Path(place), sources)
        wanted = re.compile(rf"linux-image-{re.escape(line)}\.[\d.]+(-\d+|\+deb[\d.]+)-amd64")
        if len(sources) == 1:
            packages = apt.depends(f"linux-image-{ARCHITECTURE}")
        else:
            packages = sorted(apt.names(f"linux-image-{line}"), key=_by_number, reverse=True)
        packages = [each for each in packages if wanted.fullmatch(each)]
        trouble = [f"there is no linux-image-{line}.*-{ARCHITECTURE} in: {'; '.join(sources)}"]
        for package in packages[:3]:
            try:
                apt.unpack(package, target)
            except CannotBeHad as error:
                trouble.append(str(error))
                continue
            kernel = _in_tree(target)
            done(["depmod", "-b", str(target), kernel.release])
            return
        raise CannotBeHad(trouble[-1])


def _by_number(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]


def _in_tree(tree: Path) -> Kernel:
    """The kernel of an unpacked package; its modules stand below lib or below usr/lib."""
    [image] = (tree / "boot").glob("vmlinuz-*")
    release = image.name.removeprefix("vmlinuz-")
    if not (tree / "lib").exists():
        (tree / "lib").symlink_to("usr/lib")
    return Kernel(release, image, tree / "lib/modules" / release)
