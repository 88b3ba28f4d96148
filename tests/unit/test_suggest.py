# SPDX-License-Identifier: Apache-2.0
"""Suggestions: few rules, named as people name them, in the right place, and honest."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest

from capturing import NAMES, captured, host
from sockrules.control.captured import Captured
from sockrules.control.evaluate import decide
from sockrules.control.model import Server
from sockrules.control.replay import replay
from sockrules.control.rules_file import parse_rules
from sockrules.control.suggest import SuggestError, Suggestion, diff, evidence, suggest

LEARN = """\
# What this host may do.

[[rule]]
name = "no-telnet"
server = "connect"
authority = "no"
when = "remote.port == 23"

[[rule]]
name = "learn"      # until we know
server = "connect"
authority = "yes"
capture = "yes"
when = "any"

[default.accept]
authority = "yes"   # for now
capture = "yes"
"""


def conditions(suggestion: Suggestion) -> dict[str, str]:
    return {one.name: one.when for one in suggestion.proposals}


def names_in(text: str) -> list[str]:
    return [rule["name"] for rule in tomllib.loads(text)["rule"]]


def accepts(text: str, one: Captured) -> bool:
    ruleset = parse_rules(text, file="rules.toml", names=NAMES).ruleset
    return decide(ruleset, ruleset.active(), one.request).authority


def test_a_host_reads_as_a_person_would_write_it() -> None:
    assert conditions(suggest(host(), "", NAMES)) == {
        "nginx-listen": "program == /usr/sbin/nginx and user == root and local.port in {80, 443}",
        "redis-server-listen": "program == /usr/bin/redis-server and user == redis"
        " and local.port == 6379 and local.address == 127.0.0.1",
        "sshd-listen": "program == /usr/sbin/sshd and user == root and local.port == 22",
        "nginx-accept": "program == /usr/sbin/nginx and user == root and local.port in {80, 443}",
        "redis-server-accept": "program == /usr/bin/redis-server and user == redis"
        " and local.port == 6379 and remote.address == 127.0.0.1",
        "sshd-accept": "program == /usr/sbin/sshd and user == root and local.port == 22"
        " and remote.address in 10.20.0.0/24",
        "curl-connect": "program == /usr/bin/curl and user == root and remote.port == 443"
        " and remote.address == 151.101.2.132",
        "shop-connect": "program == /opt/shop/bin/shop and user == app and remote.port == 6379"
        " and remote.address == 127.0.0.1",
    }


def test_every_rule_has_its_evidence_above_it() -> None:
    text = suggest(host(), "", NAMES).text
    assert (
        """\
# Seen 4 times, 2025-01-01 to 2025-01-05; such as
#   accept: /usr/sbin/sshd on 10.0.0.5:22 from 10.20.0.3:*
# Broader than what was seen: every remote.address in 10.20.0.0/24 (4 seen).
[[rule]]
name      = "sshd-accept"
server    = "accept"
authority = "yes"
"""
        in text
    )
    assert "any remote.address: 12 were seen, from 10 different /8s" in text


def test_the_rest_is_denied_when_asked_for() -> None:
    suggestion = suggest(host(), "", NAMES, deny_rest=True)
    assert suggestion.denied == ("default-listen", "default-accept", "default-connect")
    tables = tomllib.loads(suggestion.text)["default"]
    assert tables == {server.word: {"authority": "no"} for server in Server}
    assert all(accepts(suggestion.text, one) for one in host())
    stranger = captured("connect", "/usr/bin/wget", remote="151.101.2.132:443")
    assert not accepts(suggestion.text, stranger)


def test_a_listener_on_all_addresses_is_said_to_be_that() -> None:
    text = suggest(host(), "", NAMES).text
    assert (
        "# Broader than what was seen: any local.address, as it listened on :: and 0.0.0.0." in text
    )


def test_servers_of_which_nothing_was_captured_are_left_alone() -> None:
    some = [one for one in host() if one.request.server is Server.ACCEPT]
    suggestion = suggest(some, "", NAMES, deny_rest=True)
    assert suggestion.denied == ("default-accept",)


def test_an_any_rule_is_stepped_in_front_of_and_turned_around() -> None:
    suggestion = suggest(host(), LEARN, NAMES, deny_rest=True)
    names = names_in(suggestion.text)
    assert names[:4] == ["no-telnet", "curl-connect", "shop-connect", "learn"]
    assert suggestion.denied == ("default-listen", "default-accept", "learn")
    assert 'name = "learn"      # until we know' in suggestion.text
    assert 'authority = "no"   # for now' in suggestion.text
    assert all(accepts(suggestion.text, one) for one in host())


@pytest.mark.parametrize(
    ("year", "denied"), [(2999, ("learn", "default-connect")), (2001, ("default-connect",))]
)
def test_an_any_rule_that_expires_leaves_no_gap(year: int, denied: tuple[str, ...]) -> None:
    text = LEARN.replace('capture = "yes"\nwhen', f"expires = {year}-01-01T00:00:00Z\nwhen")
    some = [one for one in host() if one.request.server is Server.CONNECT]
    assert suggest(some, text, NAMES, deny_rest=True).denied == denied


def test_the_difference_applies_with_patch(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    for text in (LEARN, "", LEARN.rstrip("\n")):
        suggestion = suggest(host(), text, NAMES, deny_rest=True)
        file.write_text(text)
        change = diff(text, suggestion.text, str(file))
        subprocess.run(["patch", "-s", "-p0", str(file)], input=change.encode(), check=True)
        assert file.read_text() == suggestion.text
        kept = [
            line for line in change.splitlines() if line.startswith("-") and "authority" not in line
        ]
        assert len(kept) <= 2  # the heading, and a last line that lacked its newline


def test_what_a_rule_allows_already_needs_none() -> None:
    text = suggest(host(), "", NAMES, deny_rest=True).text
    again = suggest(host(), text, NAMES, deny_rest=True)
    assert again.text == text
    assert (len(again.proposals), len(again.needing), len(again.covered)) == (0, 0, 26)
    assert diff(text, again.text, "rules.toml") == ""


def test_rules_below_stay_below_and_particular_ones_go_on_deciding() -> None:
    text = """\
[[rule]]
name = "not-from-lab"
server = "accept"
authority = "no"
when = "remote.address in 10.20.0.0/29"

[[rule]]
name = "inside"
server = "accept"
authority = "yes"
when = "remote.address == 10.20.0.40"
"""
    suggestion = suggest(host(), text, NAMES)
    assert names_in(suggestion.text)[:2] == ["not-from-lab", "inside"]
    assert [one.request.remote_address for one in suggestion.rejected] == [
        captured("accept", remote=f"10.20.0.{at}").request.remote_address for at in (3, 7)
    ]
    assert len(suggestion.covered) == 1
    sshd = next(one for one in suggestion.proposals if one.name == "sshd-accept")
    assert sshd.when.endswith("remote.address == 10.20.0.9")


def test_what_is_rejected_by_default_is_allowed_only_when_asked_for() -> None:
    text = '[default.connect]\nauthority = "no"\n'
    shop = [one for one in host() if one.request.server is Server.CONNECT]
    assert suggest(shop, text, NAMES).text == text
    suggestion = suggest(shop, text, NAMES, include_rejected=True)
    assert list(conditions(suggestion)) == ["curl-connect", "shop-connect"]
    assert all(accepts(suggestion.text, one) for one in shop)


def test_an_inside_port_is_not_opened_by_a_public_one() -> None:
    nginx = "/usr/sbin/nginx"
    some = [
        captured("accept", nginx, local="10.0.0.5:443", remote=f"{at}.1.1.1")
        for at in range(20, 40)
    ]
    some.append(captured("accept", nginx, local="10.0.0.5:8080", remote="10.1.1.1"))
    assert conditions(suggest(some, "", NAMES)) == {
        "nginx-accept-https": "program == /usr/sbin/nginx and user == root and local.port == 443",
        "nginx-accept-http-alt": "program == /usr/sbin/nginx and user == root"
        " and local.port == 8080 and remote.address == 10.1.1.1",
    }


def test_users_who_do_the_same_share_a_rule() -> None:
    some = [
        captured("connect", "/usr/bin/git", user, remote="10.0.0.9:22") for user in ("root", "app")
    ]
    assert conditions(suggest(some, "", NAMES)) == {
        "git-connect": "program == /usr/bin/git and user in {root, app} and remote.port == 22"
        " and remote.address == 10.0.0.9"
    }


def test_users_who_do_not_have_rules_of_their_own() -> None:
    some = [
        captured("connect", "/usr/bin/git", "root", remote="10.0.0.9:22"),
        captured("connect", "/usr/bin/git", "app", remote="10.0.0.8:22"),
    ]
    assert list(conditions(suggest(some, "", NAMES))) == [
        "git-connect-ssh-root",
        "git-connect-ssh-app",
    ]


def test_many_ports_of_the_kernels_choice_are_said_to_be_that() -> None:
    some = [captured("listen", "/usr/sbin/rpc.statd", local="0.0.0.0", folded=(35001, 60123))]
    suggestion = suggest(some, "", NAMES)
    assert conditions(suggestion) == {
        "rpc.statd-listen": "program == /usr/sbin/rpc.statd and user == root"
        " and local.port in 32768-65535"
    }
    assert "any local.port of the kernel's choice" in " ".join(evidence(suggestion.proposals[0]))


def test_many_ports_become_any_port_and_that_is_said() -> None:
    some = [
        captured("connect", "/usr/bin/nmap", remote=f"10.0.0.9:{port}") for port in range(100, 120)
    ]
    suggestion = suggest(some, "", NAMES)
    assert conditions(suggestion) == {
        "nmap-connect": "program == /usr/bin/nmap and user == root and remote.address == 10.0.0.9"
    }
    assert "any remote.port: 20 between 100 and 119 were seen" in suggestion.text


def test_interpreters_are_pointed_out() -> None:
    some = [captured("connect", "/usr/bin/python3.11", "app", remote="10.0.0.9:22")]
    assert "# /usr/bin/python3.11 runs any script" in suggest(some, "", NAMES).text


@pytest.mark.parametrize(
    ("program", "when"),
    [
        (None, "user == app"),
        ("…/bin/tool", "user == app"),
        ("/opt/very…/tool", "user == app"),
        ("/opt/my app/run", 'program == "/opt/my app/run" and user == app'),
        ("/opt/it's/run", 'program == "/opt/it\'s/run" and user == app'),
        ('/opt/"x"/run', "program == '/opt/\"x\"/run' and user == app"),
        ("/opt/\"'/run", "user == app"),
        ("/opt/new\nline", "user == app"),
    ],
)
def test_programs_that_cannot_be_named_are_not_asked_for(program: str | None, when: str) -> None:
    one = captured("connect", program, "app", remote="10.0.0.9:22")
    suggestion = suggest([one], "", NAMES, deny_rest=True)
    [proposal] = suggestion.proposals
    assert proposal.when == f"{when} and remote.port == 22 and remote.address == 10.0.0.9"
    assert ("any program" in suggestion.text) is ("program" not in when)
    assert accepts(suggestion.text, one)


def test_what_is_unknown_is_said() -> None:
    one = captured("connect", None, None, remote="10.0.0.9:22")
    suggestion = suggest([one], "", NAMES)
    assert conditions(suggestion) == {
        "ssh-connect": "remote.port == 22 and remote.address == 10.0.0.9"
    }
    assert "any program: it was not known; any user" in suggestion.text


def test_names_that_are_taken_are_not_used_again() -> None:
    text = '[[rule]]\nname="curl-connect"\nserver="accept"\nauthority="yes"\nwhen="user == 7"\n'
    some = [captured("connect", "/usr/bin/curl", remote="10.0.0.9:22")]
    assert list(conditions(suggest(some, text, NAMES))) == ["curl-connect-2"]


def test_a_folded_port_that_an_earlier_rule_asks_for_is_seen_through() -> None:
    """Some of its conversations reach the default: they need a rule, the others stay rejected."""
    text = (
        '[[rule]]\nname = "low"\nserver = "accept"\nauthority = "no"\nwhen = "remote.port < 1024"\n'
    )
    one = captured(
        "accept", "/usr/sbin/sshd", local="10.0.0.5:22", remote="10.0.0.9", folded=(1000, 2000)
    )
    suggestion = suggest([one], text, NAMES, deny_rest=True)
    assert names_in(suggestion.text) == ["low", "sshd-accept"]
    before = parse_rules(text, file="rules.toml", names=NAMES).ruleset
    after = parse_rules(suggestion.text, file="rules.toml", names=NAMES).ruleset
    assert not replay([one], before, after).changes


def test_a_file_of_an_unusual_form_is_refused_not_damaged() -> None:
    text = '[default]\nconnect = {authority = "yes"}\n'
    with pytest.raises(SuggestError, match="cannot be edited as it is"):
        suggest(host(), text, NAMES, deny_rest=True)
