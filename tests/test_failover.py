"""Which ends fall over, as a function of cause, status and configuration."""

import pytest

from aibridge.failover import Chain, falls_over
from aibridge.lifecycle import Cause
from aibridge.values import ResponseHead

CHAIN = Chain(frozenset({Cause.CONNECT_FAILED, Cause.CIRCUIT_OPEN}), frozenset({429, 529}), ())


@pytest.mark.parametrize(
    ("cause", "status", "expected"),
    [
        (Cause.HTTP_STATUS, 529, True),
        (Cause.HTTP_STATUS, 429, True),
        (Cause.HTTP_STATUS, 500, False),
        (Cause.HTTP_STATUS, 400, False),
        (Cause.HTTP_STATUS, None, False),
        (Cause.CONNECT_FAILED, None, True),
        (Cause.CIRCUIT_OPEN, None, True),
        (Cause.CONNECTION_RESET, None, False),
        # a head came, and the end was another: its status says nothing of it
        (Cause.CONNECTION_RESET, 529, False),
        (Cause.CLEAN, 200, False),
        (Cause.TRUNCATED, 200, False),
    ],
)
def test_what_falls_over(cause, status, expected):
    head = None if status is None else ResponseHead(status, ())
    assert falls_over(CHAIN, cause, head) is expected


def test_without_causes_nothing_does():
    nowhere = Chain(frozenset(), frozenset(), ())
    assert not any(falls_over(nowhere, cause, ResponseHead(529, ())) for cause in Cause)
