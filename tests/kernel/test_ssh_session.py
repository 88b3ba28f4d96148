# SPDX-License-Identifier: Apache-2.0
"""The command line in a real ssh session: it does not lock out whoever types it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .sandbox import Sandbox

pytestmark = [
    pytest.mark.kernel(optional=True),
    pytest.mark.skipif(not shutil.which("sshd"), reason="needs openssh-server"),
]

PORT = 7022
SOCKRULES = "import sys; from sockrules.control.cli import main; main()"
CUT = f"""
[[rule]]
name = "nobody-in"
server = "accept"
authority = "no"
when = "local.port == {PORT}"
"""
NO_SERVER = CUT.replace('"accept"', '"listen"')

Ssh = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def ssh(fresh: Sandbox, tmp_path: Path) -> Iterator[Ssh]:
    """Logs in to an sshd in the sandbox and runs a command line there."""
    fresh.configure(listen="enforce", accept="enforce", connect="enforce")
    fresh.start("# nothing\n")
    for key in ("host", "mine"):
        path = str(tmp_path / key)
        subprocess.run(["ssh-keygen", "-qt", "ed25519", "-N", "", "-f", path], check=True)
    (tmp_path / "keys").write_text((tmp_path / "mine.pub").read_text())
    Path("/run/sshd").mkdir(exist_ok=True)
    server = [shutil.which("sshd") or "sshd", "-De", "-f", "/dev/null", "-p", str(PORT)]
    settings = {
        "HostKey": tmp_path / "host",
        "AuthorizedKeysFile": tmp_path / "keys",
        "PidFile": "none",
        "StrictModes": "no",
        "ListenAddress": "127.0.0.1",
        "PermitRootLogin": "prohibit-password",
    }
    server += [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
    options = [f"IdentityFile={tmp_path}/mine", "StrictHostKeyChecking=no", "BatchMode=yes"]
    options += ["UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "ConnectTimeout=5"]
    client = ["ssh", "-F", "/dev/null", "-p", str(PORT), "root@127.0.0.1"]
    client[3:3] = [word for option in options for word in ("-o", option)]

    def run(*words: str, before: str = "") -> subprocess.CompletedProcess[str]:
        path = f"PYTHONPATH={os.pathsep.join(p for p in sys.path if p)}"
        root = f"SOCKRULES_ROOT={fresh.paths.root}"
        command = f"{before} env {path} {root} {sys.executable} -c '{SOCKRULES}' {' '.join(words)}"
        return fresh.inside([*client, command.strip()])

    with fresh.background(server):
        fresh.wait_until(lambda: run("status").returncode == 0, 10)
        yield run


def test_nobody_locks_himself_out(fresh: Sandbox, ssh: Ssh, tmp_path: Path) -> None:
    rules = tmp_path / "new.toml"
    rules.write_text(CUT)
    for before in ("", "env -u SSH_CONNECTION", "setsid -w"):
        refused = ssh("apply", str(rules), before=before)
        assert refused.returncode == 1, refused.stdout + refused.stderr
        assert "this very session" in refused.stderr
        assert "rule nobody-in (sequence 10)" in refused.stderr
        assert "added    10 nobody-in: accept, reject" in refused.stdout
    assert fresh.call("status")["ruleset"]["revision"] == 1
    rules.write_text(NO_SERVER)
    refused = ssh("apply", str(rules))
    assert refused.returncode == 1
    assert "nobody could log in any more" in refused.stderr


def test_locked_out_for_as_long_as_it_takes(fresh: Sandbox, ssh: Ssh, tmp_path: Path) -> None:
    rules = tmp_path / "new.toml"
    rules.write_text(CUT)
    done = ssh("apply", str(rules), "--force", "--confirm", "2s")
    assert done.returncode == 0, done.stderr
    assert "run `sockrules confirm` within 2 s" in done.stdout
    assert ssh("confirm").returncode == 255  # ssh's own: no connection
    fresh.wait_until(lambda: ssh("history").returncode == 0, 10)
    assert "nothing waits" in ssh("confirm").stderr
    history = ssh("history").stdout
    assert "in force" in history.splitlines()[1]
    assert history.splitlines()[1].split()[0] == "3"
