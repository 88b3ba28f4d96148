# SPDX-License-Identifier: Apache-2.0
"""From transactions that need a rule to rules that a person would write; no file is looked at.

Rules. One rule for a server, a program and a user, unless its ports have
different peers; one rule for several users where all else is the same. The
port that a rule asks for is the served one: the local port of listen and
accept, the remote port of connect. A listener that was only seen on certain
addresses is held to them. What is unknown of a transaction cannot be asked
for, and is said.

`Proposal.broader` says, field by field, what a rule allows that was not seen.
What no rule here ever asks for is in NEVER_ASKED and said once for all.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from .addresses import MAPPED
from .captured import Captured
from .condition import Range
from .generalise import FEW, MANY, Generalised, addresses, is_loopback, is_public, ports
from .model import Field, Request, Server
from .names import Names
from .proposal_names import with_names
from .proposal_text import condition, expressible

_INTERPRETER = re.compile(r"(python|perl|ruby|node|java|php|bash|dash|sh)[0-9.]*")
_WILDCARDS = (0, MAPPED)

PORT_OF = {
    Server.LISTEN: Field.LOCAL_PORT,
    Server.ACCEPT: Field.LOCAL_PORT,
    Server.CONNECT: Field.REMOTE_PORT,
}
ADDRESS_OF = {
    Server.LISTEN: Field.LOCAL_ADDRESS,
    Server.ACCEPT: Field.REMOTE_ADDRESS,
    Server.CONNECT: Field.REMOTE_ADDRESS,
}
NEVER_ASKED = {
    Server.LISTEN: frozenset({Field.GROUP}),
    Server.ACCEPT: frozenset({Field.GROUP, Field.LOCAL_ADDRESS, Field.REMOTE_PORT}),
    Server.CONNECT: frozenset({Field.GROUP, Field.LOCAL_ADDRESS, Field.LOCAL_PORT}),
}


@dataclass(frozen=True, slots=True)
class Proposal:
    """A rule that allows what was captured. `program` and `users` are `None` for any.

    `broader` holds the sentences for what was not seen: under the fields that
    are generalised, and under `None` for combinations of values. `notes` are
    sentences about what a rule of this kind cannot tell.
    """

    server: Server
    program: str | None
    users: tuple[int, ...] | None
    ports: Generalised
    addresses: Generalised
    captured: tuple[Captured, ...]
    broader: dict[Field | None, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    name: str = ""
    when: str = ""

    def allows(self, request: Request) -> bool:
        """Whether the rule matches, by its own account."""
        port = getattr(request, PORT_OF[self.server].value.replace(".", "_"))
        address = getattr(request, ADDRESS_OF[self.server].value.replace(".", "_"))
        return (
            request.server is self.server
            and (self.program is None or request.program == self.program)
            and (self.users is None or request.user in self.users)
            and (self.ports.ranges is None or (port is not None and self.ports.holds(port)))
            and (
                self.addresses.ranges is None
                or (address is not None and self.addresses.holds(address))
            )
        )


def propose(needing: Iterable[Captured], names: Names, taken: Iterable[str] = ()) -> list[Proposal]:
    """Rules that allow all of these transactions, in the order in which they read best.

    `taken` are names that other rules have.
    """
    groups: dict[tuple[Server, str | None, int | None], list[Captured]] = defaultdict(list)
    for one in needing:
        program = one.request.program
        key = program if program is not None and expressible(program) else None
        groups[one.request.server, key, one.request.user].append(one)
    found: list[Proposal] = []
    for (server, program, user), captured in groups.items():
        users = None if user is None else (user,)
        found += _of_group(server, program, users, captured)
    found = _without_covered(_with_users_merged(found))
    found.sort(key=_reading_order)
    found = [
        replace(each, when=condition(each.program, each.users, _asked(each), names))
        for each in found
    ]
    return with_names(found, names, taken)


def _reading_order(one: Proposal) -> tuple[object, ...]:
    lowest = one.ports.ranges[0][0] if one.ports.ranges else 0
    program = one.program or ""
    return one.server, not program, program.rpartition("/")[2], program, lowest, one.users or ()


def _of_group(
    server: Server, program: str | None, users: tuple[int, ...] | None, captured: list[Captured]
) -> list[Proposal]:
    """The rules of one program and user: one, or one for each set of peers."""
    by_port: dict[Range | None, list[Captured]] = defaultdict(list)
    for one in captured:
        by_port[_port(one)].append(one)
    chosen = [port for port in by_port if port is not None and port[0] == port[1]]
    if None in by_port or len(chosen) < len(by_port) or len(chosen) > MANY:
        clumps = _few_clumps(by_port)
    else:
        clumps = list(by_port.values())
    return _joined([_proposal(server, program, users, clump) for clump in clumps])


def _few_clumps(by_port: dict[Range | None, list[Captured]]) -> list[list[Captured]]:
    """Ports that cannot be told one by one, together; those that can, if they are few."""
    few: list[list[Captured]] = []
    many: list[Captured] = []
    single = sum(1 for port in by_port if port is not None and port[0] == port[1])
    for port, clump in by_port.items():
        if port is not None and not _is_folded(clump) and single <= MANY:
            few.append(clump)
        else:
            many += clump
    return [*few, *([many] if many else [])]


def _joined(proposals: list[Proposal]) -> list[Proposal]:
    """Ports whose peers are the same share a rule; so do those of peers all among another's.

    The latter not where it would open a port to a world that was not seen there:
    a port with inside peers only does not join one that is open to any.
    """
    proposals = sorted(proposals, key=lambda each: -_width(each.addresses))
    kept: list[Proposal] = []
    for one in proposals:
        for at, other in enumerate(kept):
            if _may_join(one, other):
                kept[at] = _proposal(
                    one.server, one.program, one.users, [*other.captured, *one.captured]
                )
                break
        else:
            kept.append(one)
    return kept


def _may_join(one: Proposal, other: Proposal) -> bool:
    if _is_folded(one.captured) or _is_folded(other.captured) or other.ports.ranges is None:
        return False
    if one.addresses.ranges == other.addresses.ranges:
        return True
    seen = [address for each in one.captured if (address := _address(each)) is not None]
    if one.server is Server.LISTEN or all(map(is_loopback, seen)):
        return False
    if other.addresses.ranges is None and not any(map(is_public, seen)):
        return False
    return _among(one.addresses, other.addresses)


def _with_users_merged(proposals: list[Proposal]) -> list[Proposal]:
    """One rule for users that do the same with the same program."""
    same: dict[tuple[object, ...], list[Proposal]] = defaultdict(list)
    for one in proposals:
        key = (one.server, one.program, one.ports.ranges, one.addresses.ranges)
        same[(*key, None) if one.users is not None else (*key, id(one))].append(one)
    merged = []
    for group in same.values():
        first = group[0]
        if len(group) == 1:
            merged.append(first)
            continue
        captured = [one for each in group for one in each.captured]
        users = tuple(sorted({user for each in group for user in each.users or ()}))
        merged.append(_proposal(first.server, first.program, users, captured))
    return merged


def _without_covered(proposals: list[Proposal]) -> list[Proposal]:
    """Without those whose every request another one allows."""
    kept: list[Proposal] = []
    for at, one in enumerate(proposals):
        others = [*kept, *proposals[at + 1 :]]
        if not any(_covers(other, one) for other in others):
            kept.append(one)
    return kept


def _covers(wide: Proposal, narrow: Proposal) -> bool:
    return (
        wide.server is narrow.server
        and (wide.program is None or wide.program == narrow.program)
        and (
            wide.users is None
            or (narrow.users is not None and set(narrow.users) <= set(wide.users))
        )
        and _among(narrow.ports, wide.ports)
        and _among(narrow.addresses, wide.addresses)
    )


def _proposal(
    server: Server,
    program: str | None,
    users: tuple[int, ...] | None,
    captured: Sequence[Captured],
) -> Proposal:
    broader: dict[Field | None, str] = {}
    notes: tuple[str, ...] = ()
    if program is None:
        broader[Field.PROGRAM] = _why_any_program(captured)
    elif _INTERPRETER.fullmatch(program.rpartition("/")[2]):
        notes = (f"{program} runs any script, and the rule does not ask for which.",)
    if users is None:
        broader[Field.USER] = "any user: it was not known whose socket it was"
    elif len(users) > MANY:
        broader[Field.USER] = f"any user: {len(users)} were seen"
        users = None
    port_set = _ports(server, captured)
    address_set = _addresses(server, captured)
    if port_set.sentence:
        broader[PORT_OF[server]] = port_set.sentence
    if address_set.sentence:
        broader[ADDRESS_OF[server]] = address_set.sentence
    if not _is_product(users, port_set, address_set, captured):
        who = " and user" if users and users[1:] else ""
        broader[None] = f"every port with every address{who}"
    return Proposal(server, program, users, port_set, address_set, tuple(captured), broader, notes)


def _is_product(
    users: tuple[int, ...] | None,
    port_set: Generalised,
    address_set: Generalised,
    captured: Sequence[Captured],
) -> bool:
    """Whether every combination of what the rule names was seen; generalised fields aside."""
    seen = {
        (
            one.request.user if users else None,
            None if port_set.sentence else _port(one),
            None if address_set.sentence else _address(one),
        )
        for one in captured
    }
    sides = [len({combination[at] for combination in seen}) for at in range(3)]
    return len(seen) == sides[0] * sides[1] * sides[2]


def _asked(one: Proposal) -> list[tuple[Field, Generalised]]:
    return [(PORT_OF[one.server], one.ports), (ADDRESS_OF[one.server], one.addresses)]


def _ports(server: Server, captured: Sequence[Captured]) -> Generalised:
    what = PORT_OF[server].value
    known = [port for one in captured if (port := _port(one)) is not None]
    if len(known) < len(captured):
        return Generalised(None, (), f"any {what}: it was not known")
    return ports(known, what, folded=_is_folded(captured))


def _addresses(server: Server, captured: Sequence[Captured]) -> Generalised:
    what = ADDRESS_OF[server].value
    known = [address for one in captured if (address := _address(one)) is not None]
    if len(known) < len(captured):
        return Generalised(None, (), f"any {what}: it was not known")
    if server is not Server.LISTEN:
        return addresses(known, what)
    if wildcards := sorted({each for each in known if each in _WILDCARDS}):
        shown = " and ".join("0.0.0.0" if each == MAPPED else "::" for each in wildcards)
        return Generalised(None, (), f"any {what}, as it listened on {shown}")
    if len(set(known)) > FEW and not all(map(is_loopback, known)):
        return Generalised(None, (), f"any {what}: {len(set(known))} were seen")
    return addresses(known, what)


def _port(one: Captured) -> Range | None:
    """The served port, as a range when it was folded."""
    request = one.request
    if request.server is Server.LISTEN and one.folded is not None:
        return one.folded
    port = request.remote_port if request.server is Server.CONNECT else request.local_port
    return None if port is None else (port, port)


def _address(one: Captured) -> int | None:
    request = one.request
    return request.local_address if request.server is Server.LISTEN else request.remote_address


def _is_folded(captured: Sequence[Captured]) -> bool:
    return any(one.request.server is Server.LISTEN and one.folded is not None for one in captured)


def _among(narrow: Generalised, wide: Generalised) -> bool:
    if wide.ranges is None:
        return True
    if narrow.ranges is None:
        return False
    return all(
        any(first <= low and high <= last for first, last in wide.ranges)
        for low, high in narrow.ranges
    )


def _width(one: Generalised) -> int:
    if one.ranges is None:
        return 1 << 129
    return sum(last - first + 1 for first, last in one.ranges)


def _why_any_program(captured: Sequence[Captured]) -> str:
    paths = sorted({one.request.program for one in captured if one.request.program is not None})
    if not paths:
        return "any program: it was not known"
    return f"any program: {paths[0]} is not a path that a condition can name"
