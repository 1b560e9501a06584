"""HTTP in: listens for clients, and knows their connections."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence

from aibridge.clientconnection import ClientConnection, Handler

IDLE_SECONDS = 75.0
"""How long a connection may wait for a request, its head included."""
_BACKLOG = 1024
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
        self._listening: list[asyncio.Server] = []
        self._sweeping: asyncio.TimerHandle | None = None
        self._fewer = asyncio.Event()

    async def listen(self, host: str, port: int) -> int:
        """Listen, and return the port: the kernel's choice where `port` is 0."""
        listening = await self.loop.create_server(
            lambda: ClientConnection(self), host, port, backlog=_BACKLOG, reuse_address=True
        )
        self._listening.append(listening)
        self._sweeping = self.loop.call_later(_SWEEP_SECONDS, self._sweep)
        return int(listening.sockets[0].getsockname()[1])

    async def take(self, sockets: Sequence[socket.socket]) -> list[asyncio.Server]:
        """Listen on sockets that are bound; they are closed with what is returned, which `leave` takes."""
        taken = [
            await self.loop.create_server(lambda: ClientConnection(self), sock=one, backlog=_BACKLOG) for one in sockets
        ]
        self._listening += taken
        if self._sweeping is None:
            self._sweeping = self.loop.call_later(_SWEEP_SECONDS, self._sweep)
        return taken

    def leave(self, taken: Sequence[asyncio.Server]) -> None:
        """Listen no more on some of the sockets."""
        for listening in taken:
            listening.close()
            self._listening.remove(listening)

    def stop_listening(self) -> None:
        """Listen no more; connections stay."""
        self.leave(list(self._listening))

    async def retire(self, patience: float) -> None:
        """Listen no more, and wait until each connection has had its last answer.

        A connection is told so with the next answer, and lives until then: were it closed while it is idle, a request
        might be on its way. One that stays idle for `patience` seconds is closed all the same.
        """
        self.stop_listening()
        self.draining = True
        give_up_at = self.loop.time() + patience
        while self._connections:
            self._fewer.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(give_up_at - self.loop.time(), _CLOSE_SECONDS)):
                    await self._fewer.wait()
            if self.loop.time() >= give_up_at:
                for connection in list(self._connections):
                    connection.close_if_idle(self.loop.time())

    async def close(self) -> None:
        """Stop listening, end each handler, and close every connection.

        What a client does not take in a second is thrown away.
        """
        self.stop_listening()
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
