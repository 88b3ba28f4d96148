# SPDX-License-Identifier: Apache-2.0
"""Addresses, prefixes and endpoints as people write them, and as numbers.

Rules. An address is a 128-bit integer, its bytes in network order. IPv4 and
IPv4-mapped IPv6 are one address space: `10.0.0.5` and `::ffff:10.0.0.5` are the
same number, and it is shown as `10.0.0.5`. Port 0 is unknown, `None`.
Every function that reads raises ValueError with a sentence for people.
"""

from __future__ import annotations

import ipaddress
import re
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

MAPPED = 0xFFFF << 32
"""::ffff:0:0, the mapped form of 0.0.0.0."""

LOOPBACK_4 = MAPPED | 0x7F000001
LOOPBACK_6 = 1
LAST_ADDRESS = (1 << 128) - 1
LAST_PORT = 65535

Endpoint = tuple[int | None, int | None]
"""Address and port, each `None` when unknown."""

_PORT = re.compile(r"[0-9]{1,5}")


def is_ipv4(address: int) -> bool:
    """Whether an address lies in the mapped IPv4 space."""
    return address >> 32 == 0xFFFF


def parse_address(text: str) -> int:
    """The number of `10.0.0.5` or `2001:db8::1`."""
    try:
        if ":" in text:
            return int.from_bytes(inet_pton(AF_INET6, text), "big")
        return MAPPED | int.from_bytes(inet_pton(AF_INET, text), "big")
    except (OSError, ValueError):  # ValueError: a zero byte or a lone surrogate
        raise ValueError(f"{text} is not an address; {_what_is_wrong(text)}") from None


def format_address(address: int) -> str:
    """The shortest usual text; mapped addresses in IPv4's dotted form."""
    if is_ipv4(address):
        return inet_ntop(AF_INET, (address & 0xFFFFFFFF).to_bytes(4, "big"))
    return str(ipaddress.IPv6Address(address))


def parse_prefix(text: str) -> tuple[int, int]:
    """First and last address of `10.0.0.0/8`; a plain address is a prefix of one."""
    base, slash, length_text = text.partition("/")
    address = parse_address(base)
    if not slash:
        return address, address
    width = 128 if ":" in base else 32
    if not re.fullmatch(r"[0-9]{1,3}", length_text) or int(length_text) > width:
        raise ValueError(f"{text} is not a prefix; {_right_length(base, length_text, width)}")
    span = (1 << (width - int(length_text))) - 1
    if address & span:
        first = _format_like(base, address & ~span)
        raise ValueError(
            f"{text} has bits set beyond its length; use {first}/{length_text}, "
            f"or {base} for the one address"
        )
    return address, address | span


def parse_address_range(text: str) -> tuple[int, int]:
    """First and last address of an address, a prefix, or a range `10.0.0.1-10.0.0.9`."""
    first_text, dash, last_text = text.partition("-")
    if not dash:
        return parse_prefix(text)
    if "/" in text:
        raise ValueError(f"{text} mixes a range and a prefix; use one of them")
    first, last = parse_address(first_text), parse_address(last_text)
    if (":" in first_text) != (":" in last_text):
        raise ValueError(f"{text} mixes IPv4 and IPv6; use two ranges")
    if first > last:
        raise ValueError(f"{text} runs backwards; use {last_text}-{first_text}")
    return first, last


def parse_port(text: str) -> int | None:
    """A port 1-65535; 0 is unknown, `None`."""
    if not _PORT.fullmatch(text) or int(text) > LAST_PORT:
        raise ValueError(f"{text} is not a port; use 1-65535")
    return int(text) or None


def parse_endpoint(text: str) -> Endpoint:
    """Address and port of `10.0.0.5:443`, `[2001:db8::1]:80`, `:443`, `10.0.0.5` or `[::1]`."""
    if text.startswith("["):
        inside, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{text} is not an endpoint; use [2001:db8::1] or [2001:db8::1]:80")
        if ":" not in inside:
            raise ValueError(f"{text} is not an endpoint; brackets are for IPv6 addresses")
        return parse_address(inside), parse_port(rest[1:]) if rest else None
    if text.count(":") > 1:
        raise ValueError(
            f"{text} is not an endpoint; put an IPv6 address in brackets, as in [2001:db8::1]:80"
        )
    address_text, colon, port_text = text.partition(":")
    if not address_text and not colon:
        raise ValueError("an endpoint is empty; use ADDRESS, ADDRESS:PORT or :PORT")
    address = parse_address(address_text) if address_text else None
    return address, parse_port(port_text) if colon else None


def format_endpoint(address: int | None, port: int | None) -> str:
    """What parse_endpoint reads; empty when both are unknown."""
    shown = "" if address is None else format_address(address)
    if ":" in shown:
        shown = f"[{shown}]"
    return shown if port is None else f"{shown}:{port}"


def _format_like(model: str, address: int) -> str:
    """An address in the notation of another: mapped ones written out stay written out."""
    shown = format_address(address)
    return f"::ffff:{shown}" if ":" in model and ":" not in shown else shown


def _right_length(base: str, length_text: str, width: int) -> str:
    if "." in length_text and ":" not in length_text:
        try:
            return f"use {ipaddress.IPv4Network(f'{base}/{length_text}', strict=False)}"
        except ValueError:
            pass
    return f"its length is 0-{width}"


def _what_is_wrong(text: str) -> str:
    """Why a text is no address, and what would be one."""
    if "%" in text and ":" in text:
        return "leave out the zone after %"
    if text.startswith("[") and text.endswith("]"):
        return "leave out the brackets"
    if "/" in text:
        return "a prefix cannot stand here"
    parts = text.split(".")
    if ":" not in text and all(re.fullmatch(r"[0-9]+", part) for part in parts):
        if len(parts) != 4:
            return "an IPv4 address has four parts, as in 10.0.0.5"
        if any(len(part) > 1 and part.startswith("0") for part in parts):
            return "its parts are written without leading zeros"
        return "its parts are 0-255"
    if re.fullmatch(r"[0-9A-Fa-f:.]+", text) and ":" in text:
        return "use the form 2001:db8::1"
    if re.fullmatch(r"[A-Za-z0-9_.-]+", text):
        return "host names are not looked up, use the address, as in 10.0.0.5"
    return "use the form 10.0.0.5 or 2001:db8::1"
