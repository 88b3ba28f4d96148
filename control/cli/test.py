# SPDX-License-Identifier: Apache-2.0
"""`sockrules test`: which rule decides a request, by the compiled table or by the kernel."""

from __future__ import annotations

from typing import Any

import click

from .. import render
from ..paths import Paths
from .failures import WrongInput
from .options import SERVERS, SETTINGS, here, json_option, root_option

_REQUEST = ("user", "group", "program", "service", "local", "remote")


@click.command(context_settings=SETTINGS)
@click.argument("server", metavar="[SERVER]", type=click.Choice(SERVERS), required=False)
@click.option("--user", metavar="U", help="The caller (for accept, the listener's owner).")
@click.option("--group", metavar="G", help="Its group.")
@click.option("--program", metavar="PATH", help="Its executable.")
@click.option("--service", metavar="S", help="Its systemd unit, or its cgroup's path.")
@click.option("--local", metavar="ADDR:PORT", help="The local side; also ADDR, or :PORT.")
@click.option("--remote", metavar="ADDR:PORT", help="The remote side; not for listen.")
@click.option("--rules", metavar="FILE", help="Another rule file; - is standard input.")
@click.option("--at", metavar="TIME", help="Judge as of then, as in --at 2026-12-24T18:30.")
@click.option("--trace", is_flag=True, help="Say of every rule before it why it did not match.")
@click.option("--batch", metavar="FILE", help="JSON requests, one a line; - is standard input.")
@click.option("--in-kernel", is_flag=True, help="Ask the loaded table: the active rules. Root.")
@json_option
@root_option
def test(
    server: str | None,
    rules: str | None,
    at: str | None,
    trace: bool,
    batch: str | None,
    in_kernel: bool,
    as_json: bool,
    **given: str | None,
) -> None:
    """Say which rule decides a request.

    SERVER is listen, accept or connect. Evaluates the rules with test = "yes". What
    is left out is unknown. Needs neither root nor an agent, except with --in-kernel.
    Exit status 1 when a request would be rejected.

    \b
    Examples:
      sockrules test accept --local :5432 --remote 192.0.2.7 --trace
      echo '{"server": "listen", "local": ":80"}' | sockrules test --batch -
    """
    doc = {key: given[key] for key in _REQUEST if given[key] is not None}
    _refuse_contradictions(server, rules, trace, batch, in_kernel, bool(doc))
    if at is not None and (in_kernel or batch is not None):
        raise click.UsageError("--at goes with a single request that is not put to the kernel")
    context, paths = click.get_current_context(), here()
    if batch is not None:
        from .batch import judge_batch

        context.exit(judge_batch(paths, batch, rules, in_kernel))
    request = {"server": server, **doc}
    if in_kernel:
        verdict = _in_kernel(paths, request)
        if as_json:
            click.echo(render.document(verdict))
        else:
            for line in _kernel_lines(verdict):
                click.echo(line)
        context.exit(0 if verdict.get("authority") == "yes" else 1)
    context.exit(_in_table(paths, request, rules, at, trace, as_json))


def _refuse_contradictions(
    server: str | None,
    rules: str | None,
    trace: bool,
    batch: str | None,
    in_kernel: bool,
    described: bool,
) -> None:
    if batch is None and server is None:
        raise click.UsageError(f"name a server ({', '.join(SERVERS)}), or give --batch FILE")
    if batch is not None and (server or described or trace):
        raise click.UsageError("--batch takes whole requests from FILE; leave the others out")
    if in_kernel and (rules is not None or trace):
        raise click.UsageError("--in-kernel asks the loaded table; leave out --rules and --trace")
    if batch == "-" and rules == "-":
        raise click.UsageError("--batch and --rules cannot both read standard input")


def _in_kernel(paths: Paths, request: dict[str, Any]) -> dict[str, Any]:
    from ..client import AgentUnreachable, Client
    from ..names import SystemNames
    from ..requests import request_from_json

    try:
        request_from_json(request, SystemNames(paths.lists))
    except ValueError as error:
        raise WrongInput(f"--{error}") from None
    verdicts = Client(paths.socket).call("decide", requests=[request]).get("verdicts")
    if not isinstance(verdicts, list) or len(verdicts) != 1 or not isinstance(verdicts[0], dict):
        raise AgentUnreachable("the agent gave no verdict; it may be of another version")
    return verdicts[0]


def _in_table(
    paths: Paths,
    request: dict[str, Any],
    rules: str | None,
    at: str | None,
    trace: bool,
    as_json: bool,
) -> int:
    from .judge import Judge, trace_document, trace_lines, verdict_lines

    try:
        judge = Judge(paths, rules, at)
    except ValueError as error:
        raise WrongInput(f"--at: {error}") from None
    try:
        asked = judge.request(request)
    except ValueError as error:
        raise WrongInput(f"--{error}") from None
    verdict = judge.verdict(asked)
    steps = judge.trace(asked, verdict) if trace else []
    if as_json:
        from ..requests import verdict_to_json

        doc = verdict_to_json(verdict)
        if trace:
            doc["trace"] = trace_document(steps, judge.names)
        click.echo(render.document(doc))
    else:
        for line in [*trace_lines(steps, judge.names), *verdict_lines(judge, verdict)]:
            click.echo(line)
    return 0 if verdict.authority else 1


def _kernel_lines(verdict: dict[str, Any]) -> list[str]:
    from .judge import answer

    allowed = verdict.get("authority") == "yes"
    rule = render.safe(verdict.get("rule", "?"))
    switches = ("audit", "message", "capture")
    return [
        f"{answer(allowed)} by {rule} (sequence {render.safe(verdict.get('sequence', '?'))}),"
        " says the kernel",
        *render.facts((key, render.yes_no(bool(verdict.get(key)))) for key in switches),
    ]
