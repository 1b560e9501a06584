"""Circuits by provider, route and model: who is asked about what, what feeds them, and that they are few."""

import logging

import pytest
from record_kit import an_interception, an_outcome

from aibridge import circuits as module
from aibridge.breaker import BreakerState, Limits
from aibridge.circuits import Circuits
from aibridge.lifecycle import Cause, Health
from aibridge.values import (
    Credential,
    CredentialKind,
    Evidence,
)

LIMITS = Limits(failures=2, interval=10.0, timeout=30.0, probes=1)
OPEN, HALF_OPEN, CLOSED = BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.CLOSED


class Counted:
    def __init__(self):
        self.changes = []
        self.refusals = []

    def circuit_changed(self, *change):
        self.changes.append(change)

    def circuit_refused(self, *place):
        self.refusals.append(place)


class Desk:
    """Circuits with a clock that is set, and interceptions by number."""

    def __init__(self):
        self.now = 1000.0
        self.counted = Counted()
        self.circuits = Circuits({"a": LIMITS, "b": LIMITS}, self.counted, lambda: self.now)
        self.number = 0

    def ask(self, provider="a", route="/v1/messages", model="m", kind=CredentialKind.CENTRALIZED):
        self.number += 1
        credential = Credential(kind, "")
        interception = an_interception(
            id=str(self.number), credential=credential, provider=provider, route=route, model=model
        )
        return interception, self.circuits.ask(interception)

    def end(self, interception, health=Health.FAILURE, *, status=None, duration=0.0):
        cause = Cause.CLEAN if health is Health.SUCCESS else Cause.CONNECTION_RESET
        evidence = Evidence(http_status=status)
        outcome = an_outcome(cause, ended_at=0.0, duration=duration, evidence=evidence, health=health)
        self.circuits.closed(interception, outcome)

    def trip(self, **place):
        for _ in range(LIMITS.failures):
            interception, refused = self.ask(**place)
            assert refused is None
            self.end(interception)


@pytest.fixture
def desk():
    return Desk()


def test_each_provider_route_and_model_has_its_own(desk):
    desk.trip()
    assert desk.ask()[1] == 30
    assert desk.ask(provider="b")[1] is None
    assert desk.ask(route="/v1/other")[1] is None
    assert desk.ask(model="n")[1] is None
    assert desk.counted.changes == [("a", "/v1/messages", "m", OPEN)]
    assert desk.counted.refusals == [("a", "/v1/messages", "m")]


@pytest.mark.parametrize(
    ("later", "seconds"), [(0.0, 30), (0.1, 30), (0.999, 30), (1.0, 29), (28.5, 2), (29.0, 1), (29.9, 1)]
)
def test_the_time_that_remains_is_rounded_up(desk, later, seconds):
    desk.trip()
    desk.now += later
    assert desk.ask()[1] == seconds


def test_a_whole_cycle_is_told(desk, caplog):
    caplog.set_level(logging.INFO, "aibridge")
    desk.trip()
    desk.now += 30
    probe, refused = desk.ask()
    assert refused is None
    assert desk.ask()[1] == 1, "half-open and its quota used: come again soon"
    desk.end(probe, Health.SUCCESS)
    assert [change[3] for change in desk.counted.changes] == [OPEN, HALF_OPEN, CLOSED]
    told = [(record.levelname, record.fields["from"], record.fields["to"]) for record in caplog.records]
    assert told == [("WARNING", "closed", "open"), ("INFO", "open", "half_open"), ("INFO", "half_open", "closed")]
    assert caplog.records[0].fields["endpoint"] == "/v1/messages"


def test_a_refused_one_that_ends_gives_no_place_back(desk):
    desk.trip()
    desk.now += 30
    desk.ask()
    refused, seconds = desk.ask()
    assert seconds == 1
    desk.end(refused, Health.NEITHER)
    assert desk.ask()[1] == 1


def test_one_that_goes_on_elsewhere_with_nothing_asked_gives_its_place_back(desk):
    desk.trip()
    desk.now += 30
    probe, _ = desk.ask()
    assert desk.ask()[1] == 1
    desk.circuits.left(probe)
    assert desk.ask()[1] is None


def test_a_long_stream_counts_at_its_end(desk):
    """An interval is of failures, not of the requests that fail: streams take longer than it."""
    first, second = desk.ask()[0], desk.ask()[0]
    desk.now += 300
    desk.end(first, duration=300)
    desk.end(second, duration=300)
    assert desk.ask()[1] == 30


def test_streams_from_before_the_outage_do_not_open_it_again(desk):
    old = [desk.ask()[0] for _ in range(4)]
    desk.now += 100
    desk.trip()
    desk.now += 30
    desk.end(desk.ask()[0], Health.SUCCESS)
    desk.now += 1
    for stream in old:
        desk.end(stream, duration=131)
    assert desk.ask()[1] is None
    desk.trip()
    assert desk.ask()[1] == 30


def test_a_success_lets_a_failure_be_forgotten(desk):
    desk.end(desk.ask()[0])
    assert len(desk.circuits) == 1
    desk.end(desk.ask()[0], Health.SUCCESS)
    assert len(desk.circuits) == 0


def test_a_provider_without_a_breaker_feeds_none(desk):
    for _ in range(5):
        interception, refused = desk.ask(provider="c")
        assert refused is None
        desk.end(interception)
    assert len(desk.circuits) == 0


@pytest.mark.parametrize(
    ("kind", "status", "refused"),
    [
        (CredentialKind.BYOK, 429, None),
        (CredentialKind.BYOK, 529, 30),
        (CredentialKind.BYOK, None, 30),
        (CredentialKind.CENTRALIZED, 429, 30),
    ],
)
def test_the_limit_of_a_clients_own_key_is_its_own(desk, kind, status, refused):
    for _ in range(LIMITS.failures):
        interception, _ = desk.ask(kind=kind)
        desk.end(interception, status=status)
    assert desk.ask()[1] == refused


def test_health_leaves_no_trace(desk):
    for number in range(50):
        for health in (Health.SUCCESS, Health.NEITHER):
            interception, _ = desk.ask(model=f"made-up-{number}")
            desk.end(interception, health)
    assert len(desk.circuits) == 0


def test_circuits_are_bounded_and_open_ones_stay(desk, monkeypatch):
    monkeypatch.setattr(module, "MAX_CIRCUITS", 10)
    desk.trip()
    for number in range(50):
        interception, _ = desk.ask(model=f"made-up-{number}")
        desk.end(interception)
        assert len(desk.circuits) <= 10
    assert desk.ask()[1] == 30, "the open one was not pushed out"


def test_a_huge_model_name_is_not_kept(desk):
    desk.trip(model="m" * 1_000_000)
    assert [len(place.model) for place in desk.circuits._circuits] == [512]
    assert desk.ask(model="m" * 1_000_000)[1] == 30
    assert len(desk.counted.changes[0][2]) == 512


def test_where_all_are_open_a_new_one_is_not_begun(desk, monkeypatch):
    monkeypatch.setattr(module, "MAX_CIRCUITS", 2)
    desk.trip(model="x")
    desk.trip(model="y")
    desk.trip(model="z")
    assert [desk.ask(model=model)[1] for model in "xyz"] == [30, 30, None]
    assert len(desk.counted.changes) == 2


def test_made_up_names_do_not_keep_their_places_for_ever(desk, monkeypatch):
    monkeypatch.setattr(module, "MAX_CIRCUITS", 2)
    desk.trip(model="x")
    desk.trip(model="y")
    desk.now += 30
    probe, _ = desk.ask(model="x")
    desk.trip(model="z")
    assert desk.counted.changes[-2:] == [
        ("a", "/v1/messages", "y", CLOSED),
        ("a", "/v1/messages", "z", OPEN),
    ], "not the one that is being tried"
    desk.end(probe, Health.NEITHER)
    desk.now += 30
    desk.trip(model="w")
    assert [place.model for place in desk.circuits._circuits] == ["z", "w"]
