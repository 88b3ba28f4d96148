# SPDX-License-Identifier: Apache-2.0
"""What is measured with: the same rules each time, as text too, and requests that aim true."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench import nft, sets
from bench.aim import Aim
from bench.sets.text import write
from bench.tables import rewrite

from sockrules.control import evaluate
from sockrules.control.compile import compile_table
from sockrules.control.names import SystemNames
from sockrules.control.rules_file import parse_rules


@pytest.mark.parametrize("name", sets.ALL)
def test_a_set_is_the_same_each_time_and_another_by_another_seed(name: str) -> None:
    assert sets.make(name, 120) == sets.make(name, 120)
    assert sets.make(name, 120) != sets.make(name, 120, seed=2)


@pytest.mark.parametrize("name", sets.ALL)
def test_a_set_has_as_many_rules_as_asked_for(name: str) -> None:
    rules = sets.make(name, 300).rules
    if name in sets.LISTS:
        ((only,),) = [rules]
        assert 280 <= len(only.when.ranges) <= 300  # type: ignore[union-attr]
    else:
        assert len(rules) == 300
        assert len({rule.name for rule in rules}) == 300


@pytest.mark.parametrize("name", sets.ALL)
def test_written_as_a_file_it_decides_the_same(name: str, tmp_path: Path) -> None:
    ruleset = sets.make(name, 60)
    path = write(ruleset, tmp_path)
    read = parse_rules(
        path.read_text(), file=path.name, names=SystemNames(tmp_path / "lists")
    ).ruleset
    for request in Aim(ruleset, 3).requests(80):
        meant = evaluate.decide(ruleset, ruleset.rules, request)
        found = evaluate.decide(read, read.rules, request)
        assert (found.rule, found.authority) == (meant.rule, meant.authority)


@pytest.mark.parametrize("name", sets.ALL)
def test_requests_that_aim_at_a_rule_mostly_meet_one(name: str) -> None:
    ruleset = sets.make(name, 200)
    aimed = Aim(ruleset, 1).requests(100, share=1.0)
    decided = [evaluate.decide(ruleset, ruleset.rules, request).rule for request in aimed]
    met = sum(not rule.startswith("default-") for rule in decided)
    assert met > (35 if name == "deep" else 80)  # parts of a deep tree contradict each other


@pytest.mark.parametrize("name", ["acl", "fw", "ipc", "corporate"])
def test_a_hundred_thousand_usual_rules_fit_a_table_of_16_mb(name: str) -> None:
    ruleset = sets.make(name, 99_998)
    table = compile_table(ruleset, ruleset.rules)
    assert table.size < 16_000_000


def test_nftables_gets_the_same_hosts() -> None:
    assert nft.linear(2).count("reject") == 2
    assert "10.0.0.0, 10.0.0.1" in nft.one_set(2)
    assert "ct state" not in nft.one_set(2, tracked=False)


def test_a_run_fills_the_tables_between_the_marks_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- bench hooks -->\nold\n<!-- end -->\nafter\n")
    row = {"under": "nothing", "program": "connect4", "doing": "rounds", "ns": 7.6}
    rewrite({"hooks": [row]}, page)
    assert page.read_text().splitlines() == [
        "before",
        "<!-- bench hooks -->",
        "| under | program | while the client does | ns a run |",
        "|---|---|---|---|",
        "| nothing | `connect4` | rounds | 8 |",
        "<!-- end -->",
        "after",
    ]
