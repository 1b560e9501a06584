"""The Anthropic face: to its own SDK, and to requests that its provider would refuse."""

import json

import anthropic
import pytest

from aibridge.simulator.expected import expected_document

ASKED = {"model": "claude-sim", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello?"}]}
TOOL = {
    "name": "Read",
    "description": "x",
    "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}},
}
HEADERS = {"x-api-key": "sk-test", "anthropic-version": "2023-06-01"}


@pytest.fixture
async def client(simulator):
    async with anthropic.AsyncAnthropic(base_url=simulator.url, api_key="sk-test", max_retries=0) as opened:
        yield opened


async def test_blocking(simulator, client):
    message = await client.messages.create(**ASKED)
    (row,) = await simulator.ledger.wait_for(1)
    body = json.dumps(ASKED).encode()
    assert message.content[0].text == expected_document(body, "anthropic")["content"][0]["text"]
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens == 12
    assert message._request_id == row.request_id
    assert not row.streaming


@pytest.mark.parametrize("fault", ["clean", "crlf+comments+bom", "drip", "gzip", "split_random:5", "pings", "interim"])
async def test_streaming(client, fault):
    async with client.messages.stream(**ASKED, extra_headers={"x-sim-fault": fault}) as stream:
        message = await stream.get_final_message()
    assert message.content[0].text.startswith("The simulator gives the same answer")
    assert message.usage.output_tokens == 12
    assert message.stop_reason == "end_turn"


async def test_tools_and_thoughts(client):
    thinking = {"type": "enabled", "budget_tokens": 1024}
    async with client.messages.stream(**{**ASKED, "max_tokens": 2000}, tools=[TOOL], thinking=thinking) as stream:
        message = await stream.get_final_message()
    thought, call = message.content
    assert thought.signature
    assert (call.name, call.input) == ("Read", {"path": "sample"})
    assert message.stop_reason == "tool_use"


async def test_other_operations(client):
    counted = await client.messages.count_tokens(model="claude-sim", messages=ASKED["messages"])
    message = await client.messages.create(**ASKED)
    assert counted.input_tokens == message.usage.input_tokens
    models = await client.models.list(limit=1000)
    assert models.data[0].id == "claude-sim"
    assert (await client.models.retrieve("claude-sim-large")).display_name == "Claude-Sim-Large"


async def test_the_sdk_believes_a_truncated_stream(client):
    async with client.messages.stream(**ASKED, extra_headers={"x-sim-fault": "truncate@6"}) as stream:
        message = await stream.get_final_message()
    assert message.stop_reason is None, "why this project exists"


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("status:429", anthropic.RateLimitError),
        ("status:529", anthropic.InternalServerError),
        ("close_before_head", anthropic.APIConnectionError),
        ("error_event@2", anthropic.APIStatusError),
    ],
)
async def test_errors_are_told_by_the_sdk(client, fault, error):
    with pytest.raises(error):
        async with client.messages.stream(**ASKED, extra_headers={"x-sim-fault": fault}) as stream:
            await stream.get_final_message()


async def refused(connect, simulator, method, target, headers, body=b""):
    async with connect(simulator) as client:
        await client.send(method, target, headers.items(), body)
        answer = await client.answer()
    assert answer.document["type"] == "error"
    assert answer.document["request_id"] == answer.headers["request-id"]
    return answer.status, answer.document["error"]["type"], answer.document["error"]["message"]


@pytest.mark.parametrize(
    ("headers", "status", "message"),
    [
        ({"anthropic-version": "2023-06-01"}, 401, "x-api-key header is required"),
        ({"anthropic-version": "2023-06-01", "authorization": "Basic eDp5"}, 401, "x-api-key header is required"),
        ({"x-api-key": "sk-test"}, 400, "anthropic-version: header is required"),
    ],
)
async def test_credentials_and_version(connect, simulator, headers, status, message):
    body = json.dumps(ASKED).encode()
    found = await refused(connect, simulator, "POST", "/v1/messages", headers, body)
    assert (found[0], found[2]) == (status, message)


async def test_good_keys_only(connect, start):
    simulator = await start(anthropic_keys={"good"})
    body = json.dumps(ASKED).encode()
    found = await refused(connect, simulator, "POST", "/v1/messages", {**HEADERS, "x-api-key": "bad"}, body)
    assert found == (401, "authentication_error", "invalid x-api-key")
    for headers in ({"x-api-key": "good", "authorization": "Bearer bad"}, {"authorization": "Bearer good"}):
        async with connect(simulator) as client:
            await client.send("POST", "/v1/messages", {**headers, "anthropic-version": "x"}.items(), body)
            assert (await client.answer()).status == 200


async def test_any_credentials(connect, start):
    simulator = await start(any_credentials=True)
    async with connect(simulator) as client:
        await client.send("POST", "/v1/messages", [("anthropic-version", "x")], json.dumps(ASKED).encode())
        assert (await client.answer()).status == 200


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "The request body is not valid JSON"),
        (b"[" * 100_000, "The request body is not valid JSON"),
        (b"[]", "expected an object"),
        (b'{"model":"x","messages":[]}', "max_tokens: Field required"),
        (b'{"max_tokens":5,"messages":[]}', "model: Field required"),
    ],
)
async def test_bodies_that_are_refused(connect, simulator, body, message):
    status, kind, said = await refused(connect, simulator, "POST", "/v1/messages", HEADERS, body)
    assert (status, kind) == (400, "invalid_request_error")
    assert message in said


@pytest.mark.parametrize(
    ("method", "target"), [("GET", "/v1/messages"), ("POST", "/v1/nothing"), ("GET", "/favicon.ico")]
)
async def test_unknown_routes(connect, simulator, method, target):
    assert (await refused(connect, simulator, method, target, HEADERS))[:2] == (404, "not_found_error")


async def test_headers_as_the_provider_sends_them(simulator, ask):
    answer = await ask(simulator, "anthropic")
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["request-id"].startswith("req_")
    assert answer.headers["anthropic-organization-id"]
    assert int(answer.headers["anthropic-ratelimit-requests-remaining"])
