"""Keeps the gateway keys of a process as the store has them: a look each second, on a thread, at whether it changed."""

import asyncio
import logging
import math
import time
from collections.abc import Iterable
from pathlib import Path

from aibridge.access import Access, Allowance, Identity
from aibridge.auth import Key, KeyRing
from aibridge.content import ContentChoice, Keep
from aibridge.errors import AibridgeError
from aibridge.stores.keys import KeyReader, KeyStore, StoredSecret
from aibridge.values import Actor

LOOK_EVERY_S = 1.0
"""A change is known everywhere this much later, and what one look takes."""

_logger = logging.getLogger(__name__)


class KeyWatch:
    """The keys of a store, in a ring.

    While the store cannot be read the last known keys go on, for `max_age` seconds; then none is taken.

    Args:
        path: the store's file; made where it is not there.
        max_age: seconds.
    """

    def __init__(self, path: Path, max_age: float) -> None:
        self.ring = KeyRing(time.time)
        self._path = path
        self._reader = KeyReader(path)
        self._max_age = max_age
        self._read_at = -math.inf
        self._away = False
        self._task: asyncio.Task[None] | None = None

    @property
    def age(self) -> float:
        """Seconds since the store was last read."""
        return time.monotonic() - self._read_at

    async def start(self) -> None:
        """Read the keys, and watch them from now on. Raises `StoreUnavailable` or `StoreRefused`."""
        if not self._path.exists():
            await asyncio.to_thread(KeyStore, self._path)
        await self._look()
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Watch no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._reader.close()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self._look()
            except AibridgeError as error:
                self._tell_away(str(error))
            except Exception as error:  # noqa: BLE001 - whatever it is, the next look may be better
                self._tell_away(type(error).__name__)

    async def _look(self) -> None:
        began = time.monotonic()
        changes = await asyncio.to_thread(self._changes)
        self._read_at = began
        if changes is not None:
            keys, whole = changes
            self.ring.update(keys, whole=whole)
        self.ring.stale = False
        if self._away:
            self._away = False
            _logger.info("gateway keys are read again")

    def _changes(self) -> tuple[list[Key], bool] | None:
        changes = self._reader.changes()
        try:
            return None if changes is None else (list(_keys(changes[0])), changes[1])
        except BaseException:
            self._reader.close()  # or the next look would find nothing new
            raise

    def _tell_away(self, error: str) -> None:
        fields = {"error": error, "age_s": round(self.age, 1), "max_age_s": self._max_age}
        if not self._away:
            self._away = True
            _logger.warning("gateway keys cannot be read; the last known ones go on", extra={"fields": fields})
        if not self.ring.stale and self.age > self._max_age:
            self.ring.stale = True
            _logger.error("gateway keys are too old; none is taken any more", extra={"fields": fields})


def _keys(secrets: Iterable[StoredSecret]) -> Iterable[Key]:
    for one in secrets:
        terms = one.terms
        chosen = (terms.prompts, terms.arguments, terms.thoughts)
        access = Access(
            providers=None if terms.providers is None else frozenset(terms.providers),
            routes=None if terms.routes is None else frozenset(terms.routes),
            models=terms.models,
            content=ContentChoice(*[None if word is None else Keep(word) for word in chosen]) if any(chosen) else None,
        )
        allowance = Allowance(
            terms.requests_per_minute,
            terms.tokens_per_minute,
            terms.concurrent,
            terms.nanodollars_per_day,
            terms.nanodollars_per_month,
        )
        own = None if allowance == Allowance() else allowance
        identity = Identity(Actor(terms.owner, teams=terms.teams), access, one.key_id, own)
        yield Key(one.digest, identity, one.expires_at, revoked=one.revoked_at is not None)
