"""Who asks for room: what is told of budgets, what a store does that is away, and that nothing is left behind."""

import asyncio
import json
import logging
import math
import time

import pytest
from record_kit import OUTCOME, numbered

from aibridge.access import Identity
from aibridge.body import read_body
from aibridge.errors import LimitStoreUnavailable, RequestRejected
from aibridge.limits.limiter import Limiter, StoreRules
from aibridge.limits.memory import MemoryStore
from aibridge.limits.rules import Rule, Rules
from aibridge.limits.sqlite import SQLiteStore
from aibridge.limits.values import Claim, Measure, Scope
from aibridge.values import Actor, Cost, Usage

ALICE = Identity(Actor("alice"))
BODY = read_body(json.dumps({"max_tokens": 100, "messages": ["x" * 360]}).encode())
DOLLAR = 10**9
PATIENCE = 20.0


class Counters:
    def __init__(self):
        self.refused, self.reached, self.failed = [], [], []

    def limit_refused(self, scope, measure):
        self.refused.append((scope, measure))

    def budget_reached(self, scope, measure, percent):
        self.reached.append((scope, measure, percent))

    def limit_store_failed(self, operation):
        self.failed.append(operation)


class Clock:
    def __init__(self):
        self.now = 1_790_000_000.0

    def __call__(self):
        return self.now


class Bench:
    """A limiter, and interceptions that need no gateway."""

    def __init__(self, *rules, store=None, clock=None, price=0, **ways):
        self.counters, self.clock = Counters(), clock or Clock()
        self.store = store or MemoryStore()
        self.limiter = Limiter(
            Rules(rules), self.store, StoreRules(**ways), lambda *_: price, self.counters, self.clock
        )
        self._made = 0

    def ask(self, identity=ALICE, model="claude", dialect="messages"):
        """Ask for room; returns the interception, and what has to be waited for."""
        self._made += 1
        interception = numbered(self._made)._replace(model=model, dialect=dialect)
        return interception, self.limiter.reserve(interception, identity, BODY)

    async def begin(self, **more):
        interception, room = self.ask(**more)
        if room is not None:
            await room
        return interception

    def end(self, interception, tokens=0, dollars=0.0):
        outcome = OUTCOME._replace(usage=Usage(input_tokens=tokens), cost=Cost(int(dollars * DOLLAR)))
        self.limiter.closed(interception, outcome)

    def count(self, counter):
        return sum(amount for amount, _ in self.store._counters[counter].entries.values())


def per_minute(most, measure=Measure.REQUESTS):
    return Rule(Scope.ACTOR, "*", measure, most)


def budget(dollars, **more):
    return Rule(Scope.ALL, "*", Measure.DAY, int(dollars * DOLLAR), **more)


async def refused(bench, **more):
    with pytest.raises(RequestRejected) as caught:
        await bench.begin(**more)
    return caught.value


async def test_where_nothing_is_met_nothing_is_asked():
    bench = Bench(Rule(Scope.ACTOR, "bob", Measure.REQUESTS, 1), store=object())
    for _ in range(3):
        await bench.begin()


async def test_the_wait_that_is_told_is_true():
    bench = Bench(per_minute(3))
    for _ in range(3):
        await bench.begin()
        bench.clock.now += 10.4
    for pause in (math.ceil(60 - 3 * 10.4) - 1, 1):
        told = await refused(bench)
        assert (told.reason, told.status) == ("rate_limited", 429)
        bench.clock.now += pause
    assert told.retry_after == 1
    await bench.begin()
    assert (await refused(bench)).retry_after == 11  # the next of them
    assert bench.counters.refused == [("actor", "requests_per_minute")] * 3


async def test_no_minute_has_more_than_the_limit():
    bench, passed = Bench(per_minute(7)), []
    for _ in range(600):
        bench.clock.now += 0.37
        try:
            await bench.begin()
            passed.append(bench.clock.now)
        except RequestRejected:
            pass
    most = max(sum(start <= at < start + 60 for at in passed) for start in passed)
    assert most == 7
    assert len(passed) >= 7 * 3


async def test_tokens_are_reserved_and_settled():
    bench = Bench(per_minute(1000, Measure.TOKENS))
    begun = [await bench.begin() for _ in range(4)]  # of 200 each
    assert bench.count("tokens_per_minute:actor:alice") == 800
    bench.end(begun[0], tokens=10)
    bench.end(begun[1], tokens=300)
    assert bench.count("tokens_per_minute:actor:alice") == 800 - 190 + 100
    assert (await bench.begin()).id == "5"
    assert "tokens a minute" in (await refused(bench)).message


async def test_what_is_under_way_is_given_back_once():
    bench = Bench(Rule(Scope.ALL, "*", Measure.CONCURRENT, 2))
    begun = [await bench.begin() for _ in range(2)]
    told = await refused(bench)
    assert (told.reason, told.retry_after) == ("rate_limited", 1)
    bench.end(begun[0])
    bench.end(begun[0])
    await bench.begin()
    await refused(bench)
    bench.limiter.give_back(begun[1])
    await bench.begin()
    assert bench.limiter._grants.keys() == {"4", "6"}


async def test_a_budget_is_reserved_spent_and_told(caplog):
    caplog.set_level(logging.WARNING, "aibridge")
    bench = Bench(budget(10), price=2 * DOLLAR)
    first, second = await bench.begin(), await bench.begin()
    bench.end(first, dollars=7.9)
    assert bench.counters.reached == []
    told = await refused(bench)  # 7.9 spent, 2 reserved, 2 wanted
    assert (told.reason, told.status, told.retry_after) == ("budget_spent", 403, None)
    assert "a budget of 10 dollars a day, which is spent; the next begins 2026-09-22 00:00 UTC" in told.message
    assert bench.counters.reached == [("all", "dollars_per_day", 100)]
    bench.end(second, dollars=0)
    third = await bench.begin()
    bench.end(third, dollars=0.2)
    assert bench.counters.reached[1:] == [], "80 was passed behind 100"
    assert (await refused(bench, dialect="chat")).status == 429
    bench.clock.now += 86_400
    bench.end(await bench.begin(), dollars=8)
    assert bench.counters.reached[1:] == [("all", "dollars_per_day", 80)]
    lines = [record.fields for record in caplog.records if record.message == "budget reached"]
    assert [(line["percent"], line["period"], line["dollars"]) for line in lines] == [
        (100, "2026-09-21", 10.0), (80, "2026-09-22", 10.0),
    ]  # fmt: skip


async def test_a_soft_budget_tells_and_lets_pass():
    bench = Bench(budget(1, hard=False), price=DOLLAR)
    for _ in range(4):
        bench.end(await bench.begin(), dollars=0.5)
    assert bench.counters.reached == [("all", "dollars_per_day", 80), ("all", "dollars_per_day", 100)]
    assert bench.counters.refused == []


async def test_what_is_under_way_is_stopped_once_where_that_is_asked_for():
    bench, stopped = Bench(budget(5, stops=True), price=DOLLAR), []
    begun = [await bench.begin() for _ in range(3)]
    for one in begun:
        bench.limiter.watch(one, lambda one=one: stopped.append(one.id))
    bench.end(begun[0], dollars=4.99)
    await asyncio.sleep(0)
    assert stopped == []
    bench.end(begun[1], dollars=0.02)
    await asyncio.sleep(0)
    assert stopped == ["3"]
    bench.limiter.watch(begun[2], lambda: stopped.append("again"))
    other = Bench(budget(5), price=DOLLAR)
    one, two = await other.begin(), await other.begin()
    other.limiter.watch(one, lambda: stopped.append("of one that does not stop"))
    other.end(two, dollars=6)
    await asyncio.sleep(0)
    assert stopped == ["3"]


class Away:
    """A store that fails, or never answers, until it is there again."""

    def __init__(self, *, hangs=False):
        self.there, self.hangs, self.asked = False, hangs, 0
        self.inside = MemoryStore()

    async def start(self):
        await self._meet()

    async def close(self):
        pass

    async def reserve(self, now, claims):
        await self._meet()
        return self.inside.reserve(now, claims)

    async def settle(self, now, leases, adds):
        await self._meet()
        return self.inside.settle(now, leases, adds)

    async def _meet(self):
        self.asked += 1
        if not self.there:
            if self.hangs:
                await asyncio.Event().wait()
            raise LimitStoreUnavailable("not there")


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_store_that_is_away_lets_pass_and_is_not_asked_each_time(hangs, caplog):
    bench = Bench(budget(5), store=Away(hangs=hangs), price=DOLLAR, patience=0.05, lease=60.0)
    await bench.limiter.start()
    bench.clock.now += 2
    begun = [await bench.begin() for _ in range(10)]
    assert bench.store.asked == 2
    assert bench.counters.failed == ["start", *["reserve"] * 10]
    bench.store.there = True
    bench.clock.now += 2
    for one in begun[:6]:
        bench.end(one, dollars=0.9)
    await asyncio.gather(*bench.limiter._settling)
    assert (await refused(bench)).reason == "budget_spent", "what came meanwhile is counted"
    said = [record.message for record in caplog.records if record.name == "aibridge.limits.limiter"]
    assert said.count("limits cannot be counted; requests that have some pass") == 1
    await bench.limiter.stop()


async def test_a_store_that_is_away_lets_nothing_pass_where_that_is_said():
    bench = Bench(per_minute(5), store=Away(), allow=False)
    with pytest.raises(LimitStoreUnavailable):
        await bench.limiter.start()
    for _ in range(2):
        told = await refused(bench)
        assert (told.reason, told.status) == ("limits_unknown", 503)
    assert bench.store.asked == 2
    assert bench.limiter._grants == {}
    bench.clock.now += 2
    bench.store.there = True
    await bench.begin()


async def test_leases_are_prolonged_and_those_of_the_ended_are_not(tmp_path):
    store = SQLiteStore(tmp_path / "limits.db", PATIENCE)
    bench = Bench(
        Rule(Scope.ALL, "*", Measure.CONCURRENT, 2), store=store, clock=time.time, lease=0.6, patience=PATIENCE
    )
    await bench.limiter.start()
    await bench.begin()
    ended = await bench.begin()
    bench.end(ended)
    await asyncio.sleep(1.5)
    now = time.time()
    assert await store.reserve(now, [Claim("concurrent:all:", "x", 2, now + 60, 2)]) is not None
    assert await store.reserve(now, [Claim("concurrent:all:", "x", 1, now + 60, 2)]) is None
    await bench.limiter.stop()


async def test_hostile_names_do_not_stay():
    bench = Bench(Rule(Scope.MODEL, "*", Measure.REQUESTS, 5))
    for number in range(10_000):
        await bench.begin(model=f"{number}" + "m" * (number % 400))
    assert len(bench.limiter._plans) <= 4096
    bench.clock.now += 121
    await bench.begin()
    assert len(bench.store) == 1
