"""The numbers of one worker, in memory that its supervisor shares: a process that is killed takes none with it.

The memory is a file without a name. It begins with its length in use; entries follow, and only ever more of them: a
family's description, or a child of it, with its labels and its cells. A cell is a double, written by the worker where
it counts, read by the supervisor at a scrape. An entry is there once the length says so.
"""

import math
import mmap
import os
import struct
import threading
from array import array
from bisect import bisect_left
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from aibridge.jsontext import dumps, loads
from aibridge.telemetry.series import CounterFamily, Family, HistogramFamily, NanoFamily

SIZE = 256 * 1024 * 1024
"""Of the memory; what is not used is not taken. The worst case of all metrics together is a tenth of it."""

_START = 8
_ENTRY = struct.Struct("<IIII")
"""The bytes of its text and of all of it, the number of its cells, and of its family; a family's own is none."""
_NO_FAMILY = 0xFFFFFFFF


class Described(NamedTuple):
    """What a family is, whoever counts in it."""

    name: str
    kind: str
    """`counter`, `nano`, `histogram` or `gauge`; of a gauge `highest` or `lowest`, where not the sum tells."""
    text: str
    labels: tuple[str, ...]
    bounds: tuple[float, ...] = ()


Children = dict[tuple[str, ...], Sequence[float]]
"""Cells by labels: of a histogram one for each bucket, the last one's end at infinity, and the sum."""


def create() -> int:
    """Return the descriptor of a new memory. Linux only."""
    fd = os.memfd_create("aibridge-tally", os.MFD_CLOEXEC)
    os.ftruncate(fd, SIZE)
    return fd


class Tally:
    """A memory, to be written by its worker and read by the supervisor.

    Args:
        fd: of the memory; may be closed afterwards.
    """

    def __init__(self, fd: int) -> None:
        self._memory = memoryview(mmap.mmap(fd, SIZE))
        self._used = self._memory[:_START].cast("Q")
        self._lock = threading.Lock()
        self._families = 0

    def describe(self, family: Described) -> int:
        """Add a family; returns its number."""
        with self._lock:
            self._append(list(family), _NO_FAMILY, 0)
            self._families += 1
            return self._families - 1

    def place(self, family: int, labels: tuple[str, ...], cells: int) -> "memoryview[float]":
        """Return the cells of a new child, all zero. Where the memory is full they are nobody's but the caller's."""
        with self._lock:
            return self._append(list(labels), family, cells)

    def _append(self, text: list[Any], family: int, cells: int) -> "memoryview[float]":
        key = dumps(text)
        at = self._used[0] or _START
        first = at + _ENTRY.size + -(-len(key) // 8) * 8
        end = first + 8 * cells
        if end > SIZE:
            return memoryview(array("d", bytes(8 * cells)))
        _ENTRY.pack_into(self._memory, at, len(key), end - at, cells, family)
        self._memory[at + _ENTRY.size : at + _ENTRY.size + len(key)] = key
        self._used[0] = end
        return self._memory[first:end].cast("d")

    def read(self) -> dict[Described, Children]:
        """Return all families with their children.

        What was placed later is read earlier: of two children that are counted in the order in which they were placed,
        as what is started is before it is ended, the second is never ahead of the first.
        """
        described: list[Described] = []
        found: dict[Described, Children] = {}
        placed: list[tuple[Children, tuple[str, ...], int, int]] = []
        at, used = _START, self._used[0]
        while at < used:
            size, whole, cells, family = _ENTRY.unpack_from(self._memory, at)
            text = loads(bytes(self._memory[at + _ENTRY.size : at + _ENTRY.size + size]))
            at += whole
            if family == _NO_FAMILY:
                name, kind, help_text, labels, bounds = text
                described.append(Described(name, kind, help_text, tuple(labels), tuple(bounds)))
                found[described[-1]] = {}
            else:
                children = found[described[family]]
                children[tuple(text)] = ()
                placed.append((children, tuple(text), at - 8 * cells, at))
        for children, labels, first, end in reversed(placed):
            children[labels] = self._memory[first:end].cast("d").tolist()
        return found


class SharedNumber:
    """A `Number` whose value others see."""

    __slots__ = ("_cells",)

    def __init__(self, cells: "memoryview[float]") -> None:
        self._cells = cells

    @property
    def value(self) -> float:
        """As `Number` has it."""
        return self._cells[0]

    @value.setter
    def value(self, value: float) -> None:
        self._cells[0] = value


class SharedDistribution:
    """A `Distribution` whose counts others see: a cell for each bucket, and the sum."""

    __slots__ = ("_bounds", "_cells")

    def __init__(self, bounds: Sequence[float], cells: "memoryview[float]") -> None:
        self._bounds = bounds
        self._cells = cells

    def observe(self, value: float) -> None:
        """As `Distribution` has it."""
        self._cells[bisect_left(self._bounds, value)] += 1
        self._cells[-1] += value


def _kind_of(family: Family[Any]) -> str:
    if isinstance(family, NanoFamily):
        return "nano"
    if isinstance(family, CounterFamily):
        return "counter"
    return "histogram" if isinstance(family, HistogramFamily) else "gauge"


class SharedFamily:
    """A `Family` whose children are in a tally.

    Args:
        family: what it stands for; nothing was counted in it.
        tally: where they are.
        kind: of a gauge, where not the sum of all workers tells: `highest` or `lowest`.
    """

    def __init__(self, family: Family[Any], tally: Tally, *, kind: str = "") -> None:
        self.name = family.name
        self.labels = family.labels
        self._family = family
        self._tally = tally
        self._bounds = family.bounds if isinstance(family, HistogramFamily) else ()
        described = Described(family.name, kind or _kind_of(family), family.text, family.labels, self._bounds)
        self._number = tally.describe(described)
        self._children: dict[tuple[str, ...], SharedNumber | SharedDistribution] = {}

    def child(self, *values: str) -> Any:
        """As `Family` has it."""
        return self._children.get(values) or self._add(values)

    def forget_others(self, told: Collection[tuple[str, ...]]) -> None:
        """Say of a gauge's children that are not told any more that they are no number: nothing can be taken back."""
        for values in self._children.keys() - told:
            self.child(*values).value = math.nan

    def _add(self, values: tuple[str, ...]) -> SharedNumber | SharedDistribution:
        values = self._family.folded(values, len(self._children))
        return self._children.get(values) or self._children.setdefault(values, self._new(values))

    def _new(self, values: tuple[str, ...]) -> SharedNumber | SharedDistribution:
        if self._bounds:
            return SharedDistribution(self._bounds, self._tally.place(self._number, values, len(self._bounds) + 2))
        return SharedNumber(self._tally.place(self._number, values, 1))
