"""Relaying a request that is neither understood nor recorded: model lists, token counts, probes.

The answers are small: each is gathered, within bounds, and passed on whole.
"""

import asyncio
from collections.abc import Callable

from aibridge.clientstream import ClientStream
from aibridge.credentials import redact_bytes, redact_headers, secrets_of
from aibridge.errors import RequestRejected, UpstreamFailure
from aibridge.lifecycle import Signal
from aibridge.providers.base import Answer
from aibridge.surroundings import Deadlines, RelayedDump
from aibridge.upstream import CLOSINGS, Connection, Origin, Pool
from aibridge.values import ResponseHead, UpstreamRequest


class Passthrough:
    """One relayed request.

    Args:
        client: who asked.
        pool: the upstream's connections.
        read_answer: makes the client's answer of the upstream's.
        max_bytes: bound of the answer's body.
        new_dump: makes what writes it all down, where that is asked for.
    """

    def __init__(
        self,
        client: ClientStream,
        pool: Pool,
        read_answer: Callable[[ResponseHead, bytes], Answer],
        max_bytes: int,
        new_dump: Callable[[], RelayedDump] | None = None,
    ) -> None:
        self._client = client
        self._pool = pool
        self._read_answer = read_answer
        self._max_bytes = max_bytes
        self._dump = None if new_dump is None else new_dump()
        self._head: ResponseHead | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._connection: Connection | None = None
        self._was_stale = False
        self._secrets: tuple[str, ...] = ()
        self._answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        client.listener = self
        if client.lost:
            self._settle(None)

    async def run(self, request: UpstreamRequest, deadlines: Deadlines) -> int | None:
        """Send the request, and its answer to the client.

        Returns:
            The answer's status; None where the client left before it came.

        Raises:
            RequestRejected: no connection came in time, or no whole answer within the time for a response, or one
                that means that the upstream cannot.
        """
        try:
            async with asyncio.timeout(deadlines.response):
                await self._ask(request, deadlines.connect)
        except TimeoutError:
            self._tell_dump("no whole answer in time")
            raise RequestRejected("upstream_timeout", 504, "the upstream did not answer in time") from None
        except UpstreamFailure as error:
            self._tell_dump(str(error))
            raise RequestRejected("upstream_failed", 502, "the upstream cannot be reached") from error
        finally:
            self._client.listener = None
            if self._connection is not None:
                self._connection.close()
        if self._client.lost or self._head is None:
            return None
        answer = self._read_answer(self._head, b"".join(self._parts))
        # The upstream may echo what it was sent.
        headers = redact_headers(answer.headers, self._secrets)
        self._client.respond(answer.status, headers, redact_bytes(answer.body, self._secrets))
        return self._head.status

    async def _ask(self, request: UpstreamRequest, connect: float) -> None:
        origin = Origin.of(request.origin)
        connection = self._pool.take(origin)
        if connection is not None:
            self._send(request, connection)
            await self._answered
            if not self._was_stale:
                return
            self._answered = asyncio.get_running_loop().create_future()
        if not self._client.lost:
            async with asyncio.timeout(connect):
                connection = await self._pool.connect(origin)
            self._send(request, connection)
            await self._answered

    def _send(self, request: UpstreamRequest, connection: Connection) -> None:
        if self._client.lost:
            self._pool.put(connection)
            self._settle(None)
            return
        self._connection = connection
        self._secrets = secrets_of(request.headers, request.target) + request.secrets + connection.secrets
        connection.send(request, self if self._dump is None else self._dump.tee(request, self))

    def _tell_dump(self, error: str) -> None:
        if self._dump is not None:
            self._dump.failed(error)

    def head_received(self, head: ResponseHead) -> None:
        """Keep the head."""
        self._head = head

    def data_received(self, data: bytes) -> None:
        """Keep a piece of the body, within bounds."""
        self._size += len(data)
        self._parts.append(data)
        if self._size > self._max_bytes:
            self._settle(UpstreamFailure(f"an answer over {self._max_bytes} bytes"))

    def body_ended(self) -> None:
        """All came."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.release()
        self._settle(None)

    def upstream_failed(self, signal: Signal, error: str) -> None:
        """The answer ended before its time, or a kept connection was closed before it began."""
        connection, self._connection = self._connection, None
        self._was_stale = connection is not None and connection.was_stale and signal in CLOSINGS
        self._settle(None if self._was_stale else UpstreamFailure(error))

    def client_lost(self) -> None:
        """Nobody waits for the answer any more."""
        self._settle(None)

    def client_paused(self) -> None:
        """Nothing is sent before all is there."""

    def client_resumed(self) -> None:
        """Nothing is sent before all is there."""

    def _settle(self, error: UpstreamFailure | None) -> None:
        if self._answered.done():
            return
        if error is None:
            self._answered.set_result(None)
        else:
            self._answered.set_exception(error)
