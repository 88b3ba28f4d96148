# SPDX-License-Identifier: Apache-2.0
"""Rules on the time in the kernel: the verdict follows the host's clock, whatever it does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .sandbox import Sandbox

pytestmark = pytest.mark.kernel

AGENT = Path(__file__).with_name("agent_at.py")
RULES = """
[[rule]]
name = "until-april"
server = "connect"
authority = "no"
when = "remote.port == 4102"
expires = 2026-04-01T00:00:00+02:00

[[rule]]
name = "closed-at-night"
server = "connect"
authority = "no"
when = "remote.port == 4101 and time not in mon-fri 08:00-18:00"

[[rule]]
name = "small-hours"
server = "connect"
authority = "no"
when = "remote.port == 4103 and time in 02:00-03:00"

[[rule]]
name = "the-rest"
server = "connect"
authority = "yes"
when = "remote.port in 4100-4109"
"""


class Timed:
    """A sandbox and the clock of the agent in it."""

    def __init__(self, box: Sandbox, file: Path) -> None:
        self.box, self.file = box, file

    def set(self, moment: str, zone: str = "Europe/Berlin") -> None:
        new = self.file.with_suffix(".new")
        new.write_text(f"{zone} {moment}")
        new.replace(self.file)

    def connect(self, port: int) -> str:
        return self.box.client("connect", "plain", "127.0.0.1", port)

    def shows(self, port: int, outcome: str) -> None:
        """Within two ticks of the clock, connecting comes to this."""
        self.box.wait_until(lambda: self.connect(port) == outcome, 5, f"{port}: {outcome}")

    def changes_next(self, moment: str) -> None:
        """Within two ticks of the clock, status foretells this boundary."""

        def foretold() -> bool:
            return bool(self.box.call("status")["ruleset"]["next_change"] == moment)

        self.box.wait_until(foretold, 5, f"next change {moment}")


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Timed]:
    box = Sandbox(tmp_path_factory.mktemp("root"))
    box.open()
    clock = Timed(box, box.paths.root / "clock")
    clock.set("2026-03-27T12:00+01:00")
    try:
        box.configure(connect="enforce")
        box.paths.rules.write_text(RULES)
        box.agent = subprocess.Popen(
            box.enter([sys.executable, str(AGENT), str(box.paths.root), str(clock.file)]),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        box.wait_until(box.answers, 30)
        yield clock
    finally:
        box.close()


def test_the_verdict_follows_the_clock(timed: Timed) -> None:
    box = timed.box
    with box.listener("plain", "127.0.0.1", 4101), box.listener("plain", "127.0.0.1", 4102):
        ruleset = box.call("status")["ruleset"]
        timed.changes_next("2026-03-27T17:00:00Z")
        assert timed.connect(4101) == "ok"
        box.mark()
        timed.set("2026-03-27T18:00+01:00")
        timed.shows(4101, "EPERM")
        line = box.audit(server="connect", authority="no")[0]
        assert line["rule"]["name"] == "closed-at-night"
        assert line["sockrules"]["sequence"] == 20
        said = box.audit(kind="state")[0]
        assert said["event"]["action"] == "rules-by-time"
        assert said["sockrules"]["rules"] == ["closed-at-night"]

        timed.set("2026-03-27T17:59:59+01:00")  # the clock is set back
        timed.shows(4101, "ok")
        timed.set("2026-03-30T08:00+02:00")  # and far ahead, over a weekend and into summer
        timed.shows(4101, "ok")
        timed.changes_next("2026-03-30T16:00:00Z")
        timed.set("2026-03-30T08:00+02:00", "America/New_York")  # another zone: 02:00 there
        timed.shows(4101, "EPERM")
        assert box.call("status")["ruleset"]["revision"] == ruleset["revision"]


def test_a_rule_expires_and_the_others_keep_their_names(timed: Timed) -> None:
    box = timed.box
    with box.listener("plain", "127.0.0.1", 4102):
        timed.set("2026-03-31T12:00+02:00")
        timed.shows(4102, "EPERM")
        timed.set("2026-04-01T00:00+02:00")
        timed.shows(4102, "ok")
        box.mark()
        assert timed.connect(4102) == "ok"
        [line] = box.audit(server="connect")
        assert line["rule"]["name"] == "the-rest"  # the fourth, with one of them gone
        assert line["sockrules"]["sequence"] == 40


def test_hits_are_kept_across_boundaries(timed: Timed) -> None:
    box = timed.box

    def hits() -> int:
        return int(box.call("hits")["rules"].get("the-rest", {"hits": 0})["hits"])

    with box.listener("plain", "127.0.0.1", 4101):
        timed.set("2026-04-02T12:00+02:00")
        timed.shows(4101, "ok")
        before = hits()
        for day, hour in ((3, 7), (3, 9), (4, 9), (6, 9)):
            timed.set(f"2026-04-0{day}T{hour:02}:00+02:00")
            timed.shows(4101, "ok" if hour == 9 and day in (3, 6) else "EPERM")
            assert timed.connect(4105) == "ECONNREFUSED"  # allowed, nobody listens
        assert hits() >= before + 4


def test_the_repeated_hour_and_a_new_agent(timed: Timed) -> None:
    box = timed.box
    with box.listener("plain", "127.0.0.1", 4103):
        for moment, outcome in (
            ("2026-10-25T01:59+02:00", "ok"),
            ("2026-10-25T02:00+02:00", "EPERM"),
            ("2026-10-25T02:00+01:00", "EPERM"),  # an hour later, on a clock that shows the same
            ("2026-10-25T03:00+01:00", "ok"),
        ):
            timed.set(moment)
            timed.shows(4103, outcome)
        applied = box.apply(RULES.replace("02:00-03:00", "03:00-04:00"))
        assert applied["changed"]
        assert timed.connect(4103) == "EPERM"  # at once, without waiting for a boundary
