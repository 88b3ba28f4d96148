# SPDX-License-Identifier: Apache-2.0
"""Addresses: IPv4 and mapped IPv6 are one, what is shown can be read, errors explain."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockrules.control.addresses import (
    LAST_ADDRESS,
    MAPPED,
    format_address,
    format_endpoint,
    parse_address,
    parse_address_range,
    parse_endpoint,
    parse_prefix,
)

IPV4 = st.integers(MAPPED, MAPPED | 0xFFFFFFFF)
ADDRESSES = st.one_of(IPV4, st.integers(0, LAST_ADDRESS))
PORTS = st.integers(1, 65535)


@given(ADDRESSES)
def test_what_is_shown_can_be_read(address: int) -> None:
    assert parse_address(format_address(address)) == address


@given(ADDRESSES)
def test_every_notation_is_the_same_address(address: int) -> None:
    assert parse_address(ipaddress.IPv6Address(address).exploded) == address


@given(st.none() | ADDRESSES, st.none() | PORTS)
def test_endpoints_round_trip(address: int | None, port: int | None) -> None:
    if address is None and port is None:
        assert format_endpoint(address, port) == ""
    else:
        assert parse_endpoint(format_endpoint(address, port)) == (address, port)


@given(ADDRESSES, st.integers(0, 128))
def test_prefixes_agree_with_the_standard_library(address: int, length: int) -> None:
    network = ipaddress.IPv6Network((address, length), strict=False)
    assert parse_prefix(str(network)) == (
        int(network.network_address),
        int(network.broadcast_address),
    )


@given(st.text(), st.sampled_from([parse_address, parse_prefix, parse_address_range]))
def test_any_other_text_is_a_value_error(text: str, parse: object) -> None:
    assert callable(parse)
    try:
        parse(text)
    except ValueError as error:
        assert str(error)


@given(st.text(alphabet="0123456789abcdef:.[]/-% ", max_size=30))
def test_endpoints_are_read_or_refused(text: str) -> None:
    try:
        address, port = parse_endpoint(text)
    except ValueError:
        return
    assert port is None or 1 <= port <= 65535
    assert address is None or 0 <= address <= LAST_ADDRESS


def test_mapped_is_ipv4() -> None:
    assert parse_address("10.0.0.5") == parse_address("::ffff:10.0.0.5") == MAPPED | 0x0A000005
    assert format_address(parse_address("::ffff:a00:5")) == "10.0.0.5"
    assert parse_prefix("::ffff:10.0.0.0/104") == parse_prefix("10.0.0.0/8")


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("10.0.0.5:443", (MAPPED | 0x0A000005, 443)),
        ("[::1]:80", (1, 80)),
        (":443", (None, 443)),
        ("10.0.0.5", (MAPPED | 0x0A000005, None)),
        ("[::1]", (1, None)),
        ("0.0.0.0:0", (MAPPED, None)),
    ],
)
def test_endpoints(text: str, endpoint: tuple[int | None, int | None]) -> None:
    assert parse_endpoint(text) == endpoint


@pytest.mark.parametrize(
    ("text", "what_is_right"),
    [
        ("10.0.0", "four parts"),
        ("10.0.0.256", "0-255"),
        ("10.0.0.01", "leading zeros"),
        ("fe80::1%eth0", "leave out the zone"),
        ("[::1]", "leave out the brackets"),
        ("10.0.0.0/8", "a prefix cannot stand here"),
        ("example.org", "use the address"),
        ("1:2", "2001:db8::1"),
        ("", "10.0.0.5"),
        ("\0", "10.0.0.5"),
        ("::\0", "10.0.0.5"),
    ],
)
def test_what_is_no_address_is_explained(text: str, what_is_right: str) -> None:
    with pytest.raises(ValueError, match="is not an address") as caught:
        parse_address(text)
    assert what_is_right in str(caught.value)


@pytest.mark.parametrize(
    ("text", "what_is_right"),
    [
        ("10.20.3.0/16", "10.20.0.0/16"),
        ("2001:db8::1/32", "2001:db8::/32"),
        ("::ffff:10.0.0.1/104", "::ffff:10.0.0.0/104"),
        ("10.0.0.0/255.255.0.0", "10.0.0.0/16"),
        ("10.0.0.0/33", "0-32"),
        ("::/129", "0-128"),
        ("::/", "0-128"),
        ("10.0.0.9-10.0.0.1", "10.0.0.1-10.0.0.9"),
        ("10.0.0.1-::1", "two ranges"),
        ("10.0.0.0/8-10.0.0.1", "use one of them"),
    ],
)
def test_what_is_no_prefix_or_range_is_explained(text: str, what_is_right: str) -> None:
    with pytest.raises(ValueError, match="; ") as caught:
        parse_address_range(text)
    assert what_is_right in str(caught.value).partition("; ")[2]


@pytest.mark.parametrize(
    ("text", "what_is_right"),
    [
        ("2001:db8::1", "[2001:db8::1]:80"),
        ("[::1", "[2001:db8::1]"),
        ("[::1]80", "[2001:db8::1]:80"),
        ("[10.0.0.1]:80", "brackets are for IPv6"),
        ("10.0.0.1:65536", "1-65535"),
        ("10.0.0.1:", "1-65535"),
        ("", ":PORT"),
    ],
)
def test_what_is_no_endpoint_is_explained(text: str, what_is_right: str) -> None:
    with pytest.raises(ValueError, match="; ") as caught:
        parse_endpoint(text)
    assert what_is_right in str(caught.value)
