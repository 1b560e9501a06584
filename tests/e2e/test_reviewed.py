"""What once broke under other inputs and other orders, each kept mended by a test over real sockets."""

import asyncio
import json
import logging
import time
from email.utils import formatdate

import pytest

PATIENCE = 20.0
VERSION = ("anthropic-version", "2023-06-01")
BOTH = ("anthropic", "bedrock")


async def scripted(answer):
    """Serve every connection with `answer(reader, writer)`; returns server and port."""

    async def serve(reader, writer):
        try:
            await answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


async def read_request(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[16:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length: "))
    return head, await reader.readexactly(length)


@pytest.mark.parametrize("late", [0.0, 0.05])
async def test_a_body_that_ends_while_draining_gets_its_one_outcome(build_house, new_client, request_body, late):
    async with build_house(drain_deadline=PATIENCE) as house, new_client(house.port) as client:
        raw = json.dumps(request_body()).encode()
        await client.ask(
            "/anthropic/v1/messages", raw[:-1], headers=[("content-length", str(len(raw))), ("expect", "100-continue")]
        )
        await client.read_until(b"100 Continue\r\n\r\n")
        stopping = asyncio.create_task(house.app.stop())
        await asyncio.sleep(late)  # the delay is the input
        await client.send(raw[-1:])
        answer = await client.answer()
        assert answer.status in {200, 400}
        await stopping
        assert len(house.outcomes.ended) == len(house.outcomes.opened_ids) == 1
        assert house.metric("aibridge_interceptions_inflight") == 0


async def test_a_passthrough_may_end_while_draining(build_house, new_client):
    async def slow(reader, writer):
        await read_request(reader)
        asked.set()
        await go.wait()
        writer.write(b'HTTP/1.1 200 OK\r\ncontent-length: 18\r\n\r\n{"input_tokens":1}')
        await writer.drain()

    asked, go = asyncio.Event(), asyncio.Event()
    server, port = await scripted(slow)
    async with (
        server,
        build_house(base_url=f"http://127.0.0.1:{port}", drain_deadline=PATIENCE) as house,
        new_client(house.port) as client,
    ):
        await client.ask("/anthropic/v1/messages/count_tokens", b"{}", headers=[VERSION])
        await asked.wait()
        stopping = asyncio.create_task(house.app.stop())
        await asyncio.sleep(0)
        go.set()
        assert (await client.answer()).body == b'{"input_tokens":1}'
        await stopping


@pytest.mark.parametrize("echoed", ["anthropic", "bedrock"])
async def test_a_secret_that_the_upstream_echoes_is_told_to_nobody(build_house, ask, echoed):
    async def echo(reader, writer):
        head, _ = await read_request(reader)
        shown = json.dumps(
            {"message": "you sent " + head.decode("latin-1"), "error": {"message": head.decode("latin-1")}}
        )
        writer.write(b"HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\n")
        writer.write(b"content-length: %d\r\n\r\n%b" % (len(shown), shown.encode()))
        await writer.drain()

    server, port = await scripted(echo)
    token = {"bedrock": {"session_token": "SESSION-TOKEN-that-nobody-may-see"}}
    async with server, build_house(base_url=f"http://127.0.0.1:{port}", provider=token) as house:
        answer = await ask(house, echoed)
        books = await house.books()
        books.check("upstream_error", "http_status", health="neither")
        spans = " ".join(str(span.to_json()) for span in house.spans.get_finished_spans())
        told = answer.body.decode() + house.log.getvalue() + books.record["error"] + spans
        assert "you sent" in told or "authorization" in told or "x-api-key" in told
        assert "SESSION-TOKEN-that-nobody-may-see" not in told
        assert "sk-ant-simulator" not in told


@pytest.mark.parametrize(
    "raw",
    [
        b"POST /anthropic/v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: sk-ant-SECRET\x01\r\n\r\n",
        b"POST /anthropic/v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key : sk-ant-SECRET\r\n\r\n",
        b"POST /anthropic/v1/messages HTTP/1.1\r\nhost: x\r\nsk-ant-SECRET\r\n\r\n",
    ],
)
async def test_malformed_http_is_answered_in_the_api_s_shape_and_not_logged(house, new_client, caplog, raw):
    with caplog.at_level(logging.DEBUG):
        async with new_client(house.port) as client:
            await client.send(raw)
            answer = await client.answer()
    assert answer.status == 400
    assert json.loads(answer.body)["error"]["type"] == "invalid_request_error"
    assert "SECRET" not in caplog.text + answer.body.decode() + house.log.getvalue()
    assert house.metric("aibridge_rejections_total", reason="malformed") == 1


async def test_a_kept_connection_is_not_asked_again_once_it_began_to_answer(build_house, ask):
    posts = 0

    async def answer_by_halves(reader, writer):
        nonlocal posts
        while True:
            await read_request(reader)
            posts += 1
            if posts > 1:
                writer.write(b"HTTP/1.1 500 Oo")
                await writer.drain()
                return
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")
            await writer.drain()

    server, port = await scripted(answer_by_halves)
    async with server, build_house(base_url=f"http://127.0.0.1:{port}") as house:
        assert (await ask(house, "anthropic", stream=False)).status == 200
        assert (await ask(house, "anthropic", stream=False)).status == 502
        (await house.books(ended=2)).check("upstream_error", "connection_reset", health="failure")
    assert posts == 2


async def test_a_connection_with_half_a_request_in_it_is_not_kept(build_house, new_client, request_body):
    connections = 0

    async def early(reader, writer):
        nonlocal connections
        connections += 1
        if connections == 1:
            await reader.readuntil(b"\r\n\r\n")  # and not a byte of the body
            writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")
            await writer.drain()
            await finished.wait()
            return
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")
        await writer.drain()

    finished = asyncio.Event()
    server, port = await scripted(early)
    async with server, build_house(base_url=f"http://127.0.0.1:{port}") as house:
        async with new_client(house.port) as client:
            big = request_body(stream=False, padding="x" * 20_000_000)
            await client.ask("/anthropic/v1/messages", big, headers=[VERSION])
            assert (await client.answer()).status == 413
            await client.ask("/anthropic/v1/messages", request_body(stream=False), headers=[VERSION])
            assert (await client.answer()).status == 200
        finished.set()
    assert connections == 2


@pytest.mark.parametrize("provider", BOTH)
async def test_a_request_behind_an_unread_answer_waits_for_its_client(build_house, new_client, request_body, provider):
    """Pipelined: the second request is not sent on before the client has taken the first answer, or is cut off."""
    async with (
        build_house(timeouts={"client_stall": 0.6}) as house,
        new_client(house.port, receive_buffer=4096) as client,
    ):
        first = [("x-sim-fault", "huge:8000000"), VERSION]
        await client.ask(f"/{provider}/v1/messages", request_body(provider, stream=False), headers=first)
        await client.ask(
            f"/{provider}/v1/messages", request_body(provider), headers=[("x-sim-fault", "endless"), VERSION]
        )
        books = await house.books()
        books.check("client_gone", "stalled", health="neither")
        assert len(house.outcomes.opened_ids) == 1


async def test_a_slow_reader_is_not_called_stalled(build_house, new_client, request_body):
    async with (
        build_house(timeouts={"client_stall": 0.4, "response": PATIENCE}) as house,
        new_client(house.port, receive_buffer=65536) as client,
    ):
        headers = [("x-sim-fault", "huge:9000000"), VERSION]
        await client.ask("/anthropic/v1/messages", request_body(stream=False), headers=headers)
        taken = 0
        while taken < 9_000_000:
            await asyncio.sleep(0.02)  # a steady, slow client: longer in all than the stall limit
            share = 0
            while share < 100_000 and taken < 9_000_000:
                got = len(await client.read_some())
                assert got, "cut off"
                share, taken = share + got, taken + got
        (await house.books()).check("completed", "clean", health="success")


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "blocking"])
async def test_a_leaver_is_noticed_behind_a_pipelined_body(build_house, new_client, request_body, stream):
    async with (
        build_house(timeouts={"response": PATIENCE, "idle": PATIENCE}) as house,
        new_client(house.port) as client,
    ):
        fault = "stall@3" if stream else "no_head"
        headers = [("x-sim-fault", fault), VERSION]
        await client.ask("/anthropic/v1/messages", request_body(stream=stream), headers=headers)
        await house.simulator.ledger.wait_for_arrivals(1)
        await client.ask("/anthropic/v1/messages", b"x" * 1_500_000, headers=[("content-length", "2000000"), VERSION])
        client.close()
        (done,) = await house.simulator.ledger.wait_for(1, PATIENCE)
        assert done.ending in {"peer_closed", "peer_reset"}
        books = await house.books()
        books.check("client_gone", "disconnected" if stream else "before_response", health="neither")


async def test_a_gateway_key_never_goes_on(build_house, ask):
    keys = [{"name": "ann", "key": "gateway-key-1"}]
    async with build_house(auth={"keys": keys}) as house:
        headers = [("x-aibridge-key", "gateway-key-1"), ("x-api-key", "gateway-key-1")]
        assert (await ask(house, "anthropic", headers=headers)).status == 200
        (done,) = await house.simulator.ledger.wait_for(1)
        assert not any("key-1" in value for _, value in done.headers)
        assert (await house.books()).record["credential_kind"] == "centralized"


async def test_the_books_are_told_before_the_client_has_the_last_word(house, new_client, request_body, monkeypatch):
    """Decision 0008: when the outcome is told, the terminal event has not left yet."""
    ended = []
    closed = house.outcomes.closed

    def tell(*end):
        ended.extend(exchange._client.ended for exchange in house.app.gateway._live)
        closed(*end)

    monkeypatch.setattr(house.outcomes, "closed", tell)
    async with new_client(house.port) as client:
        await client.ask("/anthropic/v1/messages", request_body(), headers=[VERSION])
        assert (await client.answer()).events[-1] == "message_stop"
    assert ended == [False]


@pytest.mark.parametrize("provider", BOTH)
async def test_the_upstream_is_paused_at_once(build_house, new_client, request_body, provider):
    async with (
        build_house(timeouts={"client_stall": 1.0}, limits={"client_buffer_bytes": 65536}) as house,
        new_client(house.port, receive_buffer=4096) as client,
    ):
        headers = [("x-sim-fault", "endless"), VERSION]
        await client.ask(f"/{provider}/v1/messages", request_body(provider), headers=headers)
        await client.read_until(b"event: content_block_delta")
        books = await house.books()
        books.check("client_gone", "stalled", health="neither")
        # Sockets' own buffers take some megabytes; an upstream that is not paused sends on for the whole second.
        (done,) = await house.simulator.ledger.wait_for(1, PATIENCE)
        taken = books.outcome.evidence.bytes_in
        assert books.outcome.evidence.bytes_out <= taken * 2
        assert taken < 8 * 2**20
        assert done.ending in {"peer_closed", "peer_reset"}


async def test_an_answer_over_the_bound_is_refused(build_house, ask):
    async with build_house(limits={"max_response_bytes": 100_000}) as house:
        answer = await ask(house, "anthropic", "huge:300000", stream=False)
        assert answer.status == 502
        (await house.books()).check("upstream_error", "protocol_error", health="failure", error="100000 bytes")


async def test_a_doubtful_connection_is_not_kept(house, ask):
    for fault in ("truncate@4", "bad_json@4"):
        assert (await ask(house, "anthropic", fault)).last_event["type"] == "error"
    await ask(house, "anthropic")
    assert house.simulator.accepted == 3


async def test_credentials_that_fail_at_once_end_the_one_interception(house, ask, monkeypatch):
    def broken(_self, _request):
        raise RuntimeError("a bug")

    monkeypatch.setattr("aibridge.providers.anthropic.AnthropicProvider.missing", broken)
    answer = await ask(house, "anthropic")
    assert answer.status == 500
    assert house.app.gateway.live == 0
    (await house.books()).check("gateway_error", "internal", health="neither")


@pytest.mark.parametrize("phase", ["head", "body", "stream", "passthrough", "unread"])
async def test_stopping_ends_whatever_phase_a_client_is_in(build_house, new_client, request_body, phase):
    async with build_house(drain_deadline=0.2, timeouts={"response": PATIENCE, "idle": PATIENCE}) as house:
        async with new_client(house.port, receive_buffer=4096) as client:
            if phase == "head":
                await client.send(b"POST /anthropic/v1/mess")
            elif phase == "body":
                headers = [("content-length", "9"), ("expect", "100-continue")]
                await client.ask("/anthropic/v1/messages", b"{", headers=headers)
                await client.read_until(b"100 Continue\r\n\r\n")
            elif phase == "passthrough":
                headers = [("x-sim-fault", "no_head"), VERSION]
                await client.ask("/anthropic/v1/messages/count_tokens", request_body(), headers=headers)
            else:
                fault = "stall@3" if phase == "stream" else "endless"
                await client.ask("/anthropic/v1/messages", request_body(), headers=[("x-sim-fault", fault), VERSION])
                await house.simulator.ledger.wait_for_arrivals(1)
            async with asyncio.timeout(PATIENCE):
                await house.app.stop()
        assert house.app.gateway.live == 0
        assert not house.app._data._connections
        assert not house.app._data.tasks
        assert len(house.outcomes.ended) == len(house.outcomes.opened_ids) == (phase in {"stream", "unread"})


async def test_a_date_to_come_again_counts_where_the_answer_has_no_date_of_its_own(build_house, ask):
    """Ours is taken then. It is far: the request is not tried again."""
    asked = []

    async def refuse(reader, writer):
        await read_request(reader)
        asked.append(1)
        again = formatdate(time.time() + 3600, usegmt=True).encode()
        writer.write(b"HTTP/1.1 529 Overloaded\r\nretry-after: " + again + b"\r\ncontent-length: 2\r\n\r\n{}")
        await writer.drain()

    server, port = await scripted(refuse)
    provider = {"anthropic": {"base_url": f"http://127.0.0.1:{port}", "retries": {"max": 2, "backoff": 0.01}}}
    async with server, build_house(provider=provider) as house:
        answer = await ask(house, "anthropic")
        assert (answer.status, len(asked)) == (529, 1)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_good_status_without_content_is_no_answer(build_house, new_client, ask, stream):
    """As a stream it would get a body from us, which whoever reads HTTP takes for the next answer."""

    async def empty(reader, writer):
        while True:
            await read_request(reader)
            writer.write(b"HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n")
            await writer.drain()

    server, port = await scripted(empty)
    async with server, build_house(base_url=f"http://127.0.0.1:{port}") as house:
        assert (await ask(house, "anthropic", stream=stream)).status == 502
        (await house.books()).check("upstream_error", "unexpected_response", health="failure", error="no content")
        async with new_client(house.port) as client:
            await client.ask("/anthropic/v1/messages/count_tokens", b"{}", headers=[VERSION])
            answer = await client.answer()
            assert (answer.status, answer.body) == (204, b"")
            assert "content-length" not in answer.headers
