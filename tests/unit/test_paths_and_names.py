# SPDX-License-Identifier: Apache-2.0
"""Where things lie below a root, and what names stand for."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path

import pytest

from sockrules.control.names import FixedNames, KnownNames, SystemNames
from sockrules.control.paths import Paths
from sockrules.control.problems import InputError, Problem, did_you_mean


def test_the_system_itself() -> None:
    paths = Paths(Path("/"))
    assert paths.rules == Path("/etc/sockrules/rules.toml")
    assert paths.agent_config == Path("/etc/sockrules/agent.toml")
    assert paths.lists == Path("/etc/sockrules/lists")
    assert paths.socket == Path("/run/sockrules/control.sock")
    assert paths.audit_log == Path("/var/log/sockrules/audit.jsonl")
    assert paths.state_db.parent == Path("/var/lib/sockrules")
    assert paths.pins == Path("/sys/fs/bpf/sockrules/main")


def test_a_root_moves_everything_but_the_pins(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    for path in (paths.rules, paths.socket, paths.audit_log, paths.state_dir):
        assert path.is_relative_to(tmp_path)
    assert paths.pins.parent == Path("/sys/fs/bpf/sockrules")


def test_two_roots_of_the_same_name_have_pins_of_their_own(tmp_path: Path) -> None:
    one, two, link = tmp_path / "a" / "try.out", tmp_path / "b" / "try.out", tmp_path / "link"
    one.mkdir(parents=True)
    two.mkdir(parents=True)
    link.symlink_to(one)
    assert Paths(one).pins != Paths(two).pins
    assert Paths(one).pins == Paths(link).pins
    assert Paths(one).pins.name.startswith("try_out-")
    assert "." not in Paths(one).pins.name  # the BPF file system refuses it


def test_the_option_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOCKRULES_ROOT", "/srv/env")
    assert Paths.from_option("/srv/option").root == Path("/srv/option")
    assert Paths.from_option(None).root == Path("/srv/env")
    monkeypatch.delenv("SOCKRULES_ROOT")
    assert Paths.from_option(None).root == Path("/")


def test_system_names_are_the_hosts(tmp_path: Path) -> None:
    names = SystemNames(tmp_path)
    user, group = pwd.getpwuid(os.getuid()), grp.getgrgid(0)
    assert names.uid(user.pw_name) == user.pw_uid
    assert names.user_name(user.pw_uid) == pwd.getpwuid(user.pw_uid).pw_name
    assert names.gid(group.gr_name) == 0
    assert names.group_name(0) == group.gr_name
    assert names.uid("no such user") is None
    assert names.gid("zero\0byte") is None
    assert names.user_name(1 << 40) is None
    assert group.gr_name in names.known_groups()


def test_lists_are_files_of_their_directory(tmp_path: Path) -> None:
    (tmp_path / "bastions.txt").write_text("10.0.0.1\n", "utf-8")
    names = SystemNames(tmp_path)
    assert names.read_list("bastions") == "10.0.0.1\n"
    assert names.known_lists() == ["bastions"]
    with pytest.raises(FileNotFoundError):
        names.read_list("absent")


def test_fixed_names_behave_like_the_hosts() -> None:
    names = FixedNames({"root": 0}, {"adm": 4}, {"x": "1"})
    assert (names.uid("root"), names.uid("x"), names.gid("adm")) == (0, None, 4)
    assert (names.user_name(0), names.group_name(5), names.read_list("x")) == ("root", None, "1")
    with pytest.raises(FileNotFoundError):
        names.read_list("y")
    assert isinstance(names, KnownNames) and isinstance(SystemNames(Path("/")), KnownNames)


def test_a_problem_reads_place_what_and_what_would_be_right() -> None:
    error = Problem("rules.toml", 14, 9, "local.port 70000 is out of range", "use 1-65535")
    assert str(error) == "rules.toml:14:9: local.port 70000 is out of range; use 1-65535"
    warning = Problem("rules.toml", None, None, "odd", severity="warning")
    assert str(warning) == "rules.toml: warning: odd"
    assert str(InputError([error, warning])) == f"{error}\n{warning}"


def test_suggestions_are_near_or_absent() -> None:
    assert did_you_mean("acept", ["accept", "connect"]) == "did you mean accept?"
    assert did_you_mean("ACCEPT", ["accept", "connect"]) == "did you mean accept?"
    assert did_you_mean("zzz", ["accept", "connect"]) == ""
    assert did_you_mean("zzz", []) == ""
