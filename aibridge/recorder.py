"""Records: what must be known of an interception stands in the journal before anybody is told of it.

Its beginning is appended before the upstream is contacted, its end before the client's socket gets the last word; a
`Writer` brings both into the store. Where the journal cannot take a beginning, `OnFailure` says what counts more: the
record, or the request. An end that it cannot take waits in memory for the next append.
"""

import itertools
import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum

from aibridge.carrier import Carrier
from aibridge.errors import PayloadError, RecordingFailed
from aibridge.journal import Journal, JournalError
from aibridge.lifecycle import Cause
from aibridge.stores.base import Store
from aibridge.stores.entries import (
    Part,
    attempted_parts,
    closed_parts,
    content_entry,
    entry,
    learned_parts,
    opened_parts,
    progressed_parts,
)
from aibridge.values import Attempt, Evidence, Interception, Learned, Outcome
from aibridge.writer import OnCrashed, Writer

_logger = logging.getLogger(__name__)

MAX_LATE = 1000
"""Ends that wait in memory for a journal that cannot be written to; a megabyte."""


class OnFailure(StrEnum):
    """What happens to a request whose beginning cannot be recorded."""

    FAIL_OPEN = "fail_open"
    """It goes on, and the loss is counted."""
    FAIL_CLOSED = "fail_closed"
    """It is refused, and the upstream is not contacted."""


def _ignore_dropped(count: int) -> None:
    pass


def _ignore_crashed(interception: Interception, outcome: Outcome, journal: str) -> None:
    pass


class Recorder:
    """A `Listener` that keeps what happened.

    Args:
        store: closed with the recorder.
        journal: closed with the recorder, and removed where all of it is in the store.
        on_failure: what happens to a request whose beginning cannot be recorded.
        on_dropped: told how many entries were lost; on any thread.
        on_crashed: as the `Writer` has it; on any thread.
        carrier: as the `Writer` has it.
        writing: further arguments of the `Writer`.
    """

    def __init__(
        self,
        store: Store,
        journal: Journal,
        *,
        on_failure: OnFailure = OnFailure.FAIL_OPEN,
        on_dropped: Callable[[int], None] = _ignore_dropped,
        on_crashed: OnCrashed = _ignore_crashed,
        carrier: Carrier | None = None,
        **writing: float,
    ) -> None:
        self._journal = journal
        self._must_record = on_failure is OnFailure.FAIL_CLOSED
        self._on_dropped = on_dropped
        self._unopened: set[str] = set()  # running, and their beginning is not in the journal
        self._numbers = itertools.count()
        self._good_attempt: tuple[str, tuple[Part, ...]] = ("", ())
        self._late: deque[bytes] = deque()
        self._losing = False
        self._closed = False
        self.writer = Writer(store, journal, on_dropped=on_dropped, on_crashed=on_crashed, carrier=carrier, **writing)

    def opened(self, interception: Interception) -> None:
        """Record that an interception began. Raises `RecordingFailed` where it must be recorded and cannot."""
        try:
            self._append(entry(interception.started_at, opened_parts(interception)))
        except (JournalError, PayloadError) as error:
            self._unopened.add(interception.id)
            self._lose(error)
            if self._must_record:
                raise RecordingFailed(str(error)) from error

    def learned(self, interception: Interception, fact: Learned, message_id: str) -> None:
        """Record something of the content. What the journal cannot take is lost, and counted."""
        now = time.time()
        try:
            self._append(content_entry(now, learned_parts(interception, fact, message_id, next(self._numbers), now)))
        except (JournalError, PayloadError) as error:
            self._lose(error)

    def progressed(self, interception: Interception, evidence: Evidence) -> None:
        """Note what a running interception has seen, should no end ever be told. A note that is lost is no loss.

        Notes are made as long as a store is away: they leave half of the journal to what begins.
        """
        if self._journal.is_half_full:
            return
        with suppress(JournalError, PayloadError):
            self._append(entry(time.time(), progressed_parts(interception, evidence)))

    def attempted(self, interception: Interception, attempt: Attempt) -> None:
        """Record an attempt. Of a good one that is the last the end follows at once, and is written with it."""
        parts = attempted_parts(interception, attempt)
        if attempt.cause is Cause.CLEAN and attempt.last:
            self._good_attempt = (interception.id, parts)
            return
        try:
            text = entry(attempt.started_at + attempt.duration, parts)
            self._append(text, beyond=interception.id not in self._unopened)
        except (JournalError, PayloadError) as error:
            self._lose(error)

    def closed(self, interception: Interception, outcome: Outcome) -> None:
        """Record how an interception ended. It is in the kernel's hands when this returns."""
        parts = closed_parts(interception, outcome)
        of, attempt = self._good_attempt
        if of == interception.id:
            parts = attempt + parts
        unopened = self._unopened and interception.id in self._unopened
        if unopened:
            self._unopened.discard(interception.id)
            parts = opened_parts(interception) + parts
        try:
            text = entry(outcome.ended_at, parts)
        except PayloadError as error:
            self._lose(error)
            return
        try:
            self._append(text, beyond=not unopened)
        except JournalError as error:
            if unopened or self._closed or len(self._late) >= MAX_LATE:
                self._lose(error)
            else:
                self._late.append(text)

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until everything recorded before this call is in the store. Blocks: not for the event loop.

        Args:
            timeout: seconds to wait at most.

        Returns:
            Whether it is.
        """
        return self.writer.flush(timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Bring what is left into the store, and close it. Blocks: not for the event loop.

        Args:
            timeout: seconds for a store that does not take it; what is left then stays in the journal.
        """
        if self._closed:
            return
        try:
            self._append_late()
        except JournalError as error:
            self._lose(error, len(self._late))
        self._closed = True
        self.writer.close(timeout)

    def _append(self, text: bytes, *, beyond: bool = False) -> None:
        if self._closed:
            raise JournalError("the recorder is closed")
        if self._late:
            self._append_late()
        self._journal.append(text, beyond=beyond)
        self.writer.wake()
        if self._losing:
            self._losing = False
            _logger.warning("records are kept again")

    def _append_late(self) -> None:
        while self._late:
            self._journal.append(self._late[0], beyond=True)
            self._late.popleft()

    def _lose(self, reason: Exception, count: int = 1) -> None:
        self._on_dropped(count)
        if not self._losing:  # said once, until it is over
            self._losing = True
            _logger.error("records are being lost", extra={"fields": {"reason": str(reason)}})
