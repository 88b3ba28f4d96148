# SPDX-License-Identifier: Apache-2.0
"""On a terminal, what is being waited for, where it takes long.

It stands in a line of standard error that is gone when the work is done. Nothing is written
where standard error is no terminal, and nothing in the first second.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

_EVERY = 1.0  # seconds
_GONE = "\r\x1b[K"


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say that `what` goes on, and for how long it has, until the context ends."""
    if not sys.stderr.isatty():
        yield
        return
    done = threading.Event()
    teller = threading.Thread(target=_tell, args=(what, done), daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()


def _tell(what: str, done: threading.Event) -> None:
    began, said = time.monotonic(), False
    while not done.wait(_EVERY):
        said = True
        click.echo(f"{_GONE}{what}, {time.monotonic() - began:.0f} s", err=True, nl=False)
    if said:
        click.echo(_GONE, err=True, nl=False)
