"""Bytes pass untouched: what the upstream sent is what the client got, however it was cut on its way."""

import hashlib
import json

import pytest
from api_kit import COPILOT, OPENAI, each, without_usage

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


OPENAI_SHAPES = ["crlf", "cr", "bom", "comments", "padded", "pings", "unicode", "many:400", "tool:add", "huge:100000"]
OPENAI_SHAPES += ["no_space", "no_usage"]
CHAT_SHAPES = ["usage_every", "usage_in_finish", "tools:3", "server:azure", "server:vllm", "server:openrouter+pings"]
OPENAI_CUTS = ["split_random:1", "split_random:2", "split_random:3", "rechunk:4", "rechunk:5", "one_write", "drip"]
ORDERED = {"stream_options": {"include_usage": True}}


async def check_bytes(house, ask, api, fault, **more):
    """Ask; assert that all came that was sent, less at most the usage that nobody ordered. Return the books."""
    answer = await ask(house, api.name, fault, **more)
    (done,) = await house.simulator.ledger.wait_for(1)
    assert answer.complete
    assert done.terminal_sent
    sent = api.upstream_text(api.body(**more), fault)
    assert hashlib.sha256(sent).hexdigest() == done.body_sha256
    assert answer.body == api.client_text(api.body(**more), fault)
    assert house.metric("aibridge_trailing_bytes_total") == 0
    books = await house.books()
    books.check("completed", "clean", health="success")
    assert books.outcome.evidence.bytes_in == len(sent)
    assert books.outcome.evidence.bytes_out == len(answer.body)
    return sent, answer.body, books


@pytest.mark.parametrize("cut", OPENAI_CUTS)
@pytest.mark.parametrize("shape", OPENAI_SHAPES)
@each("responses")
async def test_responses_byte_for_byte(house, ask, api, shape, cut):
    cut = "one_write" if cut == "drip" and ":" in shape else cut
    sent, got, books = await check_bytes(house, ask, api, f"{shape}+{cut}")
    assert got == sent
    assert books.outcome.usage_source.value == ("none" if shape == "no_usage" else "provider_final")


@pytest.mark.parametrize("cut", OPENAI_CUTS)
@pytest.mark.parametrize("shape", OPENAI_SHAPES + CHAT_SHAPES)
@each("chat")
async def test_chat_less_the_usage_that_nobody_ordered(house, ask, api, shape, cut):
    cut = "one_write" if cut == "drip" and ":" in shape else cut
    sent, got, books = await check_bytes(house, ask, api, f"{shape}+{cut}")
    if shape in {"no_usage", "usage_in_finish"}:
        assert got == sent, "there is no event of usage alone"
    else:
        assert got == without_usage(sent) != sent
    assert books.outcome.usage_source.value == ("none" if shape == "no_usage" else "provider_final")


@pytest.mark.parametrize("cut", OPENAI_CUTS[2:6])
@pytest.mark.parametrize("shape", OPENAI_SHAPES + CHAT_SHAPES)
@each("chat")
async def test_chat_byte_for_byte_where_usage_is_ordered(house, ask, api, shape, cut):
    sent, got, _ = await check_bytes(house, ask, api, f"{shape}+{cut}", **ORDERED)
    assert got == sent


@pytest.mark.parametrize("more", [{"n": 3}, {"n": 3, **ORDERED}, {"stream_options": None}, {"reasoning_effort": "low"}])
@each("chat")
async def test_chat_with_choices_and_options(house, ask, api, more):
    if more.get("stream_options", ...) is None:
        answer = await ask(house, api.name, **more)
        assert api.has_ended_well(answer.body)
        assert b'"choices":[],' not in answer.body
        (await house.books()).check("completed", "clean", health="success")
        return
    await check_bytes(house, ask, api, "rechunk:1", **more)


@each(*OPENAI)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "blocking"])
async def test_the_request_goes_on_to_openai_byte_for_byte(house, new_client, api, stream):
    """But for the usage that is asked for, spliced in behind the last member."""
    asked = b'"messages":[{"role":"user","content":"\\u00e9"}]' if api.name == "chat" else b'"input":"\\u00e9 \\ud83d"'
    raw = b'{ "model" : "gpt-x",%b, "unknown_field":[1, 2.50, 12345678901234567890],"parallel_tool_calls": true%b }'
    raw %= (asked, b', "stream": true' if stream else b"")
    async with new_client(house.port) as client:
        headers = [("openai-beta", "a=b"), ("openai-organization", "org-1"), ("x-stainless-lang", "python")]
        await client.ask(f"{api.path}?a=b", raw, headers=headers)
        assert (await client.answer()).status == 200
    (done,) = await house.simulator.ledger.wait_for(1)
    added = b',"stream_options":{"include_usage":true}' if stream and api.adds_usage else b""
    assert done.request_sha256 == hashlib.sha256(raw[:-2] + added + raw[-2:]).hexdigest()
    assert done.path.endswith("?a=b")
    assert set(headers) <= set(done.headers)


@each(*OPENAI, *COPILOT)
async def test_headers_come_back(house, ask, api):
    answer = await ask(house, api.name)
    (done,) = await house.simulator.ledger.wait_for(1)
    books = await house.books()
    said = answer.headers.get("x-request-id", answer.headers.get("request-id"))
    assert said == done.request_id == books.record["upstream_request_id"]
    assert answer.headers["x-aibridge-id"] == books.interception.id


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
