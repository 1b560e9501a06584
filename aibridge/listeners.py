"""Telling everyone who keeps books, in turn. One's failure reaches neither the stream nor the next one."""

import logging
from collections.abc import Callable, Sequence

from aibridge.values import Attempt, Interception, Learned, Listener, Outcome

_logger = logging.getLogger(__name__)


def log_failure(name: str, error: Exception) -> None:
    """Say in the log that a listener failed, with its traceback."""
    _logger.error("listener failed", exc_info=error, extra={"fields": {"listener": name}})


class Listeners:
    """Many listeners that look like one.

    Args:
        listeners: told in this order. The order matters where a process dies between two of them: records first.
        on_failure: told a listener's name and its error, once for each listener, since what fails once tends to
            fail at every call.
    """

    def __init__(
        self, listeners: Sequence[Listener], on_failure: Callable[[str, Exception], None] = log_failure
    ) -> None:
        self._listeners = tuple(listeners)
        self._on_failure = on_failure
        self._failed: set[str] = set()

    def opened(self, interception: Interception) -> None:
        """Tell that a request was accepted."""
        for listener in self._listeners:
            try:
                listener.opened(interception)
            except Exception as error:  # noqa: BLE001 - whatever it is, the stream goes on
                self._report(listener, error)

    def learned(self, interception: Interception, fact: Learned, message_id: str) -> None:
        """Tell that something of the content became known."""
        for listener in self._listeners:
            try:
                listener.learned(interception, fact, message_id)
            except Exception as error:  # noqa: BLE001 - whatever it is, the stream goes on
                self._report(listener, error)

    def attempted(self, interception: Interception, attempt: Attempt) -> None:
        """Tell that one request to an upstream ended."""
        for listener in self._listeners:
            try:
                listener.attempted(interception, attempt)
            except Exception as error:  # noqa: BLE001 - whatever it is, the stream goes on
                self._report(listener, error)

    def closed(self, interception: Interception, outcome: Outcome) -> None:
        """Tell that the interception ended."""
        for listener in self._listeners:
            try:
                listener.closed(interception, outcome)
            except Exception as error:  # noqa: BLE001 - whatever it is, the stream goes on
                self._report(listener, error)

    def _report(self, listener: Listener, error: Exception) -> None:
        name = type(listener).__name__
        if name not in self._failed:
            self._failed.add(name)
            self._on_failure(name, error)
