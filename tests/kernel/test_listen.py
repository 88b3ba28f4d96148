# SPDX-License-Identifier: Apache-2.0
"""listen on the fallback hooks: rejected at bind(), or shut where bind() could not tell."""

from __future__ import annotations

import pytest

from .sandbox import Sandbox

pytestmark = pytest.mark.kernel

RULES = """
[[rule]]
name = "no-5001"
server = "listen"
authority = "no"
when = "local.port == 5001"

[[rule]]
name = "5002-only-for-2000"
server = "listen"
authority = "yes"
when = "local.port == 5002 and user == 2000"

[[rule]]
name = "no-5002"
server = "listen"
authority = "no"
when = "local.port == 5002"

[[rule]]
name = "no-wildcard-5003"
server = "listen"
authority = "no"
when = "local.port == 5003 and local.address in {0.0.0.0, ::}"

[[rule]]
name = "no-ephemeral-listener"
server = "listen"
authority = "no"
when = "local.port >= 32768 and user == 2001"
"""


@pytest.fixture(scope="module", autouse=True)
def _rules(sandbox: Sandbox) -> None:
    sandbox.apply(RULES)
    sandbox.activate("enforce", "listen")


@pytest.mark.parametrize("kind", ["plain", "mptcp"])
@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"])
def test_bind_to_a_rejected_port_fails_with_eperm(
    sandbox: Sandbox, kind: str, address: str
) -> None:
    kind = "dual" if "ffff" in address and kind == "plain" else kind
    sandbox.mark()
    with sandbox.listener(kind, address, 5001) as outcome:
        assert outcome == "EPERM"
    [line] = sandbox.audit(server="listen", authority="no")
    assert line["rule"]["name"] == "no-5001"
    assert line["destination"]["port"] == 5001
    with sandbox.listener(kind, address, 5000) as outcome:
        assert outcome == "5000"
    [line] = sandbox.audit(server="listen", authority="yes")
    assert line["rule"]["name"] == "default-listen"


def test_users_are_told_apart(sandbox: Sandbox) -> None:
    with sandbox.listener("plain", "127.0.0.1", 5002, user=2000) as outcome:
        assert outcome == "5002"
    with sandbox.listener("plain", "127.0.0.1", 5002) as outcome:
        assert outcome == "EPERM"


def test_wildcards_match_where_they_are_written_out(sandbox: Sandbox) -> None:
    for address in ("0.0.0.0", "::"):
        with sandbox.listener("plain", address, 5003) as outcome:
            assert outcome == "EPERM", address
    for address in ("127.0.0.1", "::1"):
        with sandbox.listener("plain", address, 5003) as outcome:
            assert outcome == "5003", address


def test_udp_is_untouched(sandbox: Sandbox) -> None:
    with sandbox.listener("udp", "127.0.0.1", 5001) as outcome:
        assert outcome == "5001"


@pytest.mark.parametrize("kind", ["unbound", "plain", "mptcp-unbound"])
def test_a_rejected_listener_on_an_ephemeral_port_is_shut(sandbox: Sandbox, kind: str) -> None:
    """listen() cannot be refused by this hook; nobody gets in instead."""
    with sandbox.listener(kind, "127.0.0.1", 0, user=2001) as port:
        assert sandbox.client("connect", "plain", "127.0.0.1", port) == "ECONNREFUSED"
    with sandbox.listener(kind, "127.0.0.1", 0, user=2002) as port:
        assert sandbox.client("connect", "plain", "127.0.0.1", port) == "ok"


def test_a_shut_listener_opens_when_the_rules_allow_it(sandbox: Sandbox) -> None:
    try:
        with sandbox.listener("unbound", "127.0.0.1", 0, user=2001) as port:
            assert sandbox.client("connect", "plain", "127.0.0.1", port) == "ECONNREFUSED"
            sandbox.apply(RULES.replace("user == 2001", "user == 2009"))
            assert sandbox.client("connect", "plain", "127.0.0.1", port) == "ok"
    finally:
        sandbox.apply(RULES)


def test_a_client_with_a_source_address_is_not_taken_for_a_listener(sandbox: Sandbox) -> None:
    with sandbox.listener("plain", "127.0.0.1", 5000):
        before = sandbox.totals("listen")["decisions"]
        assert sandbox.client("connect", "plain", "127.0.0.1", 5000, "127.0.0.7", user=2001) == "ok"
        assert sandbox.totals("listen")["decisions"] == before


def test_a_listener_is_judged_once(sandbox: Sandbox) -> None:
    before = sandbox.totals("listen")["decisions"]
    with sandbox.listener("plain", "127.0.0.1", 5000):
        assert sandbox.totals("listen")["decisions"] == before + 1
    with sandbox.listener("unbound", "127.0.0.1", 0):
        assert sandbox.totals("listen")["decisions"] == before + 2


def test_simulate_rejects_nothing(sandbox: Sandbox) -> None:
    sandbox.activate("simulate", "listen")
    try:
        sandbox.mark()
        with sandbox.listener("plain", "127.0.0.1", 5001) as outcome:
            assert outcome == "5001"
        [line] = sandbox.audit(server="listen", authority="no")
        assert line["sockrules"]["enforced"] is False
    finally:
        sandbox.activate("enforce", "listen")


def test_real_servers(sandbox: Sandbox) -> None:
    refused = sandbox.inside(["/usr/bin/python3", "-m", "http.server", "5001"])
    assert "Operation not permitted" in refused.stderr
    refused = sandbox.inside(["nc", "-l", "127.0.0.1", "5001"])
    assert refused.returncode != 0
    with sandbox.background(["nc", "-lk", "127.0.0.1", "5000"]):
        sandbox.wait_until(lambda: sandbox.client("connect", "plain", "127.0.0.1", 5000) == "ok", 5)
