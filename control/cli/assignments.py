# SPDX-License-Identifier: Apache-2.0
"""KEY=VALUE on the command line, and errors that name the key instead of a line of a file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import click

from ..problems import InputError, Problem, did_you_mean, listed
from .failures import WrongInput


def assigned(words: Sequence[str], keys: Sequence[str]) -> dict[str, str]:
    """The keys and values of words like `audit=yes`. Raises WrongInput."""
    if not words:
        raise click.UsageError(f"nothing to set; name a key, as in {keys[0]}=VALUE")
    values: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise WrongInput(f"{word} is no KEY=VALUE", f"the keys are {listed(keys)}")
        if key not in keys:
            hint = did_you_mean(key, keys) or f"the keys are {listed(keys)}"
            raise WrongInput(f"there is no key {key}", hint)
        if key in values:
            raise WrongInput(f"{key} is set twice", "set each key once")
        values[key] = value
    return values


def checked(check: Callable[[str], object], what: str) -> Callable[[str, str], None]:
    """A check of an edited text, given the old one, whose errors name `what` was edited."""

    def judge(before: str, after: str) -> None:
        try:
            check(after)
        except InputError as error:
            raise blamed(error, what, lambda: check(before)) from None

    return judge


def blamed(error: InputError, what: str, check_old: Callable[[], object]) -> InputError:
    """The errors of an edited file: those that the old file had, and the edit's.

    Places in a text that is not written would be of no use, so the old file's
    errors have their places there, and the edit's name `what` was edited.
    """
    old: tuple[Problem, ...] = ()
    try:
        check_old()
    except InputError as before:
        old = before.problems
    known = {(problem.message, problem.hint) for problem in old}
    found = dict.fromkeys((problem.message, problem.hint) for problem in error.problems)
    left = [problem for problem in old if (problem.message, problem.hint) in found]
    new = [Problem(what, None, None, *each) for each in found if each not in known]
    return InputError([*left, *new])


@contextlib.contextmanager
def refused_as_input() -> Iterator[None]:
    """ValueError as wrong input."""
    try:
        yield
    except ValueError as error:
        message, _, hint = str(error).partition("; ")
        raise WrongInput(message, hint) from None
