# SPDX-License-Identifier: Apache-2.0
"""The values of a condition: what a word means for the field it is compared with.

Rules. A numeric value is one range (a port, an address, a prefix, `a-b`, a
user), a program is one path, a service one unit or cgroup, `@name` is what the
lines of a list are. A quoted value is never a list, a number or a range of
users: `user == "1000"` is the user named 1000. Every function raises ValueProblem.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable
from typing import TypeVar

from .addresses import LAST_PORT, parse_address_range
from .condition import Range, merge_ranges
from .model import Field
from .names import KnownNames, Names
from .problems import did_you_mean
from .ranges import Ranges, merge_long, merge_packed
from .requests import LAST_ID
from .services import problem_of
from .week import PeriodProblem, minutes_of

PORTS = frozenset({Field.LOCAL_PORT, Field.REMOTE_PORT})
ADDRESSES = frozenset({Field.LOCAL_ADDRESS, Field.REMOTE_ADDRESS})
DOMAIN: dict[Field, Range] = {
    Field.LOCAL_PORT: (1, LAST_PORT),
    Field.REMOTE_PORT: (1, LAST_PORT),
    Field.USER: (0, LAST_ID),
    Field.GROUP: (0, LAST_ID),
}
"""The fields that are numbers and have an order, with their first and last value."""

LIST_PROBLEMS = 20
"""Bad lines shown of one list; a file of the wrong kind is recognised by fewer."""

LONGEST_PATH = 4095
"""PATH_MAX without its final zero: no executable has a longer path."""

_NUMBER = re.compile(r"0|[1-9][0-9]*")
_NUMBERS = re.compile(r"(0|[1-9][0-9]*)-(0|[1-9][0-9]*)")
_LIST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_COMMENT = re.compile(r"(^|\s)#.*")
_GLOB = re.compile(r"[*?\[\]]")

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

_LONG_TEXT = 1 << 14  # characters of a list that is read in arrays

_Member = TypeVar("_Member")
_Read = tuple[Ranges, list[tuple[str, str]]]


class ValueProblem(ValueError):
    """A value that the field cannot have: a message and a hint, for a list one a bad line."""

    def __init__(self, *problems: tuple[str, str]) -> None:
        self.problems = problems
        super().__init__("; ".join(part for part in problems[0] if part))


class Values:
    """Reads values. Names and lists are looked up once in the life of an instance.

    A list's bad lines are told at its first use only: the reader of a whole
    file would otherwise repeat them for every rule.
    """

    def __init__(self, names: Names) -> None:
        self.asked_host = False
        self._names = names
        self._known = names if isinstance(names, KnownNames) else None
        self._ids: dict[tuple[Field, str], int | None] = {}
        self._range_lists: dict[tuple[Field, str], Ranges] = {}
        self._text_lists: dict[tuple[Field, str], tuple[str, ...]] = {}
        self._period_lists: dict[str, tuple[Range, ...]] = {}

    def range(self, field: Field, word: str, quoted: bool = False) -> Range:
        """The range of numbers that a value of a numeric field stands for."""
        _not_empty(field, word)
        if field in PORTS:
            return _ports(field, word)
        if field in ADDRESSES:
            return _addresses(field, word)
        return self._id(field, word, quoted)

    def path(self, word: str, quoted: bool = False) -> str:
        """The path of an executable, or of a directory with a `/` at its end."""
        _not_empty(Field.PROGRAM, word)
        if not word.startswith("/"):
            raise ValueProblem(
                (f"program {word} is not an absolute path", "use its path, as in /usr/sbin/nginx")
            )
        if not quoted and _GLOB.search(word):
            raise ValueProblem(
                (
                    f"program {word} is a pattern",
                    "end a directory with / for everything below it, or quote the path",
                )
            )
        if _CONTROL.search(word) or len(word.encode("utf-8", "replace")) > LONGEST_PATH:
            reason = f"it is at most {LONGEST_PATH} bytes long, without control characters"
            raise ValueProblem((f"program {word[:40]!r} is no path of a file", reason))
        plain = "/" + posixpath.normpath(word).lstrip("/")
        if word.endswith("/") and plain != "/":
            plain += "/"
        if plain != word:
            raise ValueProblem((f"program {word} is not a plain path", f"use {plain}"))
        return word

    def service(self, word: str, quoted: bool = False) -> str:
        """A unit, a slice or a cgroup's path."""
        _not_empty(Field.SERVICE, word)
        if not quoted and _GLOB.search(word):
            hint = "name a slice, or end a cgroup's path with / for everything below it"
            raise ValueProblem((f"service {word} is a pattern", hint))
        if problem := problem_of(word):
            raise ValueProblem(problem)
        return word

    def number(self, field: Field, word: str, quoted: bool) -> int:
        """The one number that `<` and its kin take."""
        if quoted or not _NUMBER.fullmatch(word):
            raise ValueProblem((f"{field} {word} has no order", f"compare {field} with a number"))
        return _in_domain(field, word)

    def ordered(
        self, field: Field, operator: str, word: str, quoted: bool = False
    ) -> tuple[int, int]:
        """The first and last number that `<` and its kin hold for; none if last < first."""
        number = self.number(field, word, quoted)
        first, last = DOMAIN[field]
        if operator.startswith("<"):
            return first, number if operator == "<=" else number - 1
        return number if operator == ">=" else number + 1, last

    def known_ranges(self, field: Field, name: str) -> Ranges | None:
        """What `ranges_of` gives, `None` when it was never asked for that list."""
        self.asked_host = True
        return self._range_lists.get((field, name))

    def known_texts(self, field: Field, name: str) -> tuple[str, ...] | None:
        """What `texts_of` gives, `None` when it was never asked for that list."""
        self.asked_host = True
        return self._text_lists.get((field, name))

    def ranges_of(self, field: Field, name: str) -> Ranges:
        """The members of `lists/NAME.txt`, merged; the same object at every use."""
        self.asked_host = True
        ranges = self._range_lists.get((field, name))
        if ranges is None:
            text = self._list_text(name)
            read_long = _long if field in ADDRESSES and len(text) > _LONG_TEXT else _short
            ranges, problems = read_long(name, text, lambda word: self.range(field, word))
            self._range_lists[field, name] = ranges
            if problems:
                raise ValueProblem(*problems)
        return ranges

    def texts_of(self, field: Field, name: str) -> tuple[str, ...]:
        """The programs or services in `lists/NAME.txt`."""
        self.asked_host = True
        texts = self._text_lists.get((field, name))
        if texts is None:
            read = self.path if field is Field.PROGRAM else self.service
            found, problems = _lines(name, _numbered(self._list_text(name)), read)
            texts = self._text_lists[field, name] = tuple(dict.fromkeys(found))
            if problems:
                raise ValueProblem(*problems)
        return texts

    def period(self, word: str, quoted: bool = False) -> tuple[Range, ...]:
        """The minutes of the week of a period such as `mon-fri 08:00-18:00`."""
        del quoted  # it means the same
        try:
            return minutes_of(word)
        except PeriodProblem as problem:
            raise ValueProblem((problem.message, problem.hint)) from None

    def minutes_of(self, name: str) -> tuple[Range, ...]:
        """The minutes of the week in `lists/NAME.txt`, a period a line."""
        self.asked_host = True
        minutes = self._period_lists.get(name)
        if minutes is None:
            found, problems = _lines(name, _numbered(self._list_text(name)), self.period)
            minutes = merge_ranges([each for period in found for each in period])
            self._period_lists[name] = minutes
            if problems:
                raise ValueProblem(*problems)
        return minutes

    def _list_text(self, name: str) -> str:
        if not _LIST_NAME.fullmatch(name):
            raise ValueProblem(
                (f"@{name} is not the name of a list", "use letters, digits, '.', '_' and '-'")
            )
        try:
            return self._names.read_list(name)
        except FileNotFoundError:
            near = did_you_mean(name, self._known.known_lists()) if self._known else ""
            hint = near.replace("mean ", "mean @", 1) or f"its values go into lists/{name}.txt"
            raise ValueProblem((f"there is no list @{name}", hint)) from None
        except OSError as error:
            raise ValueProblem(
                (f"the list @{name} cannot be read: {error.strerror or error}", "")
            ) from None

    def _id(self, field: Field, word: str, quoted: bool) -> Range:
        if not quoted:
            if _NUMBER.fullmatch(word):
                number = _in_domain(field, word)
                return number, number
            if numbers := _NUMBERS.fullmatch(word):
                return _ordered(field, word, *numbers.groups())
        self.asked_host = True
        key = field, word
        if key not in self._ids:
            look_up = self._names.uid if field is Field.USER else self._names.gid
            self._ids[key] = look_up(word)
        named = self._ids[key]
        if named is None:
            raise ValueProblem((f"no {field} is named {word}", self._id_hint(field, word, quoted)))
        return named, named

    def _id_hint(self, field: Field, word: str, quoted: bool) -> str:
        if quoted and _NUMBER.fullmatch(word):
            return f"without quotes it is the number {word}"
        known: Iterable[str] = ()
        if self._known:
            is_user = field is Field.USER
            known = self._known.known_users() if is_user else self._known.known_groups()
        return did_you_mean(word, known) or f"use a {field} of this host, or a number"


def _not_empty(field: Field, word: str) -> None:
    if not word:
        raise ValueProblem((f"{field} is compared with an empty text", "write a value"))


def _ports(field: Field, word: str) -> Range:
    if _NUMBER.fullmatch(word):
        port = _in_domain(field, word)
        return port, port
    if numbers := _NUMBERS.fullmatch(word):
        return _ordered(field, word, *numbers.groups())
    hint = "use a number 1-65535"
    if word.count(".") == 3 or ":" in word:
        hint = f"did you mean {field.replace('port', 'address')}?"
    raise ValueProblem((f"{field} {word} is not a port", hint))


def _addresses(field: Field, word: str) -> Range:
    try:
        return parse_address_range(word)
    except ValueError as error:
        message, _, hint = str(error).partition("; ")
        if _NUMBER.fullmatch(word):
            hint = f"did you mean {field.replace('address', 'port')}?"
        raise ValueProblem((f"{field} {message}", hint)) from None


def _in_domain(field: Field, word: str) -> int:
    first, last = DOMAIN[field]
    if len(word) > len(str(last)) or not first <= int(word) <= last:
        raise ValueProblem((f"{field} {word} is out of range", f"use {first}-{last}"))
    return int(word)


def _ordered(field: Field, word: str, first_word: str, last_word: str) -> Range:
    first, last = _in_domain(field, first_word), _in_domain(field, last_word)
    if first > last:
        raise ValueProblem((f"{field} {word} runs backwards", f"use {last}-{first}"))
    return first, last


def _short(name: str, text: str, read: Callable[[str], Range]) -> _Read:
    found, problems = _lines(name, _numbered(text), read)
    return merge_long(found), problems


def _long(name: str, text: str, read: Callable[[str], Range]) -> _Read:
    """As `_short`, many lines at a time."""
    from .long_lists import addresses_of  # numpy takes a while to load

    arrays = addresses_of(text.removeprefix("\ufeff"))
    if arrays is None:
        return _short(name, text, read)
    firsts, lasts, lines = arrays
    found, problems = _lines(name, lines, read)
    return merge_packed(firsts, lasts, found), problems


def _numbered(text: str) -> Iterable[tuple[int, str]]:
    return enumerate(text.removeprefix("\ufeff").splitlines(), 1)


def _lines(
    name: str, lines: Iterable[tuple[int, str]], read: Callable[[str], _Member]
) -> tuple[list[_Member], list[tuple[str, str]]]:
    """What the lines of a list stand for, and what is wrong with the bad ones."""
    members = []
    problems: list[tuple[str, str]] = []
    bad = 0
    for number, line in lines:
        word = _COMMENT.sub("", line).strip() if "#" in line else line.strip()
        if not word:
            continue
        try:
            if word.startswith("@"):
                raise ValueProblem((f"a list cannot hold {word}", "write its lines out"))
            members.append(read(word))
        except ValueProblem as problem:
            bad += 1
            if bad <= LIST_PROBLEMS:
                message, hint = problem.problems[0]
                problems.append((f"lists/{name}.txt:{number}: {message}", hint))
    if bad > LIST_PROBLEMS:
        problems.append((f"lists/{name}.txt: {bad - LIST_PROBLEMS} more lines like these", ""))
    return members, problems
