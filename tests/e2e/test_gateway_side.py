"""The rows G1, G2 and G8 of the outcome matrix: what the gateway itself does, and refuses."""

import asyncio
import gzip
import json

import pytest
from api_kit import ALL, APIS, COPILOT, OPENAI, each
from silence_kit import silence_of

from aibridge.compiled import MODULES
from aibridge.wire import IMPLEMENTATION

PATIENCE = 20.0
VERSION = ("anthropic-version", "2023-06-01")


@each(*ALL)
async def test_g1_drain_ends_a_stream(build_house, new_client, api):
    async with build_house(timeouts={"idle": PATIENCE}) as house, new_client(house.port) as client:
        await client.ask(api.path, api.body(), headers=[("x-sim-fault", "stall@5"), *api.headers])
        await client.read_until(api.delta)
        await house.app.gateway.drain(0.05)
        answer = await client.answer()
        assert answer.complete
        came, error = api.parted(answer.body)
        assert api.client_text(api.body()).startswith(came)
        books = await house.books()
        assert error[::2] == (api.kind("overloaded_error", streaming=True), books.interception.id)
        books.check("gateway_error", "draining", health="neither")


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "blocking"])
@each(*ALL)
async def test_g1_drain_before_the_head(build_house, new_client, api, stream):
    async with build_house(timeouts={"response": PATIENCE}) as house, new_client(house.port) as client:
        await client.ask(api.path, api.body(stream=stream), headers=[("x-sim-fault", "no_head"), *api.headers])
        await house.simulator.ledger.wait_for_arrivals(1)
        await house.app.gateway.drain(0.05)
        answer = await client.answer()
        assert answer.status == 503
        assert answer.headers["retry-after"] == "1"
        books = await house.books()
        said = api.said(answer.body)
        assert said[::2] == (api.kind("overloaded_error", streaming=False), books.interception.id)
        books.check("gateway_error", "draining", health="neither")


async def test_drain_lets_streams_end_and_refuses_new_ones(house, new_client, request_body):
    async with new_client(house.port) as client, new_client(house.port) as late:
        headers = [("x-sim-fault", "slow:3"), VERSION]
        await client.ask("/anthropic/v1/messages", request_body(), headers=headers)
        await client.read_until(b"event: content_block_delta")
        draining = asyncio.create_task(house.app.gateway.drain(PATIENCE))
        await asyncio.sleep(0)
        await late.ask("/anthropic/v1/messages", request_body(), headers=[VERSION])
        refused = await late.answer()
        assert refused.status == 503
        assert refused.headers["retry-after"] == "1"
        answer = await client.answer()
        assert answer.events[-1] == "message_stop"
        await draining
        (await house.books()).check("completed", "clean", health="success")
        assert house.metric("aibridge_rejections_total", reason="draining") == 1


class Broken(Exception):
    """An error of ours, with a text that nobody may see."""


def fail(*_args, **_kwargs):
    raise Broken("secret-in-an-exception")


@each(*ALL)
async def test_g2_fails_in_mid_stream(house, new_client, api):
    async with new_client(house.port) as client:
        await client.ask(api.path, api.body(), headers=[("x-sim-fault", "stall@5"), *api.headers])
        await client.read_until(api.delta)
        (exchange,) = house.app.gateway._live
        exchange._relay._decoder = type("Decoder", (), {"feed_eof": fail, "taken": 0})()
        exchange.body_ended()
        answer = await client.answer()
        _, error = api.parted(answer.body)
        books = await house.books()
        assert error[::2] == (api.kind("api_error", streaming=True), books.interception.id)
        assert "secret" not in answer.body.decode()
        assert "Traceback" not in answer.body.decode()
        books.check("gateway_error", "internal", health="neither", error="Broken")
        assert "secret" not in books.outcome.error


@each(*ALL)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "blocking"])
async def test_g2_fails_before_the_head(house, ask, monkeypatch, api, stream):
    monkeypatch.setattr("aibridge.telemetry.tracing.Tracing.carry", fail)
    answer = await ask(house, api.name, stream=stream)
    assert answer.status == 500
    books = await house.books()
    assert api.said(answer.body)[::2] == (api.kind("api_error", streaming=False), books.interception.id)
    assert "secret" not in answer.body.decode()
    books.check("gateway_error", "internal", health="neither", error="Broken")


OBSERVER = "aibridge.dialects.messages.MessagesObserver"
FAILING = [
    ("observe", None, "an event"),
    ("observe_body", None, "a whole answer"),
    ("usage_source", None, "the outcome, where all is well"),
    ("usage_source", "truncate@4", "the outcome, at the end of the body"),
    ("usage_source", "rst@4", "the outcome, where the upstream is lost"),
    ("usage_source", "stall@5", "the outcome, at a deadline"),
    ("error_event", "truncate@4", "the words for the client"),
    ("error_event", "stall@5", "the words for the client, at a deadline"),
]
"""What of an observer fails, while what happens upstream: an outcome has to be told all the same, once."""


@pytest.mark.parametrize(("method", "fault", "where"), FAILING, ids=[where for *_, where in FAILING])
async def test_g2_whatever_fails_there_is_one_outcome(build_house, ask, monkeypatch, method, fault, where):
    monkeypatch.setattr(f"{OBSERVER}.{method}", fail)
    async with build_house(timeouts=silence_of(fault or "")) as house:
        answer = await ask(house, "anthropic", fault, stream=where != "a whole answer")
        assert "message_stop" not in answer.body.decode()
        (await house.books()).check("gateway_error", "internal", health="neither", error="Broken")
        assert house.app.gateway.live == 0
        assert len(house.outcomes.ended) == 1


async def test_g2_the_outcome_fails_where_nothing_was_said_yet(house, new_client, request_body, monkeypatch):
    monkeypatch.setattr(f"{OBSERVER}.usage_source", fail)
    async with new_client(house.port) as client:
        await client.ask("/anthropic/v1/messages", request_body(), headers=[("x-sim-fault", "status:529"), VERSION])
        assert await client.read_some() == b""
    (await house.books()).check("gateway_error", "internal", health="neither", error="Broken")


async def test_g2_the_outcome_fails_where_the_client_leaves(house, new_client, request_body, monkeypatch):
    monkeypatch.setattr(f"{OBSERVER}.usage_source", fail)
    async with new_client(house.port) as client:
        await client.ask("/anthropic/v1/messages", request_body(), headers=[("x-sim-fault", "stall@5"), VERSION])
        await client.read_until(b"event: content_block_delta")
    (await house.books()).check("gateway_error", "internal", health="neither", error="Broken")
    assert house.app.gateway.live == 0


async def test_g2_one_that_cannot_be_ended_keeps_no_other_from_its_end(
    build_house, new_client, request_body, monkeypatch
):
    async with build_house(timeouts={"idle": PATIENCE}) as house:
        async with new_client(house.port) as one, new_client(house.port) as other:
            for client in (one, other):
                await client.ask(
                    "/anthropic/v1/messages", request_body(), headers=[("x-sim-fault", "stall@5"), VERSION]
                )
                await client.read_until(b"event: content_block_delta")
            monkeypatch.setattr(f"{OBSERVER}.error_event", fail)
            await house.app.gateway.drain(0.05)
        await house.books(ended=2)
        assert {outcome.cause.value for _, outcome in house.outcomes.ended} == {"internal"}
        assert house.app.gateway.live == 0


async def test_g2_fails_behind_the_outcome(house, ask, monkeypatch):
    """What was told stays told, and is told once."""
    monkeypatch.setattr("aibridge.attempts.Linger", fail)
    await ask(house, "anthropic", "terminal_then_close")
    (await house.books()).check("completed", "clean", health="success")
    assert house.app.gateway.live == 0


async def test_g2_a_circuit_that_fails(house, ask):
    for around in house.app.gateway._around.values():
        object.__setattr__(around, "refused_for", fail)
    assert (await ask(house, "anthropic")).status == 500
    (await house.books()).check("gateway_error", "internal", health="neither", error="Broken")


async def test_g2_a_broken_listener_hurts_nobody(house, ask, monkeypatch):
    monkeypatch.setattr(house.outcomes, "opened", fail)
    answer = await ask(house, "anthropic")
    assert answer.events[-1] == "message_stop"
    (await house.books()).check("completed", "clean", health="success")


REFUSALS = [
    ("unknown_route", "POST", "/anthropic/v1/complete", b"{}", 404, "not_found_error"),
    ("unknown_route", "GET", "/anthropic/v1/messages", b"", 404, "not_found_error"),
    ("unknown_route", "POST", "/anthropic/v1/messages/", b"{}", 404, "not_found_error"),
    ("unknown_route", "POST", "/anthropic//v1/messages", b"{}", 404, "not_found_error"),
    ("unknown_route", "POST", "/anthropic/v1/../v1/messages", b"{}", 404, "not_found_error"),
    ("unknown_route", "GET", "/anthropic/v1/models/..", b"", 404, "not_found_error"),
    ("unknown_route", "GET", "/anthropic/v1/models/a%2f..%2fb", b"", 404, "not_found_error"),
    ("unknown_route", "DELETE", "/anthropic/v1/models/x", b"", 404, "not_found_error"),
    ("unknown_route", "POST", "/nobody/v1/messages", b"{}", 404, "not_found_error"),
    ("unknown_route", "POST", "/", b"{}", 404, "not_found_error"),
    ("invalid_json", "POST", "/anthropic/v1/messages", b"{", 400, "invalid_request_error"),
    ("invalid_json", "POST", "/anthropic/v1/messages", b"", 400, "invalid_request_error"),
    ("invalid_json", "POST", "/anthropic/v1/messages", b"[]", 400, "invalid_request_error"),
    ("invalid_json", "POST", "/bedrock/v1/messages", b'{"model":1,}', 400, "invalid_request_error"),
    ("invalid_request", "POST", "/bedrock/v1/messages", b"{}", 400, "invalid_request_error"),
    ("too_large", "POST", "/anthropic/v1/messages", b" " * 100_001, 413, "request_too_large"),
    ("invalid_request", "POST", "/bedrock/v1/messages/count_tokens", b"{}", 400, "invalid_request_error"),
]


@pytest.mark.parametrize(("reason", "method", "path", "body", "status", "error_type"), REFUSALS)
async def test_g8_refused(build_house, new_client, reason, method, path, body, status, error_type):
    async with build_house(limits={"max_request_bytes": 100_000}) as house, new_client(house.port) as client:
        await client.ask(path, body, method=method, headers=[VERSION])
        answer = await client.answer()
        assert answer.status == status
        error = json.loads(answer.body)
        assert (error["type"], error["error"]["type"]) == ("error", error_type)
        check_nothing_began(house, reason)


def check_nothing_began(house, reason):
    assert house.metric("aibridge_rejections_total", reason=reason) == 1
    assert house.metric("aibridge_interceptions_started_total") == 0
    assert house.simulator.accepted == 0
    assert house.outcomes.opened_ids == []


OPENAI_REFUSALS = [
    ("unknown_route", "POST", "/openai/v1/completions", b"{}", 404, "not_found"),
    ("unknown_route", "GET", "/openai/v1/chat/completions", b"", 404, "not_found"),
    ("unknown_route", "POST", "/openai/v1/responses/", b"{}", 404, "not_found"),
    ("unknown_route", "POST", "/openai/chat/completions", b"{}", 404, "not_found"),
    ("unknown_route", "GET", "/openai/v1/responses", b"", 404, "not_found"),
    ("unknown_route", "POST", "/nobody/v1/chat/completions", b"{}", 404, "not_found"),
    ("unknown_route", "POST", "/nobody/v1/responses", b"{}", 404, "not_found"),
    ("invalid_json", "POST", "/openai/v1/chat/completions", b"{", 400, None),
    ("invalid_json", "POST", "/openai/v1/responses", b"", 400, None),
    ("invalid_json", "POST", "/openai/v1/responses/compact", b"[]", 400, None),
    ("no_credential", "POST", "/copilot/responses", b"{}", 401, "invalid_api_key"),
    ("bad_credential", "POST", "/openai/v1/chat/completions", b"{}", 401, "invalid_api_key"),
    ("too_large", "POST", "/openai/v1/chat/completions", b" " * 100_001, 413, "request_too_large"),
    ("too_large", "POST", "/copilot/responses", b" " * 100_001, 413, "request_too_large"),
]


@pytest.mark.parametrize(("reason", "method", "path", "body", "status", "code"), OPENAI_REFUSALS)
async def test_g8_refused_in_the_shape_of_openai(build_house, new_client, reason, method, path, body, status, code):
    headers = [("authorization", "Basic x")] if reason == "bad_credential" else []
    async with build_house(limits={"max_request_bytes": 100_000}) as house, new_client(house.port) as client:
        await client.ask(path, body, method=method, headers=headers)
        answer = await client.answer()
        assert answer.status == status
        assert APIS["chat"].said(answer.body).kind == code
        check_nothing_began(house, reason)


async def test_g8_too_large_without_a_length(build_house, new_client):
    async with build_house(limits={"max_request_bytes": 1000}) as house, new_client(house.port) as client:
        await client.ask("/anthropic/v1/messages", b"", headers=[("transfer-encoding", "chunked"), VERSION])
        await client.send(b"800\r\n" + b" " * 0x800 + b"\r\n")
        assert (await client.answer()).status == 413
        assert house.metric("aibridge_rejections_total", reason="too_large") == 1


async def test_g8_a_bomb_is_too_large(build_house, new_client):
    async with build_house(limits={"max_request_bytes": 100_000}) as house, new_client(house.port) as client:
        bomb = gzip.compress(b" " * 50_000_000)
        await client.ask("/anthropic/v1/messages", bomb, headers=[("content-encoding", "gzip"), VERSION])
        assert (await client.answer()).status == 413


@each("anthropic", *OPENAI)
async def test_compressed_request(house, new_client, api):
    async with new_client(house.port) as client:
        body = gzip.compress(json.dumps(api.body(stream=False)).encode())
        await client.ask(api.path, body, headers=[("content-encoding", "gzip"), *api.headers])
        assert (await client.answer()).status == 200


@each("anthropic", *OPENAI)
async def test_g8_slow_body(build_house, new_client, api):
    async with build_house(timeouts={"request_body": 0.4}) as house, new_client(house.port) as client:
        await client.ask(api.path, b'{"model":', headers=[("content-length", "1000"), *api.headers])
        answer = await client.answer()
        assert answer.status == 408
        assert api.said(answer.body).kind == api.kind("timeout_error", streaming=False)
        assert house.metric("aibridge_rejections_total", reason="request_incomplete") == 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([], 401),
        ([("x-api-key", "wrong")], 401),
        ([("authorization", "Bearer wrong")], 401),
        ([("authorization", "Basic d3Jvbmc=")], 401),
        ([("x-api-key", "gateway-key-1")], 200),
        ([("authorization", "Bearer gateway-key-2")], 200),
        ([("x-aibridge-key", "gateway-key-1"), ("x-api-key", "sk-ant-my-own")], 200),
    ],
)
async def test_g8_gateway_keys(build_house, new_client, request_body, headers, status):
    keys = [{"name": "ann", "key": "gateway-key-1"}, {"name": "bob", "key": "gateway-key-2"}]
    async with build_house(auth={"keys": keys}) as house, new_client(house.port) as client:
        await client.ask("/anthropic/v1/messages", request_body(), headers=[*headers, VERSION])
        answer = await client.answer()
        assert answer.status == status
        if status == 401:
            assert json.loads(answer.body)["error"]["type"] == "authentication_error"
            assert answer.headers["x-should-retry"] == "false"
            reason = "wrong_key" if headers and "wrong" in headers[0][1] else "no_key"
            assert house.metric("aibridge_rejections_total", reason=reason) == 1
            return
        books = await house.books()
        books.check("completed", "clean", health="success")
        assert books.interception.actor.id in {"ann", "bob"}
        own = any("my-own" in value for _, value in headers)
        assert books.interception.credential.kind.value == ("byok" if own else "centralized")
        assert "gateway-key" not in house.log.getvalue()


KEYS = [{"name": "ann", "key": "gateway-key-1"}]


@each(*OPENAI)
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([], 401),
        ([("authorization", "Bearer wrong")], 401),
        ([("authorization", "Bearer gateway-key-1")], 200),
        ([("x-aibridge-key", "gateway-key-1"), ("authorization", "Bearer sk-proj-my-own")], 200),
    ],
)
async def test_g8_gateway_keys_of_openai(build_house, new_client, api, headers, status):
    async with build_house(auth={"keys": KEYS}) as house, new_client(house.port) as client:
        await client.ask(api.path, api.body(), headers=headers)
        answer = await client.answer()
        assert answer.status == status
        if status == 401:
            assert api.said(answer.body).kind == "invalid_api_key"
            assert answer.headers["x-should-retry"] == "false"
            check_nothing_began(house, "wrong_key" if headers else "no_key")
            return
        books = await house.books()
        books.check("completed", "clean", health="success")
        (done,) = await house.simulator.ledger.wait_for(1)
        own = len(headers) == 2
        assert books.interception.credential.kind.value == ("byok" if own else "centralized")
        assert "gateway-key" not in house.log.getvalue() + str(done.headers)


@each(*COPILOT)
async def test_g8_copilot_behind_gateway_keys(build_house, new_client, api):
    """Its token is the client's own: the gateway's key must come apart from it."""
    async with build_house(auth={"keys": KEYS}) as house, new_client(house.port) as client:
        await client.ask(api.path, api.body(), headers=[("authorization", "Bearer gateway-key-1")])
        refused = await client.answer()
        assert refused.status == 401
        assert api.said(refused.body).kind == api.kind("authentication_error", streaming=False)
        check_nothing_began(house, "no_credential")
        await client.ask(api.path, api.body(), headers=[("x-aibridge-key", "gateway-key-1"), *api.headers])
        assert api.has_ended_well((await client.answer()).body)
        (await house.books()).check("completed", "clean", health="success")


async def test_health(house, new_client):
    for port in (house.app.port, house.app.admin_port):
        async with new_client(port) as client:
            await client.ask("/healthz", b"", method="GET")
            health = json.loads((await client.answer()).body)
            assert health["status"] == "ok"
            assert (health["wire"], health["modules"]) == (IMPLEMENTATION, MODULES)
            await client.ask("/readyz", b"", method="GET")
            assert (await client.answer()).status == 200
    await house.app.gateway.drain(0)
    async with new_client(house.app.admin_port) as client:
        await client.ask("/readyz", b"", method="GET")
        assert (await client.answer()).status == 503
        await client.ask("/healthz", b"", method="GET")
        assert (await client.answer()).status == 200
        await client.ask("/metrics", b"", method="GET")
        assert b"aibridge_build_info" in (await client.answer()).body
        await client.ask("/metrics", b"", method="POST")
        assert (await client.answer()).status == 405


async def test_probe(house, new_client):
    async with new_client(house.port) as client:
        for path in ("/", "/anthropic", "/anthropic/"):
            await client.ask(path, b"", method="HEAD")
            assert (await client.answer("HEAD")).status < 500
