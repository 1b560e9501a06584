"""Attempts that fail before the client has anything are made again: on real sockets, in all books."""

import asyncio

import pytest
from api_kit import ALL, each

AGAIN = {"retries": {"max": 2, "backoff": 0.05, "max_backoff": 1.5}}


@pytest.fixture
def retrying(build_house):
    """Return a function that builds a house whose providers try again."""

    def build(timeouts=None, **retries):
        settings = {"retries": AGAIN["retries"] | retries}
        providers = dict.fromkeys(("anthropic", "bedrock", "openai"), settings)
        return build_house(provider=providers, timeouts=timeouts or {})

    return build


def causes(house):
    return [attempt.cause.value for attempt in house.outcomes.attempts]


@each(*ALL)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "blocking"])
@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("status:529", "http_status"),
        ("status:429", "http_status"),
        ("rst_before_head", "connection_reset"),
        ("close_before_head", "connection_reset"),
    ],
)
async def test_a_second_attempt_does_well(retrying, ask, api, stream, fault, cause):
    async with retrying() as house:
        house.simulator.play(fault, 1)
        answer = await ask(house, api.name, stream=stream)
        assert (answer.status, answer.complete) == (200, True)
        (await house.books()).check("completed", "clean", health="success")
        assert causes(house) == [cause, "clean"]


@each(*ALL)
async def test_the_last_refusal_is_passed_on(retrying, ask, api):
    async with retrying() as house:
        house.simulator.play("status:529", 3)
        answer = await ask(house, api.name)
        assert answer.status == 529
        (await house.books()).check("upstream_error", "http_status", health="failure")
        assert causes(house) == ["http_status"] * 3


async def test_what_will_not_do_better_is_not_tried_again(retrying, ask):
    async with retrying() as house:
        for number, fault in enumerate(["status:400", "status:401", "truncate@3", "status:429:60"], 1):
            house.simulator.play(fault, 1)
            answer = await ask(house, "anthropic")
            await house.outcomes.wait(ended=number)
            if fault == "status:429:60":
                assert (answer.status, answer.headers["retry-after"]) == (429, "60")
        assert len(causes(house)) == 4


async def test_what_the_upstream_asks_for_is_waited_for(retrying, ask):
    async with retrying() as house:
        house.simulator.play("status:429:1", 1)
        assert (await ask(house, "anthropic")).status == 200
        books = await house.books()
        first, second = house.outcomes.attempts
        assert second.started_at - first.started_at >= 1.0
        assert books.outcome.duration >= 1.0


async def test_no_server_is_tried_again(build_house, ask):
    async with build_house(
        provider={"anthropic": AGAIN}, base_url="http://127.0.0.1:9", timeouts={"connect": 2}
    ) as house:
        answer = await ask(house, "anthropic")
        assert answer.status == 502
        (await house.books()).check("upstream_error", "connect_failed", health="failure")
        assert causes(house) == ["connect_failed"] * 3


async def test_an_outage_is_not_made_worse(retrying, ask):
    """Thirty requests bring three retries; ten were saved up."""
    async with retrying(max=5, backoff=0.01) as house:
        house.simulator.play("status:503", None)
        for number in range(1, 31):
            assert (await ask(house, "anthropic", stream=False)).status == 503
            await house.outcomes.wait(ended=number)
        assert 30 + 10 <= len(causes(house)) <= 30 + 13


@pytest.mark.parametrize("leave", ["client", "gateway"])
async def test_whoever_leaves_meanwhile_ends_it(retrying, new_client, request_body, leave):
    async with retrying(backoff=30, max_backoff=30) as house:
        house.simulator.play("status:529", 1)
        async with new_client(house.port) as client:
            version = ("anthropic-version", "2023-06-01")
            await client.ask("/anthropic/v1/messages", request_body(), headers=[version])
            await house.simulator.ledger.wait_for(1)
            await house.outcomes.wait(attempts=1)
            if leave == "client":
                client.close()
            else:
                await house.app.gateway.drain(0.1)
                assert (await client.answer()).status == 503
        books = await house.books()
        if leave == "client":
            books.check("client_gone", "disconnected", health="neither")
        else:
            books.check("gateway_error", "draining", health="neither")
        assert causes(house) == ["http_status"]
        assert house.simulator.ledger.total == 1


async def test_a_client_that_waits_is_kept_waiting(retrying, new_client, request_body):
    timeouts = {"commit_after": 0.2, "ping": 0.2}
    async with retrying(timeouts, backoff=1.0) as house, new_client(house.port) as client:
        house.simulator.play("status:529", 1)
        version = ("anthropic-version", "2023-06-01")
        await client.ask("/anthropic/v1/messages", request_body(), headers=[version])
        answer = await client.answer()
        assert answer.body.startswith(b"event: ping\n")
        assert answer.events[-1] == "message_stop"
        (await house.books()).check("completed", "clean", health="success")
        assert causes(house) == ["http_status", "clean"]


@pytest.mark.parametrize("end", ["connected", "refused"])
async def test_a_connection_that_comes_as_it_is_given_up_is_not_the_retrys(retrying, ask, monkeypatch, end):
    """The clock and the network may tell the same attempt's end in one turn of the loop: the clock was first."""
    loop, tries = asyncio.get_running_loop(), []
    create_connection = loop.create_connection

    async def connect(*args, **options):
        tries.append(args)
        if len(tries) == 1:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if end == "refused":
                    raise ConnectionRefusedError from None
        return await create_connection(*args, **options)

    async with retrying({"connect": 0.2}, backoff=0.3) as house:
        monkeypatch.setattr(loop, "create_connection", connect)
        answer = await ask(house, "anthropic")
        assert answer.status == 200
        (await house.books()).check("completed", "clean", health="success")
        assert causes(house) == ["connect_failed", "clean"]
