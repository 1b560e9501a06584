"""Bytes pass untouched: what the upstream sent is what the client got, however it was cut on its way."""

import hashlib
import json

import pytest

from aibridge.simulator.expected import expected_sse

SHAPES = ["crlf", "cr", "bom", "comments", "padded", "pings", "unicode", "many:400", "tool:get_weather", "huge:300000"]
CUTS = [f"split_random:{seed}" for seed in range(6)] + [f"rechunk:{seed}" for seed in range(6)] + ["one_write", "drip"]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("shape", SHAPES)
async def test_anthropic_byte_for_byte(house, ask, shape, cut):
    if cut == "drip" and "huge" in shape:
        cut = "one_write"  # a third of a million writes would prove no more
    answer = await ask(house, "anthropic", f"{shape}+{cut}")
    (done,) = await house.simulator.ledger.wait_for(1)
    assert answer.complete
    assert done.terminal_sent
    assert hashlib.sha256(answer.body).hexdigest() == done.body_sha256
    (await house.books()).check("completed", "clean", health="success")


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("shape", ["padded", "pings", "unicode", "many:400", "tool:get_weather", "huge:300000"])
async def test_bedrock_as_anthropic_would_have_sent_it(house, ask, request_body, shape, cut):
    if cut == "drip" and "huge" in shape:
        cut = "one_write"
    fault = f"{shape}+{cut}"
    answer = await ask(house, "bedrock", fault)
    body = request_body("bedrock")
    assert answer.complete
    raw = expected_sse(json.dumps(body).encode(), "bedrock", model=body["model"], fault=fault)
    assert answer.body == escaped(raw)
    (await house.books()).check("completed", "clean", health="success")


def escaped(text):
    """Some readers of server-sent events split at these: where we write the text, they are escaped."""
    for character in "\u2028\u2029\u0085":
        text = text.replace(character.encode(), b"\\u%04x" % ord(character))
    return text


async def test_the_request_goes_on_byte_for_byte(house, new_client):
    raw = b'{ "model" : "claude-x","stream":true, "unknown_field":[1, 2.50, 12345678901234567890], "messages":[{"role":"user","content":"\\u00e9 \\ud83d"}],"max_tokens":10 }'  # noqa: E501
    async with new_client(house.port) as client:
        headers = [("anthropic-version", "2026-10-21"), ("anthropic-beta", "a,b"), ("anthropic-new-thing", "x")]
        await client.ask("/anthropic/v1/messages?beta=true", raw, headers=headers)
        assert (await client.answer()).status == 200
    (done,) = await house.simulator.ledger.wait_for(1)
    assert done.request_sha256 == hashlib.sha256(raw).hexdigest()
    assert done.path.endswith("/v1/messages?beta=true")
    sent = dict(done.headers)
    assert sent["anthropic-version"] == "2026-10-21", "the version is never raised, nor lowered"
    assert sent["anthropic-beta"] == "a,b"
    assert sent["anthropic-new-thing"] == "x"


async def test_headers_both_ways(house, new_client, request_body):
    async with new_client(house.port) as client:
        headers = [
            ("anthropic-version", "2023-06-01"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("x-forwarded-for", "10.1.2.3"),
            ("x-ai-bridge-actor-id", "root"),
            ("x-aibridge-id", "forged"),
            ("cookie", "session=1"),
            ("x-custom", "kept"),
            ("user-agent", "claude-cli/2.1"),
        ]
        await client.ask("/anthropic/v1/messages", request_body(), headers=headers)
        answer = await client.answer()
    (done,) = await house.simulator.ledger.wait_for(1)
    sent = dict(done.headers)
    assert not {"x-hop", "x-forwarded-for", "x-ai-bridge-actor-id", "x-aibridge-id", "cookie"} & set(sent)
    assert sent["x-custom"] == "kept"
    assert sent["user-agent"] == "claude-cli/2.1"
    books = await house.books()
    assert answer.headers["request-id"] == done.request_id == books.record["upstream_request_id"]
    assert answer.headers["x-aibridge-id"] == books.interception.id
    assert answer.headers["anthropic-ratelimit-requests-remaining"]
    assert books.interception.client == "Claude Code"


@pytest.mark.parametrize(
    ("headers", "kind", "header"),
    [
        ([], "centralized", "x-api-key"),
        ([("x-api-key", "sk-ant-api03-abcdefgh")], "byok", "x-api-key"),
        ([("authorization", "Bearer sk-ant-api03-abcdefgh")], "byok", "authorization"),
        ([("x-api-key", "sk-ant-api03-abcdefgh"), ("authorization", "Bearer other")], "byok", "x-api-key"),
        ([("x-api-key", ""), ("authorization", "Bearer sk-ant-api03-abcdefgh")], "byok", "authorization"),
        ([("x-api-key", "sk-ant-api03-abcdefgh"), ("authorization", "Basic b")], "byok", "x-api-key"),
        ([("x-api-key", "")], "centralized", "x-api-key"),
    ],
)
async def test_credentials(house, ask, headers, kind, header):
    assert (await ask(house, "anthropic", headers=headers)).status == 200
    (done,) = await house.simulator.ledger.wait_for(1)
    sent = dict(done.headers)
    assert [name for name in ("x-api-key", "authorization") if name in sent] == [header]
    record = (await house.books()).record
    assert record["credential_kind"] == kind
    if kind == "byok":
        assert record["credential_hint"] == "sk-a...efgh"
    assert "abcdefgh" not in house.log.getvalue().replace("sk-a...efgh", "")


async def test_passthrough(house, new_client):
    async with new_client(house.port) as client:
        for method, path, body in [
            ("GET", "/anthropic/v1/models?limit=1000", b""),
            ("GET", "/anthropic/v1/models/claude-sonnet-4-5", b""),
            ("POST", "/anthropic/v1/messages/count_tokens", b'{"model":"m","messages":[]}'),
        ]:
            await client.ask(path, body, method=method, headers=[("anthropic-version", "2023-06-01")])
            answer = await client.answer()
            assert answer.status == 200, answer.body
            done = house.simulator.ledger.rows[-1]
            assert hashlib.sha256(answer.body).hexdigest() == done.body_sha256
            assert done.path == path.removeprefix("/anthropic")
        await client.ask("/anthropic/", b"", method="HEAD", headers=[("anthropic-version", "2023-06-01")])
        assert (await client.answer("HEAD")).status in {200, 404}
    assert house.metric("aibridge_passthrough_total") == 4
    assert house.metric("aibridge_passthrough_total", route="/v1/models/{id}", method="GET") == 1
    assert house.metric("aibridge_interceptions_started_total") == 0


async def test_stale_connection_is_replaced(house, ask):
    """A kept connection that the upstream closes under a request: the request goes out anew, and both are told."""
    assert (await ask(house, "anthropic", "stale")).status == 200
    answer = await ask(house, "anthropic")
    assert answer.status == 200
    assert answer.events[-1] == "message_stop"
    await house.books(ended=2)
    assert [attempt.cause.value for attempt in house.outcomes.attempts] == ["clean", "connection_reset", "clean"]
    assert [attempt.number for attempt in house.outcomes.attempts] == [1, 1, 2]
    assert house.simulator.accepted == 2


async def test_passthrough_on_a_stale_connection(house, new_client):
    async with new_client(house.port) as client:
        for fault in ("stale", None):
            headers = [("anthropic-version", "2023-06-01"), *([("x-sim-fault", fault)] if fault else [])]
            await client.ask("/anthropic/v1/models", b"", method="GET", headers=headers)
            assert (await client.answer()).status == 200
    assert house.simulator.accepted == 2


async def test_garbage_on_a_kept_connection_is_not_asked_twice(house, ask):
    """The upstream did answer: only a connection closed without a byte was stale."""
    assert (await ask(house, "anthropic")).status == 200
    assert (await ask(house, "anthropic", "bad_http")).status == 502
    (await house.books(ended=2)).check("upstream_error", "protocol_error", health="failure")
    assert house.simulator.ledger.total == 2
