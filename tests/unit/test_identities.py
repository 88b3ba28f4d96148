# SPDX-License-Identifier: Apache-2.0
"""What the programs that rules name are, as packages replace them and processes outlive them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sockrules.agent import identities
from sockrules.agent.identities import Identities, way_to
from sockrules.agent.inodes import inode_of


@pytest.fixture(autouse=True)
def _nobody_looks_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what inotify tells makes a look due."""
    monkeypatch.setattr(identities, "_LOOK_EVERY", 3600.0)


def followed(*paths: Path | str) -> Identities:
    made = Identities()
    made.follow(map(str, paths))
    made.look()
    assert not made.due()
    return made


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """A program and a process that runs it."""
    program = tmp_path / "sleeper"
    shutil.copy("/usr/bin/sleep", program)
    process = subprocess.Popen([program, "60"])
    try:
        yield program, process
    finally:
        process.kill()
        process.wait()


def replace(program: Path) -> None:
    """As dpkg does: a new file, renamed over the old one."""
    fresh = program.with_name(f"{program.name}.dpkg-new")
    shutil.copy("/usr/bin/sleep", fresh)
    fresh.rename(program)


def test_a_replaced_program_is_the_new_file(tmp_path: Path) -> None:
    program = tmp_path / "tool"
    program.write_text("old")
    seen = followed(program)
    before = seen.present[str(program)]
    replace(program)
    assert seen.due() and seen.look()
    assert seen.known() == [(str(program), inode_of(str(program)))]
    assert seen.present[str(program)] != before
    assert not seen.due()


def test_the_old_file_is_known_while_a_process_runs_it(
    sleeper: tuple[Path, subprocess.Popen[bytes]],
) -> None:
    program, process = sleeper
    seen = followed(program)
    old = seen.present[str(program)]
    replace(program)
    assert seen.look()
    assert seen.known() == [(str(program), old), (str(program), inode_of(str(program)))]
    assert not seen.look()
    process.kill()
    process.wait()
    assert seen.look()
    assert seen.known() == [(str(program), inode_of(str(program)))]


def test_a_removed_program_is_known_while_a_process_runs_it(
    sleeper: tuple[Path, subprocess.Popen[bytes]],
) -> None:
    program, process = sleeper
    seen = followed(program)
    old = seen.present[str(program)]
    program.unlink()
    assert seen.due() and seen.look()
    assert seen.known() == [(str(program), old)]
    process.kill()
    process.wait()
    assert seen.look()
    assert seen.known() == []


def test_what_is_made_later_is_seen(tmp_path: Path) -> None:
    program = tmp_path / "opt" / "app" / "run"
    seen = followed(program)
    assert seen.known() == []
    program.parent.mkdir(parents=True)
    assert seen.due()
    seen.look()
    seen.due()
    program.write_text("x")
    assert seen.due() and seen.look()
    assert seen.known() == [(str(program), inode_of(str(program)))]


def test_a_link_in_the_middle_that_is_turned_is_seen(tmp_path: Path) -> None:
    for version in ("v1", "v2"):
        (tmp_path / "releases" / version).mkdir(parents=True)
        (tmp_path / "releases" / version / "run").write_text(version)
    (tmp_path / "app").mkdir()
    current = tmp_path / "app" / "current"
    current.symlink_to("../releases/v1")
    seen = followed(current / "run")
    fresh = tmp_path / "app" / "new"
    fresh.symlink_to("../releases/v2")
    fresh.rename(current)
    assert seen.due() and seen.look()
    assert seen.present[str(current / "run")] == inode_of(str(tmp_path / "releases/v2/run"))
    replace(tmp_path / "releases/v2/run")  # where it leads now is watched as well
    assert seen.due() and seen.look()


def test_a_folder_moved_away_is_seen(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    seen = followed(f"{tmp_path}/a/b/")
    (tmp_path / "a").rename(tmp_path / "c")
    assert seen.due() and seen.look()
    assert seen.known() == []


def test_a_number_used_again_is_another_file(tmp_path: Path) -> None:
    """ext4 gives a removed file's number to the next one made, with another generation."""
    program = tmp_path / "tool"
    program.write_text("old")
    seen = followed(program)
    before = seen.present[str(program)]
    if before.generation is None:
        pytest.skip("the file system tells no generations")
    for _ in range(64):
        program.unlink()
        program.write_text("new")
        now = inode_of(str(program))
        assert now is not None
        if now == before:
            assert now.generation != before.generation
            assert seen.look()
            return
    pytest.skip("the file system used other numbers")


def test_the_way_to_a_path_leads_through_its_links(tmp_path: Path) -> None:
    base = tmp_path.resolve()
    (base / "real").mkdir()
    (base / "link").symlink_to(base / "real")
    (base / "real" / "tool").symlink_to("../gone/tool")
    found = way_to(str(base / "link" / "tool"))
    assert {str(base), str(base / "real"), str(base / "gone"), "/"} <= found
    assert str(base / "gone" / "tool") not in found
    loop = base / "loop"
    loop.symlink_to(loop)
    assert str(base) in way_to(str(loop))


def test_other_paths_are_followed_instead(tmp_path: Path) -> None:
    one, two = tmp_path / "1" / "tool", tmp_path / "2" / "tool"
    for each in (one, two):
        each.parent.mkdir()
        each.write_text("x")
    seen = followed(one)
    seen.follow([str(two)])
    seen.look()
    seen.due()
    replace(one)
    assert not seen.due()
    replace(two)
    assert seen.due()
    seen.follow([])
    os.unlink(two)
    assert not seen.due()
    assert seen.known() == []
