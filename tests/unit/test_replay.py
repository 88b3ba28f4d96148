# SPDX-License-Identifier: Apache-2.0
"""Replay: what would change, and what cannot be said."""

from __future__ import annotations

import pytest

from capturing import NAMES, captured, host
from sockrules.control.captured import Captured
from sockrules.control.model import RuleSet
from sockrules.control.replay import brief, change_text, replay, replay_to_json, sentence
from sockrules.control.rules_file import parse_rules


def rules(*rows: str) -> RuleSet:
    """Rules `server yes|no condition`, named a, b, c, ..."""
    text = ""
    for name, row in zip("abcdefgh", rows, strict=False):
        server, authority, when = row.split(" ", 2)
        text += f'[[rule]]\nname="{name}"\nserver="{server}"\nauthority="{authority}"\n'
        text += f"when='{when}'\n"
    return parse_rules(text, file="rules.toml", names=NAMES).ruleset


NONE = RuleSet()


def test_nothing_captured_says_nothing() -> None:
    assert "nothing to judge by" in sentence(replay([], NONE, rules("connect no any")))


def test_the_same_rules_change_nothing() -> None:
    some = rules("accept no remote.address in 10.0.0.0/8", "connect no remote.port < 1024")
    result = replay(host(), some, some)
    assert not result.changes
    assert result.moved == 0
    assert (
        sentence(result) == f"none of {len(host())} captured transactions would change its verdict"
    )


def test_rejections_are_counted_and_named() -> None:
    result = replay(host(), NONE, rules("accept no remote.address in 10.20.0.0/24"))
    assert len(result.rejected) == 4
    assert not result.allowed
    assert not result.depends
    assert sentence(result) == "4 of 26 captured transactions would now be rejected"
    assert change_text(result.rejected[0]) == (
        "accept: /usr/sbin/sshd on 10.0.0.5:22 from 10.20.0.3:* (once):"
        " allowed by default-accept, now rejected by a"
    )


def test_what_is_allowed_again_is_told_apart() -> None:
    result = replay(host(), rules("connect no any"), rules("connect no remote.port == 443"))
    assert [change.captured.count for change in result.allowed] == [900]
    assert result.moved == 0
    assert not result.rejected


def test_another_rule_with_the_same_verdict_is_no_change() -> None:
    result = replay(host(), NONE, rules("connect yes any"))
    assert not result.changes
    assert result.moved == 2


def test_the_most_frequent_come_first() -> None:
    result = replay(host(), NONE, rules("accept no any", "connect no any"))
    counts = [change.captured.count for change in result.rejected]
    assert counts == sorted(counts, reverse=True)
    assert counts[:2] == [900, 900]


def folded(first: int, last: int) -> Captured:
    return captured(
        "accept", "/usr/sbin/sshd", local="10.0.0.5:22", remote="192.0.2.7", folded=(first, last)
    )


def test_a_folded_port_is_not_unknown() -> None:
    """Unknown would match the negated comparison; no conversation did."""
    result = replay([folded(40000, 50000)], NONE, rules("accept no remote.port not in 40000-50000"))
    assert not result.changes


@pytest.mark.parametrize(
    ("condition", "kind", "ports"),
    [
        ("remote.port < 1024", None, ()),
        ("remote.port >= 1024", "rejected", ()),
        ("remote.port == 45000", "depends", ((45000, 45000),)),
        ("remote.port != 45000", "depends", ((40000, 44999), (45001, 50000))),
        ("remote.port < 40001", "depends", ((40000, 40000),)),
        ("remote.port >= 50000", "depends", ((50000, 50000),)),
        ("remote.port > 50000", None, ()),
    ],
)
def test_conditions_on_a_folded_port_are_judged_for_every_port_seen(
    condition: str, kind: str | None, ports: tuple[tuple[int, int], ...]
) -> None:
    result = replay([folded(40000, 50000)], NONE, rules(f"accept no {condition}"))
    found = {
        name: getattr(result, name)
        for name in ("rejected", "allowed", "depends")
        if getattr(result, name)
    }
    assert list(found) == ([kind] if kind else [])
    if kind == "depends":
        [change] = found[kind]
        assert change.ports == ports
        assert "with remote.port" in change_text(change)
        assert "for some ports only" in sentence(result)


def test_a_port_that_was_folded_once_is_exact() -> None:
    result = replay([folded(45000, 45000)], NONE, rules("accept no remote.port == 45000"))
    assert len(result.rejected) == 1


def test_inactive_rules_do_not_judge() -> None:
    text = '[[rule]]\nname="a"\nserver="connect"\nauthority="no"\nactive="no"\nwhen="any"\n'
    after = parse_rules(text, file="rules.toml", names=NAMES).ruleset
    assert not replay(host(), NONE, after).changes


def test_large_rule_sets_are_judged_alike() -> None:
    """Beyond a few rules the compiled table is walked; it says the same."""
    fillers = [f"10.99.{at}.0/24" for at in range(60)]
    text = "".join(
        f'[[rule]]\nname="f{at}"\nserver="accept"\nauthority="no"\n'
        f'when="remote.address in {net} and remote.port > {at + 1}"\n'
        for at, net in enumerate(fillers)
    )
    text += '[[rule]]\nname="z"\nserver="accept"\nauthority="no"\nwhen="local.port == 22"\n'
    after = parse_rules(text, file="rules.toml", names=NAMES).ruleset
    result = replay([*host(), folded(1, 65535)], NONE, after)
    assert len(result.rejected) == 5
    assert {change.after.name for change in result.rejected} == {"z"}


def test_brief_is_brief() -> None:
    lines = brief(host(), NONE, rules("accept no any"))
    assert lines[0] == "17 of 26 captured transactions would now be rejected"
    assert len(lines) == 4


def test_as_a_document() -> None:
    doc = replay_to_json(replay(host(), NONE, rules("connect no user == app")), NAMES)
    assert doc["transactions"] == 26
    [change] = doc["rejected"]
    assert change["captured"]["program"] == "/opt/shop/bin/shop"
    assert change["captured"]["user"] == "app"
    assert change["before"] == {"rule": "default-connect", "sequence": 99999, "authority": "yes"}
    assert change["after"] == {"rule": "a", "sequence": 10, "authority": "no"}
