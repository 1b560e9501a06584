"""The circuit breaker's state machine, by hand and at random."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibridge.breaker import BreakerState, Circuit, Fact, Limits, Request, step

LIMITS = Limits(failures=3, interval=10.0, timeout=30.0, probes=2)
CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN


class Played:
    """A circuit, and requests that are asked for and told by name."""

    def __init__(self):
        self.circuit = Circuit()
        self.began = {}

    def ask(self, name, now):
        """Return None where the request passes, else the seconds that remain."""
        self.began[name] = now
        return self._step(Fact.ASKED, name, now).refused_for

    def tell(self, fact, name, now):
        self._step(fact, name, now)
        return self.circuit.state

    def end(self, fact, now, name="one"):
        """A request that began at once before its end."""
        assert self.ask(name, now) is None
        return self.tell(fact, name, now)

    def _step(self, fact, name, now):
        taken = step(self.circuit, fact, Request(name, self.began[name]), now, LIMITS)
        self.circuit = taken.circuit
        return taken


@pytest.fixture
def played():
    return Played()


@pytest.fixture
def tripped(played):
    """A circuit that opened at 100."""
    for _ in range(3):
        played.end(Fact.FAILED, 100.0)
    assert played.circuit.state is OPEN
    return played


def test_failures_in_a_row_open(played):
    assert [played.end(Fact.FAILED, now) for now in (0.0, 5.0, 10.0)] == [CLOSED, CLOSED, OPEN]


def test_a_success_between_begins_the_count_anew(played):
    ends = [Fact.FAILED, Fact.FAILED, Fact.SUCCEEDED, Fact.FAILED, Fact.FAILED]
    assert [played.end(fact, 1.0) for fact in ends] == [CLOSED] * 5
    assert played.end(Fact.FAILED, 1.0) is OPEN


def test_what_says_nothing_neither_counts_nor_forgives(played):
    ends = [Fact.FAILED, Fact.LEFT, Fact.FAILED, Fact.LEFT]
    assert [played.end(fact, 1.0) for fact in ends] == [CLOSED] * 4
    assert played.end(Fact.FAILED, 1.0) is OPEN


def test_failures_far_apart_do_not_add_up(played):
    assert [played.end(Fact.FAILED, now) for now in (0.0, 5.0, 10.5, 11.0)] == [CLOSED] * 4
    assert played.end(Fact.FAILED, 12.0) is OPEN, "the interval began anew at 10.5"


def test_a_success_leaves_nothing_behind(played):
    played.end(Fact.FAILED, 1.0)
    played.end(Fact.SUCCEEDED, 2.0)
    assert played.circuit == Circuit()


def test_open_tells_the_time_that_remains(tripped):
    assert [tripped.ask("one", now) for now in (100.0, 112.5, 129.75)] == [30.0, 17.5, 0.25]
    assert tripped.circuit.state is OPEN


def test_refusals_do_not_put_off_the_next_try(tripped):
    for now in (101.0, 120.0, 129.0):
        assert tripped.ask("one", now) is not None
    assert tripped.ask("two", 130.0) is None
    assert tripped.circuit.state is HALF_OPEN


def test_half_open_lets_its_quota_pass(tripped):
    assert [tripped.ask(name, 130.0) for name in "abcde"] == [None, None, 0.0, 0.0, 0.0]


def test_successes_in_a_row_close(tripped):
    tripped.ask("a", 130.0)
    tripped.ask("b", 130.0)
    assert tripped.tell(Fact.SUCCEEDED, "b", 131.0) is HALF_OPEN
    assert tripped.ask("c", 131.0) == 0.0, "two were let pass: one did well, one is under way"
    assert tripped.tell(Fact.SUCCEEDED, "a", 132.0) is CLOSED
    assert tripped.ask("c", 132.0) is None


def test_a_failed_probe_opens_for_the_whole_timeout(tripped):
    tripped.ask("a", 130.0)
    assert tripped.tell(Fact.FAILED, "a", 135.0) is OPEN
    assert tripped.ask("b", 135.0) == 30.0


def test_a_probe_whose_client_leaves_gives_its_place_back(tripped):
    tripped.ask("a", 130.0)
    tripped.ask("b", 130.0)
    assert tripped.ask("c", 130.0) == 0.0
    assert tripped.tell(Fact.LEFT, "a", 131.0) is HALF_OPEN
    assert tripped.ask("c", 131.0) is None
    assert tripped.ask("d", 131.0) == 0.0
    assert tripped.tell(Fact.SUCCEEDED, "b", 132.0) is HALF_OPEN
    assert tripped.tell(Fact.SUCCEEDED, "c", 133.0) is CLOSED


@pytest.mark.parametrize("fact", [Fact.SUCCEEDED, Fact.FAILED, Fact.LEFT])
def test_what_began_before_it_opened_changes_nothing(tripped, fact):
    for name in ("x", "y"):
        tripped.began[name] = 50.0
    before = tripped.circuit
    tripped.tell(fact, "x", 101.0)
    assert tripped.circuit == before
    tripped.ask("a", 130.0)
    half_open = tripped.circuit
    tripped.tell(fact, "y", 131.0)
    assert tripped.circuit == half_open


def test_a_probe_of_an_earlier_trial_does_not_count_in_the_next(tripped):
    tripped.ask("a", 130.0)
    tripped.ask("b", 130.0)
    tripped.tell(Fact.FAILED, "a", 131.0)
    tripped.ask("c", 161.0)
    trial = tripped.circuit
    tripped.tell(Fact.SUCCEEDED, "b", 162.0)
    assert tripped.circuit == trial


def test_a_stream_from_before_the_outage_does_not_open_it_again(tripped):
    tripped.began["old"] = 60.0
    for name in "ab":
        tripped.ask(name, 130.0)
        tripped.tell(Fact.SUCCEEDED, name, 131.0)
    for _ in range(5):
        assert tripped.tell(Fact.FAILED, "old", 140.0) is CLOSED
    assert [tripped.end(Fact.FAILED, 141.0) for _ in range(3)] == [CLOSED, CLOSED, OPEN]


@given(st.lists(st.tuples(st.sampled_from(["ask", *Fact]), st.integers(0, 5), st.floats(0, 20)), max_size=80))
def test_at_random_its_bounds_hold(story):
    """However requests come and end: the quota holds, and an idle circuit is never stuck."""
    played, now = Played(), 0.0
    for what, number, later in story:
        now += later
        name = str(number)
        if what == "ask" or name not in played.began:
            played.ask(name, now)
        elif what is not Fact.ASKED:
            played.tell(what, name, now)
        circuit = played.circuit
        assert len(circuit.probes) + circuit.successes <= LIMITS.probes
        assert circuit.failures < LIMITS.failures
        assert bool(circuit.probes or circuit.successes) <= (circuit.state is HALF_OPEN)
    for name in sorted(played.circuit.probes):
        played.tell(Fact.LEFT, name, now)
    now += LIMITS.timeout
    assert played.ask("last", now) is None
