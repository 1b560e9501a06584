"""One question to an upstream over the gateway's own connections, and its whole answer."""

import asyncio
import time
from typing import NamedTuple

from aibridge.credentials import redact_bytes, secrets_of
from aibridge.errors import UpstreamFailure
from aibridge.lifecycle import Signal
from aibridge.upstream import Origin, Pool
from aibridge.values import ResponseHead, UpstreamRequest

PATIENCE_S = 10.0
"""For each step of each check: who waits is a person."""
_MAX_BYTES = 16 * 1024 * 1024


class Heard(NamedTuple):
    """An answer. `at` is our clock's time at its head, UTC; `first_byte` are the seconds until then."""

    head: ResponseHead
    body: bytes
    at: float
    first_byte: float


async def ask(pool: Pool, request: UpstreamRequest, patience: float = PATIENCE_S) -> Heard:
    """Send a request, and return its answer, without the secrets that it may repeat.

    Raises:
        UpstreamFailure: there was no whole answer, or none in time.
    """
    try:
        async with asyncio.timeout(patience):
            origin = Origin.of(request.origin)
            connection = pool.take(origin) or await pool.connect(origin)
            gathered = _Gathered()
            try:
                connection.send(request, gathered)
                heard = await gathered.whole
            finally:
                connection.close()
    except TimeoutError:
        raise UpstreamFailure(f"no whole answer within {patience:g} s", timed_out=True) from None
    return heard._replace(body=redact_bytes(heard.body, secrets_of(request.headers, request.target)))


class _Gathered:
    """A sink that keeps one answer."""

    def __init__(self) -> None:
        self.whole: asyncio.Future[Heard] = asyncio.get_running_loop().create_future()
        self._began = time.monotonic()
        self._heard: Heard | None = None
        self._body = bytearray()

    def head_received(self, head: ResponseHead) -> None:
        """Keep the head, and the time."""
        self._heard = Heard(head, b"", time.time(), time.monotonic() - self._began)

    def data_received(self, data: bytes) -> None:
        """Keep a piece, within bounds."""
        self._body += data
        if len(self._body) > _MAX_BYTES:
            self._fail(f"an answer over {_MAX_BYTES} bytes")

    def body_ended(self) -> None:
        """All came."""
        if self._heard is not None and not self.whole.done():
            self.whole.set_result(self._heard._replace(body=bytes(self._body)))

    def upstream_failed(self, signal: Signal, error: str) -> None:  # noqa: ARG002 - the contract's
        """It broke off."""
        self._fail(error)

    def _fail(self, error: str) -> None:
        if not self.whole.done():
            self.whole.set_exception(UpstreamFailure(error))
