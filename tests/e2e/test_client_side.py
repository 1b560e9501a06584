"""The rows C1 to C9 of the outcome matrix: what the client does, and what its upstream gets of it."""

import asyncio
import json

import pytest
from api_kit import ALL, COPILOT, SSE, each
from waiting_kit import until

PROMPTLY = 0.1
"""Seconds within which a client's end closes the upstream's connection (outcomes: 100 ms)."""
PATIENCE = 20.0
GONE = {"peer_closed", "peer_reset"}


def leave(client, way):
    {"fin": client.close, "rst": client.reset, "half": client.finish}[way]()


async def stop_and_time(house, client, way):
    """Let the client leave; return the simulator's row, and after how many seconds its connection was closed."""
    loop = asyncio.get_running_loop()
    left = loop.time()
    leave(client, way)
    (done,) = await house.simulator.ledger.wait_for(1, PATIENCE)
    return done, done.ended_at - left


@each(*ALL)
@pytest.mark.parametrize("way", ["fin", "rst", "half"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "blocking"])
async def test_c1_c9_leaves_before_the_head(build_house, new_client, api, way, stream):
    async with build_house(timeouts={"response": PATIENCE}) as house, new_client(house.port) as client:
        body = api.body(stream=stream)
        await client.ask(api.path, body, headers=[("x-sim-fault", "no_head"), *api.headers])
        await house.simulator.ledger.wait_for_arrivals(1)
        done, seconds = await stop_and_time(house, client, way)
        assert done.ending in GONE
        assert seconds < PROMPTLY * 3  # the machine may be busy; the bar itself is measured in bench
        (await house.books()).check("client_gone", "before_response", health="neither")


@each(*ALL, *COPILOT)
@pytest.mark.parametrize("way", ["fin", "rst", "half"])
async def test_c2_c3_leaves_while_the_upstream_is_silent(build_house, new_client, api, way):
    async with build_house(timeouts={"idle": PATIENCE}) as house, new_client(house.port) as client:
        headers = [("x-sim-fault", "stall@5"), *api.headers]
        await client.ask(api.path, api.body(), headers=headers)
        await client.read_until(api.delta)
        done, seconds = await stop_and_time(house, client, way)
        assert done.ending in GONE
        assert seconds < PROMPTLY * 3
        books = await house.books()
        books.check("client_gone", "disconnected", health="neither")
        if api.last_event == "message_stop":  # the others tell usage at the end alone
            assert books.outcome.usage_source.value == "provider_partial"
            assert books.outcome.usage.input_tokens is not None


@each(*ALL)
@pytest.mark.parametrize("way", ["fin", "rst"])
async def test_c2_c3_leaves_in_mid_stream(house, new_client, api, way):
    async with new_client(house.port) as client:
        headers = [("x-sim-fault", "endless+slow:2"), *api.headers]
        await client.ask(api.path, api.body(), headers=headers)
        await client.read_until(api.delta)
        done, _ = await stop_and_time(house, client, way)
        assert done.ending in GONE
        (await house.books()).check("client_gone", "disconnected", health="neither")


@each(*ALL)
async def test_c4_stops_reading(build_house, new_client, api):
    """Reading the upstream pauses at once, memory stays bounded, and at the timeout both sides are closed."""
    async with (
        build_house(timeouts={"client_stall": 0.6}) as house,
        new_client(house.port, receive_buffer=4096) as client,
    ):
        headers = [("x-sim-fault", "endless"), *api.headers]
        await client.ask(api.path, api.body(), headers=headers)
        await client.read_until(api.delta)
        books = await house.books()  # reads nothing meanwhile
        books.check("client_gone", "stalled", health="neither")
        (done,) = await house.simulator.ledger.wait_for(1, PATIENCE)
        assert done.ending in GONE
        # What was taken from the upstream fits in the buffers between: sockets' and ours.
        assert books.outcome.evidence.bytes_in < 16 * 2**20


@each(*ALL)
async def test_c4_slow_but_reading(build_house, new_client, api):
    """A client that pauses and reads on gets everything: backpressure loses nothing."""
    async with (
        build_house(
            timeouts={"client_stall": PATIENCE, "response": PATIENCE, "idle": PATIENCE},
            limits={"client_buffer_bytes": 4096},
        ) as house,
        new_client(house.port, receive_buffer=4096) as client,
    ):
        headers = [("x-sim-fault", "many:20000"), *api.headers]
        await client.ask(api.path, api.body(), headers=headers)
        await client.read_until(api.delta)
        await house.outcomes.wait(opened=1)
        answer = await client.answer()
        assert answer.complete
        assert answer.body == api.client_text(api.body(), "many:20000")
        (await house.books()).check("completed", "clean", health="success")


@each(*SSE)
async def test_c4_last_word_waits_for_the_client(build_house, new_client, api):
    """The terminal event came, but the client never takes what was before it: not completed, but gone."""
    async with (
        build_house(timeouts={"client_stall": 0.6}, limits={"client_buffer_bytes": 10_000_000}) as house,
        new_client(house.port, receive_buffer=4096) as client,
    ):
        size = 1_500_000 if api.name == "responses" else 8_000_000  # Responses says its text five times
        headers = [("x-sim-fault", f"huge:{size}"), *api.headers]
        await client.ask(api.path, api.body(), headers=headers)
        await client.read_until(b"\r\n\r\n")
        books = await house.books()
        books.check("client_gone", "stalled", health="neither")
        assert books.outcome.evidence.terminal_event_seen
        (done,) = await house.simulator.ledger.wait_for(1, PATIENCE)
        assert done.ending == "kept_alive", "all had come: the upstream's connection need not wait for the client"


@each(*ALL)
@pytest.mark.parametrize("way", ["fin", "rst"])
async def test_c5_leaves_after_the_last_word(house, new_client, api, way):
    async with new_client(house.port) as client:
        await client.ask(api.path, api.body(), headers=api.headers)
        await client.read_until(api.last_word)
        leave(client, way)
    (await house.books()).check("completed", "clean", health="success")
    (done,) = await house.simulator.ledger.wait_for(1)
    assert done.ending == "kept_alive"


@each(*ALL)
async def test_c6_leaves_after_an_error_event(house, new_client, api):
    async with new_client(house.port) as client:
        headers = [("x-sim-fault", "error_event@3"), *api.headers]
        await client.ask(api.path, api.body(), headers=headers)
        await client.read_until(api.error)
        client.reset()
    (await house.books()).check("upstream_error", "error_event", health="failure")


@each(*SSE)
@pytest.mark.parametrize("way", ["fin", "rst"])
async def test_c8_leaves_inside_its_request(house, new_client, api, way):
    async with new_client(house.port) as client:
        await client.ask(api.path, b'{"model":', headers=[("content-length", "1000"), *api.headers])
        leave(client, way)
        await until(lambda: house.metric("aibridge_rejections_total", reason="request_incomplete"))
    assert house.outcomes.opened_ids == []
    assert house.simulator.accepted == 0


@each(*SSE)
async def test_c9_leaves_in_the_middle_of_a_body(build_house, new_client, api):
    async with build_house(timeouts={"idle": PATIENCE}) as house, new_client(house.port) as client:
        headers = [("x-sim-fault", "stall@1"), *api.headers]
        await client.ask(api.path, api.body(stream=False), headers=headers)
        await house.simulator.ledger.wait_for_arrivals(1)
        done, seconds = await stop_and_time(house, client, "fin")
        assert done.ending in GONE
        assert seconds < PROMPTLY * 3
        (await house.books()).check("client_gone", "before_response", health="neither")


@each(*ALL)
async def test_pings_while_the_upstream_is_silent(build_house, new_client, api):
    async with (
        build_house(timeouts={"ping": 0.2, "idle": PATIENCE}) as house,
        new_client(house.port) as client,
    ):
        headers = [("x-sim-fault", "stall@5"), *api.headers]
        await client.ask(api.path, api.body(), headers=headers)
        framed = b"%x\r\n%b\r\n" % (len(api.ping), api.ping)
        await client.read_until(framed * 2)
    (await house.books()).check("client_gone", "disconnected", health="neither")


async def test_keep_alive_takes_many_requests(house, new_client, request_body):
    async with new_client(house.port) as client:
        for number in range(1, 6):
            await client.ask("/anthropic/v1/messages", request_body(stream=number % 2 == 0), headers=[VERSION])
            answer = await client.answer()
            assert answer.status == 200
            assert answer.complete
            await house.outcomes.wait(ended=number)
    assert house.simulator.accepted == 1, "one connection to the upstream served all of them"


async def test_http_1_0(house, new_client, request_body):
    async with new_client(house.port) as client:
        await client.ask("/anthropic/v1/messages", request_body(), headers=[VERSION], version="1.0")
        answer = await client.answer()
        assert "transfer-encoding" not in answer.headers
        assert answer.events[-1] == "message_stop"


async def test_expect_continue(house, new_client, request_body):
    async with new_client(house.port) as client:
        body = json.dumps(request_body(stream=False)).encode()
        headers = [("expect", "100-continue"), ("content-length", str(len(body))), VERSION]
        await client.ask("/anthropic/v1/messages", b"", headers=headers)
        await client.read_until(b"HTTP/1.1 100 Continue\r\n\r\n")
        await client.send(body)
        assert (await client.answer()).status == 200


VERSION = ("anthropic-version", "2023-06-01")


# an answer that is read on once its client has left


async def until_live(house, look):
    """Wait until the one exchange under way is so: nobody else has it, and nothing else tells."""
    await until(lambda: any(map(look, house.app.gateway._live)))


def reading_on(**more):
    return {name: {"on_disconnect": "drain", **more} for name in ("anthropic", "bedrock", "openai")}


@each(*ALL)
async def test_what_is_read_on_tells_all_tokens(build_house, new_client, api):
    async with build_house(provider=reading_on()) as house:
        async with new_client(house.port) as client:
            headers = [("x-sim-fault", "many:40+slow:20"), *api.headers]
            await client.ask(api.path, api.body(), headers=headers)
            await client.read_until(api.delta)
        (done,) = await house.simulator.ledger.wait_for(1, PATIENCE)
        assert done.terminal_sent
        assert done.ending not in GONE
        books = await house.books()
        books.check("client_gone", "disconnected", health="neither")
        assert books.outcome.usage_source.value == "provider_final"
        assert books.outcome.usage.output_tokens == house.outcomes.attempts[0].usage.output_tokens > 0
        assert books.outcome.evidence.terminal_event_seen
        assert books.outcome.evidence.bytes_out < books.outcome.evidence.bytes_in


@each(*ALL)
async def test_a_whole_answer_is_read_on_too(build_house, new_client, api):
    async with build_house(provider=reading_on()) as house:
        async with new_client(house.port) as client:
            headers = [("x-sim-fault", "slow:200"), *api.headers]
            await client.ask(api.path, api.body(stream=False), headers=headers)
            await until_live(house, lambda exchange: exchange._relay.bytes_in > 0)
        books = await house.books()
        books.check("client_gone", "before_response", health="neither")
        assert books.outcome.usage_source.value == "provider_final"


@each(*SSE)
@pytest.mark.parametrize("fault", ["truncate@6", "rst@6", "error_event@6"])
async def test_what_breaks_while_it_is_read_on_was_left_before(build_house, new_client, api, fault):
    async with build_house(provider=reading_on()) as house:
        async with new_client(house.port) as client:
            await client.ask(api.path, api.body(), headers=[("x-sim-fault", f"{fault}+slow:100"), *api.headers])
            await client.read_until(api.delta)
        books = await house.books()
        books.check("client_gone", "disconnected", health="neither")
        assert books.outcome.usage_source.value != "provider_final"


async def test_reading_on_has_a_bound(build_house, new_client, request_body):
    bounded = reading_on(on_disconnect="drain_bounded", drain_seconds=0.3)
    async with build_house(provider=bounded) as house:
        async with new_client(house.port) as client:
            await client.ask(
                "/anthropic/v1/messages", request_body(), headers=[("x-sim-fault", "endless+slow:20"), VERSION]
            )
            await client.read_until(b"content_block_delta")
        (done,) = await house.simulator.ledger.wait_for(1, PATIENCE)
        assert done.ending in GONE
        books = await house.books()
        books.check("client_gone", "disconnected", health="neither")
        assert 0.3 <= books.outcome.duration < PATIENCE
        assert books.outcome.usage_source.value == "provider_partial"


async def test_a_client_that_did_not_read_is_read_on_for(build_house, new_client, request_body):
    async with build_house(provider=reading_on(), timeouts={"client_stall": PATIENCE}) as house:
        async with new_client(house.port) as client:
            body = request_body(max_tokens=10_000)
            await client.ask("/anthropic/v1/messages", body, headers=[("x-sim-fault", "many:3000+size:3000"), VERSION])
            await client.read_until(b"content_block_delta")
            await until_live(house, lambda exchange: exchange._paused_at is not None)
        books = await house.books()
        books.check("client_gone", "disconnected", health="neither")
        assert books.outcome.usage_source.value == "provider_final"
