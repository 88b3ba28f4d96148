# SPDX-License-Identifier: Apache-2.0
"""Which network namespaces are covered, on a kernel that only remembers what it was told."""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Mapping

import pytest

from sockrules.agent import coverage, diag
from sockrules.agent.bytecode import stamped
from sockrules.agent.coverage import IDLE, Arrival, Coverage, decode_arrival
from sockrules.agent.instances import Instances, NoInstance
from sockrules.control import abi

OWN, OTHER, MAP = 1000, 2000, 7
COOKIES = {OWN: 11, OTHER: 22}


class FakeKernel:
    """Links, the map `namespaces`, and namespaces that are there or gone."""

    def __init__(self) -> None:
        self.linked: dict[int, int] = {}
        self.told: dict[int, int] = {}
        self.alive = dict(COOKIES)
        self.clock = 0.0

    # as Links
    def numbers(self, _: object) -> set[int]:
        return set(self.linked)

    def is_alive(self, _: object, number: int) -> bool:
        return self.alive.get(number) == self.linked[number]

    def attach(self, _: object, program: int, target: coverage.Target) -> None:
        self.linked[target.number] = self.alive[target.number]

    def detach(self, _: object, number: int) -> bool:
        return self.linked.pop(number, None) is not None

    # as libbpf
    def update(self, _: int, key: bytes, value: bytes) -> None:
        self.told[int.from_bytes(key, sys.byteorder)] = int.from_bytes(value, sys.byteorder)

    def lookup(self, _: int, key: bytes, size: int) -> bytes | None:
        cookie = self.told.get(int.from_bytes(key, sys.byteorder))
        return None if cookie is None else cookie.to_bytes(size, sys.byteorder)

    def delete(self, _: int, key: bytes) -> None:
        self.told.pop(int.from_bytes(key, sys.byteorder), None)

    def keys(self, _: int, size: int) -> list[bytes]:
        return [inum.to_bytes(size, sys.byteorder) for inum in self.told]


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    fake = FakeKernel()
    opened: list[int] = []

    def open_namespace(inum: int, pid: int) -> int | None:
        opened.append(inum)
        return os.open(os.devnull, os.O_RDONLY) if inum in fake.alive else None

    def inside(_: int, work: object) -> object:
        return [] if work is diag.tcp_sockets else fake.alive[opened[-1]]

    monkeypatch.setattr(coverage, "libbpf", fake)
    monkeypatch.setattr(coverage, "open_namespace", open_namespace)
    monkeypatch.setattr(coverage, "inside", inside)
    monkeypatch.setattr(coverage, "netns_inum", lambda: OWN)
    monkeypatch.setattr(coverage, "netns_cookie", lambda: COOKIES[OWN])
    return fake


@pytest.fixture
def covering(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> Coverage:
    """The agent's own namespace is covered."""
    monkeypatch.setattr("sockrules.agent.instances.libbpf", kernel)
    made = Coverage(kernel, lambda: kernel.clock)  # type: ignore[arg-type]
    made.attach(Instances(lambda place: 1_000_000 + place, 0), MAP)
    return made


def listening(*namespaces: int) -> Mapping[int, int]:
    return dict.fromkeys(namespaces, 42)


def test_the_agents_own_namespace_is_covered_and_told(
    kernel: FakeKernel, covering: Coverage
) -> None:
    assert covering.covered == (OWN,)
    assert kernel.told[OWN] == COOKIES[OWN]


def test_an_arrival_is_covered_once(covering: Coverage) -> None:
    arrival = Arrival(OTHER, 42, COOKIES[OTHER], 0)
    assert [each.netns for each in covering.arrived([arrival, arrival])] == [OTHER]
    assert covering.covered == (OWN, OTHER)


def test_a_number_that_is_anothers_by_now_is_covered_anew(
    kernel: FakeKernel, covering: Coverage
) -> None:
    covering.arrived([Arrival(OTHER, 42, 22, 0)])
    kernel.alive[OTHER] = 33
    assert not covering.arrived([Arrival(OTHER, 42, 22, 0)])  # of the one that is gone
    assert covering.arrived([Arrival(OTHER, 43, 33, 0)])
    assert kernel.told[OTHER] == 33
    assert kernel.linked[OTHER] == 33


def test_a_namespace_without_listeners_is_left_after_a_while(
    kernel: FakeKernel, covering: Coverage
) -> None:
    covering.cover(OTHER, 42)
    covering.tend(listening)
    kernel.clock += IDLE - 1
    covering.tend(listening)
    assert covering.covered == (OWN, OTHER)
    kernel.clock += 1
    covering.tend(listening)
    assert covering.covered == (OWN,)
    assert OTHER not in kernel.told
    assert OTHER not in kernel.linked


def test_a_listener_in_between_keeps_it(kernel: FakeKernel, covering: Coverage) -> None:
    covering.cover(OTHER, 42)
    covering.tend(listening)
    kernel.clock += IDLE - 1
    covering.tend(lambda: listening(OTHER))
    kernel.clock += IDLE - 1
    covering.tend(listening)
    assert covering.covered == (OWN, OTHER)


def test_a_listener_that_comes_while_it_is_being_left_keeps_it(
    kernel: FakeKernel, covering: Coverage
) -> None:
    covering.cover(OTHER, 42)
    covering.tend(listening)
    kernel.clock += IDLE
    answers = iter([listening(), listening(OTHER)])
    covering.tend(lambda: next(answers))
    assert covering.covered == (OWN, OTHER)
    assert kernel.told[OTHER] == COOKIES[OTHER]


def test_what_was_missed_is_covered(covering: Coverage) -> None:
    assert covering.tend(lambda: listening(OWN, OTHER)) == [OTHER]
    assert covering.tend(lambda: listening(OWN, OTHER)) == []


def test_what_is_gone_is_left(kernel: FakeKernel, covering: Coverage) -> None:
    covering.cover(OTHER, 42)
    del kernel.alive[OTHER]
    covering.tend(listening)
    assert covering.covered == (OWN,)
    assert not covering.missing


def test_nothing_is_said_of_what_is_gone_though_it_is_registered(
    kernel: FakeKernel, covering: Coverage
) -> None:
    del kernel.alive[OTHER]
    assert covering.tend(lambda: listening(OTHER)) == []
    assert not covering.missing


def test_what_was_told_while_the_links_were_off_is_forgotten(
    kernel: FakeKernel, covering: Coverage
) -> None:
    covering.detach(MAP)
    kernel.told[OTHER] = COOKIES[OTHER]
    covering.attach(Instances(lambda place: 1_000_000 + place, 0), MAP)
    assert OTHER not in kernel.told


def test_an_agent_that_takes_the_links_of_an_earlier_one_off_tells_the_programs_first(
    kernel: FakeKernel, covering: Coverage
) -> None:
    covering.cover(OTHER, 42)
    Coverage(kernel, lambda: kernel.clock).detach(MAP)  # type: ignore[arg-type]
    assert not kernel.told
    assert not kernel.linked


def test_the_links_of_an_earlier_agent_get_the_new_program(
    kernel: FakeKernel, covering: Coverage
) -> None:
    covering.cover(OTHER, 42)
    next_one = Coverage(kernel, lambda: kernel.clock)  # type: ignore[arg-type]
    next_one.attach(Instances(lambda place: 2_000_000 + place, 0), MAP)
    assert next_one.covered == (OWN, OTHER)
    assert not next_one.arrived([Arrival(OTHER, 42, COOKIES[OTHER], 0)])


def test_an_arrival_reads_as_the_kernel_wrote_it() -> None:
    raw = struct.pack("=IIQQ", OTHER, 42, 22, 10**15) + b"padding"
    assert decode_arrival(raw) == Arrival(OTHER, 42, 22, 10**15)


# -- instances --------------------------------------------------------------------------


@pytest.fixture
def places(kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    monkeypatch.setattr("sockrules.agent.instances.libbpf", kernel)
    return kernel.told


def test_an_instance_is_used_again_after_its_namespace(places: dict[int, int]) -> None:
    instances = Instances(lambda place: 1_000_000 + place, 0)
    first = instances.of(OTHER)
    assert instances.of(OTHER) == first
    assert instances.of(OWN) != first
    assert places == {0: OTHER, 1: OWN}
    instances.free(OTHER)
    assert places == {0: 0, 1: OWN}
    assert instances.of(3000) == first
    assert places == {0: 3000, 1: OWN}


def test_what_the_kernel_refuses_is_told(places: dict[int, int]) -> None:
    with pytest.raises(NoInstance, match="not today"):
        Instances(lambda _: "not today", 0).of(OTHER)
    assert not places


# -- the number in the bytecode ---------------------------------------------------------

MARK = abi.C["SR_PLACE_MARK"]


def load(register: int, number: int) -> bytes:
    """ld_imm64 (Documentation/bpf/standardization/instruction-set.rst)."""
    low, high = struct.unpack("=ii", struct.pack("=Q", number))
    return struct.pack("=BBhi", 0x18, register, 0, low) + struct.pack("=BBhi", 0, 0, 0, high)


def test_the_mark_is_replaced_and_nothing_else() -> None:
    leave = struct.pack("=BBhi", 0x95, 0, 0, 0)
    code = load(1, MARK) + load(2, MARK + 1) + load(3, MARK) + leave
    assert stamped(code, MARK, 5) == load(1, 5) + load(2, MARK + 1) + load(3, 5) + leave


def test_code_without_the_mark_is_an_error() -> None:
    with pytest.raises(ValueError, match="no instruction loads"):
        stamped(load(1, 5), MARK, 5)
