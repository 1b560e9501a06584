"""Telling many: in order, and through each other's failures."""

import pytest

from aibridge.errors import RecordingFailed
from aibridge.listeners import Listeners

INTERCEPTION, FACT, ATTEMPT, OUTCOME = object(), object(), object(), object()


class Ear:
    def __init__(self, heard, name):
        self.heard, self.name = heard, name

    def opened(self, interception):
        self.heard.append((self.name, "opened", interception))

    def learned(self, interception, fact, message_id):
        self.heard.append((self.name, "learned", interception, fact, message_id))

    def attempted(self, interception, attempt):
        self.heard.append((self.name, "attempted", interception, attempt))

    def closed(self, interception, outcome):
        self.heard.append((self.name, "closed", interception, outcome))


class Broken:
    def opened(self, *_):
        raise RuntimeError("opened")

    def learned(self, *_):
        raise RuntimeError("learned")

    def attempted(self, *_):
        raise RuntimeError("attempted")

    def closed(self, *_):
        raise RuntimeError("closed")


def tell(listeners):
    listeners.opened(INTERCEPTION)
    listeners.learned(INTERCEPTION, FACT, "msg_1")
    listeners.attempted(INTERCEPTION, ATTEMPT)
    listeners.closed(INTERCEPTION, OUTCOME)


def test_all_are_told_the_priced_outcome():
    heard = []
    tell(Listeners([Ear(heard, "a"), Ear(heard, "b")], price=lambda interception, outcome: (interception, outcome)))
    assert heard[-2:] == [("a", "closed", INTERCEPTION, (INTERCEPTION, OUTCOME)), ("b", *heard[-2][1:])]


def test_a_price_that_cannot_be_made_harms_nobody():
    def broken(*_):
        raise ZeroDivisionError("no price")

    heard, failures = [], []
    listeners = Listeners([Ear(heard, "a")], lambda name, error: failures.append((name, str(error))), broken)
    tell(listeners)
    tell(listeners)
    assert heard[-1] == ("a", "closed", INTERCEPTION, OUTCOME)
    assert failures == [("price", "no price")]


def test_each_is_told_in_order():
    heard = []
    tell(Listeners([Ear(heard, "a"), Ear(heard, "b")]))
    assert heard == [
        ("a", "opened", INTERCEPTION),
        ("b", "opened", INTERCEPTION),
        ("a", "learned", INTERCEPTION, FACT, "msg_1"),
        ("b", "learned", INTERCEPTION, FACT, "msg_1"),
        ("a", "attempted", INTERCEPTION, ATTEMPT),
        ("b", "attempted", INTERCEPTION, ATTEMPT),
        ("a", "closed", INTERCEPTION, OUTCOME),
        ("b", "closed", INTERCEPTION, OUTCOME),
    ]


def test_one_failure_keeps_nothing_from_the_next_and_is_told_once():
    heard, failures = [], []
    listeners = Listeners([Broken(), Ear(heard, "b")], lambda name, error: failures.append((name, str(error))))
    tell(listeners)
    tell(listeners)
    assert len(heard) == 8
    assert failures == [("Broken", "opened")]


def test_a_failure_is_logged_with_the_name_and_the_traceback(caplog):
    tell(Listeners([Broken()]))
    [record] = caplog.records
    assert record.levelname == "ERROR"
    assert record.fields == {"listener": "Broken"}
    assert "RuntimeError" in caplog.text


def test_what_is_no_failure_is_not_kept_back():
    class Interrupted(Broken):
        def opened(self, *_):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tell(Listeners([Interrupted()]))


def test_a_beginning_that_must_be_recorded_and_cannot_is_raised_once_all_are_told():
    class Full(Ear):
        def opened(self, interception):
            super().opened(interception)
            raise RecordingFailed("full")

    heard, failures = [], []
    listeners = Listeners([Full(heard, "a"), Broken(), Ear(heard, "b")], lambda *failure: failures.append(failure))
    with pytest.raises(RecordingFailed, match="full"):
        listeners.opened(INTERCEPTION)
    assert [name for name, *_ in heard] == ["a", "b"]
    assert [name for name, _ in failures] == ["Broken"]
