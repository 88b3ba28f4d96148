# SPDX-License-Identifier: Apache-2.0
"""Programs and services as classes: those that no condition of some rules can tell apart.

Theory. There are finitely many, and each is shown by a member that can exist.
A set of classes is the bits of an integer; bit 0 is the unknown one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from .cubes import FIELDS, Cube
from .model import Field
from .normal import Vocabulary
from .services import place_of, places_above, unit_named, unit_of

_PROGRAM, _SERVICE = FIELDS.index(Field.PROGRAM), FIELDS.index(Field.SERVICE)


class Programs:
    """The classes of programs; `words` is what numbers them in cubes."""

    def __init__(self, paths: set[str], words: Vocabulary) -> None:
        self._words = words
        self._names: list[str] = []
        folders = {path for path in paths if path.endswith("/")}
        exact = paths - folders
        members = set(exact)
        for folder in folders | {"/"}:  # "/" for what lies in no folder that is named
            name = folder + "program"
            while name in exact:
                name += "-"
            members.add(name)
        self._programs: list[str] = sorted(members)
        self._bit = {path: 2 << number for number, path in enumerate(self._programs)}
        self.all = (2 << len(self._programs)) - 1
        self._below = {folder: self._mask_below(folder) for folder in folders}

    def _mask_below(self, folder: str) -> int:
        first = bisect_left(self._programs, folder)
        last = bisect_left(self._programs, folder + "\U0010ffff")
        return ((1 << (last - first)) - 1) << (first + 1)

    def of(self, cube: Cube) -> int:
        """The classes that a cube holds for."""
        if len(self._names) != len(self._words.programs):
            self._names = list(self._words.programs)
        mask = _numbered(cube, _PROGRAM, self._names, self._bit, self.all)
        return mask & _placed(cube, self._words.directories, self._below, self.all)

    def member(self, mask: int) -> str | None:
        """A program of the first class, `None` when that is the unknown one."""
        first = (mask & -mask).bit_length() - 1
        return self._programs[first - 1] if first else None


class Services:
    """The classes of services; `words` is what numbers them in cubes.

    A slice may lie in any other, and a unit in any slice: only where a path has
    a unit already, that one is fixed.
    """

    def __init__(self, members: set[str], words: Vocabulary) -> None:
        self._words = words
        self._names: list[str] = []
        units = sorted(member for member in members if place_of(member) is None)
        places = {place for member in members if (place := place_of(member)) is not None}
        found: dict[str, None] = {}
        if "/" in places:  # only then is a unit alone another than one whose path is known
            found.update(dict.fromkeys(("/", *units)))
        for place in sorted({"/", *places}):
            below = place.endswith("/")
            if place != "/":
                found[place.rstrip("/")] = None
            if below:
                inside = _fresh_slice(place, places)
                found[inside] = None
                if unit_of(inside + "/x.service") == "x.service":
                    found.update((f"{inside}/{unit}", None) for unit in units)
        self._services = list(found)
        self.all = (2 << len(self._services)) - 1
        self._unit = dict.fromkeys(units, 0)
        self._place = dict.fromkeys(places, 0)
        for number, service in enumerate(self._services):
            bit, unit = 2 << number, unit_named(service)
            if unit in self._unit:
                self._unit[unit] |= bit
            for place in places_above(service):
                if service.startswith("/") and place in self._place:
                    self._place[place] |= bit

    def of(self, cube: Cube) -> int:
        """The classes that a cube holds for."""
        if len(self._names) != len(self._words.units):
            self._names = list(self._words.units)
        mask = _numbered(cube, _SERVICE, self._names, self._unit, self.all)
        return mask & _placed(cube, self._words.cgroups, self._place, self.all)

    def member(self, mask: int) -> str | None:
        """A service of the first class, `None` when that is the unknown one."""
        first = (mask & -mask).bit_length() - 1
        return self._services[first - 1] if first else None


def _fresh_slice(place: str, named: Iterable[str]) -> str:
    """A slice in a place that is in no narrower one of those named."""
    name = place + "x"
    while any(each.startswith(name) for each in named):
        name += "x"
    return name + ".slice"


def _numbered(cube: Cube, field: int, names: list[str], bits: dict[str, int], every: int) -> int:
    """The classes whose numbers a cube's part holds; `names` are those from number 2 on."""
    mask = every
    for values in cube.parts[field]:
        named = 0
        for first, last in values.ranges:
            for name in names[first - 2 : last - 1]:
                named |= bits[name]
        mask &= named if values.inside else ~named
    return mask


def _placed(cube: Cube, numbers: dict[str, int], bits: dict[str, int], every: int) -> int:
    """The classes in all places that the cube is within, and in none that it is without."""
    mask = every
    if cube.within or cube.without:
        for place, number in numbers.items():
            if cube.within >> number & 1:
                mask &= bits[place]
            if cube.without >> number & 1:
                mask &= ~bits[place]
    return mask
