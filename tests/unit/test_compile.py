# SPDX-License-Identifier: Apache-2.0
"""What compiling promises: the layout of the bytes, the proof of the steps, clear refusals."""

from __future__ import annotations

import random

import numpy as np
import pytest

import rulegen
from sockrules.control import abi, walk
from sockrules.control.boxes import FREE, split
from sockrules.control.compile import compile_table
from sockrules.control.condition import And, Any, Comparison, Condition, Not, Or, Range
from sockrules.control.evaluate import decide
from sockrules.control.model import Field, Request, Rule, RuleSet, Server
from sockrules.control.shapes import ODD, masks_of
from sockrules.control.table import CompileError, Limits, Table

RA, RP, LP = Field.REMOTE_ADDRESS, Field.REMOTE_PORT, Field.LOCAL_PORT
LAST = (1 << 64) - 1


def rule(name: str, when: Condition, server: Server = Server.CONNECT, yes: bool = False) -> Rule:
    return Rule(name, server, yes, when, 10)


def compiled(*rules: Rule, limits: Limits | None = None) -> Table:
    return compile_table(RuleSet(rules), rules, limits=limits)


def entries(table: Table) -> np.ndarray:
    return np.frombuffer(table.entries, abi.dtype("sr_entry"))


def header(table: Table) -> np.void:
    made: np.void = np.frombuffer(table.header, abi.dtype("sr_header"))[0]
    return made


def port(*ranges: Range, negated: bool = False) -> Comparison:
    return Comparison(RP, ranges=ranges, negated=negated)


def test_no_rules_leave_the_defaults() -> None:
    table = compiled()
    assert header(table)["tables"] == 0
    assert table.steps == 1
    for server in Server:
        assert walk.decide(table, Request(server)).rule == f"default-{server.word}"


def test_the_example_of_the_abi() -> None:
    """Connect to 10.0.0.0/8 port 443, as the comment on sr_entry has it."""
    ten = rulegen.prefix(rulegen.MAPPED | 10 << 24, 104)
    (entry,) = entries(compiled(rule("x", And((Comparison(RA, ranges=(ten,)), port((443, 443)))))))
    assert (entry["bits_mask"], entry["bits_value"]) == (0x1B, 0x1A)
    assert (entry["ports_lo"], entry["ports_hi"]) == (443, 0x8000_FFFF_8000_01BB)
    assert (entry["remote_lo"], entry["remote_lo_span"]) == (0x0000FFFF0A000000, 0x00FFFFFF)
    assert (entry["uid_lo"], entry["uid_hi"]) == (0, 0xFFFFFFFF)
    assert entry["rule"] == abi.C["SR_REJECT"] | abi.C["SR_AUDIT"]
    assert entry["rest"] == 0


def test_what_is_seldom_asked_is_apart_and_shared() -> None:
    """Two rules for one program, one for an IPv6 network, one for none of it."""
    curl = Comparison(Field.PROGRAM, paths=("/usr/bin/curl",))
    table = compiled(
        rule("a", And((curl, port((1, 1))))),
        rule("b", And((curl, port((2, 2))))),
        rule("c", Comparison(RA, ranges=(rulegen.prefix(0x2001_0DB8 << 96, 32),))),
        rule("d", port((3, 3))),
    )
    rests = np.frombuffer(table.rests, abi.dtype("sr_rest"))
    named = {int(e["rule"]) >> abi.C["SR_RULE_SHIFT"]: int(e["rest"]) for e in entries(table)}
    assert named[0] == named[1] != 0
    assert named[2] not in (0, named[0])
    assert named[3] == 0
    assert len(rests) == 3
    own = rests[named[0]]
    assert (own["program_lo"], own["program_hi"]) == (2, 2)
    assert (own["remote_hi"], own["remote_hi_span"]) == (0, LAST)
    net = rests[named[2]]
    assert (net["remote_hi"], net["remote_hi_span"]) == (0x2001_0DB8 << 32, 0xFFFFFFFF)
    assert (net["program_lo"], net["program_hi"]) == (0, 0xFFFFFFFF)


@pytest.mark.parametrize(
    ("first", "last", "boxes"),
    [
        (0, (1 << 128) - 1, [(0, LAST, 0, LAST)]),
        (5, 9, [(0, 0, 5, 4)]),
        (0, (1 << 64) - 1, [(0, 0, 0, LAST)]),
        (1 << 64, (3 << 64) - 1, [(1, 1, 0, LAST)]),
        (7, (1 << 64) | 3, [(0, 0, 7, LAST - 7), (1, 0, 0, 3)]),
        (7, (4 << 64) | 3, [(0, 0, 7, LAST - 7), (1, 2, 0, LAST), (4, 0, 0, 3)]),
        (1, 0, []),
    ],
)
def test_an_address_range_is_at_most_three_boxes(
    first: int, last: int, boxes: list[tuple[int, int, int, int]]
) -> None:
    assert [
        (low >> 64, (high >> 64) - (low >> 64), low & LAST, (high & LAST) - (low & LAST))
        for low, high in split(first, last)
    ] == boxes


def test_an_unknown_field_matches_only_negated_comparisons() -> None:
    for made in (port((443, 443)), port((1, 65535)), Comparison(RA, ranges=((0, 1 << 127),))):
        positive = compiled(rule("x", made))
        negative = compiled(rule("x", Not(made)))
        unknown = Request(Server.CONNECT)
        assert walk.decide(positive, unknown).rule == "default-connect"
        assert walk.decide(negative, unknown).rule == "x"


def test_who_asks_is_gathered_where_rules_name_users_or_groups() -> None:
    named = abi.C["SR_NEED_IDS"]
    many = tuple((one, one) for one in range(1000, 9000, 2))
    port = Comparison(Field.REMOTE_PORT, ((80, 80),))
    assert not compiled(rule("x", port)).needs & named
    for field in (Field.USER, Field.GROUP):
        for ranges in (((1000, 1000),), many):
            for negated in (False, True):
                who = Comparison(field, ranges, negated=negated)
                assert compiled(rule("x", port), rule("y", who)).needs & named


def test_a_program_is_known_by_its_path_and_by_its_directories() -> None:
    table = compiled(
        rule("curl", Comparison(Field.PROGRAM, paths=("/usr/bin/curl",))),
        rule("bin", Comparison(Field.PROGRAM, paths=("/usr/bin/", "/opt/"))),
        rule("rest", Comparison(Field.PROGRAM, paths=("/usr/", "/srv/x"), negated=True)),
    )
    assert table.programs == {"/usr/bin/curl": 2, "/srv/x": 3}
    assert sorted(table.directories.values()) == [8, 9, 10]
    assert table.needs == abi.C["SR_NEED_PROGRAM"] | abi.C["SR_NEED_DIRECTORIES"]

    def decides(path: str | None) -> str:
        return walk.decide(table, Request(Server.CONNECT, program=path)).rule

    assert decides("/usr/bin/curl") == "curl"
    assert decides("/usr/bin/wget") == "bin"
    assert decides("/usr/lib/x") == "default-connect"
    assert decides("/srv/x") == "default-connect"
    assert decides("/srv/y") == "rest"
    assert decides(None) == "rest"


def test_a_long_list_is_one_box_and_one_search() -> None:
    source = random.Random(1)
    hosts = sorted(source.sample(range(1 << 30), 5000))
    table = compiled(
        rule("in", Comparison(RA, ranges=tuple((2 * host, 2 * host) for host in hosts))),
        rule(
            "same", And((Comparison(RA, ranges=tuple((2 * h, 2 * h) for h in hosts)), port((1, 9))))
        ),
    )
    assert table.required.entries == 2
    assert table.required.bounds == 2 * 5000 + (hosts[0] != 0)
    for host in hosts[:50]:
        for step, expected in ((-1, "default-connect"), (0, "in"), (1, "default-connect")):
            request = Request(Server.CONNECT, remote_address=max(0, 2 * host + step))
            assert walk.decide(table, request).rule == expected


def test_nothing_behind_any_costs_anything() -> None:
    table = compiled(
        rule("a", port((1, 1))), rule("all", Any()), *(rule(f"r{n}", port((n, n))) for n in (2, 3))
    )
    assert table.required.entries == 2


def test_a_covered_box_is_left_out() -> None:
    rules = [rule(f"r{n}", port((n % 7 + 1, n % 7 + 1))) for n in range(5000)]
    assert compiled(*rules).required.entries == 7


def test_long_sets_without_a_place_that_have_nothing_in_common() -> None:
    """They are put side by side; that no value lies in both is seen when boxes are made."""
    odd, even = (tuple((n, n) for n in range(first, first + 160, 2)) for first in (1001, 1002))
    folders = tuple(f"/opt/{n}/" for n in range(56))
    table = compiled(
        rule("folders", Comparison(Field.PROGRAM, paths=folders)),
        rule("never", And((port(*odd), port(*even)))),
        rule("some", And((port(*odd), port((1003, 1010))))),
    )
    assert len(table.directories) == 56
    for number, expected in ((1001, "default-connect"), (1003, "some"), (1004, "default-connect")):
        assert walk.decide(table, Request(Server.CONNECT, remote_port=number)).rule == expected


@pytest.mark.parametrize("dead", [10, 400])
def test_what_an_earlier_box_of_a_crowd_covers_is_left_out(dead: int) -> None:
    """Few are taken out of the tables, for many the tables are chosen anew."""
    rng = random.Random(dead)
    apart = [(rng.randrange(1, 999), rng.randrange(33_000, 64_000)) for _ in range(300)]
    inside = [(rng.randrange(1001, 32_000), rng.randrange(33_000, 59_000)) for _ in range(dead)]
    rules = [  # none has a prefix of its port that could tell it from others
        rule(f"r{n}", port(ends), yes=n % 2 == 0)
        for n, ends in enumerate([(1000, 60_000), *apart, *inside])
    ]
    table = compiled(*rules)
    held = set((entries(table)["rule"] >> abi.C["SR_RULE_SHIFT"]).tolist())
    assert held <= set(range(301))
    for number in rng.sample(range(1, 65_536), 2000):
        request = Request(Server.CONNECT, remote_port=number)
        assert walk.decide(table, request) == decide(table.ruleset, tuple(rules), request)


MASKS = ("ports", "ids", "program", "local_hi", "local_lo", "remote_hi", "remote_lo")


@pytest.mark.parametrize("access", [True, False])
def test_every_box_lies_where_its_requests_look(access: bool) -> None:
    """Masks are no longer than the box's prefixes, and runs ascend."""
    ruleset = rulegen.Source(7).ruleset(400, access=access)
    table = compile_table(ruleset, ruleset.rules)
    head, boxes = header(table), entries(table)
    slots = np.frombuffer(table.slots, abi.dtype("sr_slot"))
    seen = np.zeros(len(boxes), int)
    cells = head["region"]["index"][head["region"]["count"] > 0]  # these follow the tables
    ends = [*head["table"]["base"][1 : head["tables"]].tolist(), min([*cells, len(slots)])]
    for row, end in zip(head["table"][: head["tables"]], ends, strict=True):
        assert 32 <= row["shift"] <= 63
        masks = [int(row[name]) for name in MASKS]
        assert bool(row["wide"]) is any(masks[2:6])
        mine = slots[int(row["base"]) : end]
        assert len(mine) == 1 << (64 - int(row["shift"]))
        for slot, (start, stop) in enumerate(mine.tolist()):
            run = boxes[start:stop]
            seen[start:stop] += 1
            rules = run["rule"].tolist()
            assert rules == sorted(rules)
            for box in run:
                for corner in ("low", "high"):
                    words = corner_words(table, box, corner)
                    total = sum(
                        (word & mask) * odd
                        for word, mask, odd in zip(words, masks, ODD, strict=True)
                    )
                    assert total % (1 << 64) >> int(row["shift"]) == slot
    assert (seen == 1).all()


def corner_words(table: Table, box: np.void, corner: str) -> list[int]:
    """The words, as they are hashed, of the request at one corner of a box."""
    rest = np.frombuffer(table.rests, abi.dtype("sr_rest"))[box["rest"]]
    whole = {name: FREE[name] for name in FREE}
    whole |= {name: int(box[name]) for name in ("remote_lo", "remote_lo_span", "uid_lo", "uid_hi")}
    if box["rest"]:
        whole |= {name: int(rest[name]) for name in rest.dtype.names or ()}
    if box["bits_value"] & abi.C["SR_BIT_REMOTE_V4"]:
        whole["remote_hi"] = whole["remote_hi_span"] = 0
    end = "lo" if corner == "low" else "hi"
    halves = [
        whole[half] + (0 if corner == "low" else whole[f"{half}_span"])
        for half in ("local_hi", "local_lo", "remote_hi", "remote_lo")
    ]
    ports = int(box[f"ports_{end}"])
    return [
        (int(box["bits_value"]) & 3) << 32 | (ports >> 32 & 0xFFFF) << 16 | ports & 0xFFFF,
        whole[f"uid_{end}"] << 32 | whole[f"gid_{end}"],
        whole[f"program_{end}"] << 32 | whole[f"service_{end}"],
        *halves,
    ]


def test_every_class_has_its_chain() -> None:
    """Tables that can decide a class, by their first rules for it, each once; no others."""
    ruleset = rulegen.Source(7).ruleset(400)
    table = compile_table(ruleset, ruleset.rules)
    head, boxes = header(table), entries(table)
    none = abi.C["SR_NO_TABLE"]
    slots = np.frombuffer(table.slots, abi.dtype("sr_slot"))
    bases = [*head["table"]["base"][: head["tables"]].tolist()]
    runs = [
        boxes[int(slots["start"][base]) : int(slots["end"][base + (1 << 64 - int(shift)) - 1])]
        for base, shift in zip(bases, head["table"]["shift"][: head["tables"]], strict=True)
    ]
    for kind in range(abi.C["SR_CLASSES"]):
        server, v4 = kind >> 1, kind & 1
        chain, firsts, at = [], [], int(head["start"][kind])
        while at != none:
            chain.append(at)
            firsts.append(int(head["table"][at]["first"][kind]))
            at = int(head["table"][at]["next"][kind])
        assert firsts == sorted(firsts)
        assert head["table"][none]["first"][kind] == 0xFFFFFFFF
        for number, run in enumerate(runs):
            own = run[(run["bits_value"] & 3) == server]
            if not v4:
                own = own[(own["bits_value"] & abi.C["SR_BIT_REMOTE_V4"]) == 0]
                assert (number in chain) == bool(len(own))
            elif len(own):
                rules = own["rule"] >> abi.C["SR_RULE_SHIFT"]
                asks = own["bits_value"] & abi.C["SR_BIT_REMOTE_V4"] != 0
                assert number in chain or not asks.any()
                if number in chain:
                    assert firsts[chain.index(number)] in rules


def test_masks_take_the_server_and_the_tops_of_the_fields() -> None:
    assert masks_of((16, 6, 32, 0, 32, 0, 64, 104)) == (
        0x3_FFFF_FC00,
        0xFFFFFFFF_00000000,
        0xFFFFFFFF_00000000,
        LAST,
        0,
        LAST,
        0xFFFFFFFF_FF000000,
    )


def test_the_same_rules_give_the_same_bytes() -> None:
    ruleset = rulegen.Source(3).ruleset(300)
    a, b = (compile_table(ruleset, ruleset.rules, revision=7) for _ in range(2))
    assert (a.header, a.entries, a.slots, a.bounds) == (b.header, b.entries, b.slots, b.bounds)
    assert header(a)["revision"] == 7
    assert header(a)["rules"] == 300


def test_a_refusal_names_the_rules_and_the_remedy() -> None:
    ranges = [rule(f"r{n}", And((port((1, n + 1)), port((n + 1, 65535))))) for n in range(40)]
    wide = [rule(f"w{n}", port((n + 1, 60000 + n))) for n in range(40)]
    with pytest.raises(CompileError, match="steps, 20 are allowed") as caught:
        compiled(*ranges, *wide, limits=Limits(steps=20))
    assert 0 < len(caught.value.problems) <= 5
    assert caught.value.rules[0].startswith("w")
    assert "name a port" in str(caught.value)


def test_too_many_boxes_are_refused_before_they_are_made() -> None:
    some = tuple((n, n) for n in range(1, 200, 2))
    many = And(
        tuple(Comparison(field, ranges=some) for field in (RP, LP, Field.USER, Field.GROUP, RA))
    )
    assert compiled(rule("bits", many)).required.entries == 1
    below = [f"/d{n}/" for n in range(56)]
    taken = Comparison(Field.PROGRAM, paths=tuple(below))
    with pytest.raises(CompileError, match="all 56 places .* are taken") as caught:
        compiled(rule("dirs", taken), rule("big", many))
    assert caught.value.rules == ("big",)


def test_too_many_directories_are_refused() -> None:
    rules = [rule(f"r{n}", Comparison(Field.PROGRAM, paths=(f"/d{n}/",))) for n in range(57)]
    assert compiled(*rules[:56]).needs & abi.C["SR_NEED_DIRECTORIES"]
    with pytest.raises(CompileError, match="57 directories, slices and cgroups are named"):
        compiled(*rules)


def test_an_explosive_condition_is_refused_by_name() -> None:
    parts: tuple[Condition, ...] = tuple(
        Or((port((n, n), negated=True), Comparison(LP, ranges=((n, n),), negated=True)))
        for n in range(1, 60, 2)
    )
    with pytest.raises(CompileError, match="combinations") as caught:
        compiled(rule("fine", Any(), Server.LISTEN), rule("tangle", And(parts)))
    assert caught.value.rules == ("tangle",)


def test_nesting_is_not_bounded_by_recursion() -> None:
    deep: Condition = port((443, 443))
    for _ in range(5001):
        deep = Not(deep)
    table = compiled(rule("x", deep))
    assert walk.decide(table, Request(Server.CONNECT, remote_port=443)).rule == "default-connect"
    assert walk.decide(table, Request(Server.CONNECT, remote_port=444)).rule == "x"


def test_running_out_of_steps_is_no_decision() -> None:
    table = compiled(*(rule(f"r{n}", port((n + 1, 60000 + n))) for n in range(30)))
    assert table.steps > 3
    short = compiled(rule("x", port((1, 1))))
    object.__setattr__(table, "limits", Limits(steps=3))
    words = walk.request_words(short, Request(Server.CONNECT, remote_port=65535))
    assert walk.walk(table, words) == walk.EXHAUSTED
    with pytest.raises(ValueError, match="ran out of steps"):
        walk.verdict(table, walk.EXHAUSTED)
