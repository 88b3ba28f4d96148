# SPDX-License-Identifier: Apache-2.0
"""What to say when a kernel's verifier does not follow a walk to its end.

Rules. A table needs the steps that it needs: programs with fewer are no way out. They
are loaded only to tell how many this kernel accepts.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace

from .bytecode import Cache
from .hooks import HOOKS
from .kernel import STEP_CLASSES
from .loader import Capacity, load


def is_too_long(refusal: str) -> bool:
    """Whether the kernel refused a program because the verifier came to no end.

    E2BIG: too many instructions; EFAULT: more than 8 192 branches put off for later
    (push_stack, kernel/bpf/verifier.c, Linux 5.10 and 6.18).
    """
    return any(os.strerror(code) in refusal for code in (errno.E2BIG, errno.EFAULT))


def longest_walk(
    needed: int,
    capacity: Capacity,
    macros: Mapping[str, int],
    refused: Iterable[str],
    cache: Cache | None,
) -> str:
    """A sentence about the walks that these hooks' programs can have on this kernel.

    Args:
        needed: steps that the rules need.
        capacity: what was refused.
        refused: names of hooks.
    """
    hooks = [hook for hook in HOOKS if hook.name in refused]
    most = 0
    for steps in sorted(STEP_CLASSES, reverse=True):
        if most or steps >= capacity.steps:
            continue
        shorter = load(replace(capacity, steps=steps), macros, hooks, cache=cache)
        if not shorter.refused:
            most = steps
        shorter.close()
    return (
        f"the rules need a walk of {needed} steps and this kernel's verifier accepts at most"
        f" {most}; rules with fewer long lists and overlaps need fewer"
    )
