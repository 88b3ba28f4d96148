# SPDX-License-Identifier: Apache-2.0
"""Bytes of the buffers to events, and events to audit lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockrules.agent.events import (
    EventError,
    ProgramId,
    decode,
    document,
    events_in,
    state_document,
)
from sockrules.agent.hooks import HOOK_NAMES
from sockrules.control import abi
from sockrules.control.model import Mode, Server
from sockrules.control.names import FixedNames

NAMES = FixedNames(users={"web": 33}, groups={"web": 34})
KNOWN = abi.C["SR_BIT_LOCAL_KNOWN"] | abi.C["SR_BIT_REMOTE_KNOWN"]
MAPPED = 0xFFFF << 32


def raw(**fields: Any) -> bytes:
    """An accept on 10.0.0.5:443 from 192.0.2.7:51000, rejected and enforced; or as said."""
    event = np.zeros(1, abi.dtype("sr_event"))
    shipped: dict[str, Any] = {
        "version": abi.C["SR_ABI_VERSION"],
        "size": abi.sizeof("sr_event"),
        "server": Server.ACCEPT,
        "mode": Mode.ENFORCE,
        "hook": abi.C["SR_HOOK_SK_LOOKUP"],
        "flags": abi.C["SR_REJECT"],
        "monotonic": 5_000_000_000,
        "revision": 7,
        "local_lo": MAPPED | 0x0A000005,
        "remote_lo": MAPPED | 0xC0000207,
        "local_port": 443,
        "remote_port": 51000,
        "known": KNOWN,
        "rule": 3,
        "netns": 4026531840,
        "uid": 33,
        "gid": 34,
        "pid": 999,
        "cgroup": 4711,
        "comm": np.frombuffer(b"nginx".ljust(16, b"\0"), np.uint8),
    }
    program = fields.pop("program", (12, 34, 56))
    for name, value in {**shipped, **fields}.items():
        event[name] = value
    for name, value in zip(("number", "device", "generation"), program, strict=True):
        event["program"][name] = value
    return event.tobytes()


def line(data: bytes, **more: Any) -> dict[str, Any]:
    options: dict[str, Any] = {
        **{"host": "h", "rule": "no-lab", "sequence": 40, "program": "/usr/sbin/nginx"},
        **{"names": NAMES, "offset": 1_700_000_000_000_000_000},
        "cgroup": "/system.slice/nginx.service/worker",
    }
    return document(decode(data), **{**options, **more})


def test_an_event_is_read_as_it_was_written() -> None:
    event = decode(raw())
    assert (event.server, event.mode, event.hook) == (Server.ACCEPT, Mode.ENFORCE, "sk_lookup")
    assert event.rejected
    assert (event.revision, event.rule, event.monotonic) == (7, 3, 5_000_000_000)
    assert event.local_address == MAPPED | 0x0A000005
    assert (event.local_port, event.remote_port) == (443, 51000)
    assert (event.user, event.group, event.pid, event.comm) == (33, 34, 999, "nginx")
    assert event.program == ProgramId(12, 34, 56)
    assert event.cgroup == 4711


def test_the_buffers_padding_is_ignored() -> None:
    assert decode(raw() + b"\xff" * 7) == decode(raw())


def test_what_the_kernel_does_not_know_is_none() -> None:
    event = decode(
        raw(known=0, local_port=0, remote_port=0, uid=2**32 - 1, gid=2**32 - 1, netns=0,
            program=(0, 0, 0), cgroup=0)
    )  # fmt: skip
    assert (event.local_address, event.local_port) == (None, None)
    assert (event.remote_address, event.remote_port) == (None, None)
    assert (event.user, event.group, event.netns, event.program) == (None, None, None, None)
    assert event.cgroup is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        raw()[:-1],
        raw(version=abi.C["SR_ABI_VERSION"] + 1),
        raw(size=1),
        raw(server=3),
        raw(mode=9),
        raw(hook=len(HOOK_NAMES)),
    ],
)
def test_what_is_not_an_event_is_refused(data: bytes) -> None:
    with pytest.raises(EventError):
        decode(data)


def batch(events: Sequence[bytes]) -> bytes:
    """A record of events that a CPU gathered, with what the ring pads it by."""
    record = np.zeros(1, abi.dtype("sr_batch"))
    record["absent"] = missing = abi.C["SR_BATCH"] - len(events)
    for place, event in enumerate(events):
        record["event"][0][place] = np.frombuffer(event, abi.dtype("sr_event"))[0]
    used = abi.sizeof("sr_batch") - min(missing, abi.C["SR_BATCH"] - 1) * abi.sizeof("sr_event")
    return record.tobytes()[:used] + bytes(4)


@pytest.mark.parametrize("count", [0, 1, 3, abi.C["SR_BATCH"]])
def test_a_record_has_the_events_that_came(count: int) -> None:
    events = [raw(pid=number) for number in range(count)]
    assert events_in(batch(events)) == events


def test_a_record_may_be_an_event_alone_or_nothing_known() -> None:
    assert decode(events_in(raw() + bytes(4))[0]) == decode(raw())
    assert events_in(raw()[:7]) == [raw()[:7]]


@given(st.binary(max_size=abi.sizeof("sr_batch") + 8))
def test_no_record_does_harm(record: bytes) -> None:
    assert len(events_in(record)) <= abi.C["SR_BATCH"]


@given(st.binary(max_size=abi.sizeof("sr_event") + 8))
def test_no_bytes_do_more_harm_than_an_event_error(tail: bytes) -> None:
    head = raw()[:4]  # version and size are right
    try:
        json.dumps(line(head + tail))
    except EventError:
        pass
    except (OverflowError, ValueError, OSError) as error:
        # a clock beyond the year 9999 is all that is left to go wrong
        assert decode(head + tail).monotonic > 1 << 56, error


def test_a_line_has_the_schemas_names() -> None:
    assert line(raw()) == {
        "@timestamp": "2023-11-14T22:13:25.000000Z",
        "event": {
            "kind": "event",
            "category": ["network"],
            "type": ["connection", "denied"],
            "action": "accept",
            "outcome": "failure",
        },
        "host": {"name": "h"},
        "rule": {"name": "no-lab", "ruleset": "7"},
        "source": {"ip": "192.0.2.7", "port": 51000},
        "destination": {"ip": "10.0.0.5", "port": 443},
        "network": {"transport": "tcp", "type": "ipv4"},
        "user": {"id": "33", "name": "web"},
        "group": {"id": "34", "name": "web"},
        "process": {"pid": 999, "name": "nginx", "executable": "/usr/sbin/nginx"},
        "service": {"name": "nginx.service"},
        "sockrules": {
            "server": "accept",
            "authority": "no",
            "enforced": True,
            "mode": "enforce",
            "sequence": 40,
            "revision": 7,
            "monotonic_ns": 5_000_000_000,
            "netns": 4026531840,
            "cgroup": "/system.slice/nginx.service/worker",
            "count": 1,
            "hook": "sk_lookup",
            "local": "10.0.0.5:443",
            "remote": "192.0.2.7:51000",
        },
    }


def test_a_connect_goes_from_local_to_remote() -> None:
    doc = line(raw(server=Server.CONNECT, hook=abi.C["SR_HOOK_CONNECT4"]))
    assert doc["source"]["ip"] == "10.0.0.5"
    assert doc["destination"] == {"ip": "192.0.2.7", "port": 51000}


def test_simulated_rejections_succeed() -> None:
    doc = line(raw(mode=Mode.SIMULATE))
    assert doc["event"]["outcome"] == "success"
    assert doc["event"]["type"] == ["connection", "denied"]
    assert (doc["sockrules"]["authority"], doc["sockrules"]["enforced"]) == ("no", False)


def test_allowed_requests_are_not_enforced_rejections() -> None:
    doc = line(raw(flags=abi.C["SR_AUDIT"]))
    assert doc["event"]["type"] == ["connection", "allowed"]
    assert doc["event"]["outcome"] == "success"
    assert (doc["sockrules"]["authority"], doc["sockrules"]["enforced"]) == ("yes", False)


def test_what_is_unknown_is_left_out() -> None:
    doc = line(
        raw(known=0, local_port=0, remote_port=0, uid=2**32 - 1, gid=2**32 - 1, netns=0),
        program=None,
    )
    assert "None" not in json.dumps(doc) and "null" not in json.dumps(doc)
    assert not {"source", "destination", "user", "group"} & doc.keys()
    assert doc["process"] == {"pid": 999, "name": "nginx"}
    assert "local" not in doc["sockrules"]


def test_ipv6_is_said() -> None:
    doc = line(raw(remote_hi=0x20010DB8 << 32, remote_lo=1))
    assert doc["network"]["type"] == "ipv6"
    assert doc["sockrules"]["remote"] == "[2001:db8::1]:51000"


def test_the_same_request_again_has_the_same_identity() -> None:
    again = decode(raw(monotonic=6_000_000_000))
    assert decode(raw()).identity == again.identity
    changed = (
        *({"remote_port": 51001}, {"revision": 8}, {"rule": 4}, {"uid": 34}, {"pid": 1}),
        *({"flags": 0}, {"mode": Mode.SIMULATE}, {"local_lo": 1}, {"program": (13, 34, 56)}),
    )
    for difference in changed:
        assert decode(raw(**difference)).identity != again.identity, difference


def test_a_state_line_says_what_happened() -> None:
    moment = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)
    assert state_document("events-lost", "3 lost", host="h", now=moment, lost=3) == {
        "@timestamp": "2024-05-01T12:00:00.000000Z",
        "event": {"kind": "state", "action": "events-lost"},
        "host": {"name": "h"},
        "message": "3 lost",
        "sockrules": {"lost": 3},
    }


def test_a_line_names_the_unit_and_the_cgroup() -> None:
    doc = line(raw())
    assert doc["service"] == {"name": "nginx.service"}
    assert doc["sockrules"]["cgroup"] == "/system.slice/nginx.service/worker"
    nowhere = line(raw(), cgroup=None)
    assert "service" not in nowhere and "cgroup" not in nowhere["sockrules"]
    slice_itself = line(raw(), cgroup="/system.slice")
    assert "service" not in slice_itself
    assert slice_itself["sockrules"]["cgroup"] == "/system.slice"
