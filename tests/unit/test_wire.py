# SPDX-License-Identifier: Apache-2.0
"""Frames: every message comes through, however the stream is cut; garbage never does."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sockrules.control.wire import LARGEST, FrameError, FrameReader, encode

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
MESSAGES = st.dictionaries(st.text(), VALUES, max_size=5)


def framed(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


def test_the_example_of_the_documentation() -> None:
    expected = b"\x00\x00\x00\x0e\x81\xa7command\xa4hits"
    assert encode({"command": "hits"}) == expected


@given(MESSAGES)
def test_a_message_comes_through_whole(message: dict[str, object]) -> None:
    assert FrameReader().feed(encode(message)) == [message]


@given(st.lists(MESSAGES, max_size=4), st.lists(st.integers(0, 400), max_size=8))
def test_a_stream_may_be_cut_anywhere(messages: list[dict[str, object]], cuts: list[int]) -> None:
    stream = b"".join(map(encode, messages))
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    reader = FrameReader()
    read = []
    for start, end in zip(places, places[1:], strict=False):
        read += reader.feed(stream[start:end])
    assert read == messages
    assert reader.pending == 0


def test_byte_by_byte() -> None:
    frame = encode({"a": [1, {"b": "ü"}]})
    reader = FrameReader()
    answers = [reader.feed(frame[at : at + 1]) for at in range(len(frame))]
    assert answers == [[]] * (len(frame) - 1) + [[{"a": [1, {"b": "ü"}]}]]


def test_half_a_frame_is_pending_and_no_message() -> None:
    frame = encode({"command": "status"})
    reader = FrameReader()
    assert reader.feed(frame + frame[:7]) == [{"command": "status"}]
    assert reader.pending == 7


@pytest.mark.parametrize(
    "bad",
    [
        framed(b""),
        framed(b"\xc1"),  # never used in msgpack
        framed(b"\x81\xa1a"),  # a map without its value
        framed(b"\x80\x80"),  # something behind the map
        framed(msgpack.packb([1, 2])),
        framed(msgpack.packb(7)),
        framed(msgpack.packb({1: 2})),
        framed(msgpack.packb({"a": msgpack.ExtType(5, b"x")})),
        framed(b"\x81\xa1a\xa1\xff"),  # a text that is not UTF-8
        framed(b"\x91" * 5000 + b"\x90"),
        b"GET / HTTP/1.1\r\n\r\n",
        (LARGEST + 1).to_bytes(4, "big"),
    ],
)
def test_garbage_is_an_error_and_the_stream_is_over(bad: bytes) -> None:
    reader = FrameReader()
    with pytest.raises(FrameError):
        reader.feed(bad)
    with pytest.raises(FrameError):
        reader.feed(encode({"command": "status"}))
    assert reader.pending == 0


@given(st.binary(max_size=64))
def test_any_bytes_are_messages_or_a_frame_error(data: bytes) -> None:
    try:
        messages = FrameReader().feed(framed(data))
    except FrameError:
        return
    assert all(isinstance(message, dict) for message in messages)


@pytest.mark.parametrize("value", [object(), 2**64, {1, 2}])
def test_what_a_frame_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(FrameError):
        encode({"value": value})


def test_a_message_that_is_too_long_is_refused() -> None:
    with pytest.raises(FrameError, match="at most"):
        encode({"text": "x" * LARGEST})
