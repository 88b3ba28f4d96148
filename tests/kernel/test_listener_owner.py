# SPDX-License-Identifier: Apache-2.0
"""Whose listener is it? Accept rules judge who called listen(), whoever serves the peers.

On the fallback hook, which knows a listener by its address and port alone, the last
to join a SO_REUSEPORT group answers for all of it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from .processes import PYTHON
from .sandbox import Sandbox

pytestmark = pytest.mark.kernel

HANDOVER = Path(__file__).with_name("handover.py").read_text()
SERVED_BY = "2000"

RULES = """
[[rule]]
name = "root-has-no-peers-on-6101"
server = "accept"
authority = "no"
when = "local.port == 6101 and user == root"

[[rule]]
name = "2000-has-no-peers"
server = "accept"
authority = "no"
when = "user == 2000"

[[rule]]
name = "group-3002-has-no-peers"
server = "accept"
authority = "no"
when = "group == 3002"
"""


@pytest.fixture(scope="module", autouse=True)
def _rules(sandbox: Sandbox) -> None:
    sandbox.apply(RULES)
    sandbox.activate("enforce", "accept")


def handover(
    sandbox: Sandbox, *arguments: str | int, group: int | None = None
) -> AbstractContextManager[tuple[int, str]]:
    command = [PYTHON, "-I", "-S", "-c", HANDOVER, *map(str, arguments)]
    if group is not None:
        command = ["setpriv", f"--regid={group}", "--clear-groups", *command]
    return sandbox.server(command)


def asked(sandbox: Sandbox, port: int) -> str:
    """The number of the user that serves, or the name of the error."""
    ask = f"""
import errno, socket
try:
    with socket.create_connection(("127.0.0.1", {port}), 5) as peer:
        print(peer.recv(10).decode())
except OSError as error:
    print(errno.errorcode[error.errno])
"""
    return sandbox.inside([PYTHON, "-I", "-S", "-c", ask]).stdout.strip()


@pytest.mark.matrix
@pytest.mark.parametrize("how", ["pass", "activate"])
def test_a_listener_stays_that_of_who_listened(sandbox: Sandbox, how: str) -> None:
    with handover(sandbox, how, 6100, SERVED_BY) as (_, answer):
        assert answer == "ready"
        assert asked(sandbox, 6100) == SERVED_BY  # though no peer may reach a listener of 2000
    with handover(sandbox, how, 6101, SERVED_BY):
        sandbox.mark()
        assert asked(sandbox, 6101) == "ECONNREFUSED"
        [line] = sandbox.audit(server="accept", authority="no")
        assert line["rule"]["name"] == "root-has-no-peers-on-6101"
        assert line["user"]["id"] == "0"


@pytest.mark.matrix
def test_the_last_to_join_a_group_answers_for_it(sandbox: Sandbox) -> None:
    with handover(sandbox, "group", 6102, group=3001) as (_, answer):
        assert answer == "ready"
        assert asked(sandbox, 6102) == "0"
        with handover(sandbox, "group", 6102, group=3002) as (_, second):
            assert second == "ready"
            assert {asked(sandbox, 6102) for _ in range(8)} == {"ECONNREFUSED"}
            with handover(sandbox, "group", 6102, group=3001):
                assert {asked(sandbox, 6102) for _ in range(8)} == {"0"}
