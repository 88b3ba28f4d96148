# SPDX-License-Identifier: Apache-2.0
"""What the virtual machines are made from, and what is read from what they say."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from vm import cache, kernels
from vm.cache import CannotBeHad
from vm.machine import LSM_WITH_BPF, Outcome
from vm.plan import plans
from vm.result import failures_in, result_of, why_not

SAID = """\
booting
=================================== FAILURES ===================================
____ test_it ____
E   assert False
=========================== short test summary info ============================
FAILED tests/kernel/test_ways.py::test_it
================== 1 failed, 85 passed, 2 skipped in 63.12s (0:01:03) ==========
"""


def image(path: Path, release: str = "6.1.0-50-amd64 (builder) #1 SMP") -> Path:
    """A kernel of which there is nothing but the header."""
    head = bytearray(0x4000)
    head[0x202:0x206] = b"HdrS"
    head[0x20E:0x210] = (0x3000).to_bytes(2, "little")
    head[0x3200 : 0x3200 + len(release)] = release.encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head)
    return path


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOCKRULES_VM_CACHE", str(tmp_path / "cache"))


def test_the_release_of_a_kernel_is_in_its_header(tmp_path: Path) -> None:
    assert kernels.release_of(image(tmp_path / "vmlinuz")) == "6.1.0-50-amd64"


def test_what_is_no_kernel_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "vmlinux").write_bytes(b"\x7fELF" + bytes(1000))
    with pytest.raises(CannotBeHad, match="not a kernel for x86"):
        kernels.own(tmp_path / "vmlinux", None)
    with pytest.raises(CannotBeHad, match="No such file"):
        kernels.own(tmp_path / "missing", None)


def test_a_kernel_of_ones_own_has_the_modules_beside_it_or_those_that_are_named(
    tmp_path: Path,
) -> None:
    release = "9.9.9-own"
    kernel = image(tmp_path / "boot/vmlinuz", release)
    assert kernels.own(kernel, None).modules is None
    modules = tmp_path / "lib/modules" / release
    modules.mkdir(parents=True)
    (modules / "modules.builtin").touch()
    assert kernels.own(kernel, None).modules == modules
    assert kernels.own(kernel, tmp_path / "lib/modules").modules == modules
    with pytest.raises(CannotBeHad, match="no modules of 9.9.9-own"):
        kernels.own(kernel, tmp_path)


def test_an_entry_is_made_once_and_only_whole() -> None:
    def fails(draft: Path) -> None:
        draft.mkdir()
        (draft / "half").touch()
        raise CannotBeHad("no network")

    with pytest.raises(CannotBeHad):
        cache.entry("kernel-1", fails)
    assert list(cache.directory().glob("[!.]*")) == []
    path = cache.entry("kernel-1", lambda draft: draft.write_text("whole"))
    assert cache.entry("kernel-1", fails) == path
    assert path.read_text() == "whole"


def test_what_nobody_used_for_a_month_goes_when_something_is_made() -> None:
    old = cache.entry("kernel-1", Path.touch)
    used = cache.entry("kernel-2", Path.touch)
    for path in (old, used):
        os.utime(path, (time.time() - 40 * 86400,) * 2)
    cache.entry("kernel-2", Path.touch)
    cache.entry("kernel-3", Path.touch)
    assert used.exists()
    assert not old.exists()


def test_what_a_machine_said_is_told_from_its_failures_on() -> None:
    assert result_of(SAID) == "1 failed, 85 passed, 2 skipped in 63.12s (0:01:03)"
    assert failures_in(SAID).startswith("=================================== FAILURES")
    assert result_of("panic") == "no result"
    assert failures_in("Kernel panic") == "Kernel panic"


@pytest.mark.parametrize(
    ("status", "says"), [(None, "in time"), (255, "did not boot"), (1, "exit status 1")]
)
def test_why_a_machine_failed(status: int | None, says: str) -> None:
    assert says in why_not(Outcome(status, "", 1.0))


def test_every_kernel_is_booted_with_and_without_bpf() -> None:
    names = {plan.name: "bpf" in plan.lsm for plan in plans({})}
    assert names == {
        f"{line}-{word}": word == "bpf" for line in kernels.SUITES for word in ("bpf", "no-bpf")
    }
    own = plans({"SOCKRULES_VM_KERNEL": "/boot/vmlinuz"})
    assert [plan.name for plan in own] == ["own-no-bpf", "own-bpf"]
    assert own[1].lsm == LSM_WITH_BPF
