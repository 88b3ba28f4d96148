# SPDX-License-Identifier: Apache-2.0
"""Ways to be taken for another program or user (docs/bypasses.md), tried."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from .processes import PYTHON
from .roundabout import STEPS, command, steps
from .sandbox import Sandbox

pytestmark = pytest.mark.kernel

HOME = Path("/var/tmp/sockrules-test-programs")
"""Where these tests keep programs; other users may execute them."""
PROGRAM, TOOLS = HOME / "tools" / "program", HOME / "tools"
FORGE = Path(__file__).with_name("forge_exe.py").read_text()

RULES = f"""
[[rule]]
name = "all-but-the-program"
server = "connect"
authority = "no"
when = "remote.port == 8001 and program == {PROGRAM}"

[[rule]]
name = "only-the-program"
server = "connect"
authority = "no"
when = "remote.port == 8002 and not program == {PROGRAM}"

[[rule]]
name = "all-but-the-tools"
server = "connect"
authority = "no"
when = "remote.port == 8003 and program == {TOOLS}/"

[[rule]]
name = "only-the-tools"
server = "connect"
authority = "no"
when = "remote.port == 8004 and not program == {TOOLS}/"

[[rule]]
name = "not-2000"
server = "connect"
authority = "no"
when = "remote.port == 8005 and user == 2000"
"""


@pytest.fixture(scope="module", autouse=True)
def _programs(sandbox: Sandbox) -> Iterator[None]:
    shutil.rmtree(HOME, ignore_errors=True)
    TOOLS.mkdir(parents=True)
    (TOOLS / "empty").mkdir()
    shutil.copy(PYTHON, PROGRAM)
    shutil.copy(PYTHON, HOME / "copy")
    sandbox.apply(RULES)
    sandbox.activate("enforce", "connect")
    yield
    shutil.rmtree(HOME)


def is_taken_for(
    box: Sandbox, *program: str | Path, mount: str = "", user: int | None = None
) -> set[str]:
    """By what a program, run so, is known: it itself (`program`), where it lies (`tools`).

    A rule that rejects and one that lets through must be of one mind. Nobody listens,
    so who is let through is refused.
    """
    script = f'{mount}\nfor port in 8001 8002 8003 8004; do "$@" "connect 127.0.0.1 $port"; done'
    run = [*map(str, program), "-I", "-S", "-c", STEPS, "socket inet"]
    namespace = [] if user is None else ["--map-root-user"]
    unshare = ["unshare", "--mount", *namespace] if mount else []
    done = box.inside([*unshare, "sh", "-ec", script, "sh", *run], user)
    met = done.stdout.split()
    assert len(met) == 4 and set(met) <= {"EPERM", "ECONNREFUSED"}, done
    known = set()
    for name, denied, alone_allowed in (("program", *met[:2]), ("tools", *met[2:])):
        assert denied != alone_allowed, f"taken for {name} by one rule and not by the other"
        known |= {name} if denied == "EPERM" else set()
    return known


@pytest.mark.matrix
def test_a_program_is_known_wherever_it_is_linked_from(sandbox: Sandbox) -> None:
    symlink, hard = HOME / "symlink", HOME / "hard-link"
    symlink.symlink_to(PROGRAM)
    hard.hardlink_to(PROGRAM)
    assert is_taken_for(sandbox, PROGRAM) == {"program", "tools"}
    assert is_taken_for(sandbox, symlink) == {"program", "tools"}
    assert is_taken_for(sandbox, hard) == {"program"}, "where it was executed is elsewhere"


@pytest.mark.matrix
def test_a_copy_is_another_program(sandbox: Sandbox) -> None:
    assert is_taken_for(sandbox, HOME / "copy") == set()
    shutil.copy(HOME / "copy", TOOLS / "copy")
    assert is_taken_for(sandbox, TOOLS / "copy") == {"tools"}


def test_names_that_a_process_gives_itself_count_for_nothing(sandbox: Sandbox) -> None:
    run = ["sh", "-c", 'printf program > /proc/$$/comm; exec "$@"', "sh"]
    bash = ["bash", "-c", f'exec -a {PROGRAM} {HOME}/copy "$@"', "bash"]
    assert is_taken_for(sandbox, *run, HOME / "copy") == set()
    assert is_taken_for(sandbox, *bash) == set()
    assert is_taken_for(sandbox, *bash[:2], bash[2].replace("copy", "tools/program"), "bash") == {
        "program",
        "tools",
    }


def test_a_bind_mount_moves_a_directory_and_not_a_program(sandbox: Sandbox) -> None:
    mount = f"mount --bind {TOOLS} /mnt"
    assert is_taken_for(sandbox, "/mnt/program", mount=mount) == {"program", "tools"}
    mount = f"mkdir -p {TOOLS}/deep; mount --bind {TOOLS}/deep /mnt; cp {HOME}/copy {TOOLS}/deep"
    assert is_taken_for(sandbox, "/mnt/copy", mount=mount) == set()
    assert is_taken_for(sandbox, TOOLS / "deep" / "copy") == {"tools"}


def test_an_overlay_is_another_file_system(sandbox: Sandbox) -> None:
    """A container's /usr/bin/python3 is not the host's."""
    mount = (
        f"mount -t tmpfs none /mnt; mkdir /mnt/up /mnt/work /mnt/all; mount -t overlay"
        f" -o lowerdir={TOOLS},upperdir=/mnt/up,workdir=/mnt/work none /mnt/all"
    )
    assert is_taken_for(sandbox, "/mnt/all/program", mount=mount) == set()


@pytest.mark.matrix
def test_a_mount_of_ones_own_below_a_directory(sandbox: Sandbox) -> None:
    """In a user namespace anybody may mount, but only what the host mounts counts."""
    mount = f"mount --bind {HOME} {TOOLS}/empty"
    run = TOOLS / "empty" / "copy"
    assert is_taken_for(sandbox, run, mount=mount) == {"tools"}
    assert is_taken_for(sandbox, run, mount=mount, user=2000) == set()
    assert is_taken_for(sandbox, PROGRAM, mount="true", user=2000) == {"program"}


@pytest.mark.matrix
@pytest.mark.parametrize("user", [None, 2000])
def test_an_executable_that_was_exchanged(sandbox: Sandbox, user: int | None) -> None:
    run = command("socket inet", "connect 127.0.0.1 8002", program=[loader(), PYTHON])
    assert sandbox.inside(run, user).stdout.strip() == "EPERM"
    run[run.index(STEPS)] = f"{FORGE}\n{STEPS}"
    run.insert(run.index("socket inet"), str(PROGRAM))
    done = sandbox.inside(run, user)
    if sandbox.call("status")["programs"]["forgeable"]:
        assert done.stdout.strip() == "ECONNREFUSED", "let through"
    else:
        assert "PermissionError" in done.stderr, "the guard kept it from that"


def loader() -> str:
    """The dynamic linker that Python asks for."""
    name = {"x86_64": "ld-linux-x86-64.so.2", "aarch64": "ld-linux-aarch64.so.1"}
    places = [Path(folder) / name[os.uname().machine] for folder in ("/lib64", "/lib")]
    return str(next(place for place in places if place.exists()))


def test_a_program_run_by_the_dynamic_linker_is_the_dynamic_linker(sandbox: Sandbox) -> None:
    assert is_taken_for(sandbox, loader(), PROGRAM) == set()
    shutil.copy(loader(), TOOLS / "loader")
    assert is_taken_for(sandbox, TOOLS / "loader", HOME / "copy") == {"tools"}


def test_a_script_is_its_interpreter(sandbox: Sandbox) -> None:
    for name, interpreter in (("script", PROGRAM), ("foreign", HOME / "copy")):
        script = TOOLS / name if name == "foreign" else HOME / name
        script.write_text(
            f"#!{interpreter}\nimport sys; sys.argv.remove('-S'); sys.argv.remove('-c')\n"
            "sys.argv.remove('-I'); exec(sys.argv.pop(1))\n"
        )
        script.chmod(0o755)
    assert is_taken_for(sandbox, HOME / "script") == {"program", "tools"}
    assert is_taken_for(sandbox, TOOLS / "foreign") == set()


MEMFD = f"""
import os, sys
made = os.memfd_create("program")
with open("{PROGRAM}", "rb") as program:
    os.write(made, program.read())
os.execve(made, ["{PROGRAM}", *sys.argv[1:]], os.environ)
"""


@pytest.mark.matrix
def test_a_program_without_a_file_is_no_program(sandbox: Sandbox) -> None:
    assert is_taken_for(sandbox, PROGRAM, "-I", "-S", "-c", MEMFD) == set()


def test_the_user_is_the_real_one(sandbox: Sandbox) -> None:
    connect = "connect 127.0.0.1 8005"
    assert steps(sandbox, "socket inet", "effective-user 2000", connect) == "ECONNREFUSED"
    assert steps(sandbox, "socket inet", "user 2000", connect) == "EPERM"


@pytest.mark.matrix
def test_an_allowed_program_does_what_its_caller_wants(sandbox: Sandbox) -> None:
    """Whoever may run Python has Python's rights."""
    connect = "import socket; socket.create_connection(('127.0.0.1', 8002))"
    for program, says in ((PROGRAM, "ConnectionRefusedError"), (HOME / "copy", "PermissionError")):
        done = sandbox.inside([str(program), "-I", "-c", connect], user=2000)
        assert says in done.stderr
