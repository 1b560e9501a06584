"""Whether a failed attempt is made again, and after how long. Pure: clock and chance come in.

An attempt is made again only while the client has nothing: no byte of an answer, and no head. How many there are is
bounded twice: for one request, and by a budget for all of a provider's, so that an outage is not made worse.
"""

from typing import NamedTuple

from aibridge.lifecycle import Cause
from aibridge.ratelimits import asked_pause
from aibridge.values import ResponseHead

_JITTER = 0.25
_MOST_IN_HAND = 10.0
"""Retries that a provider may have saved up."""


class RetryPolicy(NamedTuple):
    """What a provider's requests may be tried again for. Times in seconds."""

    retries: int
    """Of one request."""
    causes: frozenset[Cause]
    statuses: frozenset[int]
    backoff: float
    """Before the first retry; doubled with each."""
    max_backoff: float
    """Also the longest `retry-after` that is waited for. A longer one is for the client."""


class RetryBudget:
    """What is left of a provider's retries: each request brings a part of one, each retry takes one."""

    __slots__ = ("_each", "_in_hand")

    def __init__(self, each: float) -> None:
        self._each = each
        self._in_hand = _MOST_IN_HAND if each else 0.0

    def feed(self) -> None:
        """A request was accepted."""
        self._in_hand = min(_MOST_IN_HAND, self._in_hand + self._each)

    def take(self) -> bool:
        """Take one retry. Returns whether there was one."""
        if self._in_hand < 1:
            return False
        self._in_hand -= 1
        return True


def pause_before(
    policy: RetryPolicy, made: int, cause: Cause, head: ResponseHead | None, chance: float
) -> float | None:
    """Return how long to wait before the next retry; None where there is none.

    Args:
        policy: the provider's.
        made: retries so far.
        cause: of the attempt's end.
        head: of the upstream's answer, where one came. It may say whether, and when (`x-should-retry`, `retry-after`).
        chance: from 0 to 1, so that not all come back at once.
    """
    if made >= policy.retries:
        return None
    told = None
    if cause is Cause.HTTP_STATUS and head is not None:
        word = head.header(b"x-should-retry").strip().lower()
        if word == b"false" or (word != b"true" and head.status not in policy.statuses):
            return None
        told = asked_pause(head)
        if told is not None and told > policy.max_backoff:
            return None
    elif cause not in policy.causes:
        return None
    pause: float = min(policy.backoff * 2**made, policy.max_backoff) * (1 - _JITTER * chance)
    return pause if told is None else max(told, pause)
