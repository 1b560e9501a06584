"""Waiting for what nobody tells of: a test looks again and again."""

import asyncio
import inspect

PATIENCE = 30.0
"""Seconds until a test gives up; nothing waits that long unless it is broken."""


async def until(look, patience=PATIENCE, pause=0.01):
    """Look until there is something to see; what. A look may be awaited, as one on a thread is.

    With a pause of 0 the loop turns once between two looks.
    """
    async with asyncio.timeout(patience):
        while True:
            seen = look()
            if inspect.isawaitable(seen):
                seen = await seen
            if seen:
                return seen
            await asyncio.sleep(pause)
