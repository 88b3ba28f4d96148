# SPDX-License-Identifier: Apache-2.0
"""Paths to inodes: what programs and directories are, whatever they are called."""

from __future__ import annotations

import os
from pathlib import Path

from sockrules.agent.inodes import inode_of, inodes_of


def superblock_of(path: Path) -> int:
    """The device of the innermost mount that holds a path, as mountinfo shows it."""
    best, device = "", 0
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        place = fields[4]
        if Path(place) in (path, *path.parents) and len(place) >= len(best):
            major, minor = fields[2].split(":")
            best, device = place, int(major) << 20 | int(minor)
    return device


def test_a_file_is_its_number_on_its_superblock(tmp_path: Path) -> None:
    file = tmp_path / "program"
    file.write_text("x")
    inode = inode_of(str(file))
    assert inode is not None
    assert inode.number == file.stat().st_ino
    assert inode.device == superblock_of(file.resolve())


def test_other_file_systems_have_other_devices() -> None:
    proc, here = inode_of("/proc"), inode_of("/")
    assert proc and here
    assert proc.device == superblock_of(Path("/proc"))
    assert proc.device != here.device


def test_links_name_what_they_lead_to(tmp_path: Path) -> None:
    file, hard, soft = tmp_path / "program", tmp_path / "hard", tmp_path / "soft"
    file.write_text("x")
    os.link(file, hard)
    soft.symlink_to(file)
    assert inode_of(str(file)) == inode_of(str(hard)) == inode_of(str(soft))


def test_a_file_renamed_over_another_is_the_new_one(tmp_path: Path) -> None:
    old, new = tmp_path / "program", tmp_path / "program.new"
    old.write_text("old")
    before = inode_of(str(old))
    new.write_text("new")
    wanted = inode_of(str(new))
    new.rename(old)
    assert inode_of(str(old)) == wanted != before


def test_folders_have_inodes_with_and_without_the_slash(tmp_path: Path) -> None:
    assert inode_of(f"{tmp_path}/") == inode_of(str(tmp_path)) is not None


def test_what_is_not_there_has_none(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path in (tmp_path / "missing", tmp_path / "missing" / "below", loop):
        assert inode_of(str(path)) is None


def test_of_many_paths_those_that_exist_are_found(tmp_path: Path) -> None:
    here, missing = str(tmp_path), str(tmp_path / "missing")
    assert inodes_of([here, missing]) == {here: inode_of(here)}
