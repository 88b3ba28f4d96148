# SPDX-License-Identifier: Apache-2.0
"""Where everything lies, below one root."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

PINS = Path("/sys/fs/bpf/sockrules")
"""The BPF file system is one per host and is never moved by a root."""


@dataclass(frozen=True, slots=True)
class Paths:
    """The files of one installation. `root` is `/`, or a directory that stands in for it."""

    root: Path

    @classmethod
    def from_option(cls, root: str | None) -> Paths:
        """From `--root`; without it from SOCKRULES_ROOT; without that, the system itself."""
        return cls(Path(root or os.environ.get("SOCKRULES_ROOT") or "/"))

    @property
    def rules(self) -> Path:
        return self.root / "etc/sockrules/rules.toml"

    @property
    def agent_config(self) -> Path:
        return self.root / "etc/sockrules/agent.toml"

    @property
    def lists(self) -> Path:
        """The directory of the named lists: `@name` is `name.txt` in it."""
        return self.root / "etc/sockrules/lists"

    @property
    def run_dir(self) -> Path:
        return self.root / "run/sockrules"

    @property
    def socket(self) -> Path:
        return self.run_dir / "control.sock"

    @property
    def log_dir(self) -> Path:
        return self.root / "var/log/sockrules"

    @property
    def audit_log(self) -> Path:
        return self.log_dir / "audit.jsonl"

    @property
    def state_dir(self) -> Path:
        return self.root / "var/lib/sockrules"

    @property
    def state_db(self) -> Path:
        return self.state_dir / "state.db"

    @property
    def pins(self) -> Path:
        """The pinned maps and links: `main`, or a name of their own for another root.

        Two roots never share a name: it ends in the digest of the resolved path.
        """
        resolved = self.root.resolve()
        if resolved == Path("/"):
            return PINS / "main"
        digest = hashlib.sha256(os.fsencode(resolved)).hexdigest()[:8]
        # The BPF file system refuses names with a dot in them.
        return PINS / f"{resolved.name.replace('.', '_')}-{digest}"
