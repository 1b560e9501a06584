"""HTTP in: listens for clients, and knows their connections."""

import asyncio
import contextlib
from collections.abc import Callable

from aibridge.clientconnection import ClientConnection, Handler

IDLE_SECONDS = 75.0
"""How long a connection may wait for a request, its head included."""
_SWEEP_SECONDS = 5.0
_CLOSE_SECONDS = 1.0


class Server:
    """Listens for HTTP requests and hands each to a handler. Built on a running event loop.

    Args:
        handler: answers one request.
        refuse: returns the body that answers what cannot be read as HTTP, and what failed, by its status.
        buffer_bytes: the high-water mark of a client's send buffer.
        stall: seconds after which a client that takes nothing of a whole answer is cut off.
    """

    def __init__(
        self,
        handler: Handler,
        refuse: Callable[[int], bytes] = lambda _: b"{}",
        *,
        buffer_bytes: int = 65_536,
        stall: float = 60.0,
    ) -> None:
        self.handler = handler
        self.refuse = refuse
        self.stall = stall
        self.buffer_bytes = buffer_bytes
        self.loop = asyncio.get_running_loop()
        self._connections: set[ClientConnection] = set()
        self.draining = False
        self.tasks: set[asyncio.Task[None]] = set()
        self._listening: asyncio.Server | None = None
        self._sweeping: asyncio.TimerHandle | None = None
        self._fewer = asyncio.Event()

    async def listen(self, host: str, port: int) -> int:
        """Listen, and return the port: the kernel's choice where `port` is 0."""
        self._listening = await self.loop.create_server(
            lambda: ClientConnection(self), host, port, backlog=1024, reuse_address=True
        )
        self._sweeping = self.loop.call_later(_SWEEP_SECONDS, self._sweep)
        return int(self._listening.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening, end each handler, and close every connection.

        What a client does not take in a second is thrown away.
        """
        if self._listening is not None:
            self._listening.close()
        if self._sweeping is not None:
            self._sweeping.cancel()
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=_CLOSE_SECONDS)
        for connection in list(self._connections):
            connection.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                while self._connections:
                    self._fewer.clear()
                    await self._fewer.wait()
        for connection in list(self._connections):
            connection.transport.abort()

    def opened(self, connection: ClientConnection) -> None:
        """Keep a connection."""
        self._connections.add(connection)

    def lost(self, connection: ClientConnection) -> None:
        """Let go of a connection."""
        self._connections.discard(connection)
        self._fewer.set()

    def _sweep(self) -> None:
        oldest = self.loop.time() - IDLE_SECONDS
        for connection in list(self._connections):
            connection.close_if_idle(oldest)
        self._sweeping = self.loop.call_later(_SWEEP_SECONDS, self._sweep)
