"""How long records are kept: what is older is deleted, a little at a time, beside the recorder and not in its way."""

import asyncio
import logging
import time
from collections.abc import Callable

from aibridge.errors import AibridgeError
from aibridge.stores.base import StoreUnavailable

_logger = logging.getLogger(__name__)

LOOK_EVERY_S = 600.0
"""Records outlive their time by this much at most."""

PAUSE_S = 0.05
"""Between two deletions, so that the recorder's batches come in between: 4,000 interceptions a second at most."""

DAY_S = 86_400.0


async def keep_for(days: float, prune: Callable[[float], int]) -> None:
    """Delete what is older, for ever; ends by being cancelled.

    Args:
        days: how long records are kept.
        prune: deletes some of what began before a time, and returns how many; called on another thread.
    """
    while True:
        try:
            await _prune_all(lambda: prune(time.time() - days * DAY_S))
        except StoreUnavailable as error:
            _logger.warning("records could not be pruned; trying again", extra={"fields": {"error": str(error)}})
        except AibridgeError as error:
            _logger.error("records could not be pruned", extra={"fields": {"error": str(error)}})  # noqa: TRY400
        await asyncio.sleep(LOOK_EVERY_S)


async def _prune_all(prune: Callable[[], int]) -> None:
    deleted = 1
    while deleted:
        deleted = await asyncio.to_thread(prune)
        await asyncio.sleep(PAUSE_S)
