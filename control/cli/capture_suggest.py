# SPDX-License-Identifier: Apache-2.0
"""`sockrules captures suggest`: the rules that captured transactions suggest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .. import render
from ..model import Server
from ..names import SystemNames
from .capture_options import HOW, filter_of, filter_options, note_losses
from .failures import Failed, WrongInput
from .options import SETTINGS, here, json_option, root_option

if TYPE_CHECKING:
    from ..suggest import Suggestion


@click.command(context_settings=SETTINGS)
@filter_options
@click.option("--rules", "file", metavar="FILE", help="Suggest for this file. Also: - for stdin.")
@click.option("--deny-rest", is_flag=True, help="Have everything else rejected.")
@click.option(
    "--include-rejected",
    is_flag=True,
    help="Allow as well what only a default or an any rule rejects today.",
)
@click.option("--whole", is_flag=True, help="Write the whole file, not the difference.")
@json_option
@root_option
def suggest(
    server: str | None,
    user: str | None,
    program: str | None,
    remote: tuple[int, int] | None,
    since: str | None,
    file: str | None,
    deny_rest: bool,
    include_rejected: bool,
    whole: bool,
    as_json: bool,
) -> None:
    """Propose rules for what was captured, as a difference of the rule file.

    Every rule says in a comment what was seen and what it allows beyond that. Nothing
    is changed: read it, then give it to `patch` or, with --whole, to `apply -`.
    Every captured transaction was put to the result: what is allowed today still is.

    \b
    Example:
      sockrules captures suggest --deny-rest > rules.diff
    """
    from ..capture_source import captures as read
    from ..suggest import SuggestError
    from ..suggest import suggest as make

    paths = here()
    if deny_rest and (user, program, remote) != (None, None, None):
        raise WrongInput(
            "--deny-rest with a part of the captures would reject the other part",
            "leave out --user, --program and --remote",
        )
    text, name = _text(file)
    found = read(paths, filter_of(server, since, user, program, remote))
    if not found.transactions:
        raise Failed("nothing was captured, so there is nothing to suggest", HOW)
    try:
        made = make(
            found.transactions,
            text,
            SystemNames(paths.lists),
            file=name,
            deny_rest=deny_rest,
            include_rejected=include_rejected,
        )
    except SuggestError as error:
        raise WrongInput(str(error)) from None
    if as_json:
        click.echo(render.document(_suggestion_document(made, text, name)))
        return
    _show_suggestion(made, text, name, whole)
    note_losses(found.lost)


def _text(file: str | None) -> tuple[str, str]:
    """The rule file; an installed one that is not there yet is empty."""
    from .inputs import rules_text

    paths = here()
    if file is None and not paths.rules.exists():
        return "", str(paths.rules)
    return rules_text(paths, file)


def _show_suggestion(made: Suggestion, text: str, name: str, whole: bool) -> None:
    from ..suggest import diff

    click.echo(made.text if whole else diff(text, made.text, name), nl=False)
    say = f"{render.plural(len(made.needing), 'transaction')} not covered by a rule of its own"
    parts = [f"{say}: {render.plural(len(made.proposals), 'rule')} suggested"]
    if made.covered:
        parts.append(f"{len(made.covered)} covered already")
    if made.rejected:
        parts.append(f"{len(made.rejected)} rejected today and still so")
    click.echo("; ".join(parts), err=True)
    if made.denied:
        what = ", ".join(made.denied)
        warning = (
            f"{what} would reject all that was not captured: mind what happens but once a month"
        )
        click.echo(render.coloured(render.safe(warning), render.WARN), err=True)
        if _locks_out(made):
            warning = "no accept of sshd or on port 22 was captured: nobody could log in that way"
            click.echo(render.coloured(warning, render.BAD), err=True)


def _locks_out(made: Suggestion) -> bool:
    """Whether peers are denied, and none was seen that an administrator may come from."""
    captured = (*made.needing, *made.covered)
    accepts = [one.request for one in captured if one.request.server is Server.ACCEPT]
    return Server.ACCEPT in made.denied_servers and not any(
        request.local_port == 22 or (request.program or "").rpartition("/")[2].startswith("sshd")
        for request in accepts
    )


def _suggestion_document(made: Suggestion, text: str, name: str) -> dict[str, Any]:
    from ..suggest import diff, evidence

    return {
        "file": name,
        "diff": diff(text, made.text, name),
        "text": made.text,
        "rules": [
            {
                "name": one.name,
                "server": one.server.word,
                "authority": "yes",
                "when": one.when,
                "evidence": evidence(one),
                "broader": {
                    "combinations" if field is None else field.value: sentence
                    for field, sentence in one.broader.items()
                },
                "captures": [each.number for each in one.captured],
            }
            for one in made.proposals
        ],
        "needing": len(made.needing),
        "covered": len(made.covered),
        "rejected": len(made.rejected),
        "denied": list(made.denied),
    }
