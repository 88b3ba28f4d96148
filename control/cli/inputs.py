# SPDX-License-Identifier: Apache-2.0
"""Reading what commands work on: the rule file, the product configuration, the host's names."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from ..files import read_text
from ..names import SystemNames
from ..paths import Paths
from ..problems import InputError, Problem
from .failures import WrongInput

if TYPE_CHECKING:
    from ..model import Product
    from ..rules_file import RulesFile

STANDARD_INPUT = "<stdin>"


def rules_text(paths: Paths, file: str | None) -> tuple[str, str]:
    """The text of a rule file and the name that problems carry. `-` is standard input."""
    if file == "-":
        data = sys.stdin.buffer.read()
        try:
            return data.decode("utf-8"), STANDARD_INPUT
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise InputError(
                [Problem(STANDARD_INPUT, line, None, "not UTF-8", "rules are UTF-8 text")]
            ) from None
    path = paths.rules if file is None else paths.rules.__class__(file)
    try:
        return read_text(path), str(path)
    except FileNotFoundError:
        hint = "`sockrules rule add` makes it" if file is None else ""
        raise WrongInput(f"{path}: there is no such rule file", hint) from None
    except IsADirectoryError:
        raise WrongInput(f"{path} is a folder, not a rule file") from None


def product(paths: Paths) -> Product:
    """The product configuration of agent.toml; as shipped where there is none."""
    from ..model import Product

    try:
        text = read_text(paths.agent_config)
    except FileNotFoundError:
        return Product()
    from ..agent_file import parse_agent_config

    return parse_agent_config(text, file=str(paths.agent_config)).product


def parsed(
    paths: Paths, text: str, file: str, *, names: SystemNames | None = None, look: bool = False
) -> RulesFile:
    """The rules of a text. `look`: warn of programs that this host does not have."""
    from ..rules_file import parse_rules

    return parse_rules(
        text,
        file=file,
        names=names or SystemNames(paths.lists),
        product=product(paths),
        program_exists=_may_exist if look else None,
    )


def _may_exist(path: str) -> bool:
    """False only when it is certain: a folder that may not be read may hold the program."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def conditions_of(text: str) -> dict[str, str]:
    """The conditions of a rule file without errors, as written, by the rules' names."""
    import tomllib

    return {rule["name"]: rule["when"] for rule in tomllib.loads(text).get("rule", [])}
