"""The simulator as a server: start, stop, what to play, and the exact text that a clean stream must give.

It knows the event loop and connections; what to answer is `answers.py`'s.
"""

import asyncio
from typing import IO, Self

from aibridge.simulator.answers import Answer, Answerer
from aibridge.simulator.connection import Connection, factory
from aibridge.simulator.faults import parse_play
from aibridge.simulator.ledger import Ledger
from aibridge.simulator.settings import Settings
from aibridge.simulator.values import Received


class Simulator:
    """A server on a real socket that plays providers. Belongs to the event loop that starts it.

    Args:
        settings: credentials, shape of answers, bounds.
        ledger_file: gets every row as a line of JSON; stays the caller's to close.
    """

    def __init__(self, settings: Settings | None = None, ledger_file: IO[str] | None = None) -> None:
        self.settings = settings or Settings()
        self.ledger = Ledger(self.settings.ledger_rows, ledger_file)
        self.max_body_bytes = self.settings.max_body_bytes
        self.host = ""
        self.port = 0
        self._answerer = Answerer(self.settings)
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._accepted = 0
        self._empty = asyncio.Event()

    @property
    def url(self) -> str:
        """The base URL of all APIs, without a slash at the end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def connections(self) -> int:
        """Connections open now."""
        return len(self._connections)

    @property
    def accepted(self) -> int:
        """Connections ever accepted."""
        return self._accepted

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen and return the port; 0 takes one from the kernel. Raises `OSError`."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(factory(self), host, port, backlog=1024)
        self.host, self.port = self._server.sockets[0].getsockname()[:2]
        return self.port

    async def stop(self) -> None:
        """Stop listening and drop every connection. Rows of what was being played say `stopped`."""
        if self._server is None:
            return
        self._server.close()
        tasks = [task for connection in tuple(self._connections) if (task := connection.stop()) is not None]
        await asyncio.gather(*tasks, return_exceptions=True)
        while self._connections:
            self._empty.clear()
            await self._empty.wait()
        await self._server.wait_closed()
        self._server = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def play(self, fault: str, times: int | None = 1, *, key: str = "") -> None:
        """Play fault words on the next `times` messages asked for; None: from now on. Raises `UnknownFault`.

        With a `key` only requests that carry it count. Calls queue up. A request's own header wins over the queue, the
        queue over words in the model's name.
        """
        self._answerer.play(parse_play(fault), times, key)

    def replay(self, recording: bytes) -> None:
        """Answer the next message asked for with these bytes: an SSE body, a JSON body, or a whole HTTP response.

        Calls queue up. Faults of the delivery (`cut`, `rst`, `rechunk`, …) are played on them too; those that change
        the answer are not.
        """
        self._answerer.replay(recording)

    def clear(self) -> None:
        """Forget what was to be played."""
        self._answerer.clear()

    # What connections call.

    def answer(self, request: Received, now: float, *, too_large: bool) -> Answer:
        """Return what to do to a request."""
        return self._answerer.answer(request, now, too_large=too_large)

    def opened(self, connection: Connection) -> int:
        """Count a connection in and return its number."""
        self._connections.add(connection)
        self._accepted += 1
        return self._accepted

    def closed(self, connection: Connection) -> None:
        """Count a connection out."""
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()
