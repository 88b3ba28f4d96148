# SPDX-License-Identifier: Apache-2.0
"""Which kernel this is, where older ones rightly lack what is tested."""

from __future__ import annotations

import platform


def release() -> tuple[int, ...]:
    """The running kernel's version, major and minor."""
    return tuple(map(int, platform.release().split("-")[0].split(".")[:2]))
