"""Keeping records for so long: what is older goes, and a store that is away is asked again."""

import asyncio
import contextlib
import logging
import time

import pytest

from aibridge import retention
from aibridge.retention import DAY_S, keep_for
from aibridge.stores.base import StoreRefused, StoreUnavailable

PATIENCE = 20.0


class Shelf:
    """Says in turn what it is told to, and notes what it was asked."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []
        self.empty = asyncio.Event()
        self.loop = asyncio.get_running_loop()

    def prune(self, before):
        self.asked.append(before)
        answer = self.answers.pop(0) if self.answers else 0
        if not self.answers:
            self.loop.call_soon_threadsafe(self.empty.set)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    monkeypatch.setattr(retention, "PAUSE_S", 0.0)
    monkeypatch.setattr(retention, "LOOK_EVERY_S", 0.001)


async def keep(days, shelf):
    task = asyncio.create_task(keep_for(days, shelf.prune))
    async with asyncio.timeout(PATIENCE):
        await shelf.empty.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_it_goes_on_while_there_is_something_old():
    shelf = Shelf(200, 200, 7, 0, 0)
    await keep(2.5, shelf)
    assert len(shelf.asked) >= 5
    assert all(abs(time.time() - 2.5 * DAY_S - before) < PATIENCE for before in shelf.asked)


@pytest.mark.parametrize(("error", "level"), [(StoreUnavailable("locked"), "WARNING"), (StoreRefused("bad"), "ERROR")])
async def test_a_store_that_is_away_is_asked_again(error, level, caplog):
    with caplog.at_level(logging.DEBUG, "aibridge"):
        await keep(1, Shelf(error, 5, 0))
    said = [
        (record.levelname, record.fields["error"]) for record in caplog.records if record.name.startswith("aibridge")
    ]
    assert said == [(level, str(error))]
