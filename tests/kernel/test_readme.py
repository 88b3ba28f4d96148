# SPDX-License-Identifier: Apache-2.0
"""The README's two commands, in a clean clone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.kernel, pytest.mark.readme]

ROOT = Path(__file__).resolve().parents[2]
EXPECTED = (
    ("allowed", "listen", "web-may-listen"),
    ("rejected", "listen", "nothing-else-listens"),
    ("allowed", "connect", "default-connect"),
    ("allowed", "accept", "default-accept"),
    ("rejected", "accept", "not-from-the-lab"),
    ("rejected", "connect", "no-mail-from-root"),
)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The work tree as git would commit it, in an empty folder."""
    place = tmp_path_factory.mktemp("clone") / "sockrules"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(place)], check=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--modified", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).exists():
            shutil.copy2(ROOT / name, place / name, follow_symlinks=False)
    yield place


def test_make_run_shows_every_server_allowed_and_rejected(clone: Path) -> None:
    with subprocess.Popen(
        ["make", "run"], cwd=clone, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True, env=_environment(),
    ) as make:  # fmt: skip
        assert make.stdout
        shown: list[str] = []
        for line in make.stdout:
            shown.append(line)
            if "Ctrl-C ends it" in line:
                os.killpg(make.pid, signal.SIGINT)
        make.wait(60)
    text = "".join(shown)
    for verdict, server, rule in EXPECTED:
        assert any(
            verdict in line and f" {server} " in line and f"rule {rule} " in line for line in shown
        ), f"{verdict} {server} by {rule} is missing in:\n{text}"
    assert not list(Path("/sys/fs/bpf/sockrules").glob("sockrules-demo-*"))


def test_make_test_runs_the_tests_and_closes_with_their_summary(clone: Path) -> None:
    """A few of them: these tests are among those that it runs."""
    done = subprocess.run(
        ["make", "test", "PYTEST_ARGS=tests/unit/test_addresses.py"],
        cwd=clone, capture_output=True, text=True, timeout=600, check=False, env=_environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout.strip().splitlines()[-1]


def _environment() -> dict[str, str]:
    """Ours without the virtual environment that these tests run in."""
    return {
        key: value for key, value in os.environ.items() if not key.startswith(("VIRTUAL", "MAKE"))
    }
