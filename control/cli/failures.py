# SPDX-License-Identifier: Apache-2.0
"""What went wrong, in words: from the library's exceptions to one message and an exit status.

Exit 1: the answer is no (nobody answers, it cannot be done now); 2: the input
was wrong. An exception that is not known here is a mistake of ours, and keeps
its traceback.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .. import render
from ..problems import problem_document

if TYPE_CHECKING:
    from ..problems import Problem

NO = 1
WRONG_INPUT = 2


class Failed(click.ClickException):
    """A command that cannot go on. `kind`: input, state, unreachable, file, internal or usage."""

    exit_code = NO

    def __init__(
        self,
        message: str,
        hint: str = "",
        *,
        kind: str = "state",
        problems: tuple[Problem, ...] = (),
    ) -> None:
        super().__init__(message)
        self.hint = hint
        self.kind = kind
        self.problems = problems

    def show(self, file: Any = None) -> None:
        """Write it for people, to standard error."""
        if self.problems:
            for problem in self.problems:
                click.echo(problem_line(problem), err=True)
            return
        message = "\n".join(render.safe(line) for line in self.message.splitlines())
        click.echo(f"{render.coloured('Error:', render.BAD)} {message}", err=True)
        if self.hint:
            click.echo(f"  {render.safe(self.hint)}", err=True)


class WrongInput(Failed):
    """A command that cannot go on because of what it was given."""

    exit_code = WRONG_INPUT

    def __init__(self, message: str, hint: str = "", *, problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(message, hint, kind="input", problems=problems)


def failure_of(exception: Exception) -> click.ClickException | None:
    """The failure that an exception amounts to; `None` when it is a mistake of ours."""
    from ..client import AgentRefused, AgentUnreachable
    from ..files import FileBusy
    from ..problems import InputError

    if isinstance(exception, click.ClickException):
        return exception
    if isinstance(exception, InputError):
        return WrongInput(str(exception), problems=exception.problems)
    if isinstance(exception, AgentUnreachable):
        return Failed(exception.message, exception.hint, kind="unreachable")
    if isinstance(exception, AgentRefused):
        if exception.kind == "input":
            return WrongInput(exception.message, problems=exception.problems)
        return Failed(exception.message, kind=exception.kind, problems=exception.problems)
    if isinstance(exception, FileBusy):
        return Failed(str(exception), kind="file")
    if isinstance(exception, OSError):
        return _of_file(exception)
    return _of_edit(exception)


def document(failure: click.ClickException) -> dict[str, Any]:
    """The failure for programs: `{"error": {"kind", "message", "hint", "problems"}}`."""
    if not isinstance(failure, Failed):
        return {"error": {"kind": "usage", "message": failure.format_message()}}
    error: dict[str, Any] = {"kind": failure.kind, "message": failure.message}
    if failure.hint:
        error["hint"] = failure.hint
    if failure.problems:
        error["problems"] = [problem_document(problem) for problem in failure.problems]
    return {"error": error}


def problem_line(problem: Problem) -> str:
    """A problem on a line, safe for a terminal."""
    text = render.safe(problem)
    return render.coloured(text, render.WARN) if problem.severity == "warning" else text


def _of_file(error: OSError) -> Failed:
    reason = (error.strerror or str(error)).lower()
    message = f"{error.filename}: {reason}" if error.filename else reason
    hint = "try it as root" if isinstance(error, PermissionError) else ""
    return Failed(message, hint, kind="file")


def _of_edit(exception: Exception) -> Failed | None:
    import sys

    module = sys.modules.get(f"{__package__.rpartition('.')[0]}.rules_edit")  # tomlkit is slow
    if module is not None and isinstance(exception, module.EditError):
        return WrongInput(str(exception))
    return None
