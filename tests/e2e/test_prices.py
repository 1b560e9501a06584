"""Costs over real sockets: on the record, in the metrics, in the log, and rated anew while the gateway runs."""

import json

import pytest
from api_kit import ALL, each

from aibridge.cli import main
from aibridge.stores.ledger import usage
from aibridge.stores.sqlite import querying

PRICES = """
version: test
lists:
  anthropic: {models: [{match: ["*"], prices: [{input: 3, output: 15, cache_read: 0.3, cache_write_5m: 3.75}]}]}
  bedrock:
    models:
      - match: ["anthropic.*"]
        prices: [{input: 3, output: 15, cache_read: 0.3, cache_write_5m: 3.75, regions: {"*": 1.1}}]
  openai: {models: [{match: ["*"], prices: [{input: 2, output: 8, cache_read: 0.5}]}]}
"""
RATES = {"anthropic": (3000, 15000, 300, 3750), "bedrock": (3300, 16500, 330, 4125), "openai": (2000, 8000, 500, 0)}
"""Nano-dollars for one token."""


@pytest.fixture
def prices(tmp_path):
    path = tmp_path / "prices.yaml"
    path.write_text(PRICES)
    return {"path": str(path)}


def by_hand(provider, told):
    return sum((count or 0) * rate for count, rate in zip(told[:4], RATES[provider], strict=True))


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "blocking"])
@each(*ALL)
async def test_what_an_answer_cost(build_house, new_client, prices, api, stream):
    async with build_house(prices=prices) as house, new_client(house.port) as client:
        await client.ask(api.path, api.body(stream=stream), headers=api.headers)
        assert (await client.answer()).status == 200
        books = await house.books()
        cost = by_hand(api.provider, books.outcome.usage)
        assert cost > 0
        record, version = books.record, books.outcome.cost.version
        assert (record["cost_nanodollars"], record["unpriced"]) == (cost, None)
        assert record["usage"]["price_version"] == version
        assert "+test." in version
        assert house.metric(
            "aibridge_cost_dollars_total", provider=api.provider, usage_source="provider_final"
        ) == pytest.approx(cost / 1e9)
        [line] = [line for line in house.lines() if line["message"] == "interception ended"]
        assert line["cost_nanodollars"] == cost


@each(*ALL)
async def test_an_answer_that_broke_off_costs_what_was_told(build_house, new_client, prices, api):
    async with build_house(prices=prices) as house, new_client(house.port) as client:
        await client.ask(api.path, api.body(), headers=[("x-sim-fault", "truncate@5"), *api.headers])
        await client.answer()
        books = await house.books()
        source, cost = books.outcome.usage_source.value, books.outcome.cost
        if source == "none":  # OpenAI tells tokens at the end alone
            assert (cost.nanodollars, cost.version, books.record["cost_nanodollars"]) == (None, "", None)
            assert house.metric("aibridge_unpriced_requests_total") == 0
        else:
            assert (source, cost.nanodollars) == ("provider_partial", by_hand(api.provider, books.outcome.usage))
            assert house.metric("aibridge_cost_dollars_total", usage_source=source) == pytest.approx(
                cost.nanodollars / 1e9
            )


async def test_a_model_without_a_price_is_counted_and_can_be_rated_later(house, ask, prices, capsys):
    assert (await ask(house, "anthropic", model="claude-of-tomorrow")).status == 200
    books = await house.books()
    told = books.outcome.usage
    assert (books.record["cost_nanodollars"], books.record["unpriced"]) == (None, "unknown_model")
    labels = {"provider": "anthropic", "model": "claude-of-tomorrow", "reason": "unknown_model"}
    assert house.metric("aibridge_unpriced_requests_total", **labels) == 1
    assert house.metric("aibridge_unpriced_tokens_total", **labels) == sum(count or 0 for count in told[:4])
    assert house.metric("aibridge_cost_dollars_total") == 0
    # the gateway runs on, and has the store open
    arguments = ["prices", "rerate", "--records", house.records, "--prices", prices["path"], "--json"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["cost_nanodollars"] == by_hand("anthropic", told)
    assert (await ask(house, "anthropic")).status == 200
    await house.books(ended=2)
    with querying(house.records) as query:
        [row] = usage(query, 0.0, ["provider"])
    assert (row["requests"], row["unpriced"]) == (2, 0)
    assert row["cost_nanodollars"] > by_hand("anthropic", told)
