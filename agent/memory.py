# SPDX-License-Identifier: Apache-2.0
"""Memory that the agent does not need any more, given back to the host.

What a compilation frees stays with the C library, which keeps it for the next one. An
agent compiles rarely and rests in between.
"""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Return freed memory to the kernel (malloc_trim(3)); nothing where the C library has none."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
