"""The process that writes records under load, killed and stopped with its gateway under real traffic."""

import asyncio
import os
import signal
import sqlite3
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import pytest
from record_kit import record_of
from waiting_kit import until

from aibridge.audit import audit
from aibridge.journal import journal_folder, names_in

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="only Linux tells a process's children")
LARGE = 60
"""Requests whose entries, of 1,000 bytes each, are a large batch where they wait at once."""

PATIENCE = 30.0
VERSION = ("anthropic-version", "2023-06-01")


def children(pid):
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def there_is(pid):
    """Whether there is such a process, be it one that nobody waited for."""
    return Path(f"/proc/{pid}").exists()


def carriers(pid):
    """The children that are carriers by now: at first each is a copy of its parent, with all its files."""
    return [child for child in children(pid) if b"aibridge.carrier" in Path(f"/proc/{child}/cmdline").read_bytes()]


async def carrier_of(process):
    (carrier,) = await until(lambda: carriers(process.pid))
    return carrier


@contextmanager
def stopped(pid):
    """Have a process stand still meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture
def load(new_client, request_body):
    """Return a function that asks a number of times; returns the ids of all answers, each of which was whole."""

    async def load(port, number):
        seen = []
        async with new_client(port) as client:
            for at in range(number):
                provider = ("anthropic", "bedrock")[at % 2]
                body = request_body(provider, stream=False)
                await client.ask(f"/{provider}/v1/messages", body, headers=[VERSION])
                answer = await client.answer()
                assert answer.status == 200
                seen.append(answer.headers["x-aibridge-id"])
        return seen

    return load


@pytest.fixture
def pile_up(load, records):
    """Return a function that asks while the store is locked, so that a large batch waits; returns the ids.

    The writer finds them in two parts, wherever it was cut off from the store: what it saw then, and all the rest. So
    there are enough for either to be large.
    """

    async def pile_up(port):
        with closing(sqlite3.connect(records, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            seen = await load(port, 2 * LARGE)
            other.execute("ROLLBACK")
        return seen + await load(port, 1)

    return pile_up


@pytest.fixture
def under_load(serve, load, pile_up):
    """Return a context manager that runs a gateway until it has a carrier: process, port, and the ids seen so far.

    The process's `told` gives its log.
    """

    @asynccontextmanager
    async def under_load():
        async with serve() as (process, port, *_):
            process.told = asyncio.create_task(process.stderr.read())  # a pipe that is full would hold its log
            try:
                seen = await load(port, 1)
                assert children(process.pid) == []
                seen += await pile_up(port)
                await carrier_of(process)
                yield process, port, seen
            finally:
                process.told.cancel()  # the log has one reader: `serve` is the next

    return under_load


def check(path, seen):
    result = audit(path)
    assert result.differences == result.waiting == []
    assert (result.started, result.ended["completed"]) == (len(seen), len(seen))
    assert {record_of(path, one)["termination"] for one in seen} == {"completed"}


async def test_a_carrier_killed_under_traffic_costs_no_record(under_load, load, pile_up, records):
    async with under_load() as (process, port, seen):
        for _ in range(2):
            carrier = await carrier_of(process)
            asking = [asyncio.create_task(load(port, LARGE)) for _ in range(3)]
            os.kill(carrier, signal.SIGKILL)
            for ids in await asyncio.gather(*asking):
                seen.extend(ids)
            await until(lambda: not there_is(carrier))  # noqa: B023 - this one; its parent has waited for it
            while not children(process.pid):  # a new one is tried some time later
                seen.extend(await pile_up(port))
        process.send_signal(signal.SIGTERM)
        told = await process.told
    assert b"the process that writes records failed" in told
    check(records, seen)
    assert len(seen) > 6 * LARGE


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_to_all_of_them_ends_all_of_them(under_load, load, records, number):
    async with under_load() as (process, port, seen):
        seen.extend(await load(port, LARGE))
        carrier = await carrier_of(process)
        for pid in (carrier, process.pid):
            os.kill(pid, number)
        assert await process.wait() == 0
        assert not there_is(carrier)
    check(records, seen)
    assert names_in(journal_folder(records)) == set()


async def test_a_carrier_outlives_a_killed_gateway_by_a_batch_and_holds_no_lock(under_load, load, records, build_house):
    async with under_load() as (process, port, seen):
        carrier = await carrier_of(process)
        with stopped(carrier):  # it cannot end before its gateway does
            seen.extend(await load(port, LARGE))
            process.kill()
            await process.wait()
            assert len(audit(records).waiting) == 1  # nobody holds the journal's lock
        await until(lambda: not there_is(carrier))
    async with build_house() as house:
        assert await asyncio.to_thread(house.app.recorder.flush)
    check(records, seen)
