"""Questions to the store, on threads of their own: the event loop never waits for them, and none goes on for ever."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from aibridge.adminapi.problems import Problem
from aibridge.headers import RETRY_SOON
from aibridge.stores.base import Query, StoreRefused, StoreUnavailable

MAX_SECONDS = 10.0
"""For one question, from when a thread takes it up; and as long again until one does."""
MAX_WAITING = 32
"""Questions that wait for a thread or have one."""
THREADS = 2

Opened = Callable[[Callable[[], bool]], AbstractContextManager[Query]]
"""Opens the store for reading only. It is given what says, while a query runs, whether that is to end."""

_Answer = TypeVar("_Answer")


def _never() -> bool:
    return False


class Store:
    """Asks the store.

    Args:
        opened: opens it; None where records are off.
        threads: how many questions are asked at once.
    """

    def __init__(self, opened: Opened | None, threads: int = THREADS) -> None:
        self._opened = opened
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="aibridge-admin")
        self._waiting = 0
        self._closed = False

    async def ask(self, question: Callable[[Query], _Answer], gone: Callable[[], bool] = _never) -> _Answer:
        """Return what a question answers: it is called on a thread, with what runs a query.

        Args:
            question: asks, and makes of rows what is wanted.
            gone: whether nobody waits for the answer any more; asked on the thread.

        Raises:
            Problem: there is no store, it cannot be read, it is busy, or the answer takes too long.
        """
        if self._opened is None:
            detail = "records are off (records.enabled), and this is answered from them; /metrics is there all the same"
            raise Problem(503, "records_off", detail)
        if self._waiting >= MAX_WAITING or self._closed:
            raise Problem(503, "busy", "too many questions are under way", headers=RETRY_SOON)
        self._waiting += 1
        try:
            # The bound of all, whatever a thread hangs in: opening a file of a network, say, asks nobody.
            async with asyncio.timeout(2 * MAX_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, question, gone)
        except TimeoutError:
            raise Problem(503, "busy", "no thread was free in time", headers=RETRY_SOON) from None
        finally:
            self._waiting -= 1

    def _run(self, question: Callable[[Query], _Answer], gone: Callable[[], bool]) -> _Answer:
        give_up_at = time.monotonic() + MAX_SECONDS

        def stop() -> bool:
            return self._closed or time.monotonic() > give_up_at or gone()

        if self._opened is None or stop():
            raise Problem(503, "busy", "the question was given up", headers=RETRY_SOON)
        try:
            with self._opened(stop) as query:
                return question(_checked(query, stop))
        except StoreUnavailable as error:
            if time.monotonic() > give_up_at:
                text = f"the answer takes more than {MAX_SECONDS:.0f} s: ask for less time, or for fewer groups"
                raise Problem(503, "too_slow", text) from error
            detail = f"the records cannot be read now: {error}"
            raise Problem(503, "store_unavailable", detail, headers=RETRY_SOON) from error
        except StoreRefused as error:
            raise Problem(503, "store_unavailable", f"the records cannot be read by this program: {error}") from error

    def close(self) -> None:
        """End what runs, at once."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)


def _checked(query: Query, stop: Callable[[], bool]) -> Query:
    """Return a query that does not begin where it is to end: small ones are over before they are asked."""

    def ask(text: str, values: Sequence[Any]) -> list[dict[str, Any]]:
        if stop():
            raise StoreUnavailable("given up")
        return query(text, values)

    return ask
