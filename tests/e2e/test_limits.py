"""Limits and budgets over real sockets: what a client is told, what is counted, and what is given back."""

import asyncio
import json
import sqlite3
from contextlib import asynccontextmanager

import pytest
from api_kit import ALL, APIS, each
from valkey_kit import needs_server, valkey
from waiting_kit import until

from aibridge import cli
from aibridge.stores.keys import KeyStore

PATIENCE = 20.0
PRICES = """
version: test
lists:
  anthropic: {models: [{match: ["*"], prices: [{input: 3, output: 15, cache_read: 0.3, cache_write_5m: 3.75}]}]}
  bedrock: {models: [{match: ["*"], prices: [{input: 3, output: 15, cache_read: 0.3, cache_write_5m: 3.75}]}]}
  openai: {models: [{match: ["*"], prices: [{input: 2, output: 8, cache_read: 0.5}]}]}
"""
TINY = {"per": "all", "dollars": 0.000001, "period": "day"}
"""Any answer comes to more."""


@pytest.fixture
def prices(tmp_path):
    path = tmp_path / "prices.yaml"
    path.write_text(PRICES)
    return {"path": str(path)}


@pytest.fixture(params=["memory", "sqlite", pytest.param("valkey", marks=needs_server)])
async def store(request, tmp_path):
    """The section `limit_store`, for each kind."""
    if request.param == "valkey":
        async with valkey(tmp_path) as server:
            yield {"kind": "valkey", "url": server.url, "timeout": PATIENCE}
    elif request.param == "sqlite":
        yield {"kind": "sqlite", "path": str(tmp_path / "limits.db"), "timeout": PATIENCE}
    else:
        yield {"kind": "memory"}


@asynccontextmanager
async def held(house, new_client, api="anthropic", fault="stall@5"):
    """A stream that is under way."""
    api = APIS[api]
    async with new_client(house.port) as client:
        await client.ask(api.path, api.body(), headers=[("x-sim-fault", fault), *api.headers])
        await client.read_until(api.delta)
        yield client


def check_refused(house, answer, api, kind, *, started, reason):
    assert api.said(answer.body).kind == api.kind(kind, streaming=False)
    assert api.said(answer.body).request_id in {None, ""}
    assert house.metric("aibridge_interceptions_started_total") == started
    assert house.metric("aibridge_rejections_total", reason=reason) == 1
    assert house.metric("aibridge_limit_refusals_total") == 1
    assert house.simulator.ledger.arrived == started


async def settled(house):
    """Wait until the store has heard of all ends."""
    async with asyncio.timeout(PATIENCE):
        while house.app.generation.limiter._settling:
            await asyncio.gather(*house.app.generation.limiter._settling)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "blocking"])
@each(*ALL)
async def test_a_rate_that_is_reached(build_house, ask, api, stream):
    async with build_house(rate_limits=[{"for": "all", "requests_per_minute": 1}]) as house:
        assert (await ask(house, api.name, stream=stream)).status == 200
        answer = await ask(house, api.name, stream=stream)
        assert answer.status == 429
        assert 50 <= int(answer.headers["retry-after"]) <= 60
        check_refused(house, answer, api, "rate_limit_error", started=1, reason="rate_limited")
        assert house.metric("aibridge_limit_refusals_total", scope="all", measure="requests_per_minute") == 1


@each(*ALL)
async def test_a_budget_that_is_spent(build_house, ask, prices, api):
    async with build_house(budgets=[TINY], prices=prices) as house:
        assert (await ask(house, api.name)).status == 200
        answer = await ask(house, api.name)
        is_messages = api.name in {"anthropic", "bedrock"}
        assert (answer.status, answer.headers["x-should-retry"]) == (403 if is_messages else 429, "false")
        assert "retry-after" not in answer.headers
        kind = "permission_error" if is_messages else "insufficient_quota"
        check_refused(house, answer, api, kind, started=1, reason="budget_spent")
        assert house.metric("aibridge_budgets_reached_total", scope="all", percent="100") == 1
        [line] = [one for one in house.lines() if one["message"] == "budget reached" and one["percent"] == 100]
        assert (line["scope"], line["budget"], line["hard"]) == ("all", "dollars_per_day", True)


async def test_each_store_counts_the_same(build_house, ask, new_client, prices, store):
    limits = [{"for": "model", "match": "one-*", "requests_per_minute": 2}, {"for": "all", "concurrent": 2}]
    budget = {**TINY, "per": "model", "match": "dear-*"}
    async with build_house(rate_limits=limits, budgets=[budget], limit_store=store, prices=prices) as house:
        statuses = [(await ask(house, "anthropic", model=f"one-{i % 2}")).status for i in range(6)]
        assert statuses == [200, 200, 200, 200, 429, 429]
        assert [(await ask(house, "anthropic", model="dear-1")).status for _ in range(2)] == [200, 403]
        async with held(house, new_client), held(house, new_client) as second:
            refused = await ask(house, "anthropic")
            assert (refused.status, refused.headers["retry-after"]) == (429, "1")
            second.close()
            await house.outcomes.wait(ended=6)
            await settled(house)
            assert (await ask(house, "anthropic")).status == 200
            assert (await ask(house, "anthropic")).status == 200
        await house.outcomes.wait(ended=9)
        assert house.metric("aibridge_limit_store_failures_total") == 0
        assert house.app.generation.limiter._grants == {}


async def test_tokens_are_settled_with_what_was_told(build_house, ask, store):
    limit = {"for": "actor", "tokens_per_minute": 1500}
    async with build_house(rate_limits=[limit], limit_store=store) as house:
        used = passed = 0
        while (await ask(house, "anthropic", stream=False, max_tokens=1000)).status == 200:
            passed += 1
            usage = (await house.books(ended=passed)).outcome.usage
            await settled(house)
            used += sum(usage[place] or 0 for place in (0, 1, 3))
            assert used <= 1500
        assert passed >= 2, "an estimate of a thousand would have let one pass"
        estimate = 1000 + len(json.dumps(APIS["anthropic"].body(stream=False, max_tokens=1000))) // 4 + 1
        assert used + estimate > 1500


async def test_without_anything_to_limit_nobody_asks(house, ask):
    assert house.app.generation.limiter is None
    assert house.app.gateway._limiter is None
    assert (await ask(house, "anthropic")).status == 200


async def test_relayed_requests_are_not_limited(build_house, new_client):
    async with build_house(rate_limits=[{"for": "all", "requests_per_minute": 1}]) as house:
        for _ in range(3):
            async with new_client(house.port) as client:
                await client.ask("/anthropic/v1/models", b"", method="GET", headers=APIS["anthropic"].headers)
                assert (await client.answer()).status == 200


async def spend(house, ask):
    """Spend far more than was reserved for it."""
    assert (await ask(house, "bedrock", "miscount:100000")).status == 200
    assert house.metric("aibridge_cost_dollars_total") > STOPPING["dollars"]


STOPPING = {"per": "all", "dollars": 0.1, "period": "day", "stop_streams": True}


@each(*ALL)
async def test_a_stream_is_stopped_when_its_budget_is_spent(build_house, new_client, ask, prices, api):
    async with build_house(budgets=[STOPPING], prices=prices, timeouts={"idle": PATIENCE}) as house:
        async with held(house, new_client, api.name) as client:
            await spend(house, ask)
            answer = await client.answer()
        assert answer.complete
        came, error = api.parted(answer.body)
        assert api.client_text(api.body()).startswith(came)
        books = await house.books(ended=2)
        is_messages = api.name in {"anthropic", "bedrock"}
        assert error.kind == ("permission_error" if is_messages else "insufficient_quota")
        assert (error.message, error.request_id) == ("a budget for this request is spent", books.interception.id)
        check_stopped(books)


def check_stopped(books):
    outcome = books.outcome
    assert (outcome.termination.value, outcome.cause.value) == ("gateway_error", "budget_spent")
    assert (outcome.health.value, outcome.error) == ("neither", "a budget for this request is spent")
    record = books.record
    assert (record["termination"], record["cause"]) == ("gateway_error", "budget_spent")
    assert books.house.metric("aibridge_interceptions_total", cause="budget_spent", status="failed") == 1
    [line] = [one for one in books.house.lines() if one["message"] == "gateway failed"]
    assert line["cause"] == "budget_spent"


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "blocking"])
@each(*ALL)
async def test_one_is_stopped_before_its_head(build_house, new_client, ask, prices, api, stream):
    timeouts = {"response": PATIENCE, "idle": PATIENCE}
    async with build_house(budgets=[STOPPING], prices=prices, timeouts=timeouts) as house:
        async with new_client(house.port) as client:
            await client.ask(api.path, api.body(stream=stream), headers=[("x-sim-fault", "no_head"), *api.headers])
            await house.simulator.ledger.wait_for_arrivals(1)
            await spend(house, ask)
            answer = await client.answer()
        assert answer.status == 403
        is_messages = api.name in {"anthropic", "bedrock"}
        assert api.said(answer.body).kind == ("permission_error" if is_messages else "insufficient_quota")
        check_stopped(await house.books(ended=2))


@needs_server
async def test_a_stream_is_stopped_by_what_another_gateway_spent(build_house, tmp_path, new_client, ask, prices):
    async with valkey(tmp_path) as server:
        store = {"kind": "valkey", "url": server.url, "timeout": PATIENCE, "lease": 1.0}
        sections = {"budgets": [STOPPING], "prices": prices, "limit_store": store, "timeouts": {"idle": PATIENCE}}
        records = {"path": str(tmp_path / "others.db")}
        async with build_house(**sections) as one, build_house(**sections, records=records) as other:
            async with held(one, new_client) as client:
                await spend(other, ask)
                answer = await client.answer()
            assert answer.last_event["error"]["type"] == "permission_error"
            assert (await ask(one, "anthropic")).status == 403
            check_stopped(await one.books())


async def test_a_client_that_leaves_while_its_limit_is_asked_for(build_house, new_client, ask, tmp_path):
    path = tmp_path / "limits.db"
    store = {"kind": "sqlite", "path": str(path), "timeout": PATIENCE}
    async with build_house(rate_limits=[{"for": "all", "concurrent": 1}], limit_store=store) as house:
        lock = sqlite3.connect(path, isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        async with new_client(house.port) as client:
            await client.ask("/anthropic/v1/messages", APIS["anthropic"].body(), headers=APIS["anthropic"].headers)
            await until(lambda: house.app.gateway._waiting)
            client.reset()
        await until(lambda: not house.app._data._connections)
        lock.execute("COMMIT")
        lock.close()
        await house.outcomes.wait(ended=1)
        assert house.outcomes.ended[0][1].termination.value == "client_gone"
        await settled(house)
        assert (await ask(house, "anthropic")).status == 200


async def test_a_drain_waits_for_who_asks_and_gives_back(build_house, new_client, tmp_path):
    path = tmp_path / "limits.db"
    store = {"kind": "sqlite", "path": str(path), "timeout": PATIENCE}
    async with build_house(rate_limits=[{"for": "all", "concurrent": 1}], limit_store=store) as house:
        lock = sqlite3.connect(path, isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        async with new_client(house.port) as client:
            await client.ask("/anthropic/v1/messages", APIS["anthropic"].body(), headers=APIS["anthropic"].headers)
            await until(lambda: house.app.gateway._waiting)
            draining = asyncio.create_task(house.app.gateway.drain(0.05))
            await until(lambda: house.app.gateway._drained)
            lock.execute("COMMIT")
            lock.close()
            assert (await client.answer()).status == 503
            await draining
        assert house.app.generation.limiter._grants == {}
        assert house.metric("aibridge_interceptions_started_total") == 0


@needs_server
@pytest.mark.parametrize("when_away", ["allow", "deny"])
async def test_a_store_that_is_away(build_house, ask, tmp_path, when_away):
    async with valkey(tmp_path) as server:
        store = {"kind": "valkey", "url": server.url, "when_away": when_away, "timeout": 0.5}
        async with build_house(rate_limits=[{"for": "all", "requests_per_minute": 1}], limit_store=store) as house:
            assert [(await ask(house, "anthropic")).status for _ in range(2)] == [200, 429]
            server.process.kill()
            await server.process.wait()
            answers = [await ask(house, "anthropic") for _ in range(3)]
            assert [answer.status for answer in answers] == [200 if when_away == "allow" else 503] * 3
            if when_away == "deny":
                assert {answer.headers["retry-after"] for answer in answers} == {"1"}
                assert house.metric("aibridge_rejections_total", reason="limits_unknown") == 3
            assert house.metric("aibridge_limit_store_failures_total", operation="reserve") == 3
            said = [line["message"] for line in house.lines()]
            assert sum(text.startswith("limits cannot be counted") for text in said) == 1


def make_key(store, capsys, *terms):
    """Make a gateway key with a command; returns its id and the key."""
    assert cli.main(["keys", "create", "--store", str(store), "--json", "--owner", "alice", *terms]) == 0
    told = json.loads(capsys.readouterr().out)
    return told["id"], told["key"]


async def test_a_keys_own_limits(build_house, ask, prices, tmp_path, capsys):
    file = tmp_path / "keys.db"
    KeyStore(file)
    rate = make_key(file, capsys, "--rpm", "2")
    cents = make_key(file, capsys, "--budget-day", "0.000001")
    free = make_key(file, capsys)
    auth = {"key_store": {"path": str(file)}}
    async with build_house(auth=auth, prices=prices) as house:

        async def statuses(key, times):
            return [(await ask(house, "anthropic", headers=[("x-api-key", key[1])])).status for _ in range(times)]

        assert await statuses(rate, 3) == [200, 200, 429]
        assert await statuses(cents, 2) == [200, 403]
        assert await statuses(free, 4) == [200] * 4
        answer = await ask(house, "anthropic", headers=[("x-api-key", rate[1])])
        assert f"key '{rate[0]}' has a limit of 2 requests a minute" in json.loads(answer.body)["error"]["message"]
        assert rate[1] not in answer.body.decode()


async def test_keys_tell_their_limits(tmp_path, capsys):
    file = tmp_path / "keys.db"
    terms = ("--rpm", "60", "--tpm", "50000", "--streams", "4", "--budget-day", "7.50", "--budget-month", "100")
    key_id, _ = make_key(file, capsys, *terms)
    assert cli.main(["keys", "list", "--store", str(file), "--json"]) == 0
    [told] = json.loads(capsys.readouterr().out)
    names = ("requests_per_minute", "tokens_per_minute", "concurrent", "dollars_per_day", "dollars_per_month")
    assert [told[name] for name in names] == [60, 50_000, 4, 7.5, 100.0]
    assert cli.main(["keys", "list", "--store", str(file)]) == 0
    line = capsys.readouterr().out
    assert line.startswith(key_id)
    assert "requests_per_minute: 60" in line
    assert "dollars_per_day: 7.5" in line


@pytest.mark.parametrize("terms", [("--rpm", "0"), ("--tpm", "-1"), ("--streams", "x"), ("--budget-day", "1e3")])
def test_a_key_without_sense_is_refused(tmp_path, capsys, terms):
    with pytest.raises(SystemExit):
        cli.main(["keys", "create", "--store", str(tmp_path / "keys.db"), "--owner", "alice", *terms])
    assert "above 0" in capsys.readouterr().err
