"""The contract of a counter store, kept by each: in memory, in a file, and on a real server."""

import asyncio
import sqlite3
import time
from contextlib import asynccontextmanager

import pytest
from valkey_kit import needs_server, valkey

from aibridge.errors import LimitStoreUnavailable
from aibridge.limits.memory import MemoryStore
from aibridge.limits.sqlite import _APPLICATION_ID, SQLiteStore
from aibridge.limits.valkey import ValkeyStore
from aibridge.limits.values import Claim, Lease, Refusal

PATIENCE = 20.0


async def answer_of(answer):
    return await answer if hasattr(answer, "__await__") else answer


class Counting:
    """A store, asked with amounts and seconds from now."""

    def __init__(self, store):
        self.store = store
        self.now = time.time()

    async def reserve(self, *claims):
        found = await answer_of(self.store.reserve(self.now, [self.claim(*claim) for claim in claims]))
        return None if found is None else (found.place, round(found.until - self.now))

    async def settle(self, leases=(), adds=()):
        given = [Lease(counter, slot, amount, self.now + seconds) for counter, slot, amount, seconds in leases]
        return list(await answer_of(self.store.settle(self.now, given, [self.claim(*add) for add in adds])))

    def claim(self, counter, slot, amount, seconds, limit=None):
        return Claim(counter, slot, amount, self.now + seconds, limit)


@asynccontextmanager
async def opened(kind, tmp_path):
    if kind == "valkey":
        async with valkey(tmp_path) as server:
            store = ValkeyStore(server.url.replace("valkey:", "redis:"), "test", PATIENCE)
            await store.start()
            yield store
            await store.close()
        return
    store = MemoryStore() if kind == "memory" else SQLiteStore(tmp_path / "deep" / "limits.db", PATIENCE)
    await store.start()
    yield store
    await store.close()


KINDS = ["memory", "sqlite", pytest.param("valkey", marks=needs_server)]


@pytest.fixture(params=KINDS)
async def counting(request, tmp_path):
    async with opened(request.param, tmp_path) as store:
        yield Counting(store)


async def test_a_limit_is_reached_and_not_passed(counting):
    assert [await counting.reserve(("c", "s", 2, 60, 5)) for _ in range(3)] == [None, None, (0, 60)]
    assert await counting.reserve(("c", "s", 1, 60, 5)) is None
    assert await counting.reserve(("c", "s", 1, 60, 5)) == (0, 60)
    assert await counting.reserve(("another", "s", 5, 60, 5)) is None


async def test_all_is_taken_or_nothing(counting):
    await counting.reserve(("full", "s", 1, 30, 1))
    assert await counting.reserve(("free", "s", 1, 60, 9), ("full", "s", 1, 60, 1)) == (1, 30)
    assert await counting.settle(adds=[("free", "s", 0, 60)]) == [0]


async def test_it_is_told_when_there_is_room(counting):
    for slot, amount, seconds in (("a", 1, 10), ("b", 2, 20), ("c", 3, 30)):
        assert await counting.reserve(("c", slot, amount, seconds, 6)) is None
    assert [(await counting.reserve(("c", "d", amount, 60, 6)))[1] for amount in (1, 2, 3, 4, 6)] == [
        10, 20, 20, 30, 30,
    ]  # fmt: skip


async def test_what_is_over_counts_no_more(counting):
    assert await counting.reserve(("c", "old", 3, 0.3, 3)) is None
    assert await counting.reserve(("c", "new", 1, 60, 3)) == (0, 0)
    await asyncio.sleep(0.4)
    counting.now = time.time()
    assert await counting.reserve(("c", "new", 3, 60, 3)) is None
    assert await counting.reserve(("c", "new", 1, 60, 3)) == (0, 60)


async def test_without_a_limit_it_is_counted_only(counting):
    assert await counting.reserve(("c", "s", 7, 60)) is None
    assert await counting.reserve(("c", "s", 7, 60)) is None
    assert await counting.settle(adds=[("c", "s", 0, 60)]) == [14]


async def test_leases_are_set_and_ended(counting):
    assert await counting.reserve(("c", "one", 1, 60, 2), ("d", "one", 1, 60, 2)) is None
    assert await counting.reserve(("c", "two", 1, 60, 2)) is None
    await counting.settle([("c", "one", 1, 90)])
    assert await counting.reserve(("c", "three", 2, 60, 2)) == (0, 90), "prolonged"
    await counting.settle([("c", "one", 0, 0), ("c", "never", 0, 0)])
    assert await counting.reserve(("c", "three", 1, 60, 2)) is None
    assert await counting.reserve(("c", "four", 1, 60, 2)) == (0, 60)
    await counting.settle([("e", "lost", 2, 60)])
    assert await counting.reserve(("e", "new", 1, 60, 2)) == (0, 60), "one that was not there is there again"


async def test_what_was_reserved_is_given_back_or_added_to(counting):
    assert await counting.reserve(("c", "s", 50, 60, 100)) is None
    assert await counting.settle(adds=[("c", "s", -20, 60), ("c", "t", 25, 60)]) == [30, 25]
    assert await counting.reserve(("c", "s", 46, 60, 100)) == (0, 60)
    assert await counting.reserve(("c", "s", 45, 60, 100)) is None
    assert await counting.settle(adds=[("c", "s", -1000, 60)]) == [0]
    assert await counting.reserve(("c", "s", 75, 60, 100)) is None


async def test_great_sums_are_exact(counting):
    month = 10**15  # nano-dollars: a million dollars
    assert await counting.reserve(("c", "s", month - 1, 60, month)) is None
    assert await counting.reserve(("c", "s", 2, 60, month)) == (0, 60)
    assert await counting.settle(adds=[("c", "s", 1, 60)]) == [month]


async def test_many_at_once_are_exactly_the_limit(counting):
    answers = await asyncio.gather(*(counting.reserve(("c", str(i), 1, 60, 100)) for i in range(200)))
    assert answers.count(None) == 100


async def test_in_memory_nothing_is_left_of_names_that_nobody_uses():
    store = MemoryStore()
    for number in range(1000):
        assert store.reserve(0.0, [Claim(f"model {number}", "0", 1, 60.0, 1)]) is None
    assert len(store) == 1000
    assert store.reserve(61.0, [Claim("another", "61", 1, 121.0, 1)]) is None
    assert len(store) == 1


@pytest.fixture
def file(tmp_path):
    return tmp_path / "limits.db"


async def test_a_file_is_shared_and_outlives_who_wrote_it(file):
    now = time.time()
    first, second = SQLiteStore(file, PATIENCE), SQLiteStore(file, PATIENCE)
    answers = await asyncio.gather(
        *(store.reserve(now, [Claim("c", "s", 1, now + 60, 50)]) for _ in range(50) for store in (first, second))
    )
    assert sum(answer is None for answer in answers) == 50
    await first.close()
    third = SQLiteStore(file, PATIENCE)
    assert await third.reserve(now, [Claim("c", "s", 1, now + 60, 50)]) == Refusal(0, pytest.approx(now + 60))
    await second.close()
    await third.close()
    assert file.stat().st_mode & 0o077 == 0


async def test_many_may_make_the_file_at_once(file):
    stores, now = [SQLiteStore(file, PATIENCE) for _ in range(12)], time.time()
    await asyncio.gather(*(store.start() for store in stores))
    answers = await asyncio.gather(*(store.reserve(now, [Claim("c", "s", 1, now + 60, 5)]) for store in stores))
    assert answers.count(None) == 5
    for store in stores:
        await store.close()


async def test_a_file_holds_only_what_counts(file):
    store, now = SQLiteStore(file, PATIENCE), time.time()
    await store.reserve(now, [Claim(str(number), "s", 1, now - 1) for number in range(100)])
    store._prune_at = 0
    await store.reserve(now, [Claim("c", "s", 1, now + 60)])
    await store.close()
    with sqlite3.connect(file) as db:
        assert db.execute("SELECT counter FROM entries").fetchall() == [("c",)]
    db.close()


@pytest.mark.parametrize("content", ["something else", "a newer version", "no database"])
async def test_another_file_is_left_alone(file, content):
    if content == "no database":
        file.write_bytes(b"no database at all, but text" * 100)
    else:
        with sqlite3.connect(file) as db:
            db.execute("CREATE TABLE t (x)")
            db.execute("PRAGMA user_version = 2")
            if content == "a newer version":
                db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        db.close()
    before = file.read_bytes()
    store = SQLiteStore(file, PATIENCE)
    with pytest.raises(LimitStoreUnavailable):
        await store.start()
    await store.close()
    assert file.read_bytes() == before


async def test_a_file_that_is_locked_is_away_and_then_there_again(file):
    store, now = SQLiteStore(file, 0.05), time.time()
    await store.start()
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LimitStoreUnavailable, match="locked"):
        await store.reserve(now, [Claim("c", "s", 1, now + 60, 1)])
    other.execute("COMMIT")
    other.close()
    assert await store.reserve(now, [Claim("c", "s", 1, now + 60, 1)]) is None
    await store.close()


@needs_server
async def test_the_servers_clock_counts(tmp_path):
    async with opened("valkey", tmp_path) as store:
        for ahead in (-3600.0, 3600.0):
            now = time.time() + ahead
            assert await store.reserve(now, [Claim(f"c{ahead}", "s", 1, now + 60, 1)]) is None
        later = time.time()
        for ahead in (-3600.0, 3600.0):
            refusal = await store.reserve(later, [Claim(f"c{ahead}", "s", 1, later + 60, 1)])
            assert 50 < refusal.until - later <= 60.1


@needs_server
async def test_on_a_server_keys_end_by_themselves_and_lie_in_one_place(tmp_path):
    async with opened("valkey", tmp_path) as store:
        now = time.time()
        await store.reserve(now, [Claim("c", "s", 1, now + 60, 1), Claim("d", "s", 1, now + 1e6, 1)])
        keys = sorted(await store._client.keys("*"))
        assert keys == [b"{test}:amounts:c", b"{test}:amounts:d", b"{test}:ends:c", b"{test}:ends:d"]
        left = [await store._client.ttl(key) for key in keys]
        assert all(55 < left[place] <= 63 for place in (0, 2))
        assert all(left[place] > 1e5 for place in (1, 3))


@needs_server
async def test_a_server_that_is_away_and_there_again(tmp_path):
    now = time.time()
    async with valkey(tmp_path) as server:
        store = ValkeyStore(server.url.replace("valkey:", "redis:"), "test", 0.2)
        assert await store.reserve(now, [Claim("c", "s", 1, now + 60, 1)]) is None
        server.process.kill()
        await server.process.wait()
        with pytest.raises(LimitStoreUnavailable, match="ConnectionError"):
            await store.reserve(now, [Claim("c", "s", 1, now + 60, 1)])
        await store.close()
