# SPDX-License-Identifier: Apache-2.0
"""Proposed conditions as text: what can be named in one, and how."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from .generalise import Generalised
from .model import Field
from .names import Names

_WORD = re.compile(r"[^\x00-\x20\x7f(){}<>=!\"'&|,;#]+")
_KEYWORDS = frozenset({"and", "or", "not", "in", "any"})


def condition(
    program: str | None,
    users: Sequence[int] | None,
    asked: Iterable[tuple[Field, Generalised]],
    names: Names,
) -> str:
    """`program == /usr/sbin/sshd and user == root and local.port == 22`; `None` is any."""
    parts = []
    if program is not None:
        parts.append(f"program == {_quoted(program)}")
    if users is not None:
        parts.append(_comparison("user", [_user(user, names) for user in users]))
    for field, chosen in asked:
        if chosen.ranges is not None:
            parts.append(_comparison(field.value, chosen.texts))
    return " and ".join(parts) or "any"


def expressible(path: str) -> bool:
    """Whether a condition can name the program, and it is known in full."""
    if not path.startswith("/") or path.endswith("/") or "…" in path or not path.isprintable():
        return False
    return not ('"' in path and "'" in path)


def _comparison(name: str, texts: Sequence[str]) -> str:
    if len(texts) > 1:
        return f"{name} in {{{', '.join(texts)}}}"
    many = "/" in texts[0] or (name.endswith("port") and "-" in texts[0])
    return f"{name} in {texts[0]}" if many else f"{name} == {texts[0]}"


def _user(number: int, names: Names) -> str:
    name = names.user_name(number)
    if name is None or names.uid(name) != number or name.isdigit() or name.startswith("@"):
        return str(number)
    return _quoted(name) if name.isprintable() and '"' not in name else str(number)


def _quoted(text: str) -> str:
    if _WORD.fullmatch(text) and text not in _KEYWORDS:
        return text
    return f"'{text}'" if '"' in text else f'"{text}"'
