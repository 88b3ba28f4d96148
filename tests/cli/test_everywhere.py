# SPDX-License-Identifier: Apache-2.0
"""What holds for every command: help, an example, --root on both sides, exit codes, speed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import click
import pytest

from sockrules.control.cli import main
from sockrules.control.paths import Paths

Cli = Callable[..., Any]


def commands(group: click.Group = main, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield (*above, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*above, name))


ALL = [(), *commands()]


def command_at(words: tuple[str, ...]) -> click.Command:
    command: click.Command = main
    for word in words:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), word)
        assert found is not None
        command = found
    return command


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_help_is_there_and_ends_with_an_example(cli: Cli, words: tuple[str, ...]) -> None:
    short, long = cli(*words, "-h"), cli(*words, "--help")
    assert short.code == long.code == 0
    assert short.out == long.out
    assert short.out.startswith("Usage: ")
    help_text = command_at(words).help or ""
    _, found, example = help_text.partition("Example")
    assert found
    assert " ".join(("sockrules", *words)) in example or not words
    assert "\n\n" not in example.strip()


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_root_and_help_options_are_everywhere(words: tuple[str, ...]) -> None:
    options = {option for param in command_at(words).params for option in param.opts}
    assert "--root" in options


PRINTS_NO_DATA = {(), ("rule",), ("agent",), ("agent", "run"), ("completion",)}


@pytest.mark.parametrize(
    "words", [each for each in ALL if each not in PRINTS_NO_DATA], ids=" ".join
)
def test_json_is_offered_where_data_is_printed(words: tuple[str, ...]) -> None:
    options = {option for param in command_at(words).params for option in param.opts}
    assert "--json" in options


def test_the_root_after_the_command_holds(cli: Cli, paths: Paths) -> None:
    other = paths.root.parent / "other"
    said = cli("status", "--root", str(other), "--json")
    assert str(other / "run/sockrules/control.sock") in said.json["sentence"]


def test_the_root_between_group_and_command(cli: Cli, paths: Paths) -> None:
    other = paths.root.parent / "other"
    assert cli("rule", "--root", str(other), "list").err.startswith(f"Error: {other}/etc")


def test_the_root_of_the_environment(
    paths: Paths, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner

    monkeypatch.setenv("SOCKRULES_ROOT", str(paths.root))
    result = CliRunner().invoke(main, ["status"])
    assert str(paths.socket) in result.output


def test_help_loads_nothing_heavy() -> None:
    heavy = [
        "numpy",
        "lark",
        "tomlkit",
        "tree_sitter",
        "msgpack",
        "bcc",
        "asyncio",
        "sockrules.agent",
    ]
    code = (
        "import sys\n"
        "from sockrules.control.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        f"print([name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert "completion" in done.stdout
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    "words",
    [
        ("nope",),
        ("test",),
        ("test", "accept", "--batch", "-"),
        ("test", "--batch", "-", "--trace"),
        ("test", "accept", "--in-kernel", "--trace"),
        ("test", "--batch", "-", "--rules", "-"),
        ("activate",),
        ("activate", "nobody"),
        ("audit", "--since", "soon"),
        ("audit", "--remote", "10.0.0.1/8"),
        ("rule", "move", "a"),
        ("rule", "move", "a", "--first", "--last"),
        ("rule", "set", "a"),
        ("rule", "add", "a"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2_in_words_and_in_json(cli: Cli, words: tuple[str, ...]) -> None:
    said = cli(*words)
    assert said.code == 2
    assert said.out == ""
    assert "Error: " in said.err
    in_json = cli(*words, "--json")
    assert in_json.code == 2
    assert in_json.error["kind"] == "usage"
    assert in_json.error["message"]


def test_a_mistake_of_ours_keeps_its_traceback(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("ours")

    monkeypatch.setattr("sockrules.control.client.Client.call", broken)
    with pytest.raises(KeyError, match="ours"):
        cli("status")


def test_no_colour_in_a_pipe(cli: Cli) -> None:
    said = cli("status")
    assert "\x1b" not in said.out + said.err


def test_no_color_is_respected_on_a_terminal(monkeypatch: pytest.MonkeyPatch, paths: Paths) -> None:
    from click.testing import CliRunner

    coloured = CliRunner().invoke(main, ["--root", str(paths.root), "status"], color=True)
    assert "\x1b[31m" in coloured.output
    monkeypatch.setenv("NO_COLOR", "1")
    plain = CliRunner().invoke(main, ["--root", str(paths.root), "status"], color=True)
    assert "\x1b" not in plain.output


def test_version(cli: Cli) -> None:
    assert cli("--version").out.startswith("sockrules, version ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(cli: Cli, shell: str) -> None:
    said = cli("completion", shell)
    assert said.code == 0
    assert "_SOCKRULES_COMPLETE" in said.out


def test_completion_knows_commands_and_rules(paths: Paths) -> None:
    paths.rules.write_text(
        '[[rule]]\nname = "web"\n[[rule]]\nname = "wiki"\n[[rule]]\nname = "ssh"\n'
    )

    def complete(line: str) -> list[str]:
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "from sockrules.control.cli import main; main(prog_name='sockrules')",
            ],
            capture_output=True,
            check=True,
            text=True,
            env={
                **os.environ,
                "_SOCKRULES_COMPLETE": "bash_complete",
                "COMP_WORDS": line,
                "COMP_CWORD": str(len(line.split(" ")) - 1),
                "SOCKRULES_ROOT": str(paths.root),
            },
        )
        return [word.partition(",")[2] for word in done.stdout.split()]

    assert complete("sockrules dea") == ["deactivate"]
    assert complete("sockrules rule show w") == ["web", "wiki"]
    assert complete("sockrules activate a") == ["accept", "all"]


def test_json_errors_are_json(cli: Cli, paths: Paths) -> None:
    paths.rules.write_text('[[rule]]\nname = "a"\nserver = "accep"\n')
    said = cli("check", "--json")
    assert said.code == 2
    assert said.out == ""
    problem = json.loads(said.err)["error"]["problems"][0]
    assert problem["file"] == str(paths.rules)
    assert set(problem) == {"file", "line", "column", "message", "hint", "severity"}
