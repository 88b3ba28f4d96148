# SPDX-License-Identifier: Apache-2.0
"""Cyclic garbage collection, paused while many objects are made that are in no cycle."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Pause the collector: it would pass over millions of young tuples again and again,
    and take half of the time of reading or compiling a large rule set."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
