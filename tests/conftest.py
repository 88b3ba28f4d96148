# SPDX-License-Identifier: Apache-2.0
"""What holds for every test: no clocks in hypothesis, and no kernel test that is skipped unseen.

Tests marked `kernel` load programs into the running kernel. Where that is
impossible they are skipped with the reason; with SOCKRULES_REQUIRE_KERNEL=1
(continuous integration) they fail instead. A kernel test that calls
`pytest.skip` itself fails likewise, unless its mark says that some kernels
rightly lack what it tests: `@pytest.mark.kernel(optional=True)`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("sockrules", deadline=None, print_blob=True)
settings.load_profile("sockrules")

KERNEL_REQUIRED = os.environ.get("SOCKRULES_REQUIRE_KERNEL", "") not in ("", "0")


@functools.cache
def why_no_kernel() -> str:
    """Why kernel tests cannot run here, or an empty string."""
    if os.geteuid() != 0:
        return "kernel tests need root; run: sudo make test"
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    if not any(line.split()[2] == "cgroup2" for line in mounts):
        return "kernel tests need a cgroup v2 mount; none is in /proc/self/mounts"
    try:
        import bcc

        del bcc
    except ImportError as error:
        return f"kernel tests need Debian's python3-bpfcc ({error}); run: sudo make setup"
    return ""


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("kernel") and (reason := why_no_kernel()):
        pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    mark = item.get_closest_marker("kernel")
    if not (KERNEL_REQUIRED and mark and report.skipped) or hasattr(report, "wasxfail"):
        return report
    if why_no_kernel() or not mark.kwargs.get("optional", False):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"SOCKRULES_REQUIRE_KERNEL is set, and this was not run: {reason}"
    return report
