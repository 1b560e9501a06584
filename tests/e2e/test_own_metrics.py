"""Metrics over real sockets: each step of the gateway's own work, tokens as on the record, actors where asked for."""

import pytest

BOTH = ("anthropic", "bedrock")


async def scrape(house, new_client):
    async with new_client(house.app.admin_port) as client:
        await client.ask("/metrics", b"", method="GET")
        answer = await client.answer()
        assert answer.status == 200
        return answer.body.decode()


@pytest.mark.parametrize("provider", BOTH)
async def test_each_step_is_told(house, ask, provider):
    for _ in range(3):
        assert (await ask(house, provider)).status == 200
    await house.books(ended=3)

    def told(step):
        return house.metric("aibridge_overhead_seconds_count", provider=provider, step=step)

    assert {step: told(step) for step in ("auth", "read", "rewrite", "relay", "connect")} == {
        "auth": 1, "read": 1, "rewrite": 1, "relay": 1, "connect": 1,
    }  # fmt: skip
    assert told("record") == 2
    assert 0 < house.metric("aibridge_overhead_seconds_sum", provider=provider) < 20
    assert house.metric("aibridge_upstream_attempts_total", provider=provider, cause="clean") == 3


@pytest.mark.parametrize("provider", BOTH)
async def test_tokens_are_those_on_the_record(house, ask, provider):
    await ask(house, provider, "truncate@5")
    await ask(house, provider)
    await house.books(ended=2)
    usages = [outcome.usage for _, outcome in house.outcomes.ended]
    for kind, counts in (
        ("input", [usage.input_tokens for usage in usages]),
        ("output", [usage.output_tokens for usage in usages]),
        ("cache_read_input_tokens", [usage.cache_read_input_tokens for usage in usages]),
    ):
        assert house.metric("aibridge_tokens_total", type=kind) == sum(count or 0 for count in counts)
    assert house.metric("aibridge_tokens_total", type="input") > 0


async def test_actors_where_asked_for(build_house, ask):
    keys = {"keys": [{"name": "alice", "key": "key-of-alice-0123456789"}]}
    async with build_house(metrics={"actor_label": True}, auth=keys) as house:
        answer = await ask(house, "anthropic", headers=[("x-api-key", "key-of-alice-0123456789")])
        assert answer.status == 200
        await house.books()
        assert house.metric("aibridge_interceptions_total", actor="alice") == 1
        assert house.metric("aibridge_tokens_total", actor="alice", type="input") > 0


async def test_the_loop_is_watched(house, new_client):
    page = await scrape(house, new_client)
    assert "# TYPE aibridge_event_loop_lag_seconds histogram" in page
    assert "# TYPE aibridge_overhead_seconds histogram" in page
