# SPDX-License-Identifier: Apache-2.0
"""Sockets as requests: which were accepted and which begun here, and who is judged for them."""

from __future__ import annotations

import pytest

from sockrules.agent import diag
from sockrules.agent.control_server import StateError
from sockrules.agent.impact import Found, dangers, destroy, report, sockets
from sockrules.agent.inodes import Inode
from sockrules.agent.listeners import Place
from sockrules.agent.session import (
    Ancestor,
    connections_of,
    login_listeners,
    parse_ssh_connection,
)
from sockrules.agent.sockets import Conversation, Judge, Process, conversations
from sockrules.control.addresses import parse_address, parse_endpoint
from sockrules.control.compile import compile_table
from sockrules.control.model import Mode, Server
from sockrules.control.names import FixedNames
from sockrules.control.rules_file import parse_rules

NAMES = FixedNames({"root": 0, "www-data": 33, "alice": 1000}, {}, {})
ESTABLISHED, SYN_RECEIVED, FIN_WAIT_2 = 1, 3, 5
SSHD, NGINX, CURL = (
    Process(700, 0, 0, "sshd", "/usr/sbin/sshd", Inode(7, 1), (("/usr/sbin", Inode(70, 1)),)),
    Process(800, 0, 0, "nginx", "/usr/sbin/nginx", Inode(8, 1), (("/usr/sbin", Inode(70, 1)),)),
    Process(900, 1000, 1000, "curl", "/usr/bin/curl", Inode(9, 1), (("/usr/bin", Inode(90, 1)),)),
)
WORKER = Process(801, 33, 33, "nginx", "/usr/sbin/nginx", Inode(8, 1))
SESSION = Process(710, 0, 0, "sshd", "/usr/sbin/sshd", Inode(7, 1))
PROCESSES = {each.pid: each for each in (SSHD, NGINX, CURL, WORKER, SESSION)}
ALL_ON = dict.fromkeys(Server, Mode.ENFORCE)


def sock(
    inode: int, local: str, remote: str = "", state: int = ESTABLISHED, uid: int = 0
) -> diag.Socket:
    local_address, local_port = parse_endpoint(local)
    remote_address, remote_port = parse_endpoint(remote) if remote else (0, 0)
    return diag.Socket(
        state=state if remote else diag.LISTEN,
        local_address=local_address or 0,
        local_port=local_port or 0,
        remote_address=remote_address or 0,
        remote_port=remote_port or 0,
        inode=inode,
        uid=uid,
        cookie=inode + 1000,
        family=10 if "[" in local else 2,
        raw=b"",
    )


SOCKETS = [
    sock(1, "0.0.0.0:22"),
    sock(2, "[::]:443"),
    sock(3, "10.0.0.5:22", "192.0.2.7:51000"),
    sock(4, "10.0.0.5:443", "192.0.2.8:51000"),
    sock(5, "10.0.0.5:40000", "198.51.100.1:443", uid=1000),
]
HOLDERS = {1: (700,), 2: (800, 801), 3: (710,), 4: (801,), 5: (900,)}


def judged(
    found: list[diag.Socket] = SOCKETS, recorded: dict[Place, Process] | None = None
) -> dict[int, Conversation]:
    return {
        each.found.inode: each for each in conversations(found, HOLDERS, PROCESSES, recorded or {})
    }


def judge(*rules: str, known: dict[str, Inode] | None = None) -> Judge:
    text = "".join(
        f'[[rule]]\nname = "r{number}"\nserver = "{rule.partition(" ")[0]}"\nauthority = "no"\n'
        f'when = "{rule.partition(" ")[2]}"\n'
        for number, rule in enumerate(rules)
    )
    ruleset = parse_rules(text, file="rules.toml", names=NAMES).ruleset
    return Judge(compile_table(ruleset, ruleset.active()), known or {})


def rejected(*rules: str, known: dict[str, Inode] | None = None) -> set[int]:
    by = judge(*rules, known=known)
    return {inode for inode, each in judged().items() if by.rejects(each)}


def test_listeners_accepts_and_connects_are_told_apart() -> None:
    servers = {inode: each.server for inode, each in judged().items()}
    listen, accept, connect = Server
    assert servers == {1: listen, 2: listen, 3: accept, 4: accept, 5: connect}


def test_accepts_are_judged_by_who_listened() -> None:
    assert rejected("accept user == www-data") == set()
    assert rejected("accept user == root") == {3, 4}
    assert rejected("accept remote.address == 192.0.2.8") == {4}


def test_who_listened_is_better_known_from_when_it_did() -> None:
    place = Place(parse_address("::"), 443)
    recorded = {place: Process(800, 33, 33, "nginx", None, Inode(8, 1))}
    by = judge("accept user == www-data")
    assert {inode for inode, each in judged(recorded=recorded).items() if by.rejects(each)} == {4}


def test_connects_are_judged_by_who_connected_and_bound_to_nothing() -> None:
    assert rejected("connect user == alice") == {5}
    assert rejected("connect remote.port == 443") == {5}
    assert rejected("connect local.port == 40000 or local.address == 10.0.0.5") == set()


def test_programs_are_known_by_their_inodes() -> None:
    link = {"/opt/curl": Inode(9, 1)}
    assert rejected("connect program == /opt/curl", known=link) == {5}
    replaced = {"/usr/bin/curl": Inode(99, 1)}  # the process still runs the old file
    assert rejected("connect program == /usr/bin/curl", known=replaced) == set()
    assert rejected("listen program == /usr/sbin/", known={"/usr/sbin/": Inode(70, 1)}) == {1, 2}


@pytest.mark.parametrize(
    ("listener", "local", "server"),
    [
        ("0.0.0.0:80", "10.0.0.5:80", Server.ACCEPT),
        ("[::]:80", "10.0.0.5:80", Server.ACCEPT),
        ("[::]:80", "[2001:db8::1]:80", Server.ACCEPT),
        ("10.0.0.5:80", "10.0.0.5:80", Server.ACCEPT),
        ("10.0.0.6:80", "10.0.0.5:80", Server.CONNECT),
        ("0.0.0.0:80", "[2001:db8::1]:80", Server.CONNECT),
        ("0.0.0.0:81", "10.0.0.5:80", Server.CONNECT),
    ],
)
def test_a_listener_has_the_address_or_any(listener: str, local: str, server: Server) -> None:
    found = [sock(1, listener), sock(3, local, "[2001:db8::9]:1")]
    assert judged(found)[3].server is server


def test_what_nobody_holds_and_nobody_waits_for_is_left_out() -> None:
    found = [
        SOCKETS[0],
        sock(0, "10.0.0.5:22", "192.0.2.7:1", SYN_RECEIVED),
        sock(60, "10.0.0.5:22", "192.0.2.7:2", FIN_WAIT_2),
        sock(61, "10.0.0.5:4000", "192.0.2.7:3"),
    ]
    assert set(judged(found)) == {1, 0}


def test_what_is_not_governed_is_left_out() -> None:
    found = conversations(SOCKETS, HOLDERS, PROCESSES, {}, lambda pid: pid == 700)
    assert {each.found.inode for each in found} == {1, 3}  # judged by the listener's process


# -- the session ------------------------------------------------------------------------

LOGINS = {"sshd"}
CHAIN = [
    Ancestor(1003, "python3", None),
    Ancestor(1002, "sudo", None),
    Ancestor(1001, "bash", None),
    Ancestor(710, "sshd", None),
    Ancestor(700, "sshd", None),
]


def test_the_session_is_found_through_the_parents() -> None:
    found = list(judged().values())
    assert [each.found.inode for each in connections_of(CHAIN, None, found, LOGINS)] == [3]
    assert connections_of(CHAIN[:3], None, found, LOGINS) == []
    assert connections_of(CHAIN, None, found, {"dropbear"}) == []


def test_the_session_is_found_through_the_variable() -> None:
    found = list(judged().values())
    variable = "192.0.2.7 51000 10.0.0.5 22"
    assert [each.found.inode for each in connections_of([], variable, found, LOGINS)] == [3]
    above = [Ancestor(1003, "tmux", variable)]
    assert [each.found.inode for each in connections_of(above, None, found, LOGINS)] == [3]
    assert len(connections_of(CHAIN, variable, found, LOGINS)) == 1
    gone = "192.0.2.7 51001 10.0.0.5 22"
    assert connections_of([], gone, found, LOGINS) == []


@pytest.mark.parametrize("text", ["", "a b c d", "1.2.3.4 5 6.7.8.9", "1.2.3.4 x 6.7.8.9 22"])
def test_a_variable_that_is_not_one(text: str) -> None:
    assert parse_ssh_connection(text) is None


def test_a_variable_with_a_zone() -> None:
    ends = parse_ssh_connection("fe80::1%eth0 51000 fe80::2%eth0 22")
    assert ends == (parse_address("fe80::1"), 51000, parse_address("fe80::2"), 22)


def look(
    by: Judge, modes: dict[Server, Mode] = ALL_ON, found: list[diag.Socket] = SOCKETS
) -> Found:
    everything = list(judged(found).values())
    names = {700: "sshd", 800: "nginx"}
    return Found(
        everything,
        connections_of(CHAIN, None, everything, LOGINS),
        login_listeners(everything, LOGINS, names.get),
        by,
        modes,
    )


def test_a_session_that_could_not_begin_anew_is_a_danger() -> None:
    by = judge("accept local.port == 22 and remote.address == 192.0.2.7")
    [danger] = dangers(look(by))
    assert "from 192.0.2.7:51000 to 10.0.0.5:22" in danger
    assert "rule r0 (sequence 10)" in danger
    assert dangers(look(by, {**ALL_ON, Server.ACCEPT: Mode.SIMULATE})) == []
    assert dangers(look(judge("accept local.port == 443"))) == []


def test_a_session_whose_listener_is_gone_is_an_accept_all_the_same() -> None:
    assert len(dangers(look(judge("accept local.port == 22"), found=SOCKETS[2:]))) == 1


def test_the_last_login_server_is_missed_and_no_sooner() -> None:
    by = judge("listen local.port == 22")
    [danger] = dangers(look(by))
    assert "nobody could log in" in danger
    second = [*SOCKETS, sock(1, "10.0.0.5:2222")]
    both = look(by)
    both = Found(
        both.conversations,
        both.session,
        [*both.login_listeners, judged(second)[1]],
        by,
        ALL_ON,
    )
    assert dangers(both) == []
    assert dangers(look(by, {**ALL_ON, Server.LISTEN: Mode.OFF})) == []


def test_a_listener_that_systemd_holds_for_sshd_counts() -> None:
    found = list(judged().values())
    session = connections_of(CHAIN, None, found, LOGINS)
    held_by_systemd = login_listeners(found, LOGINS, {700: "systemd"}.get, session)
    assert [each.found.inode for each in held_by_systemd] == [1]
    assert login_listeners(found, LOGINS, {700: "systemd"}.get) == []


# -- reports and ending ---------------------------------------------------------------


def test_the_report_tells_new_from_old() -> None:
    by = judge("accept remote.address == 192.0.2.8", "connect user == alice")
    doc = report(look(by), judge("connect user == alice"), NAMES)
    assert (doc["judged"], doc["count"]) == (5, 2)
    assert {(each["server"], each["already"]) for each in doc["rejected"]} == {
        ("accept", False),
        ("connect", True),
    }
    accept = next(each for each in doc["rejected"] if each["server"] == "accept")
    assert accept["rule"] == "r0"
    assert (accept["user"], accept["program"]) == ("root", "/usr/sbin/nginx")


def test_all_sockets_or_those_that_violate() -> None:
    found = look(judge("connect user == alice"))
    everything = sockets(found, NAMES, False)
    assert (everything["judged"], everything["violating"], len(everything["sockets"])) == (5, 1, 5)
    [only] = sockets(found, NAMES, True)["sockets"]
    assert only["remote"] == "198.51.100.1:443"
    assert [each["session"] for each in everything["sockets"]].count(True) == 1


def ended(found: Found, force: bool = False, cookies: set[int] | None = None) -> tuple[object, ...]:
    done: list[int] = []

    def end(each: diag.Socket) -> bool:
        done.append(each.inode)
        return each.inode != 5

    answer = destroy(found, NAMES, cookies or {1001, 1003, 1004, 1005}, force, end)
    return done, answer


def test_ending_spares_listeners_the_session_and_what_was_not_named() -> None:
    by = judge("listen any", "accept any", "connect any")
    done, answer = ended(look(by))
    assert done == [4, 5]
    assert [each["local"] for each in answer["gone"]] == ["10.0.0.5:40000"]
    [spared] = answer["spared"]
    assert "this very session" in spared["why"]
    assert ended(look(by), force=True)[0] == [3, 4, 5]
    assert ended(look(by), cookies={1005})[0] == [5]


def test_ending_spares_what_is_not_enforced() -> None:
    by = judge("accept any", "connect any")
    modes = {**ALL_ON, Server.CONNECT: Mode.SIMULATE}
    done, answer = ended(look(by, modes))
    assert done == [4]
    assert "connect is only simulated" in {each["why"] for each in answer["spared"]}


def test_a_kernel_that_cannot_end_sockets_says_so() -> None:
    def cannot(_: diag.Socket) -> bool:
        raise diag.CannotDestroy("built without CONFIG_INET_DIAG_DESTROY")

    with pytest.raises(StateError, match="CONFIG_INET_DIAG_DESTROY"):
        destroy(look(judge("connect any")), NAMES, {1005}, False, cannot)
