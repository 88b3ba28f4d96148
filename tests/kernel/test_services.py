# SPDX-License-Identifier: Apache-2.0
"""Conditions on the service: units and cgroups of real processes, kept current as they restart."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from sockrules.agent.enforcer import cgroup_mount, mount_bpffs
from sockrules.agent.features import kernel_macros
from sockrules.agent.hooks import PROBE, TRACKERS
from sockrules.agent.kernel import Kernel
from sockrules.agent.loader import Capacity, load
from sockrules.control.compile import compile_table
from sockrules.control.model import Product
from sockrules.control.names import FixedNames
from sockrules.control.rules_file import parse_rules

from .processes import PATIENCE, PYTHON
from .roundabout import TURNED_AWAY
from .sandbox import Sandbox

pytestmark = pytest.mark.kernel

RESTARTS = Path(__file__).with_name("restarts.py")
LOOPBACK = "127.0.0.1"
PORT = 7400


def rejecting(condition: str, server: str = "connect") -> str:
    side = "remote" if server == "connect" else "local"
    return (
        f'[[rule]]\nname = "no"\nserver = "{server}"\nauthority = "no"\n'
        f"when = '{condition} and {side}.port == {PORT}'\n"
    )


@pytest.fixture(scope="module")
def box(sandbox: Sandbox) -> Iterator[Sandbox]:
    for name in ("web.service", "web.service/worker", "user@7.service", "mail.service"):
        (sandbox.cgroup / name).mkdir()
    inner = sandbox.cgroup / "user@7.service" / "app.slice"
    inner.mkdir()
    (inner / "web.service").mkdir()
    sandbox.activate("enforce")
    with sandbox.listener("plain", LOOPBACK, PORT):
        yield sandbox


def connects(box: Sandbox, unit: str | None) -> bool:
    outcome = box.client("connect", "plain", LOOPBACK, PORT, unit=unit)
    assert outcome in ("ok", "EPERM"), outcome
    return outcome == "ok"


def rejected(box: Sandbox, condition: str) -> set[str]:
    """From which cgroups no connect is let through when this condition rejects."""
    box.apply(rejecting(condition))
    places = (
        "", "web.service", "web.service/worker", "mail.service", "user@7.service",
        "user@7.service/app.slice/web.service",
    )  # fmt: skip
    return {place for place in places if not connects(box, place)}


@pytest.mark.matrix
def test_a_unit_is_itself_and_what_is_below_it(box: Sandbox) -> None:
    assert rejected(box, "service == web.service") == {"web.service", "web.service/worker"}


def test_nobody_takes_a_units_name_in_a_subtree_of_his_own(box: Sandbox) -> None:
    below = {"user@7.service", "user@7.service/app.slice/web.service"}
    assert rejected(box, "service == user@7.service") == below


def test_a_path_is_one_cgroup_and_with_a_slash_all_below_it(box: Sandbox) -> None:
    web = box.place("web.service")
    assert rejected(box, f"service == {web}") == {"web.service"}
    assert rejected(box, f"service == {web}/") == {"web.service", "web.service/worker"}
    assert rejected(box, f"service in {{{web}/worker, mail.service}}") == {
        "web.service/worker",
        "mail.service",
    }


def test_not_is_everybody_else(box: Sandbox) -> None:
    assert rejected(box, "service != web.service") == {
        "", "mail.service", "user@7.service", "user@7.service/app.slice/web.service",
    }  # fmt: skip
    assert rejected(box, f"service not in {{{box.place('')}, mail.service}}") == set()


def test_everything_is_below_the_root(box: Sandbox) -> None:
    assert len(rejected(box, "service == /")) == 6
    assert rejected(box, "service == system.slice") == set()


@pytest.mark.matrix
def test_a_cgroup_made_after_the_rules_is_known(box: Sandbox) -> None:
    box.apply(rejecting("service in {late.service, /nowhere/}"))
    late = box.cgroup / "late.service"
    late.mkdir()
    try:
        assert not connects(box, "late.service")
    finally:
        late.rmdir()


def test_however_deep_a_cgroup_is(box: Sandbox) -> None:
    """Nobody gets away from a rule by cgroups in cgroups, nor into one."""
    for unit in ("mail.service", "web.service"):
        deep = box.cgroup / unit / Path(*["d"] * 45, "mail.service")
        deep.mkdir(parents=True)
    within = "/".join(["{unit}", *["d"] * 45, "mail.service"])
    for condition in ("service == mail.service", f"service == {box.place('mail.service')}/"):
        box.apply(rejecting(condition))
        for older in (True, False):
            if not older:  # made while the rule is in force
                for unit in ("mail.service", "web.service"):
                    inner = box.cgroup / within.format(unit=unit)
                    inner.rmdir()
                    inner.mkdir()
            assert not connects(box, within.format(unit="mail.service")), older
            assert connects(box, within.format(unit="web.service")), older


def test_a_restarted_unit_is_known_from_its_first_moment(box: Sandbox) -> None:
    """Also while rules are applied: each generation is complete before it is in force."""
    unit = box.cgroup / "again.service"
    command = [PYTHON, "-I", "-S", str(RESTARTS), str(unit), LOOPBACK, str(PORT), "300"]
    others = [PYTHON, "-I", "-S", str(RESTARTS), f"{unit}2", LOOPBACK, "1", "1500"]
    box.apply(rejecting("service == again.service"))
    with box.background(others), box.popen(command) as process:
        for round_ in range(6):
            more = f"{{again.service, x{round_}.service, {box.place('')}y{round_}/}}"
            box.apply(rejecting(f"service in {more}"))
        out, errors = process.communicate(timeout=60 * PATIENCE)
    assert json.loads(out) == {"EPERM": 300}, errors


@pytest.mark.matrix
def test_an_accept_is_judged_by_the_listeners_service(box: Sandbox) -> None:
    box.apply(rejecting("service == mail.service", "accept").replace(str(PORT), str(PORT + 1)))
    for unit, outcome in (("mail.service", "turned away"), ("web.service", "ok")):
        with box.listener("plain", LOOPBACK, PORT + 1, unit=unit):
            met = box.client("connect", "hasty", LOOPBACK, PORT + 1)
            assert ("turned away" if met in TURNED_AWAY else met) == outcome


@pytest.mark.matrix
def test_a_listen_is_judged_by_its_service(box: Sandbox) -> None:
    box.apply(rejecting("service == mail.service", "listen").replace(str(PORT), str(PORT + 2)))
    with box.listener("plain", LOOPBACK, PORT + 2, unit="mail.service") as outcome:
        assert outcome == "EPERM"
    with box.listener("plain", LOOPBACK, PORT + 2, unit="web.service") as outcome:
        assert outcome == str(PORT + 2)


def test_the_audit_names_unit_and_cgroup_even_of_what_is_gone(box: Sandbox) -> None:
    box.apply(rejecting("service == brief.service"))
    brief = box.cgroup / "brief.service"
    brief.mkdir()
    box.mark()
    connects(box, "brief.service")
    brief.rmdir()
    line = box.audit(server="connect", authority="no")[0]
    assert line["service"] == {"name": "brief.service"}
    assert line["sockrules"]["cgroup"] == box.place("brief.service")


def test_the_loaded_table_says_the_same_of_a_request(box: Sandbox) -> None:
    box.apply(rejecting(f"service in {{web.service, {box.place('mail.service')}/}}"))
    asked = (
        ("web.service", "no"),
        (box.place("web.service/worker"), "no"),
        (box.place("mail.service/x"), "no"),
        ("mail.service", "yes"),
        (None, "yes"),
    )
    requests = [
        {"server": "connect", "remote": f":{PORT}", "service": service} for service, _ in asked
    ]
    verdicts = box.call("decide", requests=requests)["verdicts"]
    assert [each["authority"] for each in verdicts] == [authority for _, authority in asked]


@pytest.mark.matrix
def test_status_says_how_services_are_kept(box: Sandbox) -> None:
    services = box.call("status")["services"]
    assert (services["kept_by"], services["refused"]) == ("tracepoint", "")
    assert services["unentered"] == 0


def test_a_listener_older_than_the_agent_has_its_service(fresh: Sandbox) -> None:
    (fresh.cgroup / "old.service").mkdir()
    with fresh.listener("plain", LOOPBACK, PORT, unit="old.service"):
        fresh.configure(accept="enforce")
        fresh.start(rejecting("service == old.service", "accept"))
        assert fresh.client("connect", "plain", LOOPBACK, PORT) in TURNED_AWAY
    with fresh.listener("plain", LOOPBACK, PORT):
        assert fresh.client("connect", "plain", LOOPBACK, PORT) == "ok"


@pytest.mark.matrix
def test_units_restart_while_no_agent_runs(fresh: Sandbox) -> None:
    fresh.configure(connect="enforce")
    fresh.start(rejecting("service == alone.service"))
    fresh.stop(signal.SIGKILL)
    with fresh.listener("plain", LOOPBACK, PORT):
        for _ in range(3):
            (fresh.cgroup / "alone.service").mkdir()
            assert not connects(fresh, "alone.service")
            assert connects(fresh, None)
            (fresh.cgroup / "alone.service").rmdir()
        fresh.start()
        (fresh.cgroup / "alone.service").mkdir()
        assert not connects(fresh, "alone.service")


def test_nothing_of_it_stays_when_the_agent_detaches(fresh: Sandbox) -> None:
    fresh.configure(connect="enforce")
    fresh.start(rejecting("service == x.service"))
    links = fresh.paths.pins / "links"
    assert {"cgroup_mkdir", "cgroup_rmdir"} <= set(os.listdir(links))
    fresh.activate("off")
    assert os.listdir(links) == []
    fresh.activate("enforce", "connect")
    assert {"cgroup_mkdir", "cgroup_rmdir"} <= set(os.listdir(links))
    fresh.call("stop", detach=True)
    assert fresh.agent
    fresh.agent.wait(20 * PATIENCE)
    assert not links.exists()
    assert not list(fresh.cgroup.parent.glob("sockrules-probe-*"))


def test_cgroups_for_which_there_is_no_room_are_counted() -> None:
    """They are then none that a rule names; `status` tells."""
    mount_bpffs()
    mount = cgroup_mount()
    capacity = Capacity(
        steps=96,
        entries=64,
        rests=64,
        slots=64,
        bounds=64,
        rules=64,
        known=64,
        listeners=64,
        cgroups=1,
    )
    rule = parse_rules(rejecting("service == /"), file="", names=FixedNames(), product=Product())
    table = compile_table(rule.ruleset, rule.ruleset.rules)
    loaded = load(capacity, kernel_macros(), (PROBE, *TRACKERS))
    assert not loaded.refused
    kernel = Kernel(loaded, capacity, mount)
    made = [mount / f"srtest-{os.getpid()}-room-{number}.slice" for number in range(3)]
    try:
        kernel.install(table, ())
        assert kernel.services
        before = kernel.services.report()["unentered"]
        for each in made:
            each.mkdir()
        assert kernel.services.report()["unentered"] == before + 3
    finally:
        for each in made:
            each.rmdir()
        kernel.close()
