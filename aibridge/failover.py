"""What else may be done for an interception whose attempt has failed, and whom to ask next.

Asked only while the client has nothing: no byte of an answer, and no head.
"""

import asyncio
from enum import StrEnum
from typing import NamedTuple

from aibridge.draft import Draft
from aibridge.lifecycle import Cause
from aibridge.surroundings import Surroundings
from aibridge.values import ResponseHead, UpstreamRequest


class Why(StrEnum):
    """What a further attempt is."""

    RETRY = "retry"
    """The same request again, at the same provider."""


class Next(NamedTuple):
    """A further attempt: whom it asks, after how many seconds, and what it is.

    `draft` is None where the same request goes out again, as it was rewritten, signed and mended.
    """

    draft: Draft | None
    pause: float
    why: Why


class Recourse:
    """What is left to do for one interception.

    Args:
        around: of the provider that is asked.
    """

    __slots__ = ("_around", "_retries")

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._retries = 0

    def begin(self) -> None:
        """The first request is about to be sent."""
        if self._around.retrying is not None:
            self._around.retrying.budget.feed()

    def after(self, cause: Cause, head: ResponseHead | None) -> Next | None:
        """Return what comes after an attempt that has failed; None: nothing does, and that was the end.

        Args:
            cause: of its end.
            head: of its answer, where one came.
        """
        retrying = self._around.retrying
        pause = None if retrying is None else retrying.pause(self._retries, cause, head)
        if pause is None:
            return None
        self._retries += 1
        return Next(None, pause, Why.RETRY)

    async def request(self, following: Next, sent: UpstreamRequest) -> UpstreamRequest:
        """Wait as long as it is to be waited, and return the request of a further attempt. `sent` is the last one's."""
        await asyncio.sleep(following.pause)
        return sent
