# SPDX-License-Identifier: Apache-2.0
"""Changing rules on a live host: what is shown, what is refused, what comes back by itself."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sockrules.control.client import AgentRefused

from .processes import PYTHON
from .sandbox import Sandbox

pytestmark = pytest.mark.kernel

LOGIN_SERVER = Path(__file__).with_name("login_server.py")
PROGRAM = os.path.basename(os.path.realpath(PYTHON))

SHELL = """
import json, sys
from pathlib import Path
from sockrules.control.client import AgentRefused, Client

for line in sys.stdin:
    try:
        answer = {"result": Client(Path(sys.argv[1])).call(**json.loads(line))}
    except AgentRefused as error:
        answer = {"error": {"kind": error.kind, "message": error.message}}
    print(json.dumps(answer), flush=True)
"""
"""What somebody who is logged in runs: passes requests in JSON on to the agent."""

OPEN = """
[[rule]]
name = "no-7009"
server = "connect"
authority = "no"
when = "remote.port == 7009"
"""


def rule(name: str, server: str, when: str) -> str:
    return f'[[rule]]\nname = "{name}"\nserver = "{server}"\nauthority = "no"\nwhen = "{when}"\n'


SHUT = OPEN + rule("shut", "connect", "remote.port == 7001")


@pytest.fixture
def box(fresh: Sandbox) -> Sandbox:
    fresh.configure(listen="enforce", accept="enforce", connect="enforce")
    fresh.start(OPEN)
    return fresh


def reaches(box: Sandbox, port: int = 7001) -> bool:
    return box.client("connect", "plain", "127.0.0.1", port) == "ok"


def revision(box: Sandbox) -> int:
    return int(box.call("status")["ruleset"]["revision"])


# -- preview ----------------------------------------------------------------------------


def test_preview_shows_the_difference_and_whom_it_would_hit(box: Sandbox) -> None:
    new = (
        OPEN + rule("not-2001", "accept", "user == 2001") + rule("no-web", "listen", "user == 2002")
    )
    with (
        box.listener("plain", "127.0.0.1", 7001, user=2000),
        box.listener("plain", "127.0.0.1", 7002, user=2002),
        talk(box, 7003, user=2001),
    ):
        seen = box.call("preview", text=new, file="new.toml")
        assert [each["rule"] for each in seen["difference"]["added"]] == ["not-2001", "no-web"]
        hit = {(each["server"], each["local"]): each for each in seen["impact"]["rejected"]}
        assert set(hit) == {("accept", "127.0.0.1:7003"), ("listen", "127.0.0.1:7002")}
        accept = hit["accept", "127.0.0.1:7003"]
        assert (accept["user"], accept["rule"], accept["already"]) == ("2001", "not-2001", False)
        assert accept["program"].endswith(PROGRAM)
        assert seen["impact"]["judged"] == 5  # three listeners, both ends of a conversation
        assert revision(box) == 1


def test_connections_are_judged_by_who_connected(box: Sandbox) -> None:
    new = rule("c", "connect", f"user == 2001 and program == {PYTHON} and remote.port == 7003")
    with talk(box, 7003, user=2001):
        [hit] = box.call("preview", text=new, file="new.toml")["impact"]["rejected"]
        assert (hit["server"], hit["remote"]) == ("connect", "127.0.0.1:7003")


# -- the session ------------------------------------------------------------------------


def test_it_does_not_saw_off_its_own_branch(box: Sandbox) -> None:
    configure_logins(box)
    with login(box) as shell:
        cut = OPEN + rule("nobody-in", "accept", "local.port == 7022")
        answer = shell({"command": "preview", "text": cut, "file": "x"})
        assert len(answer["result"]["session"]) == 1
        assert "nobody-in" in answer["result"]["dangers"][0]
        answer = shell({"command": "apply", "text": cut, "file": "x"})
        assert answer["error"]["kind"] == "state"
        assert "this very session" in answer["error"]["message"]
        assert revision(box) == 1
        assert box.paths.rules.read_text() == OPEN
        # what hits others is applied: this is nobody's session
        other = OPEN + rule("other", "accept", "local.port == 7023")
        assert shell({"command": "apply", "text": other, "file": "x"})["result"]["changed"]
        answer = shell({"command": "apply", "text": cut, "file": "x", "force": True})
        assert answer["result"]["changed"]
        assert box.client("connect", "plain", "127.0.0.1", 7022) == "ECONNREFUSED"


def test_who_is_not_in_the_session_is_not_held_back(box: Sandbox) -> None:
    configure_logins(box)
    with login(box):
        assert box.apply(OPEN + rule("nobody-in", "accept", "local.port == 7022"))["changed"]


def test_the_last_login_server_stays(box: Sandbox) -> None:
    configure_logins(box)
    cut = OPEN + rule("no-login", "listen", "local.port == 7022")
    with login(box):
        with pytest.raises(AgentRefused, match="nobody could log in any more.*7022.*no-login"):
            box.apply(cut)
        with box.listener("plain", "127.0.0.1", 7023):  # another way in, for this test's purposes
            assert box.apply(cut)["changed"]


def test_simulated_servers_lock_nobody_out(box: Sandbox) -> None:
    configure_logins(box)
    box.activate("simulate", "listen", "accept")
    with login(box) as shell:
        cut = OPEN + rule("a", "accept", "any") + rule("l", "listen", "any")
        assert shell({"command": "apply", "text": cut, "file": "x"})["result"]["changed"]


# -- confirm ----------------------------------------------------------------------------


def test_confirmed_rules_stay(box: Sandbox) -> None:
    answer = box.call("apply", text=SHUT, file="x", confirm=2)
    assert answer["pending"]["previous"] == 1
    assert "goes back to revision 1" in box.call("status")["sentence"]
    assert box.call("confirm") == {"revision": 2}
    time.sleep(3)
    assert revision(box) == 2
    with box.listener("plain", "127.0.0.1", 7001):
        assert not reaches(box)
    with pytest.raises(AgentRefused, match="nothing waits"):
        box.call("confirm")


def test_unconfirmed_rules_go_by_themselves(box: Sandbox) -> None:
    with box.listener("plain", "127.0.0.1", 7001):
        box.call("apply", text=SHUT, file="x", confirm=1.5)
        assert not reaches(box)
        box.wait_until(lambda: reaches(box), 5)
        box.wait_until(lambda: box.call("history")["pending"] is None, 5)
        assert revision(box) == 3
        assert box.paths.rules.read_text() == OPEN
        [line] = [
            line for line in box.audit(1, "state") if line["event"]["action"] == "rules-rolled-back"
        ]
        assert "revision 2 was not confirmed in time" in line["message"]


def test_while_something_waits_nothing_else_is_applied(box: Sandbox) -> None:
    box.call("apply", text=SHUT, file="x", confirm=60)
    with pytest.raises(AgentRefused, match="revision 2 waits"):
        box.apply(OPEN + rule("c", "connect", "any"))
    box.call("apply", text=OPEN + rule("d", "connect", "remote.port == 1"), file="x", confirm=60)
    assert box.call("rollback")["back_to"] == 1  # the last that was confirmed, not 2
    assert box.call("history")["pending"] is None
    assert box.paths.rules.read_text() == OPEN


@pytest.mark.parametrize("down", [0.0, 2.5], ids=["back-at-once", "back-too-late"])
def test_the_agent_is_killed_before_the_confirmation(box: Sandbox, down: float) -> None:
    with box.listener("plain", "127.0.0.1", 7001):
        box.call("apply", text=SHUT, file="x", confirm=2)
        box.stop(signal.SIGKILL)
        assert not reaches(box)  # the kernel goes on
        time.sleep(down)
        box.start()
        if not down:
            assert revision(box) == 2
        else:
            assert reaches(box)  # taken back before anything was loaded
            assert revision(box) == 3
        box.wait_until(lambda: reaches(box), 5)
        box.wait_until(lambda: box.call("history")["pending"] is None, 5)
        assert box.paths.rules.read_text() == OPEN
        box.wait_until(
            lambda: "revision 2 was not confirmed in time" in box.paths.audit_log.read_text(), 5
        )


def test_the_agent_is_killed_while_it_applies(box: Sandbox) -> None:
    """The deadline is on disk, the rule file is new, and the rules never came into force."""
    box.call("apply", text=SHUT, file="x", confirm=60)
    box.stop(signal.SIGKILL)
    with contextlib.closing(sqlite3.connect(box.paths.state_db)) as db:
        db.execute("DELETE FROM revisions WHERE revision = 2")
        db.execute("UPDATE pending SET deadline = deadline - 60")
        db.commit()
    box.start()
    assert revision(box) == 1
    assert box.paths.rules.read_text() == OPEN
    assert box.call("history")["pending"] is None


def test_a_disk_that_refuses_does_not_keep_the_rules(box: Sandbox) -> None:
    folder = box.paths.rules.parent
    away = folder.with_name("away")
    with box.listener("plain", "127.0.0.1", 7001):
        box.call("apply", text=SHUT, file="x", confirm=1)
        folder.rename(away)
        folder.write_text("in the way of the rule file")
        box.wait_until(lambda: reaches(box), 5)  # in the kernel it is back
        assert box.call("history")["pending"]["revision"] == 2
        folder.unlink()
        away.rename(folder)
        box.wait_until(lambda: box.call("history")["pending"] is None, 5)
        assert box.paths.rules.read_text() == OPEN
        assert box.call("history")["revisions"][0]["revision"] == revision(box) == 3


def test_a_disk_that_refuses_as_the_agent_starts(box: Sandbox) -> None:
    with box.listener("plain", "127.0.0.1", 7001):
        box.call("apply", text=SHUT, file="x", confirm=1)
        box.stop(signal.SIGKILL)
        time.sleep(1.2)
        box.paths.rules.unlink()
        box.paths.rules.symlink_to("/proc/nowhere/rules.toml")  # nobody can write there
        box.start()
        assert reaches(box)
        assert any("not on disk yet" in each for each in box.call("status")["problems"])
        box.paths.rules.unlink()
        box.wait_until(lambda: box.call("history")["pending"] is None, 5)
        assert box.paths.rules.read_text() == OPEN
        assert box.call("history")["revisions"][0]["revision"] == revision(box) == 3


def test_lists_come_back_too(box: Sandbox) -> None:
    ports = box.paths.lists / "ports.txt"
    ports.write_text("7009\n")
    text = rule("listed", "connect", "remote.port in @ports")
    box.apply(text)
    ports.write_text("7001\n")
    with box.listener("plain", "127.0.0.1", 7001):
        box.call("apply", text=None, confirm=1)
        assert not reaches(box)
        box.wait_until(lambda: box.call("history")["pending"] is None, 5)
        assert reaches(box)
        box.stop()
        box.start()
        assert reaches(box)  # the file still says 7001: what came back holds until an apply
        box.call("apply", text=None)
        assert not reaches(box)


# -- history and rollback ---------------------------------------------------------------


def test_history_and_rollback(box: Sandbox) -> None:
    ports = box.paths.lists / "ports.txt"
    ports.write_text("7001\n")
    box.apply(rule("listed", "connect", "remote.port in @ports"))
    ports.write_text("7009\n")
    box.apply(OPEN + rule("b", "connect", "remote.port == 2"))
    history = box.call("history")
    assert [(each["revision"], each["rules"]) for each in history["revisions"]] == [
        (3, 2),
        (2, 1),
        (1, 1),
    ]
    assert [each["in_force"] for each in history["revisions"]] == [True, False, False]
    assert history["revisions"][0]["user"] == "root"
    shown = box.call("revision", revision=2)
    assert (shown["before"], shown["lists"]) == (1, {"ports": "7001\n"})
    answer = box.call("rollback", revision=2)
    assert (answer["revision"], answer["back_to"], answer["lists_differ"]) == (4, 2, ["ports"])
    assert box.paths.rules.read_text() == shown["text"]
    with box.listener("plain", "127.0.0.1", 7001):
        assert not reaches(box)
        assert box.call("rollback")["back_to"] == 3
        assert reaches(box)
    box.paths.rules.write_text("# an edit that nobody applied\n")
    assert box.call("rollback", revision=1)["saved"] == f"{box.paths.rules}.saved"
    assert "an edit" in Path(f"{box.paths.rules}.saved").read_text()
    with pytest.raises(AgentRefused, match="no revision 99"):
        box.call("rollback", revision=99)


# -- sockets ----------------------------------------------------------------------------


def test_sockets_are_judged_and_ended(box: Sandbox) -> None:
    with talk(box, 7003, user=2000) as bad, talk(box, 7004, user=2001) as good:
        assert box.call("sockets", violating=True)["sockets"] == []
        box.apply(OPEN + rule("c", "connect", "user == 2000") + rule("l", "listen", "user == 2000"))
        found = box.call("sockets", violating=True)["sockets"]
        assert {(each["server"], each["state"]) for each in found} == {
            ("connect", "established"),
            ("listen", "listen"),
        }
        everything = box.call("sockets")
        assert (everything["judged"], everything["violating"]) == (6, 2)
        ended = box.call("destroy", cookies=[each["cookie"] for each in found])
        assert [each["remote"] for each in ended["destroyed"]] == ["127.0.0.1:7003"]
        assert bad() == "ECONNABORTED"
        assert good() == "alive"
        assert not box.call("destroy", cookies=[each["cookie"] for each in found])["destroyed"]


def test_connections_of_servers_that_are_not_enforced_are_spared(box: Sandbox) -> None:
    box.activate("simulate", "connect")
    with talk(box, 7003, user=2000) as bad:
        box.apply(OPEN + rule("c", "connect", "user == 2000"))
        [found] = box.call("sockets", violating=True)["sockets"]
        answer = box.call("destroy", cookies=[found["cookie"]])
        assert answer["spared"][0]["why"] == "connect is only simulated"
        assert bad() == "alive"


# -- processes --------------------------------------------------------------------------


def configure_logins(box: Sandbox) -> None:
    config = box.paths.agent_config
    text = config.read_text().replace("[agent]\n", f'[agent]\nlogins = ["{PROGRAM}"]\n')
    config.write_text(text)
    box.stop()
    box.start()


@contextlib.contextmanager
def running(
    box: Sandbox, *arguments: str, user: int | None = None
) -> Iterator[subprocess.Popen[str]]:
    command = box.governed([PYTHON, "-I", "-S", str(LOGIN_SERVER), *arguments], user)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            with contextlib.suppress(OSError):
                assert process.stdin
                process.stdin.close()
            process.kill()


def ask(process: subprocess.Popen[str], line: str) -> str:
    assert process.stdin and process.stdout
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


@contextlib.contextmanager
def talk(box: Sandbox, port: int, user: int) -> Iterator[object]:
    """A conversation of a process with itself; what came of it meanwhile, when called."""
    with running(box, "talk", str(port), user=user) as process:
        yield lambda: ask(process, "how is it")


@contextlib.contextmanager
def login(box: Sandbox) -> Iterator[object]:
    """Somebody logged in over the network, and who can ask the agent from there."""
    with (
        running(box, "serve", "7022", sys.executable, "-c", SHELL, str(box.paths.socket)),
        running(box, "visit", "7022") as visitor,
    ):
        yield lambda request: json.loads(ask(visitor, json.dumps(request)))
