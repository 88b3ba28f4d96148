# SPDX-License-Identifier: Apache-2.0
"""Which unit a cgroup has, and which cgroups a word of a condition means."""

from __future__ import annotations

import pytest

from sockrules.control import abi
from sockrules.control.services import (
    DEEPEST,
    LONGEST_PATH,
    problem_of,
    requested,
    service_matches,
    slice_path,
    unit_of,
)


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("/", None),
        ("/init.scope", "init.scope"),
        ("/system.slice", None),
        ("/system.slice/nginx.service", "nginx.service"),
        ("/system.slice/nginx.service/worker/nginx2.service", "nginx.service"),
        ("/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service"),
        ("/user.slice/user-7.slice/session-3.scope", "session-3.scope"),
        ("/user.slice/user-7.slice/user@7.service/app.slice/nginx.service", "user@7.service"),
        ("/machine.slice/docker-0a1b.scope/system.slice/sshd.service", "docker-0a1b.scope"),
        ("/system.slice/_cpu.service", "cpu.service"),
        ("/payload/system.slice/sshd.service", None),
        ("/payload", None),
        ("/.slice/nginx.service", None),
        ("/system.slice/@x.service", None),
    ],
)
def test_the_unit_is_found_as_systemd_finds_it(path: str, unit: str | None) -> None:
    assert unit_of(path) == unit


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("-.slice", "/"),
        ("system.slice", "/system.slice/"),
        ("user-1000.slice", "/user.slice/user-1000.slice/"),
        ("a-b-c.slice", "/a.slice/a-b.slice/a-b-c.slice/"),
        ("io.slice", "/_io.slice/"),
        ("system-getty\\x2d1.slice", "/system.slice/system-getty\\x2d1.slice/"),
    ],
)
def test_a_slices_name_says_where_it_is(name: str, path: str) -> None:
    assert slice_path(name) == path


NGINX = "/system.slice/nginx.service"


@pytest.mark.parametrize(
    ("member", "matched", "passed_over"),
    [
        ("nginx.service", (NGINX, f"{NGINX}/worker", "nginx.service"), ("/nginx.service2", "/")),
        ("system.slice", ("/system.slice", NGINX), ("/", "/x/system.slice", "nginx.service")),
        ("-.slice", ("/", NGINX), ("nginx.service",)),
        ("/", ("/", NGINX), ("nginx.service",)),
        (NGINX, (NGINX,), (f"{NGINX}/worker", "nginx.service", "/system.slice")),
        (f"{NGINX}/", (NGINX, f"{NGINX}/worker"), ("/system.slice", f"{NGINX}2", "nginx.service")),
    ],
)
def test_what_a_member_matches(
    member: str, matched: tuple[str, ...], passed_over: tuple[str, ...]
) -> None:
    assert problem_of(member) is None
    assert [each for each in matched if not service_matches(member, each)] == []
    assert [each for each in passed_over if service_matches(member, each)] == []


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("nginx", "did you mean nginx.service?"),
        ("system.slice/nginx.service", "did you mean /system.slice/nginx.service?"),
        ("/system.slice//nginx.service", "use /system.slice/nginx.service"),
        ("/system.slice/../x/", "use "),
        ("-x.slice", "use one such as user-1000.slice"),
        ("a--b.slice", "use one such as user-1000.slice"),
        ("@x.service", "use its name"),
        ("x.conf", "use its name"),
        ("/" + "x" * 511, "it has at most 511 bytes"),
        ("/x" * 33, "it has at most 511 bytes and 32 parts"),
        ("x" * 250 + ".service", "use its name"),
    ],
)
def test_what_is_no_member_is_told_with_what_would_be(word: str, hint: str) -> None:
    problem = problem_of(word)
    assert problem is not None
    assert problem[1].startswith(hint)


def test_limits_are_those_of_the_programs() -> None:
    assert abi.C["SR_CGROUP_PATH"] == LONGEST_PATH + 1
    assert abi.C["SR_CGROUP_DEPTH"] == DEEPEST
    for longest in ("/" + "x" * 510, "/x" * 32, "/x" * 32 + "/"):
        assert problem_of(longest) is None


def test_a_request_names_one_cgroup_or_a_unit() -> None:
    assert requested("nginx.service") == "nginx.service"
    assert requested(NGINX) == NGINX
    assert requested("user-7.slice") == "/user.slice/user-7.slice"
    assert requested("-.slice") == requested("/") == "/"
    with pytest.raises(ValueError, match=r"^/a/ is many cgroups; use /a for that one"):
        requested("/a/")
    with pytest.raises(ValueError, match=r"^nginx is not a unit; did you mean nginx.service"):
        requested("nginx")
