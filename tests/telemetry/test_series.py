"""Our own families against the library's: the same numbers give the same page; and their bounds."""

import random

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from aibridge.telemetry.series import OTHER, Bound, CounterFamily, GaugeFamily, HistogramFamily, Names

LABELS = ("provider", "model")
DRAWN = [("a", "x"), ("a", 'quoted "y"\\'), ("b", "two\nlines"), ("ü", "")]


def page(*families):
    registry = CollectorRegistry(auto_describe=False)
    for family in families:
        registry.register(family)
    return generate_latest(registry).decode()


def library(kind, *arguments, **more):
    registry = CollectorRegistry(auto_describe=False)
    return registry, kind(*arguments, registry=registry, **more)


@pytest.fixture
def _no_created_series():
    prometheus_client.disable_created_metrics()
    yield
    prometheus_client.enable_created_metrics()


@pytest.mark.usefixtures("_no_created_series")
@pytest.mark.parametrize("labels", [LABELS, ()])
def test_counters_and_gauges_are_written_as_the_library_writes_its_own(labels):
    draw = random.Random(3)
    registry, theirs = library(prometheus_client.Counter, "some_things", "Help.", labels)
    gauges, their_gauge = library(prometheus_client.Gauge, "some_size_bytes", "Help.", labels)
    ours, our_gauge = CounterFamily("some_things", "Help.", labels), GaugeFamily("some_size_bytes", "Help.", labels)
    for _ in range(200):
        values, amount = draw.choice(DRAWN)[: len(labels)], draw.choice([1, 2.5, 10**9])
        (theirs.labels(*values) if labels else theirs).inc(amount)
        (their_gauge.labels(*values) if labels else their_gauge).dec(amount)
        ours.child(*values).value += amount
        our_gauge.child(*values).value -= amount
    assert page(ours) == generate_latest(registry).decode()
    assert page(our_gauge) == generate_latest(gauges).decode()


@pytest.mark.usefixtures("_no_created_series")
def test_histograms_are_written_as_the_library_writes_its_own():
    draw = random.Random(4)
    bounds = (0.00001, 0.1, 0.5, 1, 60)
    registry, theirs = library(prometheus_client.Histogram, "some_seconds", "Help.", LABELS, buckets=bounds)
    ours = HistogramFamily("some_seconds", "Help.", LABELS, bounds)
    for _ in range(500):
        labels, amount = draw.choice(DRAWN), draw.choice([*bounds, 0, draw.random(), 1000])
        theirs.labels(*labels).observe(amount)
        ours.child(*labels).observe(amount)
    assert page(ours) == generate_latest(registry).decode()


def test_a_child_is_made_once():
    family = CounterFamily("some", "", LABELS)
    assert family.child("a", "x") is family.child("a", "x")
    assert family.child("a", "x") is not family.child("x", "a")


def test_past_its_bound_a_family_folds_what_is_new_and_keeps_what_it_has():
    family = CounterFamily("some", "", LABELS, Bound(2, frozenset({"model"})))
    first = family.child("a", "x")
    family.child("a", "y")
    shared = family.child("a", "z")
    assert shared is family.child("a", "w")
    assert shared is family.child("a", OTHER)
    assert family.child("b", "z") is not shared
    assert family.child("a", "x") is first
    assert page(family).count("some_total{") == 4


def test_names_are_first_come_first_served():
    names = Names(2, known=frozenset({"known"}), max_length=5)
    found = [names.label(name) for name in ("a", "long name", "", "known", "\ud800", "b", "c", "a")]
    assert found == ["a", OTHER, OTHER, "known", OTHER, "b", OTHER, "a"]
