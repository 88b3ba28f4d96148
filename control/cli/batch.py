# SPDX-License-Identifier: Apache-2.0
"""`sockrules test --batch`: requests as JSON lines in, verdicts as JSON lines out.

Every line in has its line out, in order: a request that is wrong gets an
`{"error": ...}` in place of its verdict. Blank lines are passed over.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
from collections.abc import Iterable, Iterator
from typing import IO, Any

import click

from .. import render
from ..paths import Paths
from .failures import NO, WRONG_INPUT, WrongInput

_AT_ONCE = 500
"""Requests in one question to the agent, which judges nobody else's meanwhile."""

Answer = dict[str, Any]


def judge_batch(paths: Paths, file: str, rules: str | None, in_kernel: bool) -> int:
    """Write the verdicts; the exit status: 2 for wrong input, 1 when any is a rejection."""
    name = "<stdin>" if file == "-" else file
    wrong = rejected = False
    with _opened(file) as lines:
        numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
        answers = _by_kernel(paths, numbered) if in_kernel else _by_table(paths, rules, numbered)
        for number, answer in answers:
            click.echo(render.line(answer))
            if "error" in answer:
                wrong = True
                text = f"{name}:{number}: {answer['error']['message']}"
                click.echo(render.safe(text), err=True)
            elif answer.get("authority") != "yes":
                rejected = True
    return WRONG_INPUT if wrong else NO if rejected else 0


@contextlib.contextmanager
def _opened(file: str) -> Iterator[IO[bytes]]:
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        opened = open(file, "rb")  # noqa: SIM115 (closed below)
    except (FileNotFoundError, IsADirectoryError) as error:
        reason = (error.strerror or "").lower()
        raise WrongInput(f"{file}: {reason}", "--batch takes a file of JSON lines, or -") from None
    with opened:
        yield opened


def _by_table(
    paths: Paths, rules: str | None, lines: Iterable[tuple[int, bytes]]
) -> Iterator[tuple[int, Answer]]:
    from ..requests import verdict_to_json
    from .judge import Judge

    judge = Judge(paths, rules)
    for number, line in lines:
        try:
            yield number, verdict_to_json(judge.verdict(judge.request(_decoded(line))))
        except ValueError as error:
            yield number, _wrong(error)


def _by_kernel(paths: Paths, lines: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, Answer]]:
    from ..client import AgentUnreachable, Client
    from ..names import SystemNames
    from ..requests import request_from_json

    client, names = Client(paths.socket), SystemNames(paths.lists)
    remaining = iter(lines)
    while some := list(itertools.islice(remaining, _AT_ONCE)):
        requests: list[Any] = []
        errors: dict[int, Answer] = {}
        for number, line in some:
            try:
                doc = _decoded(line)
                request_from_json(doc, names)
                requests.append(doc)
            except ValueError as error:
                errors[number] = _wrong(error)
        verdicts = client.call("decide", requests=requests).get("verdicts") if requests else []
        if not isinstance(verdicts, list) or len(verdicts) != len(requests):
            raise AgentUnreachable("the agent did not judge every request; is it another version?")
        judged = iter(verdicts)
        for number, _ in some:
            yield number, errors[number] if number in errors else next(judged)


def _decoded(line: bytes) -> object:
    try:
        return json.loads(line)
    except RecursionError:
        raise ValueError("the line is nested too deeply") from None
    except ValueError:
        raise ValueError("the line is not JSON; write one object a line") from None


def _wrong(error: ValueError) -> Answer:
    return {"error": {"kind": "input", "message": str(error)}}
