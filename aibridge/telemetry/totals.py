"""The numbers of all workers, of the living and of the dead, as one page. A door to prometheus_client.

What is in flight is not told by workers: it is what they have started and not ended. What a dead one had in flight
ended with it, and is counted so at once, as failed and crashed: so at each moment, and for any choice of labels, what
was started is what ended and what is in flight, and no counter goes backwards.
"""

import resource
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from operator import add
from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Metric,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from aibridge.callers import UNKNOWN
from aibridge.lifecycle import STATUS_OF, TERMINATION_OF, Cause
from aibridge.telemetry.series import (
    OTHER,
    CounterFamily,
    Family,
    GaugeFamily,
    HistogramFamily,
    NanoFamily,
    Number,
    Sample,
    samples,
)
from aibridge.telemetry.tally import Children, Described, Tally

STARTED = "aibridge_interceptions_started"
ENDED = "aibridge_interceptions"
INFLIGHT = "aibridge_interceptions_inflight"
_WHERE = ("provider", "model", "route")
"""The labels of what is started, and of what is in flight."""

_CRASHED = {
    "status": STATUS_OF[TERMINATION_OF[Cause.CRASHED]],
    "method": "POST",
    "termination": TERMINATION_OF[Cause.CRASHED].value,
    "cause": Cause.CRASHED.value,
    "client": UNKNOWN,
    "actor": OTHER,
}
"""How an interception ends whose worker died. Who asked died with it; the records know."""

_LASTING = frozenset({"counter", "nano", "histogram"})
"""Kinds of numbers that outlive who counted."""

_COMBINED: dict[str, Callable[[float, float], float]] = {"highest": max, "lowest": min}
"""Kinds of gauges that are not summed up over workers."""

_OF_NUMBERS: dict[str, type[Family[Number]]] = {"counter": CounterFamily, "nano": NanoFamily}

Numbers = dict[Described, Children]


class Totals:
    """Reads the tallies of workers, and adds them up. For one thread."""

    def __init__(self) -> None:
        self._tallies: dict[int, Tally] = {}
        self._past: Numbers = {}

    def add(self, pid: int, tally: Tally) -> None:
        """Count a worker in, before it has counted anything."""
        self._tallies[pid] = tally

    def gone(self, pid: int) -> None:
        """Keep what a dead worker has counted, and end what it left open."""
        left = self._tallies.pop(pid).read()
        _end_what_is_open(left)
        _add_to(self._past, {family: children for family, children in left.items() if family.kind in _LASTING})

    @property
    def live(self) -> int:
        """How many interceptions are under way."""
        return int(sum(_in_flight(self._sum()).values()))

    def render(self, more: Iterable[Family[Any]] = ()) -> tuple[bytes, str]:
        """Return the text for a scrape and its content type.

        Args:
            more: families of the supervisor's own.
        """
        registry = CollectorRegistry(auto_describe=False)
        PlatformCollector(registry=registry)
        for family in (*_families(self._sum()), *more):
            registry.register(family)
        registry.register(_Processes(["self", *map(str, self._tallies)]))
        return generate_latest(registry), CONTENT_TYPE_LATEST

    def snapshot(self, wanted: Callable[[str], bool]) -> list[Sample]:
        """Return the samples of the families whose names are wanted."""
        return samples(_families(self._sum()), wanted)

    def _sum(self) -> Numbers:
        total: Numbers = {}
        for numbers in (self._past, *(tally.read() for tally in self._tallies.values())):
            _add_to(total, numbers)
        return total


class _Processes:
    """The library's metrics of a process, summed up over several."""

    def __init__(self, pids: Sequence[str]) -> None:
        self._pids = pids

    def collect(self) -> Iterator[Metric]:
        """Yield them; the start is the supervisor's, and the CPU of dead workers counts."""
        sums: dict[str, Metric] = {}
        for pid in self._pids:
            for metric in ProcessCollector(pid=partial(str, pid), registry=None).collect():
                first = sums.setdefault(metric.name, metric)
                if first is not metric and metric.name != "process_start_time_seconds":
                    _raise_by(first, metric.samples[0].value)
        if "process_cpu_seconds" in sums:
            dead = resource.getrusage(resource.RUSAGE_CHILDREN)
            _raise_by(sums["process_cpu_seconds"], dead.ru_utime + dead.ru_stime)
        yield from sums.values()


def _raise_by(metric: Metric, amount: float) -> None:
    sample = metric.samples[0]
    metric.samples[0] = sample._replace(value=sample.value + amount)


def _add_to(total: Numbers, numbers: Numbers) -> None:
    """Add what a worker has counted. Where a family has changed with the program, only what it is now counts."""
    for family, children in numbers.items():
        for other in [one for one in total if one.name == family.name and one != family]:
            del total[other]
        sums = total.setdefault(family, {})
        combine = _COMBINED.get(family.kind, add)
        for labels, cells in children.items():
            before = sums.get(labels)
            sums[labels] = cells if before is None else list(map(combine, before, cells))


def _family(numbers: Numbers, name: str) -> tuple[tuple[str, ...], Children]:
    """Return the labels and the children of a family."""
    return next(((family.labels, children) for family, children in numbers.items() if family.name == name), ((), {}))


def _in_flight(numbers: Numbers) -> dict[tuple[str, ...], float]:
    """Return what was started and has not ended, by provider, model and route."""
    _, started = _family(numbers, STARTED)
    labels, ended = _family(numbers, ENDED)
    left = {where: cells[0] for where, cells in started.items()}
    for values, cells in ended.items():
        where = _where(labels, values)
        left[where] = left.get(where, 0.0) - cells[0]
    return left


def _where(labels: tuple[str, ...], values: tuple[str, ...]) -> tuple[str, ...]:
    named = dict(zip(labels, values, strict=True))
    return tuple(named[label] for label in _WHERE)


def _end_what_is_open(numbers: Numbers) -> None:
    labels, ended = _family(numbers, ENDED)
    for where, count in _in_flight(numbers).items():
        if count:
            named = _CRASHED | dict(zip(_WHERE, where, strict=True))
            values = tuple(named[label] for label in labels)
            ended[values] = [count + ended.get(values, (0.0,))[0]]


def _families(numbers: Numbers) -> Iterator[Family[Any]]:
    for described, children in numbers.items():
        name, kind, text, labels, bounds = described
        if kind == "histogram":
            yield _histogram(HistogramFamily(name, text, labels, bounds), children)
        else:
            yield _numbers(_OF_NUMBERS.get(kind, GaugeFamily)(name, text, labels), children)
    in_flight: Children = {where: (count,) for where, count in _in_flight(numbers).items()}
    yield _numbers(GaugeFamily(INFLIGHT, "Interceptions under way.", _WHERE), in_flight)


def _numbers(family: Family[Number], children: Children) -> Family[Number]:
    for labels, cells in children.items():
        family.child(*labels).value = cells[0]
    return family


def _histogram(family: HistogramFamily, children: Children) -> HistogramFamily:
    for labels, cells in children.items():
        child = family.child(*labels)
        child.counts, child.total = list(map(int, cells[:-1])), cells[-1]
    return family
