# SPDX-License-Identifier: Apache-2.0
"""agent.toml key by key: what each is set to, and whether that is written or as shipped.

A key's value is found by its name: `audit.keep` is `keep` of the configuration's
`audit`, or its `audit_keep`, or its `keep`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass

from .agent_file import AgentConfig, known_keys, parse_agent_config
from .model import Server
from .problems import did_you_mean, listed

Plain = str | int | list[str] | None


@dataclass(frozen=True, slots=True)
class Setting:
    """A key and its value: a text, a number, texts, or nothing. `written`: in the file."""

    table: str
    key: str
    value: Plain
    written: bool

    @property
    def name(self) -> str:
        return f"{self.table}.{self.key}"


def settings(text: str, *, file: str) -> list[Setting]:
    """Every key there is, in the order of their tables. Raises InputError."""
    config = parse_agent_config(text, file=file)
    data = tomllib.loads(text)
    return [
        Setting(table, key, value_of(config, table, key), key in data.get(table, {}))
        for table, key in _all()
    ]


def names() -> list[str]:
    """`product.audit`, ...: the names of all keys."""
    return [f"{table}.{key}" for table, key in _all()]


def find(name: str) -> tuple[str, str]:
    """The table and the key of a name. Raises ValueError with what would be right."""
    table, _, key = name.partition(".")
    keys = known_keys()
    if key in keys.get(table, ()):
        return table, key
    alone = [each for each in names() if each.rpartition(".")[2] == name]
    if alone:
        near = f"did you mean {listed(alone, 'or')}?"
    elif not key and name in keys:
        near = f"its keys are {listed(keys[name])}"
    else:
        near = did_you_mean(name, [*keys, *names()]) or "see: sockrules config show"
    raise ValueError(f"there is no key {name}; {near}")


def value_of(config: AgentConfig, table: str, key: str) -> Plain:
    """What the configuration says of a key, as it would be written."""
    if table == "servers":
        return config.modes[Server[key.upper()]].word
    inner = getattr(config, table, None)
    places = ((inner, key), (config, f"{table}_{key}"), (config, key))
    value = next(getattr(place, name) for place, name in places if hasattr(place, name))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return [str(each) for each in value]
    return value if isinstance(value, int) or value is None else str(value)


def _all() -> Iterator[tuple[str, str]]:
    for table, keys in known_keys().items():
        for key in keys:
            yield table, key
