"""What is left to do with an upstream's connection when the client has the last word already."""

from aibridge.lifecycle import Signal
from aibridge.surroundings import Surroundings
from aibridge.upstream import Connection
from aibridge.values import ResponseHead


class Linger:
    """Waits for the end of a body whose last word has come, so that its connection can be kept.

    What comes meanwhile is counted as trailing, and neither relayed nor kept. It ends by itself, soon.
    """

    MAX_SECONDS = 2.0
    MAX_BYTES = 65_536

    def __init__(self, connection: Connection, around: Surroundings, provider: str) -> None:
        self._connection: Connection | None = connection
        self._around = around
        self._provider = provider
        self._bytes = 0
        connection.pass_to(self)
        connection.resume_reading()
        around.wheel.add(self, around.loop.time() + self.MAX_SECONDS)

    def head_received(self, head: ResponseHead) -> None:
        """Cannot come: the head was told before."""

    def data_received(self, data: bytes) -> None:
        """Count bytes behind the last word."""
        self._bytes += len(data)
        self._around.on_trailing(self._provider, len(data))
        if self._bytes > self.MAX_BYTES:
            self._let_go().close()

    def body_ended(self) -> None:
        """Give the connection back."""
        self._let_go().release()

    def upstream_failed(self, signal: Signal, error: str) -> None:  # noqa: ARG002 - the contract's
        """The connection is gone. All that mattered had come."""
        self._let_go()

    def check(self, now: float) -> float | None:  # noqa: ARG002 - the contract's
        """Stop waiting; see `Timed`."""
        if self._connection is not None:
            self._let_go().close()
        return None

    def _let_go(self) -> Connection:
        self._around.wheel.remove(self)
        connection, self._connection = self._connection, None
        if connection is None:
            raise RuntimeError("the connection was let go before")
        return connection
