# SPDX-License-Identifier: Apache-2.0
"""An agent whose clock is a file: `agent_at.py ROOT FILE`, FILE holding `ZONE ISO-TIME`."""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from sockrules.agent.clock import Clock
from sockrules.agent.daemon import Agent
from sockrules.control.paths import Paths


class FileClock(Clock):
    """Shows what the file says."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._source = file

    def now(self) -> datetime:
        zone, moment = self._source.read_text().split()
        return datetime.fromisoformat(moment).astimezone(ZoneInfo(zone))


agent = Agent(Paths(Path(sys.argv[1])))
agent.clock = FileClock(Path(sys.argv[2]))
asyncio.run(agent.run(False))
