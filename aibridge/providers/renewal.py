"""Keeps AWS keys good: found once, renewed early and beside the event loop, never by two at the same time.

A request waits for a renewal only where no keys are good now. A renewal that fails hurts nobody while the old keys are
good, and is tried again; `_next_at` is the one clock by which both happen.
"""

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from aibridge.errors import CredentialsError
from aibridge.providers.sigv4 import Keys

EARLY = 25 * 60.0
"""Seconds before expiry from which keys are renewed.

The metadata service of EC2 has new ones only minutes before the old ones expire, and botocore reports an expiry that is
up to 25 minutes later than the true one meanwhile: it has to be asked again and again.
"""
PAUSE = (0.5, 60.0)
"""The shortest and the longest pause between two renewals, in seconds; between them, a tenth of what is left."""
MARGIN = 10.0
"""Seconds before expiry from which a request rather waits for new keys: clocks differ, and requests travel."""
PATIENCE = 30.0
"""Seconds that a request waits for keys."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """Keys that were found: where, and until when they are good, in seconds since the epoch."""

    keys: Keys
    source: str
    expires_at: float = math.inf


class CredentialSource:
    """Where a provider's AWS keys come from.

    Args:
        name: the provider's, for the log.
        find: looks for keys, on a thread. Raises `CredentialsError` where there are none.
        clock: the time, in seconds since the epoch.
    """

    def __init__(self, name: str, find: Callable[[], Found], clock: Callable[[], float] = time.time) -> None:
        self._name = name
        self._find = find
        self._clock = clock
        self._found: Found | None = None
        self._failure = "the AWS credentials have expired"
        self._renewal: asyncio.Future[None] | None = None
        self._next_at = -math.inf
        self._waits_from = -math.inf

    @property
    def source(self) -> str:
        """Where the keys were found; empty where they were not."""
        return self._found.source if self._found is not None else ""

    def ready(self) -> Keys | None:
        """Return keys that are good now, or None where they are to be waited for; start a renewal that is due."""
        now = self._clock()
        if now >= self._next_at and self._renewal is None:
            self._renew()
        return self._found.keys if self._found is not None and now < self._waits_from else None

    async def current(self) -> Keys:
        """Return keys that are good now, and wait for them where needed.

        Raises:
            CredentialsError: there are none, or they have expired and cannot be renewed.
        """
        keys = self.ready()
        if keys is not None:
            return keys
        renewal = self._renewal
        if renewal is not None:
            # Who has keys for some seconds still waits for half of that at most.
            left = self._left()
            await asyncio.wait({renewal}, timeout=left / 2 if left > 0 else PATIENCE)
        keys = self.held()
        if keys is not None:
            return keys
        hangs = renewal is not None and not renewal.done()
        raise CredentialsError(f"no AWS credentials came in {PATIENCE:.0f} s" if hangs else self._failure)

    def held(self) -> Keys | None:
        """Return keys that are good now, also in their last seconds, or None."""
        return self._found.keys if self._found is not None and self._left() > 0 else None

    def _left(self) -> float:
        """Return for how many seconds the keys are good."""
        return 0.0 if self._found is None else self._found.expires_at - self._clock()

    def _renew(self) -> None:
        self._renewal = asyncio.get_running_loop().create_future()
        # Of its own, and a daemon: a service or a process that hangs must not hold up the gateway's end.
        threading.Thread(target=self._search, args=(self._renewal,), name="aws-credentials", daemon=True).start()

    def _search(self, renewal: "asyncio.Future[None]") -> None:
        try:
            outcome: Found | str = self._find()
        except CredentialsError as error:
            outcome = str(error)
        except Exception as error:  # noqa: BLE001 - told by its kind alone: it may hold anything
            outcome = type(error).__name__
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            renewal.get_loop().call_soon_threadsafe(self._end, renewal, outcome)

    def _end(self, renewal: "asyncio.Future[None]", outcome: Found | str) -> None:
        renewal.set_result(None)  # who waits for it is woken when this is done
        self._renewal = None
        if isinstance(outcome, Found):
            self._take(outcome)
        else:
            self._fail(outcome)

    def _take(self, found: Found) -> None:
        left = found.expires_at - self._clock()
        if left <= 0:
            self._fail(f"the AWS credentials of {found.source} have expired")
            return
        self._found = found
        self._waits_from = found.expires_at - min(MARGIN, left / 10)
        self._next_at = self._clock() + max(left - EARLY, min(_pause(left), left))
        self._log(logging.DEBUG, "AWS credentials found", source=found.source)

    def _fail(self, text: str) -> None:
        self._failure = text
        self._next_at = self._clock() + _pause(self._left())
        self._log(logging.WARNING, "no new AWS credentials", error=text)

    def _log(self, level: int, message: str, **fields: str) -> None:
        left = self._left()
        good_for = None if math.isinf(left) else max(0, round(left))
        logger.log(level, message, extra={"fields": {"provider": self._name, **fields, "good_for_s": good_for}})


def _pause(left: float) -> float:
    """Return how long to wait before the next renewal, with keys that are good for `left` seconds."""
    shortest, longest = PAUSE
    return min(max(left / 10, shortest), longest)
