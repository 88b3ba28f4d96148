# SPDX-License-Identifier: Apache-2.0
"""From the text of rules to a table, and to one in force: seconds and memory.

What is measured reads and compiles as the agent does. `python -m bench.compile` prints it
alone (with PYTHONPATH=tests:.); the applies need root.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import rulegen
from sockrules.control.addresses import format_address, is_ipv4
from sockrules.control.condition import And, Comparison
from sockrules.control.model import Rule

SIZES = (10, 1_000, 10_000, 99_998)  # the last is what a file holds at most
LISTS = (10_000, 100_000, 1_000_000)
REPEAT = 5
_BIG = '[[rule]]\nname = "listed"\nserver = "connect"\nauthority = "no"\nwhen = "remote.address in '

_CHILD = """
import json, sys, time
from pathlib import Path
from sockrules.control.compile import compile_table
from sockrules.control.names import SystemNames
from sockrules.control.rules_file import parse_rules

path, names, rows = Path(sys.argv[1]), SystemNames(Path(sys.argv[2])), []
for _ in range(int(sys.argv[3])):
    start = time.perf_counter()
    parsed = parse_rules(path.read_text(), file="rules.toml", names=names)
    read = time.perf_counter()
    table = compile_table(parsed.ruleset, parsed.ruleset.active())
    rows.append((read - start, time.perf_counter() - read))
status = Path("/proc/self/status").read_text()  # getrusage has what the parent needed too
peak = int(status.split("VmHWM:")[1].split()[0]) // 1024
print(json.dumps({"rows": rows, "kB": table.size // 1024, "peak_mb": peak}))
"""


def compiles(repeat: int = REPEAT) -> Iterator[dict[str, Any]]:
    """A row for each rule set: `read_s` and `compile_s` are medians, in a process of its own.

    `peak_mb` is what that process needed at most, some 35 of it before the first rule.
    """
    with tempfile.TemporaryDirectory(prefix="sockrules-bench-") as directory:
        rules, lists = Path(directory, "rules.toml"), Path(directory, "lists")
        lists.mkdir()
        for count in SIZES:
            rules.write_text(access_rules(count))
            yield _measured(f"{count} access rules", rules, lists, repeat)
        for count in LISTS:
            (lists / "big.txt").write_text(addresses(count))
            rules.write_text(f'{_BIG}@big"\n')
            yield _measured(f"a list of {count}", rules, lists, repeat)


def _measured(name: str, rules: Path, lists: Path, repeat: int) -> dict[str, Any]:
    command = [sys.executable, "-c", _CHILD, str(rules), str(lists), str(repeat)]
    said = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    read, compiled = (statistics.median(each) for each in zip(*said["rows"], strict=True))
    return {
        "rules": name,
        "read_s": read,
        "compile_s": compiled,
        "kB": said["kB"],
        "peak_mb": said["peak_mb"],
    }


def applies(directory: Path, sizes: Sequence[int] = SIZES) -> Iterator[dict[str, Any]]:
    """A row for each size: seconds from asking a running agent to apply a file in which one
    rule changed to its table being in force, the median, the first and the longest.

    `cpu_s` is the processor time that the agent spent for one of them on average, which tells
    more where the machine is busy.
    `peak_mb` is what the agent needed at most meanwhile, `rest_mb` what it keeps, `rest_cpu`
    the share of a processor that it takes when nothing goes on, of one.
    """
    from kernel.sandbox import Sandbox, sweep

    sweep()
    for count in sizes:
        box = Sandbox(directory)
        box.open()
        try:
            text = access_rules(count)
            box.start(text)
            assert box.agent
            box.activate("enforce")
            pid = _python(box.agent.pid)
            ticks = _ticks(pid)
            times = [_apply_changed(box, text, count, number) for number in range(REPEAT + 1)]
            spent = (_ticks(pid) - ticks) / os.sysconf("SC_CLK_TCK") / len(times)
            yield {
                "rules": f"{count} access rules",
                "median_s": statistics.median(times[1:]),
                "first_s": times[0],
                "longest_s": max(times[1:]),
                "cpu_s": spent,
                **_appetite(pid),
            }
            box.stop()
        finally:
            box.close()


def _apply_changed(box: Any, text: str, count: int, number: int) -> float:
    """Change one rule in the middle of the file and apply it."""
    name = f'name      = "r{count // 2}"'
    before, _, after = text.partition(name)
    when = f'when      = "remote.port == {5000 + number}"'
    server = 'server    = "connect"\nauthority = "no"'
    rest = after[after.index("\n\n") :]
    box.paths.rules.write_text(f"{before}{name}\n{server}\n{when}{rest}")
    start = time.perf_counter()
    answer = box.call("apply")
    taken = time.perf_counter() - start
    assert answer["changed"]
    return taken


def _appetite(pid: int) -> dict[str, Any]:
    """What the agent needed, needs, and does at rest."""
    time.sleep(3)
    ticks, start = _ticks(pid), time.monotonic()
    time.sleep(10)
    share = (_ticks(pid) - ticks) / os.sysconf("SC_CLK_TCK") / (time.monotonic() - start)
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    return {
        "peak_mb": int(status["VmHWM"].split()[0]) // 1024,
        "rest_mb": int(status["VmRSS"].split()[0]) // 1024,
        "rest_cpu": share,
    }


def _python(pid: int) -> int:
    """The agent itself, where a process stands before it that put it into its namespace."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    is_python = "python" in Path(f"/proc/{pid}/comm").read_text()
    return pid if is_python or not children else _python(int(children[0]))


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


# -- texts ----------------------------------------------------------------------------------


def access_rules(count: int) -> str:
    """A rule file in the style of access lists, with users and programs mixed in."""
    return "\n".join(map(_as_text, rulegen.Source(count).ruleset(count, access=True).rules))


def _as_text(rule: Rule) -> str:
    parts = rule.when.parts if isinstance(rule.when, And) else (rule.when,)
    when = " and ".join(_asked(part) for part in parts if isinstance(part, Comparison))
    return (
        f'[[rule]]\nname      = "{rule.name}"\nserver    = "{rule.server.word}"\n'
        f'authority = "{"yes" if rule.authority else "no"}"\nwhen      = "{when}"\n'
    )


def _asked(asked: Comparison) -> str:
    if asked.paths:
        return f"{asked.field} == {asked.paths[0]}"
    ((first, last),) = asked.ranges
    if not asked.field.endswith("address"):
        value = str(first) if first == last else f"{first}-{last}"
        return f"{asked.field} == {value}"
    length = (32 if is_ipv4(first) else 128) - (last - first).bit_length()
    return f"{asked.field} in {{{format_address(first)}/{length}}}"


def addresses(count: int) -> str:
    """A list of scattered addresses, one a line, in order."""
    chosen = sorted(random.Random(count).sample(range(1 << 24, 223 << 24), count))
    return "".join(f"{format_address(rulegen.MAPPED | number)}\n" for number in chosen)


def main() -> None:
    for row in compiles():
        print(row, flush=True)
    if os.geteuid() == 0:
        with tempfile.TemporaryDirectory(prefix="sockrules-bench-") as directory:
            for row in applies(Path(directory)):
                print(row, flush=True)


if __name__ == "__main__":
    main()
