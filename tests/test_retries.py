"""When a failed attempt is made again: a table, and the budget."""

import pytest

from aibridge.lifecycle import Cause
from aibridge.retries import RetryBudget, RetryPolicy, pause_before
from aibridge.values import ResponseHead

POLICY = RetryPolicy(
    retries=3,
    causes=frozenset({Cause.CONNECT_FAILED, Cause.CONNECTION_RESET}),
    statuses=frozenset({429, 529}),
    backoff=0.5,
    max_backoff=8.0,
)

NOON = "Fri, 27 Nov 2026 12:00:00 GMT"


def answer(status, **headers):
    return ResponseHead(status, tuple((n.replace("_", "-").encode(), v.encode()) for n, v in headers.items()))


@pytest.mark.parametrize(
    ("cause", "head", "pause"),
    [
        (Cause.CONNECT_FAILED, None, 0.5),
        (Cause.CONNECTION_RESET, None, 0.5),
        (Cause.RESPONSE_TIMEOUT, None, None),
        (Cause.DRAINING, None, None),
        (Cause.CONNECTION_RESET, answer(400), 0.5),
        (Cause.HTTP_STATUS, None, None),
        (Cause.HTTP_STATUS, answer(529), 0.5),
        (Cause.HTTP_STATUS, answer(400), None),
        (Cause.HTTP_STATUS, answer(400, x_should_retry="true"), 0.5),
        (Cause.HTTP_STATUS, answer(429, x_should_retry=" FALSE "), None),
        (Cause.HTTP_STATUS, answer(429, x_should_retry="perhaps"), 0.5),
        (Cause.HTTP_STATUS, answer(429, retry_after="3"), 3.0),
        (Cause.HTTP_STATUS, answer(429, retry_after="0"), 0.5),
        (Cause.HTTP_STATUS, answer(429, retry_after="8"), 8.0),
        (Cause.HTTP_STATUS, answer(429, retry_after="9"), None),
        (Cause.HTTP_STATUS, answer(429, retry_after="9" * 400), None),
        (Cause.HTTP_STATUS, answer(429, retry_after="Fri, 27 Nov 2026 12:00:03 GMT", date=NOON), 3.0),
        (Cause.HTTP_STATUS, answer(429, retry_after="Fri, 27 Nov 2026 13:00:00 GMT", date=NOON), None),
        (Cause.HTTP_STATUS, answer(429, retry_after="Fri, 27 Nov 2026 12:00:00 GMT"), 0.5),
        (Cause.HTTP_STATUS, answer(429, retry_after="-1"), 0.5),
        (Cause.HTTP_STATUS, answer(429, retry_after_ms="1500", retry_after="2"), 2.0),
        (Cause.HTTP_STATUS, answer(429, retry_after=""), 0.5),
    ],
)
def test_what_is_tried_again_and_when(cause, head, pause):
    assert pause_before(POLICY, 0, cause, head, 0.0) == pause


def test_the_pause_grows_to_a_bound_and_the_number_has_one():
    pauses = [pause_before(POLICY._replace(retries=6), made, Cause.CONNECT_FAILED, None, 0.0) for made in range(7)]
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, None]


def test_chance_takes_a_quarter_at_most_and_nothing_of_what_was_told():
    assert pause_before(POLICY, 0, Cause.CONNECT_FAILED, None, 1.0) == 0.375
    assert pause_before(POLICY, 0, Cause.HTTP_STATUS, answer(429, retry_after="3"), 1.0) == 3.0


def test_the_budget():
    budget = RetryBudget(0.25)
    assert [budget.take() for _ in range(11)] == [True] * 10 + [False]
    for _ in range(4):
        assert not budget.take()
        budget.feed()
    assert budget.take()
    for _ in range(1000):
        budget.feed()
    assert [budget.take() for _ in range(11)] == [True] * 10 + [False]


def test_no_budget_is_no_retry():
    budget = RetryBudget(0.0)
    budget.feed()
    assert not budget.take()
