# SPDX-License-Identifier: Apache-2.0
"""Debian's packages of any suite, from wherever this host's apt has its own from."""

from __future__ import annotations

import functools
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .cache import CannotBeHad

ARCHITECTURE = "amd64"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
"""Of the package debian-archive-keyring: the keys of this release, older and newer ones."""


def done(command: Sequence[str], cwd: Path | None = None) -> str:
    """What a command prints.

    Raises:
        CannotBeHad: it failed; with the end of what it said.
    """
    try:
        run = subprocess.run(
            command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise CannotBeHad(f"{command[0]} is not installed; run: sudo make test") from error
    if run.returncode:
        said = "\n".join((run.stdout + run.stderr).strip().splitlines()[-20:])
        raise CannotBeHad(f"{' '.join(command)} ended with {run.returncode}:\n{said}")
    return run.stdout


def why_not_here() -> str:
    """Why this host cannot have the machines, or an empty string."""
    if platform.machine() != "x86_64":
        return (
            "the virtual machines are prepared for amd64 (x86_64) alone; this host is"
            f" {platform.machine()}"
        )
    return ""


def codename() -> str:
    """This host's own release: `bookworm`, `trixie`."""
    told = platform.freedesktop_os_release()
    name = told.get("VERSION_CODENAME", "")
    if told.get("ID") != "debian" or not name:
        raise CannotBeHad(
            "the machines' userland is that of a Debian host; this host is"
            f" {told.get('PRETTY_NAME', 'not Debian')}"
        )
    return name


@functools.cache
def archives() -> dict[str, str]:
    """The addresses that this host's apt uses: of `Debian`, and of `Debian-Security`."""
    command = ["apt-get", "indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)"]
    found: dict[str, str] = {}
    for _ in range(2):
        for line in done([*command, "Created-By: Packages"]).splitlines():
            origin, label, uri = line.split("|")
            if origin == "Debian" and not uri.startswith("cdrom:"):
                found.setdefault(label, uri)
        if "Debian" in found:
            return found
        done(["apt-get", "-qq", "update"])
    raise CannotBeHad("this host's apt has no source of Debian (see /etc/apt/sources.list*)")


def source(suite: str, label: str = "Debian") -> str:
    """A line of sources.list.

    Raises:
        CannotBeHad: this host's apt has no such archive.
    """
    if label not in archives():
        raise CannotBeHad(f"this host's apt has no source of {label} (see /etc/apt/sources.list*)")
    signed = f",signed-by={KEYRING}" if KEYRING.exists() else ""
    return f"deb [arch={ARCHITECTURE}{signed}] {archives()[label]} {suite} main".replace(",", " ")


class Apt:
    """An apt of its own below `directory`, with sources of its own and this host's settings."""

    def __init__(self, directory: Path, sources: Sequence[str]) -> None:
        self.directory = directory
        for each in ("state/lists/partial", "cache/archives/partial"):
            (directory / each).mkdir(parents=True)
        (directory / "sources.list").write_text("".join(f"{line}\n" for line in sources))
        (directory / "status").touch()
        settings = {
            "Dir::State": directory / "state",
            "Dir::State::status": directory / "status",
            "Dir::Cache": directory / "cache",
            "Dir::Etc::SourceList": directory / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
        }
        self._options = [f"-o{name}={value}" for name, value in settings.items()]
        done(["apt-get", *self._options, "-qq", "update"])

    def depends(self, package: str) -> list[str]:
        """What a package depends on, by name."""
        told = done(["apt-cache", *self._options, "depends", package])
        return [line.split()[-1] for line in told.splitlines() if "Depends:" in line]

    def names(self, prefix: str) -> list[str]:
        """All packages whose names begin so."""
        return done(["apt-cache", *self._options, "pkgnames", prefix]).split()

    def unpack(self, package: str, target: Path) -> None:
        """Download a package and unpack it there."""
        done(["apt-get", *self._options, "-qq", "download", package], self.directory)
        [archive] = self.directory.glob(f"{package}_*.deb")
        done(["dpkg", "-x", str(archive), str(target)])
        archive.unlink()
