"""Questions on threads: within a time, within a number, and not for who has left."""

import asyncio
import functools
import importlib
import os
import pkgutil
import threading
from contextlib import contextmanager

import pytest

from aibridge import adminapi
from aibridge.adminapi import asking
from aibridge.adminapi.asking import Store
from aibridge.adminapi.problems import Problem
from aibridge.stores.sqlite import SQLiteStore, querying

ENDLESS = "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"


@pytest.fixture
def path(tmp_path):
    SQLiteStore(tmp_path / "records.db").close()
    return tmp_path / "records.db"


@pytest.fixture
async def store(path):
    store = Store(functools.partial(querying, path))
    yield store
    store.close()


def endless(query):
    return query(ENDLESS, ())


async def test_what_takes_too_long_is_ended_and_the_loop_goes_on_meanwhile(store, monkeypatch):
    monkeypatch.setattr(asking, "MAX_SECONDS", 0.3)
    turns = 0

    async def turn():
        nonlocal turns
        while True:
            await asyncio.sleep(0.01)
            turns += 1

    turning = asyncio.create_task(turn())
    with pytest.raises(Problem, match="more than 0 s") as caught:
        await store.ask(endless)
    turning.cancel()
    assert (caught.value.status, caught.value.code) == (503, "too_slow")
    assert turns > 3
    assert await store.ask(lambda query: query("SELECT 1 AS one", ())) == [{"one": 1}]


async def test_a_question_ends_with_who_asked_it(store):
    running, left = threading.Event(), threading.Event()

    def ask(query):
        running.set()
        return query(ENDLESS, ())

    asked = asyncio.create_task(store.ask(ask, left.is_set))
    await asyncio.to_thread(running.wait, 20)
    left.set()
    with pytest.raises(Problem, match="cannot be read now"):
        await asked


async def test_no_more_than_a_number_wait(store):
    left = threading.Event()
    asked = [asyncio.create_task(store.ask(endless, left.is_set)) for _ in range(asking.MAX_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(Problem) as caught:
        await store.ask(endless)
    assert (caught.value.status, caught.value.code, caught.value.headers) == (503, "busy", ((b"retry-after", b"1"),))
    left.set()
    ended = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(one) for one in ended} == {Problem}
    assert await store.ask(lambda query: query("SELECT 1 AS one", ())) == [{"one": 1}]


async def test_closing_ends_what_runs(path):
    store = Store(functools.partial(querying, path))
    running = threading.Event()
    asked = asyncio.create_task(store.ask(lambda query: (running.set(), query(ENDLESS, ()))))
    await asyncio.to_thread(running.wait, 20)
    store.close()
    with pytest.raises(Problem):
        await asked
    with pytest.raises(Problem, match="too many"):
        await store.ask(endless)


async def test_a_store_that_is_not_there_is_away_for_now(tmp_path):
    store = Store(functools.partial(querying, tmp_path / "nothing.db"))
    with pytest.raises(Problem) as caught:
        await store.ask(lambda query: query("SELECT 1", ()))
    assert (caught.value.status, caught.value.code) == (503, "store_unavailable")
    store.close()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
async def test_what_is_no_file_is_not_waited_for(store, path, make):
    path.unlink()
    make(path)
    async with asyncio.timeout(20):
        with pytest.raises(Problem, match="no regular file"):
            await store.ask(lambda query: query("SELECT 1", ()))


async def test_what_waits_for_a_thread_too_long_is_told(monkeypatch):
    monkeypatch.setattr(asking, "MAX_SECONDS", 0.2)
    hangs = threading.Event()

    @contextmanager
    def opened(stop):  # noqa: ARG001 - it asks nobody
        hangs.wait(20)
        yield None

    store = Store(opened, threads=1)
    try:
        with pytest.raises(Problem) as caught:
            await store.ask(lambda query: query)
        assert (caught.value.status, caught.value.code) == (503, "busy")
        assert store._waiting == 0
    finally:
        hangs.set()
        store.close()


async def test_nothing_can_be_written(store):
    with pytest.raises(Problem):
        await store.ask(lambda query: query("DELETE FROM interceptions", ()))


def test_no_problem_is_made_once_to_be_raised_often():
    """It would keep the frames of each time, with the clients in them."""
    modules = [
        importlib.import_module(f"aibridge.adminapi.{one.name}") for one in pkgutil.iter_modules(adminapi.__path__)
    ]
    assert len(modules) > 10
    assert [value for module in modules for value in vars(module).values() if isinstance(value, Problem)] == []
