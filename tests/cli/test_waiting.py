# SPDX-License-Identifier: Apache-2.0
"""Long work says on a terminal that it goes on, and leaves nothing behind there."""

from __future__ import annotations

import io
import sys
import time

import pytest

from sockrules.control.cli import waiting as module
from sockrules.control.cli.waiting import waiting


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_EVERY", 0.05)


def test_it_is_said_again_and_again_and_wiped_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with waiting("the rules are read"):
        time.sleep(0.3)
    _, *said, last = sys.stderr.getvalue().split(module._GONE)
    assert len(said) >= 2
    assert said[0] == "the rules are read, 0 s"
    assert last == ""


@pytest.mark.parametrize("kind", [Terminal, io.StringIO])
def test_nothing_is_written_to_files_or_for_short_work(
    kind: type[io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", kind())
    with waiting("the rules are read"):
        time.sleep(0.2 if kind is io.StringIO else 0)
    assert sys.stderr.getvalue() == ""


def test_a_failure_wipes_it_out_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with pytest.raises(KeyError), waiting("the rules are read"):
        time.sleep(0.2)
        raise KeyError
    assert sys.stderr.getvalue().endswith(module._GONE)
