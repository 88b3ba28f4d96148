# SPDX-License-Identifier: Apache-2.0
"""The text that is compiled: all sources, each once."""

from __future__ import annotations

import re

import pytest

from sockrules.agent.compiler import BPF_DIR, MAPS, source_text
from sockrules.agent.hooks import FLUSH, HOOKS, PROBE
from sockrules.agent.loader import Capacity

TEXT = source_text()
FILES = sorted(path.name for path in BPF_DIR.iterdir() if path.suffix in (".c", ".h"))


@pytest.mark.parametrize("name", FILES)
def test_each_file_is_in_the_text_once(name: str) -> None:
    own = (BPF_DIR / name).read_text()
    _, _, heading, *_ = re.split(r"/\*|\*/", own, maxsplit=4)[1:]
    assert len(heading) > 40
    assert TEXT.count(heading) == 1


def test_no_include_of_our_own_is_left() -> None:
    assert not re.findall(r'#include\s+"', TEXT)


def test_what_is_included_comes_before_its_use() -> None:
    marks = ("struct sr_entry {", "struct sr_entry, entries", "u32 sr_decide(")
    order = [TEXT.index(mark) for mark in marks]
    assert order == sorted(order)


@pytest.mark.parametrize("hook", [*HOOKS, PROBE, FLUSH], ids=lambda hook: str(hook.name))
def test_each_hook_has_its_function(hook: object) -> None:
    function = getattr(hook, "function", "")
    assert len(re.findall(rf"^int {function}\(", TEXT, re.MULTILINE)) == 1


def test_each_map_that_is_asked_for_is_there() -> None:
    for name in MAPS:
        assert re.search(rf"BPF_\w+\([^;]*\b{name}\b", TEXT), name


def test_a_part_of_the_sources_brings_what_it_includes() -> None:
    text = source_text(("maps.h",))
    assert "struct sr_entry {" in text
    assert "sr_decide" not in text


def test_each_size_is_a_macro_that_the_text_uses() -> None:
    macros = Capacity(steps=1, entries=2, rests=3, slots=4, bounds=5, rules=6).macros()
    assert all(re.search(rf"\b{name}\b", TEXT) for name in macros)
    assert all(value > 0 for value in macros.values())
