# SPDX-License-Identifier: Apache-2.0
"""docs/bypasses.md: what is said to be closed has a test, and what is open says what helps.

An entry is a heading of the third level and a list below it: `closed by:` and
`open with:` (hooks), `test:` (pytest node ids), `what helps:`.
"""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path
from typing import NamedTuple

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = "docs/bypasses.md"

CLOSERS = {
    *("cgroup/connect", "cgroup/post_bind", "sk_lookup", "fmod_ret", "lsm"),
    *("the guard", "no guard", "the agent", "the kernel"),
}
KEYS = {"closed by", "open with", "test", "what helps"}
PREFERRED = {"fmod_ret", "lsm", "the guard"}

REQUIRED = {
    "TCP Fast Open", "Multipath TCP", "SMC", "IPv4-mapped addresses", "0.0.0.0 and ::",
    "AF_UNSPEC", "io_uring connect", "io_uring accept", "io_uring bind and listen",
    "Non-blocking connect", "UDP", "Raw and packet sockets", "Kernel sockets",
    "Inherited and passed sockets", "Connections that are handed over", "Socket activation",
    "Listen without bind", "SO_REUSEPORT", "SO_REUSEPORT with different programs",
    "Changing comm and argv", "A copy of the program", "Hard and symbolic links",
    "Directories behind a mount", "Overlays and containers' files", "Interpreters and scripts",
    "The dynamic linker as launcher", "A program without a file", "ptrace and LD_PRELOAD",
    "Network namespaces", "User namespaces", "Leaving the cgroup",
    "cgroup v1 and hybrid hosts", "Processes and sockets older than the agent",
    "Connections older than the agent", "Rebinding", "Connect after a rule change",
    "SYN cookies", "Simultaneous open", "TCP self-connect", "Sockets prepared for it",
    "IP_FREEBIND and IP_TRANSPARENT", "SO_BINDTODEVICE", "Redirection by other BPF programs",
    "SCTP and DCCP", "VSOCK and Unix sockets", "The agent is killed", "A full buffer",
    "A link that is removed", "Maps, links and programs", "Root",
}  # fmt: skip


class Entry(NamedTuple):
    """One way round: its title and what its list says."""

    title: str
    said: dict[str, str]
    repeated: set[str]

    def items(self, key: str) -> list[str]:
        return [item.strip() for item in self.said.get(key, "").split(",") if item.strip()]

    @property
    def tests(self) -> list[str]:
        return re.findall(r"`([^`]+)`", self.said.get("test", ""))

    @property
    def is_closed_somewhere(self) -> bool:
        return "closed by" in self.said

    @property
    def is_open_somewhere(self) -> bool:
        return "open with" in self.said


def entries(text: str) -> list[Entry]:
    found = []
    for section in re.split(r"^### ", text, flags=re.M)[1:]:
        title, _, rest = section.partition("\n")
        body = rest.split("\n## ")[0]
        lines = re.findall(r"^- ([a-z ]+): (.+)$", body, re.M)
        keys = [key for key, _ in lines]
        found.append(Entry(title, dict(lines), {key for key in keys if keys.count(key) > 1}))
    return found


@functools.cache
def functions_in(path: Path) -> dict[str, set[str]]:
    """The test functions of a file, with their marks and their module's."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    of_module = {
        mark
        for node in tree.body
        if isinstance(node, ast.Assign) and "pytestmark" in ast.unparse(node.targets[0])
        for mark in re.findall(r"pytest\.mark\.(\w+)", ast.unparse(node.value))
    }
    return {
        node.name: of_module
        | {
            mark
            for decorator in node.decorator_list
            for mark in re.findall(r"^pytest\.mark\.(\w+)", ast.unparse(decorator))
        }
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def anchor(title: str) -> str:
    """The link to a heading, as GitHub and GitLab make it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def problems(text: str, checkout: Path) -> list[str]:
    """What is wrong with the catalogue, an item each."""
    found = []
    catalogue = entries(text)
    titles = [entry.title for entry in catalogue]
    tests = {
        f"{path.relative_to(checkout)}::{name}": marks
        for path in (checkout / "tests").rglob("test_*.py")
        for name, marks in functions_in(path).items()
    }
    found += [f"{title} is missing" for title in sorted(REQUIRED - set(titles))]
    found += [f"{title} is there twice" for title in set(titles) if titles.count(title) > 1]
    for entry in catalogue:
        said = entry.said
        wrong = [f"`{key}:` is not known" for key in said.keys() - KEYS]
        wrong += [f"`{key}:` is there twice" for key in entry.repeated]
        if not (entry.is_closed_somewhere or entry.is_open_somewhere):
            wrong.append("says neither `closed by:` nor `open with:`")
        for key in ("closed by", "open with"):
            wrong += [f"{item} is no hook" for item in entry.items(key) if item not in CLOSERS]
        both = set(entry.items("closed by")) & set(entry.items("open with"))
        wrong += [f"is closed and open with {hook}" for hook in both]
        if entry.is_closed_somewhere and not entry.tests:
            wrong.append("is closed and has no test")
        if entry.is_open_somewhere and "what helps" not in said:
            wrong.append("is open and does not say what helps")
        wrong += [f"{test} does not exist" for test in entry.tests if test not in tests]
        proven = any("matrix" in tests.get(test, ()) for test in entry.tests)
        if entry.is_closed_somewhere and set(entry.items("closed by")) <= PREFERRED and not proven:
            wrong.append("is closed by hooks that only the virtual machines have: no matrix test")
        found += [f"{entry.title}: {what}" for what in wrong]
    named = {test for entry in catalogue for test in entry.tests}
    found += [
        f"{test} is of no entry"
        for test in sorted(tests.keys() - named)
        if test.startswith("tests/kernel/test_bypass_")
    ]
    return found + wrong_lists(text, catalogue)


def wrong_lists(text: str, catalogue: list[Entry]) -> list[str]:
    """The two lists of what is open must be those entries, and every link lead somewhere."""
    found = []
    _, _, rest = text.partition("\n## What is open\n")
    everywhere, _, somewhere = rest.partition("\n## ")[0].partition("\nWith some hooks:")
    for part, closed in ((everywhere, False), (somewhere, True)):
        expected = {
            entry.title
            for entry in catalogue
            if entry.is_open_somewhere and entry.is_closed_somewhere is closed
        }
        links = re.findall(r"\[([^\]]+)\]\(#", part)
        where = "open with some hooks" if closed else "open with every hook"
        found += [f"{title} is not listed as {where}" for title in sorted(expected - set(links))]
        found += [f"{title} is listed as {where}" for title in sorted(set(links) - expected)]
    anchors = {anchor(entry.title) for entry in catalogue}
    found += [
        f"the link to #{link} leads nowhere"
        for link in re.findall(r"\]\(#([^)]+)\)", text)
        if link not in anchors
    ]
    return found


TEXT = (CHECKOUT / PAGE).read_text(encoding="utf-8")


def test_the_catalogue_holds() -> None:
    assert problems(TEXT, CHECKOUT) == []


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("- test: `tests/kernel/test_bypass_accept.py::test_syn_cookies`\n", "", "has no test"),
        ("::test_syn_cookies", "::test_gone", "test_gone does not exist"),
        ("::test_syn_cookies", "::test_io_uring_accept", "test_syn_cookies is of no entry"),
        ("### SYN cookies", "### SYN biscuits", "SYN cookies is missing"),
        ("### SYN cookies", "### SMC", "SMC is there twice"),
        ("- closed by: cgroup/connect\n", "- closed by: wishes\n", "wishes is no hook"),
        ("- closed by: cgroup/connect\n", "", "TCP Fast Open: says neither"),
        ("- closed by: cgroup/connect\n",
         "- closed by: cgroup/connect\n- open with: cgroup/connect\n- what helps: luck\n",
         "is closed and open with cgroup/connect"),
        ("- what helps: `sockrules sockets --violating --kill`\n", "", "does not say what helps"),
        ("[UDP](#udp),\n", "", "UDP is not listed as open with every hook"),
        ("[UDP](#udp),\n", "[SMC](#smc),\n", "SMC is listed as open"),
        ("](#udp)", "](#upd)", "the link to #upd leads nowhere"),
        ("two_programs`", "two_programs`, `tests/x`", "tests/x does not exist"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_found(old: str, new: str, says: str) -> None:
    assert old in TEXT
    found = problems(TEXT.replace(old, new, 1), CHECKOUT)
    assert any(says in problem for problem in found), found
