# SPDX-License-Identifier: Apache-2.0
"""Boot a kernel in an emulated machine, run one script in it, and say what came of it.

The emulation is qemu's own (TCG): it needs no /dev/kvm and is some ten times slower than
the host. virtme-ng makes the initramfs and the wiring. The script finds a copy of the
checkout as its working directory, in memory.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from . import cache, programs
from .kernels import Kernel

CHECKOUT = Path(__file__).resolve().parents[2]
COPIED = ("agent", "bench", "bpf", "control", "docs", "packaging", "tests", "pyproject.toml")
COSTLY = ("la57", "avx", "avx2", "vaes", "f16c", "bmi1", "bmi2", "erms")
"""What a CPU may have that costs more to emulate than it saves."""
BOOT_FAILED = 255
"""What virtme-ng says when the machine ended without having run the script."""

LSM_WITHOUT_BPF = ("landlock", "lockdown", "yama", "apparmor")
LSM_WITH_BPF = (*LSM_WITHOUT_BPF, "bpf")

_running: set[subprocess.Popen[str]] = set()

PREAMBLE = """\
set -eu
mkdir /run/checkout
cd /run/checkout
tar -xf /job/checkout.tar
ulimit -l unlimited
export PYTHONPATH=/run/checkout/packaging/src:/run/checkout/tests PYTHONUNBUFFERED=1 HOME=/run
python3 -m vm.programs /job/programs
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """A kernel and the security modules that it starts with (lsm=)."""

    kernel: Kernel
    lsm: tuple[str, ...]

    def __str__(self) -> str:
        return f"Linux {self.kernel.release}, lsm={','.join(self.lsm)}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The script's exit status, what it and the machine printed, and how long both took.

    `status` is None when the time ran out.
    """

    status: int | None
    output: str
    seconds: float


def run(
    machine: Machine,
    image: Path,
    script: str,
    patience: float,
    line_by_line: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Boot, run the shell script as root, and wait for the end, `patience` seconds at most."""
    with tempfile.TemporaryDirectory(prefix="sockrules-vm-") as place:
        job = Path(place) / "job"
        (job / "programs").mkdir(parents=True)
        _pack_checkout(job / "checkout.tar")
        (job / "script").write_text(PREAMBLE + script)
        # timeout(1) besides, for the case that this process is killed
        command = ["timeout", "--signal=KILL", str(patience + 30)]
        command += _command(machine, image, _kernel_tree(machine.kernel, Path(place)), job)
        started = time.monotonic()
        with _process(command, Path(place)) as process:
            assert process.stdout
            too_long = threading.Event()

            def give_up() -> None:
                too_long.set()
                _end(process)

            timer = threading.Timer(patience, give_up)
            timer.start()
            lines = []
            try:
                for line in process.stdout:
                    if programs.answer(line, job / "programs"):
                        continue
                    lines.append(line)
                    line_by_line(line.rstrip("\n"))
                process.wait()
            finally:
                timer.cancel()
        seconds = time.monotonic() - started
    status = None if too_long.is_set() else process.returncode
    return Outcome(status, "".join(lines), seconds)


def _command(machine: Machine, image: Path, kernel: Path, job: Path) -> list[str]:
    """virtme-ng's. One CPU: with two, on a busy host, they wait for each other."""
    append = [f"lsm={','.join(machine.lsm)}", "mitigations=off"]
    return [
        *(str(Path(sys.executable).with_name("vng")), "--disable-kvm", "--force-9p"),
        *("--run", str(kernel), "--root-disk", str(image), "--root-fstype", "ext4"),
        *(f"--rodir=/job={job}", "--cwd", "/", "--cpus", "1", "--memory", "2G"),
        *(word for each in append for word in ("--append", each)),
        f"--qemu-opts=-cpu max,{','.join(f'{each}=off' for each in COSTLY)}",
        *("--exec", "sh /job/script"),
    ]


def _kernel_tree(kernel: Kernel, place: Path) -> Path:
    """The image in a tree where virtme-ng finds the modules by its rules."""
    (place / "kernel/boot").mkdir(parents=True)
    (place / "kernel/lib/modules").mkdir(parents=True)
    image = place / f"kernel/boot/vmlinuz-{kernel.release}"
    image.symlink_to(kernel.image)
    if kernel.modules:
        (place / f"kernel/lib/modules/{kernel.release}").symlink_to(kernel.modules)
    return image


def _pack_checkout(archive: Path) -> None:
    with tarfile.open(archive, "w") as tar:
        for name in COPIED:
            tar.add(CHECKOUT / name, arcname=name)


@contextlib.contextmanager
def _process(command: list[str], place: Path) -> Iterator[subprocess.Popen[str]]:
    home = cache.directory() / ".home"  # virtme-ng keeps settings there
    home.mkdir(exist_ok=True)
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
    environment = {"PATH": path, "HOME": str(home), "TMPDIR": str(place), "TERM": "dumb"}
    with subprocess.Popen(
        command,
        cwd=place,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        _running.add(process)
        try:
            yield process
        finally:
            _end(process)
            _running.discard(process)


def _end(process: subprocess.Popen[str]) -> None:
    """The machine and what started it are a session of their own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def end_all() -> None:
    """End every machine that runs; whoever waits for one is told that it failed."""
    for process in list(_running):
        _end(process)


def quoted(*words: str) -> str:
    """Words as a line of a script."""
    return shlex.join(words)
