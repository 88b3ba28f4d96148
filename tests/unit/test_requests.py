# SPDX-License-Identifier: Apache-2.0
"""Requests and verdicts in JSON: the documented form, read strictly, taken as the kernel would."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rulegen import requests
from sockrules.control.addresses import parse_address
from sockrules.control.model import Field, Request, Server, Verdict
from sockrules.control.names import FixedNames
from sockrules.control.requests import (
    normalised,
    request_from_json,
    request_to_json,
    value_text,
    verdict_to_json,
)

NAMES = FixedNames({"www-data": 33}, {"www-data": 33, "adm": 4})
DOCUMENTED = {
    "server": "accept",
    "local": "10.0.0.5:443",
    "remote": "192.0.2.7:51000",
    "user": "www-data",
    "group": "www-data",
    "program": "/usr/sbin/nginx",
    "service": "nginx.service",
}


def test_the_documented_request() -> None:
    request = request_from_json(DOCUMENTED, NAMES)
    assert request == Request(
        Server.ACCEPT,
        local_address=parse_address("10.0.0.5"),
        local_port=443,
        remote_address=parse_address("192.0.2.7"),
        remote_port=51000,
        user=33,
        group=33,
        program="/usr/sbin/nginx",
        service="nginx.service",
    )
    assert request_to_json(request, NAMES) == DOCUMENTED


def test_the_documented_verdict() -> None:
    verdict = Verdict(Server.ACCEPT, False, "block-lab", 20, True, False, False)
    assert json.dumps(verdict_to_json(verdict)) == (
        '{"server": "accept", "authority": "no", "rule": "block-lab", "sequence": 20, '
        '"audit": true, "message": false, "capture": false}'
    )


@given(requests())
def test_what_is_written_is_read_back(request: Request) -> None:
    request = normalised(request)
    assert request_from_json(request_to_json(request, NAMES), NAMES) == request


def test_what_is_left_out_is_unknown() -> None:
    assert request_from_json({"server": "connect"}, NAMES) == Request(Server.CONNECT)
    nulls = dict.fromkeys(DOCUMENTED) | {"server": "listen"}
    assert request_from_json(nulls, NAMES) == Request(Server.LISTEN)
    assert request_to_json(Request(Server.LISTEN), NAMES) == {"server": "listen"}


def test_numbers_of_users_need_no_name() -> None:
    request = request_from_json({"server": "listen", "user": 1000, "group": "4"}, NAMES)
    assert (request.user, request.group) == (1000, 4)
    assert request_to_json(request, NAMES) == {"server": "listen", "user": 1000, "group": "adm"}


@pytest.mark.parametrize(
    ("local", "remote", "judged"),
    [
        (None, "0.0.0.0", ("", "127.0.0.1")),
        (None, "::", ("", "::1")),
        (None, "::ffff:0.0.0.0", ("", "127.0.0.1")),
        ("10.0.0.2", "0.0.0.0", ("10.0.0.2", "10.0.0.2")),
        ("0.0.0.0", "0.0.0.0", ("", "127.0.0.1")),
        ("2001:db8::1", "::", ("2001:db8::1", "::1")),
        ("10.0.0.2", "::", ("10.0.0.2", "127.0.0.1")),
        ("::", "10.0.0.1", ("", "10.0.0.1")),
    ],
)
def test_connecting_to_nowhere_is_connecting_to_loopback(
    local: str | None, remote: str, judged: tuple[str, str]
) -> None:
    request = normalised(
        Request(
            Server.CONNECT,
            local_address=parse_address(local) if local else None,
            remote_address=parse_address(remote),
            remote_port=0,
        )
    )
    expected_local, expected_remote = judged
    assert request.local_address == (parse_address(expected_local) if expected_local else None)
    assert request.remote_address == parse_address(expected_remote)
    assert request.remote_port is None


def test_a_wildcard_listener_keeps_its_address() -> None:
    request = request_from_json({"server": "listen", "local": "0.0.0.0:80"}, NAMES)
    assert request.local_address == parse_address("0.0.0.0")


@pytest.mark.parametrize(
    ("doc", "message"),
    [
        ([], "a request is an object"),
        ({}, "server: a request names its server; use listen, accept or connect"),
        ({"server": "lisen"}, "server: 'lisen' is not a server"),
        (
            {"server": "listen", "remot": "x"},
            "remot: a request has no such key; did you mean",
        ),
        ({"server": "listen", "remote": ":1"}, "remote: a listen request has no remote side"),
        ({"server": "accept", "local": 80}, "local: 80 is not a text"),
        ({"server": "accept", "local": "::1"}, "local: ::1 is not an endpoint"),
        ({"server": "accept", "local": ":70000"}, "local: 70000 is not a port; use 1-65535"),
        (
            {"server": "accept", "user": "www-dta"},
            "no user is named www-dta; did you mean",
        ),
        ({"server": "accept", "user": -1}, "user: -1 is out of range; use 0-4294967294"),
        ({"server": "accept", "user": 4294967295}, "out of range"),
        ({"server": "accept", "user": "9" * 5000}, "out of range"),
        ({"server": "accept", "group": True}, "group: True is not a group"),
        ({"server": "accept", "program": "nginx"}, "program: nginx is not an absolute path"),
        ({"server": "accept", "service": ""}, "service: '' is not a text"),
    ],
)
def test_what_is_wrong_is_told_with_its_key(doc: object, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        request_from_json(doc, NAMES)
    assert message in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner),
)


@given(st.dictionaries(st.sampled_from(sorted(DOCUMENTED)), JSON))
def test_any_document_is_read_or_refused(doc: dict[str, object]) -> None:
    try:
        request_from_json(doc, NAMES)
    except ValueError as error:
        assert str(error)


def test_values_for_people() -> None:
    assert value_text(Field.USER, 33, NAMES) == "www-data"
    assert value_text(Field.GROUP, 1, NAMES) == "1"
    assert value_text(Field.LOCAL_ADDRESS, parse_address("10.0.0.1"), NAMES) == "10.0.0.1"
    assert value_text(Field.LOCAL_PORT, 80, NAMES) == "80"
    assert value_text(Field.PROGRAM, "/bin/sh", NAMES) == "/bin/sh"
    assert value_text(Field.USER, None, NAMES) == "unknown"
