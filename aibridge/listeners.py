"""Telling everyone who keeps books, in turn. One's failure reaches neither the stream nor the next one."""

import logging
from collections.abc import Callable, Sequence

from aibridge.errors import RecordingFailed
from aibridge.values import Attempt, Interception, Learned, Listener, Outcome

_logger = logging.getLogger(__name__)

Price = Callable[[Interception, Outcome], Outcome]
"""Returns an outcome with what it cost."""


def log_failure(name: str, error: Exception) -> None:
    """Say in the log that a listener failed, with its traceback."""
    _logger.error("listener failed", exc_info=error, extra={"fields": {"listener": name}})


class Listeners:
    """Many listeners that look like one.

    Args:
        listeners: told in this order. The order matters where a process dies between two of them: records first.
        price: makes an outcome one that tells its cost, before anybody hears of it.
        on_failure: told a listener's name and its error, once for each listener, since what fails once tends to
            fail at every call.
    """

    def __init__(
        self,
        listeners: Sequence[Listener],
        on_failure: Callable[[str, Exception], None] = log_failure,
        price: Price | None = None,
    ) -> None:
        self._listeners = tuple(listeners)
        self._price = price
        self._on_failure = on_failure
        self._failed: set[str] = set()

    def opened(self, interception: Interception) -> None:
        """Tell that a request was accepted.

        Raises:
            RecordingFailed: a listener's, once all others are told.
        """
        refusal: RecordingFailed | None = None
        for listener in self._listeners:
            try:
                listener.opened(interception)
            except RecordingFailed as error:
                refusal = error
            except Exception as error:  # noqa: BLE001 - whatever it is, the stream goes on
                self._report(type(listener).__name__, error)
        if refusal is not None:
            raise refusal

    def learned(self, interception: Interception, fact: Learned, message_id: str) -> None:
        """Tell that something of the content became known."""
        for listener in self._listeners:
            try:
                listener.learned(interception, fact, message_id)
            except Exception as error:  # noqa: BLE001 - whatever it is, the stream goes on
                self._report(type(listener).__name__, error)

    def attempted(self, interception: Interception, attempt: Attempt) -> None:
        """Tell that one request to an upstream ended."""
        for listener in self._listeners:
            try:
                listener.attempted(interception, attempt)
            except Exception as error:  # noqa: BLE001 - whatever it is, the stream goes on
                self._report(type(listener).__name__, error)

    def closed(self, interception: Interception, outcome: Outcome) -> None:
        """Tell that the interception ended, and what it cost."""
        if self._price is not None:
            try:
                outcome = self._price(interception, outcome)
            except Exception as error:  # noqa: BLE001 - without a cost, then
                self._report("price", error)
        for listener in self._listeners:
            try:
                listener.closed(interception, outcome)
            except Exception as error:  # noqa: BLE001 - whatever it is, the stream goes on
                self._report(type(listener).__name__, error)

    def _report(self, name: str, error: Exception) -> None:
        if name not in self._failed:
            self._failed.add(name)
            self._on_failure(name, error)
