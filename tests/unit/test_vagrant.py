# SPDX-License-Identifier: Apache-2.0
"""vagrant/ and packaging/setup, as far as they can be told without machines."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VAGRANTFILE = (ROOT / "vagrant" / "Vagrantfile").read_text(encoding="utf-8")
PAGE = (ROOT / "vagrant" / "README.md").read_text(encoding="utf-8")
BOXES = dict(re.findall(r'^  "(\w+)" => "([\w./-]+)",$', VAGRANTFILE, re.MULTILINE))
SCRIPTS = [
    "packaging/setup",
    "vagrant/test",
    "vagrant/local/build-box",
    "vagrant/local/contain",
    "vagrant/local/libvirt",
    "vagrant/local/test",
]

RELEASES = {
    "debian": 'ID=debian\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n',
    "ubuntu": 'ID=ubuntu\nID_LIKE=debian\nPRETTY_NAME="Ubuntu 24.04.3 LTS"\n',
    "fedora": 'ID=fedora\nPRETTY_NAME="Fedora Linux 43 (Cloud Edition)"\n',
    "arch": 'ID=arch\nPRETTY_NAME="Arch Linux"\n',
}

# Stands in for vagrant: notes what it is told, has the machines of $HAS, and
# fails to bring up those of $BROKEN; in those of $FAILING, tests fail with 1.
VAGRANT = """#!/bin/sh
echo "$*" | head -n 1 >>"$NOTES"
[ "$1" = --no-tty ] && shift
for machine; do :; done
case $1 in
status)
    state=not_created
    case " $HAS " in *" $machine "*) state=running ;; esac
    echo "17,$machine,state,$state"
    ;;
up) case " $BROKEN " in *" $machine "*) exit 3 ;; esac ;;
ssh) case " $FAILING " in *" $2 "*) exit 1 ;; esac ;;
esac
"""


def setup(tmp_path: Path, distribution: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """packaging/setup on another distribution, as its `os-release` says."""
    release = tmp_path / "os-release"
    release.write_text(RELEASES[distribution], encoding="utf-8")
    environment = os.environ | {
        "SOCKRULES_OS_RELEASE": str(release),
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
    }
    return subprocess.run(
        [ROOT / "packaging" / "setup", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def stand_in(place: Path, name: str, text: str) -> None:
    (place / name).write_text(text, encoding="utf-8")
    (place / name).chmod(0o755)


def run_tests(
    tmp_path: Path, *machines: str, **environment: str
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """vagrant/test with a stand-in for vagrant, and what that was told."""
    stand_in(tmp_path, "vagrant", VAGRANT)
    notes = tmp_path / "notes"
    unset = {"HAS": "", "BROKEN": "", "FAILING": "", "KEEP": "", "PYTEST_ARGS": ""}
    done = subprocess.run(
        [ROOT / "vagrant" / "test", *machines],
        env=os.environ
        | unset
        | environment
        | {"NOTES": str(notes), "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    told = [line.removeprefix("--no-tty ") for line in notes.read_text("utf-8").splitlines()]
    return done, told


def test_the_page_names_the_boxes_of_the_vagrantfile() -> None:
    assert len(BOXES) == 4
    assert dict(re.findall(r"^\| `(\w+)` \| `([\w./-]+)` \|", PAGE, re.MULTILINE)) == BOXES


def test_boxes_that_are_built_here_go_by_public_names() -> None:
    text = (ROOT / "vagrant" / "local" / "test").read_text(encoding="utf-8")
    assert set(re.findall(r"^\t(\w+)\) echo (?:bookworm|trixie) ;;$", text, re.MULTILINE)) == {
        name for name in BOXES if name.startswith("debian")
    }


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_scripts_are_sh(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
    subprocess.run(["sh", "-n", ROOT / script], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", ROOT / script], check=True)


@pytest.mark.parametrize(
    ("distribution", "packages"),
    [
        ("debian", "python3 python3-venv python3-bpfcc ca-certificates "),
        ("ubuntu", "python3 python3-venv python3-bpfcc ca-certificates "),
        ("fedora", "python3 python3-bcc ca-certificates "),
    ],
)
def test_setup_knows_packages_by_distribution(
    tmp_path: Path, distribution: str, packages: str
) -> None:
    assert setup(tmp_path, distribution, "--packages").stdout.startswith(packages)


def test_setup_says_where_it_works(tmp_path: Path) -> None:
    done = setup(tmp_path, "arch")
    assert done.returncode == 1
    assert done.stderr == (
        "setup: this is Arch Linux; sockrules is prepared for "
        "Debian 12 and 13, Ubuntu 24.04 and Fedora\n"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="installing needs root")
def test_setup_installs_with_dnf_what_rpm_does_not_know(tmp_path: Path) -> None:
    stand_in(tmp_path, "rpm", "#!/bin/sh\ncase $3 in python3-bcc | iproute) exit 1 ;; esac\n")
    stand_in(tmp_path, "dnf", f'#!/bin/sh\necho "$@" >{tmp_path}/told\necho No match; exit 1\n')
    done = setup(tmp_path, "fedora", "--kernel-tests")
    assert done.returncode == 1
    told = (tmp_path / "told").read_text(encoding="utf-8").split()
    assert told[-3:] == ["install", "python3-bcc", "iproute"]
    assert "No match" in done.stderr
    assert "dnf could not install python3-bcc iproute (above)" in done.stderr


def test_boxes_are_built_on_debian_only(tmp_path: Path) -> None:
    done = setup(tmp_path, "fedora", "--vagrant")
    assert (done.returncode, "boxes are built on Debian" in done.stderr) == (1, True)


def test_machines_are_made_tested_and_destroyed(tmp_path: Path) -> None:
    done, told = run_tests(tmp_path)
    assert done.returncode == 0
    wanted = [
        (
            f"status --machine-readable {name}",
            f"up {name}",
            f"ssh {name}",
            f"destroy --force {name}",
        )
        for name in BOXES
    ]
    assert [line.removesuffix(" --command ") for line in told] == [
        line for machine in wanted for line in machine
    ]


def test_a_failure_is_the_exit_status_and_the_others_are_tested(tmp_path: Path) -> None:
    done, told = run_tests(
        tmp_path, "debian12", "fedora", "debian13", BROKEN="debian12", FAILING="fedora"
    )
    assert done.returncode == 3
    assert "exit status by machine: debian12=3 fedora=1 debian13=0" in done.stdout
    assert [line.split()[-1] for line in told if line.startswith("destroy")] == [
        "debian12",
        "fedora",
        "debian13",
    ]


def test_machines_that_were_there_stay(tmp_path: Path) -> None:
    _, told = run_tests(tmp_path, "debian12", HAS="debian12")
    assert [line.split()[0] for line in told] == ["status", "up", "rsync", "provision", "ssh"]
    _, told = run_tests(tmp_path, "debian13", KEEP="1")
    assert "destroy --force debian13" not in told


@pytest.mark.skipif(not shutil.which("vagrant"), reason="vagrant is not installed")
@pytest.mark.parametrize("provider", ["libvirt", "virtualbox"])
def test_the_vagrantfile_is_valid(tmp_path: Path, provider: str) -> None:
    stand_in(tmp_path, "VBoxManage", "#!/bin/sh\necho 7.0.20r163906\n")
    done = subprocess.run(
        ["vagrant", "--no-tty", "validate"],
        cwd=ROOT / "vagrant",
        env=os.environ
        | {
            "VAGRANT_DEFAULT_PROVIDER": provider,
            "VAGRANT_HOME": str(tmp_path / "home"),
            "VAGRANT_DOTFILE_PATH": str(tmp_path / "state"),
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
