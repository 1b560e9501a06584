"""An answer that goes on, to a client that may be slow or leave."""

import asyncio

from aibridge.clientstream import ClientStream

STALL_SECONDS = 60.0
"""For a client to take what waits for it; then it is cut off."""


class Flow:
    """A `ClientListener` that can be waited for.

    Args:
        client: whose answer goes on.
    """

    def __init__(self, client: ClientStream) -> None:
        self._client = client
        self._changed = asyncio.Event()
        client.listener = self

    def client_lost(self) -> None:
        """Wake whoever waits."""
        self._changed.set()

    def client_paused(self) -> None:
        """Nothing to do: whoever writes waits before the next piece."""

    def client_resumed(self) -> None:
        """Wake whoever waits."""
        self._changed.set()

    async def ready(self) -> bool:
        """Wait until the client takes more. Returns whether it ever will."""
        try:
            async with asyncio.timeout(STALL_SECONDS):
                while self._client.paused and not self._client.lost:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return not self._client.lost

    def wake(self) -> None:
        """Say that there is more to send."""
        self._changed.set()

    async def woken(self) -> None:
        """Wait until there is more to send, or the client leaves. What was said before does not count."""
        self._changed.clear()
        await self._changed.wait()
