"""Numbers with labels, cheaper to count with than the library's. A door to prometheus_client.

The library looks labels up with a lock, and takes one for each increment: several times the cost of the addition.
A `Family` here keeps its children in one dict, and a child is a number to add to; the library asks for them at a
scrape, and writes the text.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Generic, NamedTuple, TypeVar

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

OTHER = "other"
"""The label of what is past a bound."""


class Names:
    """Names from outside that become labels: those that are known, and a few others, first come, first served.

    Args:
        limit: others at most.
        known: always labels of their own.
        max_length: characters; a longer name is `other`.
    """

    def __init__(self, limit: int, *, known: frozenset[str] = frozenset(), max_length: int = 128) -> None:
        self._names = set(known)
        self._left = limit
        self._max_length = max_length

    def know(self, names: Iterable[str]) -> None:
        """Let more names be labels of their own; one that was `other` until now is no longer."""
        self._names.update(names)

    def label(self, name: str) -> str:
        """Return the name, or `other`. What was its own label is never `other` later."""
        if name in self._names:
            return name
        if self._left <= 0 or not name or len(name) > self._max_length or not _is_text(name):
            return OTHER
        self._left -= 1
        self._names.add(name)
        return name


def _is_text(name: str) -> bool:
    """Whether a name can be written down: half a surrogate pair, which JSON has a way to say, would break the page."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


class Sample(NamedTuple):
    """A number as it is told, by its name and its labels."""

    name: str
    labels: dict[str, str]
    value: float


class Number:
    """A child of a counter or a gauge: add to `value`."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0.0


class Distribution:
    """A child of a histogram."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value in the first bucket whose bound is not below it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Bound(NamedTuple):
    """Past `series` children the labels `folded` are `other`, for what has no child yet."""

    series: int
    folded: frozenset[str]


_Child = TypeVar("_Child", Number, Distribution)


class Family(Generic[_Child]):
    """One metric, which the registry collects: a child for each choice of labels."""

    def __init__(self, name: str, text: str, labels: tuple[str, ...], bound: Bound | None = None) -> None:
        self.name = name
        self.labels = labels
        self.text = text
        self._bound = bound
        self._children: dict[tuple[str, ...], _Child] = {}

    def child(self, *values: str) -> _Child:
        """Return the child with these labels, in the order of `labels`."""
        return self._children.get(values) or self._add(values)

    def collect(self) -> Iterator[Metric]:
        """Yield the metric as the library wants it."""
        raise NotImplementedError

    def folded(self, values: tuple[str, ...], children: int) -> tuple[str, ...]:
        """Return the labels of a child that is new, where so many are there."""
        if self._bound is None or children < self._bound.series:
            return values
        folded = self._bound.folded
        return tuple(OTHER if label in folded else value for label, value in zip(self.labels, values, strict=True))

    def _add(self, values: tuple[str, ...]) -> _Child:
        return self._children.setdefault(self.folded(values, len(self._children)), self._new())

    def _new(self) -> _Child:
        raise NotImplementedError


class CounterFamily(Family[Number]):
    """Counts up; its samples are named `<name>_total`."""

    def collect(self) -> Iterator[Metric]:
        """Yield the metric as the library wants it."""
        metric = CounterMetricFamily(self.name, self.text, labels=self.labels)
        for labels, child in self._children.items():
            metric.add_metric(labels, child.value)
        yield metric

    def _new(self) -> Number:
        return Number()


class NanoFamily(CounterFamily):
    """Counts up in billionths, and tells the whole: sums of whole numbers are exact, up to nine millions' worth."""

    def collect(self) -> Iterator[Metric]:
        """Yield the metric as the library wants it."""
        metric = CounterMetricFamily(self.name, self.text, labels=self.labels)
        for labels, child in self._children.items():
            metric.add_metric(labels, child.value / 1e9)
        yield metric


class GaugeFamily(Family[Number]):
    """Goes up and down."""

    def collect(self) -> Iterator[Metric]:
        """Yield the metric as the library wants it."""
        metric = GaugeMetricFamily(self.name, self.text, labels=self.labels)
        for labels, child in self._children.items():
            metric.add_metric(labels, child.value)
        yield metric

    def _new(self) -> Number:
        return Number()


class AskedGauge(Family[Number]):
    """One number, which somebody else knows: `ask` tells it at each scrape."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(name, text, ())
        self.ask: Callable[[], float] = float

    def collect(self) -> Iterator[Metric]:
        """Yield the metric as the library wants it."""
        yield GaugeMetricFamily(self.name, self.text, value=self.ask())


class AskedGauges(Family[Number]):
    """Numbers by labels, which somebody else knows: `ask` tells them at each scrape."""

    def __init__(self, name: str, text: str, *labels: str) -> None:
        super().__init__(name, text, labels)
        self.ask: Callable[[], dict[tuple[str, ...], float]] = dict

    def collect(self) -> Iterator[Metric]:
        """Yield the metric as the library wants it."""
        metric = GaugeMetricFamily(self.name, self.text, labels=self.labels)
        for labels, value in self.ask().items():
            metric.add_metric(labels, value)
        yield metric


class HistogramFamily(Family[Distribution]):
    """Counts values into buckets; `bounds` are their upper ends."""

    def __init__(self, name: str, text: str, labels: tuple[str, ...], bounds: tuple[float, ...]) -> None:
        super().__init__(name, text, labels)
        self.bounds = bounds
        self._ends = [*[str(float(bound)) for bound in bounds], "+Inf"]

    def collect(self) -> Iterator[Metric]:
        """Yield the metric as the library wants it."""
        metric = HistogramMetricFamily(self.name, self.text, labels=self.labels)
        for labels, child in self._children.items():
            metric.add_metric(labels, list(zip(self._ends, accumulate(child.counts), strict=True)), child.total)
        yield metric

    def _new(self) -> Distribution:
        return Distribution(self.bounds)


def samples(families: Iterable[Family[Any]], wanted: Callable[[str], bool]) -> list[Sample]:
    """Return what the families tell whose names are wanted."""
    return [
        Sample(sample.name, sample.labels, sample.value)
        for family in families
        if wanted(family.name)
        for metric in family.collect()
        for sample in metric.samples
    ]
