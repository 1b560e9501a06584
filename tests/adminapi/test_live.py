"""Which ends are told: each once, also one that is late in the store, and of many no more than a number."""

import asyncio
import itertools
import threading
from contextlib import closing, contextmanager

import pytest
from record_kit import INTERCEPTION, OUTCOME

from aibridge.adminapi import live
from aibridge.adminapi.asking import Store
from aibridge.adminapi.live import MAX_TOLD, Ends, Live
from aibridge.stores.entries import closed_parts, entry, opened_parts, rows_of
from aibridge.stores.sqlite import SQLiteStore, querying
from aibridge.telemetry.series import Sample

NOW = 1_800_000_000.0


@pytest.fixture
def store(tmp_path):
    with closing(SQLiteStore(tmp_path / "records.db")) as store:
        yield store


def end(store, *ended):
    """Write interceptions that ended, by their ids and moments."""
    entries = []
    for name, at in ended:
        one = INTERCEPTION._replace(id=name)
        entries.append(entry(at, opened_parts(one) + closed_parts(one, OUTCOME._replace(ended_at=at))))
    store.write(rows_of(entries, "j")[0], "j", 1)


def told(store, ends):
    with querying(store.path) as query:
        rows, skipped = ends.new(query)
    return [row["id"] for row in rows], skipped


def test_each_end_is_told_once(store):
    ends = Ends(NOW)
    assert told(store, ends) == ([], 0)
    end(store, ("before", NOW - 1), ("b", NOW + 2), ("a", NOW + 1))
    assert told(store, ends) == (["a", "b"], 0)
    assert told(store, ends) == ([], 0)
    end(store, ("late", NOW + 1.5), ("c", NOW + 10))
    assert told(store, ends) == (["late", "c"], 0)
    end(store, ("too late", NOW + 10 - live._OVERLAP_SECONDS - 1), ("d", NOW + 60))
    assert told(store, ends) == (["d"], 0)
    end(store, ("later", NOW + 50))
    assert told(store, ends) == (["later"], 0)


def test_of_many_not_all_are_told(store):
    ends = Ends(NOW)
    end(store, *((f"{number:04}", NOW + 1 + number / 1000) for number in range(MAX_TOLD + 7)))
    ids, skipped = told(store, ends)
    assert (ids, skipped) == ([f"{number:04}" for number in range(MAX_TOLD)], 7)
    assert told(store, ends) == ([], 0)


def test_what_is_looked_at_is_bounded(store, monkeypatch):
    monkeypatch.setattr(live, "_MAX_LOOKED_AT", 10)
    ends = Ends(NOW)
    end(store, *((f"{number:04}", NOW + 1 + number) for number in range(100)))
    seen = []
    while news := told(store, ends)[0]:
        seen += news
        assert len(ends._told) <= 10
    assert seen == [f"{number:04}" for number in range(100)]


class Listening:
    """A client that takes what it is told."""

    paused = lost = False
    listener = None

    def __init__(self):
        self.told = b""
        self.news = asyncio.Event()

    def start(self, status, headers):
        pass

    def write(self, data):
        self.told += data
        self.news.set()

    def end(self):
        pass

    async def until(self, marker):
        async with asyncio.timeout(20):
            while marker not in self.told:
                self.news.clear()
                await self.news.wait()


async def test_a_store_that_hangs_holds_up_no_number(monkeypatch):
    monkeypatch.setattr(live, "TICK_SECONDS", 0.02)
    monkeypatch.setattr(live, "_PATIENCE_SECONDS", 0.02)
    hangs, beats = threading.Event(), itertools.count(1)

    @contextmanager
    def opened(stop):  # noqa: ARG001 - it asks nobody
        hangs.wait(20)
        yield lambda text, values: []  # noqa: ARG005

    def snapshot(wanted):  # noqa: ARG001
        return [Sample("aibridge_events_total", {}, next(beats))]

    telling, client = Live(Store(opened, threads=1), snapshot), Listening()
    answer = asyncio.create_task(telling.answer(client, lambda: True))
    try:
        await client.until(b'"events":9')
        assert b"event: ended" not in client.told
    finally:
        hangs.set()
        telling.close()
        answer.cancel()
        await asyncio.wait([answer])
