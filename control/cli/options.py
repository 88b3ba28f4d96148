# SPDX-License-Identifier: Apache-2.0
"""What all commands have in common: `-h`, `--root`, `--json`, and where their files lie."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from ..model import Server
from ..paths import Paths

F = TypeVar("F", bound=Callable[..., Any])

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
SERVERS = tuple(server.word for server in Server)

_ROOT = "sockrules.root"


def _remember_root(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value:
        context.meta[_ROOT] = value


def root_option(command: F) -> F:
    """`--root DIR`, before or after the command's name; the one after it holds."""
    return click.option(
        "--root",
        metavar="DIR",
        expose_value=False,
        callback=_remember_root,
        help="Use the files below DIR instead of /. Also: SOCKRULES_ROOT.",
    )(command)


def json_option(command: F) -> F:
    """`--json`, as the parameter `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Write JSON, for programs.")(
        command
    )


def here() -> Paths:
    """The paths of the running command's root."""
    return Paths.from_option(click.get_current_context().meta.get(_ROOT))


def servers_of(words: tuple[str, ...]) -> list[Server]:
    """The servers that SERVER... names, each once, in their own order; `all` is all of them."""
    return [server for server in Server if "all" in words or server.word in words]


def names_in_file(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Shell completion of a rule's name. Silent when there is nothing to offer."""
    import tomllib

    try:
        text = Paths.from_option(context.meta.get(_ROOT)).rules.read_text(encoding="utf-8")
        tables = tomllib.loads(text).get("rule", [])
        names = [str(table.get("name", "")) for table in tables]
    except (OSError, ValueError, AttributeError):
        return []
    return [name for name in names if name and name.startswith(incomplete)]
