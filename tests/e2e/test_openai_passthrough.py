"""OpenAI's APIs over real sockets: what reaches the upstream, under whose key, and what never does."""

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

KEY = "sk-central-0123456789"
OWN = ("Authorization", "Bearer own-token-0123456789")
CHUNK = b'data: {"id":"c-1","model":"m","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}\n\n'
LAST = b'data: {"id":"c-1","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"id":"c-1","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12}}\n\n'
DONE = b"data: [DONE]\n\n"
WHOLE = b'{"id":"c-1","object":"chat.completion","model":"m","choices":[],"usage":{"prompt_tokens":5}}'


@dataclass
class Upstream:
    """A server that answers each request as `replies` say, by its own port; the last reply stays."""

    replies: list = field(default_factory=list)
    asked: list = field(default_factory=list)
    port: int = 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader, writer):
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in head[1:-2])
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                # Values as they came: tokens tell capitals.
                values = {line.partition(": ")[0].lower(): line.partition(": ")[2] for line in head[1:-2]}
                self.asked.append((*head[0].split(" ")[:2], values, body))
                reply = self.replies[0] if len(self.replies) == 1 else self.replies.pop(0)
                writer.write(reply)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


def reply(body, *, status="200 OK", media_type="application/json", headers=()):
    lines = [f"HTTP/1.1 {status}", f"content-type: {media_type}", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def stream(*events):
    return reply(b"".join(events), media_type="text/event-stream")


@pytest.fixture
def build(build_house):
    """Return an async context manager: a house, with upstreams in the place of OpenAI, a local server and Copilot."""

    @asynccontextmanager
    async def build(*replies, openai=None, local=None, **sections):
        upstreams = [Upstream(list(replies) or [reply(WHOLE)]) for _ in range(3)]
        servers = [await asyncio.start_server(upstream.serve, "127.0.0.1", 0) for upstream in upstreams]
        for upstream, server in zip(upstreams, servers, strict=True):
            upstream.port = server.sockets[0].getsockname()[1]
        main, other, copilot = upstreams
        providers = {
            "openai": {"kind": "openai", "base_url": f"{main.url}/base/v1", "api_key": KEY, **(openai or {})},
            "local": {"kind": "openai", "base_url": f"{other.url}/v1", "byok": False, **(local or {})},
            "copilot": {"kind": "copilot", "base_url": copilot.url},
        }
        try:
            async with build_house(provider=providers, **sections) as house:
                yield house, main, other, copilot
        finally:
            for server in servers:
                server.close()

    return build


async def ask(house, new_client, path, body=b"", *, method="POST", headers=()):
    async with new_client(house.port) as client:
        await client.ask(path, body, method=method, headers=headers)
        return await client.answer(method)


def chat(**more):
    return {"model": "m", "messages": [{"role": "user", "content": "hello"}], **more}


PASSED = [
    ("GET", "/openai/v1/models", "/base/v1/models"),
    ("GET", "/openai/v1/models/gpt-x", "/base/v1/models/gpt-x"),
    ("GET", "/openai/v1/responses/resp_1?include=a", "/base/v1/responses/resp_1?include=a"),
    ("DELETE", "/openai/v1/responses/resp_1", "/base/v1/responses/resp_1"),
    ("POST", "/openai/v1/responses/resp_1/cancel", "/base/v1/responses/resp_1/cancel"),
    ("POST", "/openai/v1/responses/input_tokens", "/base/v1/responses/input_tokens"),
    ("GET", "/openai/v1/responses/resp_1/input_items", "/base/v1/responses/resp_1/input_items"),
    ("POST", "/openai/v1/conversations", "/base/v1/conversations"),
    ("DELETE", "/openai/v1/conversations/conv_1/items/msg_1", "/base/v1/conversations/conv_1/items/msg_1"),
]


async def test_what_is_passed_through_reaches_the_upstream_and_is_counted(build, new_client):
    async with build(reply(b'{"x":1}', headers=("x-request-id: req_9", "openai-version: 2020"))) as (house, main, _, _):
        for method, path, target in PASSED:
            body = b'{"input":"x"}' if method == "POST" else b""
            answer = await ask(house, new_client, path, body, method=method)
            assert (answer.status, answer.body) == (200, b'{"x":1}')
            assert answer.headers["x-request-id"] == "req_9"
            asked_method, asked_target, headers, asked_body = main.asked[-1]
            assert (asked_method, asked_target, asked_body) == (method, target, body)
            assert headers["authorization"] == f"Bearer {KEY}"
        assert (
            house.metric("aibridge_passthrough_total", provider="openai", route="/v1/responses/{id}", method="DELETE")
            == 1
        )
        assert house.outcomes.opened_ids == []


NEVER = [
    ("GET", "/openai/v1/files"),
    ("POST", "/openai/v1/embeddings"),
    ("GET", "/openai/v1/organization/admin_api_keys"),
    ("POST", "/openai/v1/responses/"),
    ("GET", "/openai/v1/responses/%2e%2e/files"),
    ("GET", "/openai/v1/responses/resp_1/../../files"),
    ("DELETE", "/openai/v1/models/gpt-x"),
    ("PUT", "/openai/v1/conversations/conv_1"),
    ("POST", "/copilot/v1/chat/completions"),
    ("GET", "/copilot/agents/../user"),
]


async def test_nothing_else_reaches_an_upstream(build, new_client):
    async with build() as (house, *upstreams):
        for method, path in NEVER:
            answer = await ask(house, new_client, path, method=method, headers=[OWN])
            error = json.loads(answer.body)["error"]
            assert (answer.status, error["type"]) == (404, "invalid_request_error")
            assert {"message", "type", "param", "code"} <= set(error), "the shape of OpenAI's API"
        assert house.metric("aibridge_rejections_total", reason="unknown_route") == len(NEVER)
        assert [upstream.asked for upstream in upstreams] == [[], [], []]


@pytest.mark.parametrize("path", ["/openai/v1/responses", "/copilot/responses"])
async def test_a_websocket_is_refused_at_once_and_the_connection_serves_on(build, new_client, path):
    async with build() as (house, *upstreams):
        upgrade = [
            ("Connection", "keep-alive, Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("OpenAI-Beta", "responses_websockets=2026-02-06"),
        ]
        async with new_client(house.port) as client:
            await client.ask(path, b"", method="GET", headers=upgrade)
            refused = await client.answer("GET")
            await client.ask("/openai/v1/models", b"", method="GET")
            assert (await client.answer("GET")).status == 200
        assert refused.status == 426
        assert (refused.headers["connection"], refused.headers["upgrade"]) == ("upgrade", "HTTP/1.1")
        assert json.loads(refused.body)["error"]["type"] == "invalid_request_error"
        assert house.metric("aibridge_rejections_total", reason="upgrade_refused") == 1
        assert [len(upstream.asked) for upstream in upstreams] == [1, 0, 0]


async def test_copilot_takes_the_clients_token_alone(build, new_client):
    async with build() as (house, _, _, copilot):
        for path in ("/copilot/chat/completions", "/copilot/responses", "/copilot/models/session"):
            for headers in ([], [("Authorization", "token ghu_1")], [("x-api-key", "ghu_0123456789")]):
                answer = await ask(house, new_client, path, chat(), headers=headers)
                assert answer.status == 401
                assert json.loads(answer.body)["error"]["code"] == "invalid_api_key"
        assert copilot.asked == []
        answer = await ask(house, new_client, "/copilot/chat/completions", chat(), headers=[OWN])
        assert (answer.status, answer.body) == (200, WHOLE)
        _, target, headers, _ = copilot.asked[0]
        assert (target, headers["authorization"]) == ("/chat/completions", OWN[1])
        interception, _ = house.outcomes.ended[0]
        assert (interception.route, interception.credential.kind) == ("/chat/completions", "byok")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/openai/v1/chat/completions", WHOLE),
        ("/openai/v1/responses", b'{"id":"resp_1","object":"response","status":"completed","output":[]}'),
    ],
)
async def test_the_time_that_openai_says_it_took_is_kept(build, new_client, path, body):
    async with build(reply(body, headers=("openai-processing-ms: 250",))) as (house, *_):
        answer = await ask(house, new_client, path, chat())
        assert (answer.body, answer.headers["openai-processing-ms"]) == (body, "250")
        await house.outcomes.wait(ended=1)
        _, outcome = house.outcomes.ended[0]
        assert (outcome.cause, outcome.evidence.invocation_latency) == ("clean", 0.25)


async def test_usage_is_asked_for_recorded_and_kept_from_the_client(build, new_client):
    async with build(stream(CHUNK, LAST, USAGE, DONE)) as (house, main, _, _):
        answer = await ask(house, new_client, "/openai/v1/chat/completions", chat(stream=True))
        assert answer.body == CHUNK + LAST + DONE
        assert json.loads(main.asked[0][3]) == chat(stream=True, stream_options={"include_usage": True})
        await house.outcomes.wait(ended=1)
        _, outcome = house.outcomes.ended[0]
        assert (outcome.usage.input_tokens, outcome.usage.output_tokens) == (5, 7)
        ordered = chat(stream=True, stream_options={"include_usage": True})
        answer = await ask(house, new_client, "/openai/v1/chat/completions", ordered)
        assert answer.body == CHUNK + LAST + USAGE + DONE


async def test_a_server_that_knows_no_stream_options_is_asked_without_and_remembered(build, new_client):
    refusal = b'{"error":{"message":"unknown field: stream_options"}}'
    refused, good = reply(refusal, status="400 Bad Request"), stream(CHUNK, LAST, DONE)
    async with build(refused, good, good) as (house, _, local, _):
        for number in (1, 2):
            answer = await ask(house, new_client, "/local/v1/chat/completions", chat(stream=True))
            assert (answer.status, answer.body) == (200, CHUNK + LAST + DONE)
            await house.outcomes.wait(ended=number)
        assert ["stream_options" in json.loads(body) for *_, body in local.asked] == [True, False, False]
        assert [attempt.number for attempt in house.outcomes.attempts] == [1, 2, 1]
        assert "authorization" not in local.asked[0][2]


async def test_done_is_repaired_only_where_that_is_asked_for(build, new_client):
    for repaired in (False, True):
        async with build(stream(CHUNK, LAST), local={"repair_done": repaired}) as (house, *_):
            answer = await ask(house, new_client, "/local/v1/chat/completions", chat(stream=True))
            assert answer.body == CHUNK + LAST + (DONE if repaired else b"")
            await house.outcomes.wait(ended=1)
            _, outcome = house.outcomes.ended[0]
            assert (outcome.cause, outcome.evidence.note) == ("clean", "missing_done")


async def test_an_error_comes_back_byte_for_byte_with_its_limits(build, new_client):
    error = b'{"error": {"message":"slow down","type":"tokens","param":null,"code":"rate_limit_exceeded"} }\n'
    limits = ("retry-after: 7", "x-ratelimit-reset-tokens: 6m0s", "x-request-id: req_5")
    async with build(reply(error, status="429 Too Many Requests", headers=limits)) as (house, *_):
        answer = await ask(house, new_client, "/openai/v1/chat/completions", chat())
        assert (answer.status, answer.body) == (429, error)
        assert (answer.headers["retry-after"], answer.headers["x-ratelimit-reset-tokens"]) == ("7", "6m0s")
        await house.outcomes.wait(ended=1)
        _, outcome = house.outcomes.ended[0]
        assert outcome.evidence.upstream_request_id == "req_5"


async def test_no_secret_of_the_configuration_is_told_whatever_an_upstream_repeats(build, new_client):
    secrets = ("sk-beside-0123456789", "sk-query-0123456789", KEY)
    error = json.dumps({"error": {"message": f"I got {' and '.join(secrets)}"}}).encode()
    beside = {"headers": {"Helicone-Auth": f"Bearer {secrets[0]}"}, "query": {"key": secrets[1]}}
    echo = reply(error, status="401 Unauthorized", headers=(f"x-echo: {secrets[0]}", f"x-echo: {secrets[1]}"))
    async with build(echo, openai=beside) as (house, main, *_):
        answer = await ask(house, new_client, "/openai/v1/chat/completions", chat())
        relayed = await ask(house, new_client, "/openai/v1/models", method="GET")
        await house.outcomes.wait(ended=1)
        _, target, headers, _ = main.asked[0]
        assert (target, headers["helicone-auth"]) == (
            f"/base/v1/chat/completions?key={secrets[1]}",
            f"Bearer {secrets[0]}",
        )
        said = [answer, relayed, house.outcomes.ended, house.log.getvalue(), house.spans.get_finished_spans()]
        assert (answer.status, relayed.status) == (401, 401)
        for secret in secrets:
            assert secret not in repr(said)


# routers

ROUTERS = {
    "all": {
        "models": {"gpt-x": "openai", "fast": {"provider": "local", "model": "qwen3:8b"}},
        "prefixes": {"local/": {"provider": "local", "strip_prefix": True}, "claude-": "anthropic"},
    }
}


async def test_one_base_url_serves_several_upstreams(build, new_client):
    async with build(routers=ROUTERS) as (house, main, local, _):
        for model, upstream, sent in (
            ("gpt-x", main, "gpt-x"),
            ("fast", local, "qwen3:8b"),
            ("local/llama", local, "llama"),
        ):
            answer = await ask(house, new_client, "/all/v1/chat/completions", chat() | {"model": model}, headers=[OWN])
            assert (answer.status, answer.body) == (200, WHOLE)
            _, target, headers, body = upstream.asked[-1]
            assert target.endswith("/v1/chat/completions")
            assert json.loads(body)["model"] == sent
            assert OWN[1] not in headers.values(), "a client's key goes on only where the router lets it"
        await house.outcomes.wait(ended=3)
        opened = [interception for interception, _ in house.outcomes.ended]
        assert [(one.provider, one.model, one.upstream_model) for one in opened] == [
            ("openai", "gpt-x", "gpt-x"),
            ("local", "fast", "qwen3:8b"),
            ("local", "local/llama", "llama"),
        ]
        assert opened[1].request_bytes == len(json.dumps(chat() | {"model": "fast"}))
        assert opened[1].request_path == "/all/v1/chat/completions"
        assert house.metric("aibridge_interceptions_started_total", provider="local", model="fast") == 1


async def test_messages_are_routed_too(build, new_client, request_body):
    async with build(routers=ROUTERS) as (house, *_):
        version = [("anthropic-version", "2023-06-01")]
        answer = await ask(house, new_client, "/all/v1/messages", request_body(), headers=version)
        assert answer.events[-1] == "message_stop"
        await house.outcomes.wait(ended=1)
        assert house.outcomes.ended[0][0].provider == "anthropic"


async def test_a_model_that_nobody_has(build, new_client):
    async with build(routers=ROUTERS) as (house, *upstreams):
        answer = await ask(house, new_client, "/all/v1/responses", {"model": "gpt-y", "input": "x"})
        error = json.loads(answer.body)["error"]
        assert (answer.status, error["type"], error["code"]) == (404, "invalid_request_error", "model_not_found")
        answer = await ask(house, new_client, "/all/v1/messages", {"model": "gpt-x"})
        assert (answer.status, json.loads(answer.body)["error"]["type"]) == (404, "not_found_error")
        assert house.metric("aibridge_rejections_total", reason="unknown_model") == 2
        assert [upstream.asked for upstream in upstreams] == [[], [], []]


async def test_a_router_lists_its_models(build, new_client):
    async with build(routers=ROUTERS) as (house, *upstreams):
        answer = await ask(house, new_client, "/all/v1/models", method="GET")
        assert [one["id"] for one in json.loads(answer.body)["data"]] == ["gpt-x", "fast"]
        assert (await ask(house, new_client, "/all/v1/models/nope", method="GET")).status == 404
        assert (await ask(house, new_client, "/all", method="HEAD")).status == 200
        assert [upstream.asked for upstream in upstreams] == [[], [], []]
        assert house.metric("aibridge_passthrough_total", provider="all", route="/v1/models", method="GET") == 1


def untyped(*events):
    body = b"".join(events)
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


COMPLETED = b'data: {"type":"response.completed","response":{"id":"resp_1","status":"completed"}}\n\n'


@pytest.mark.parametrize(
    ("path", "request_", "answer"),
    [
        ("/openai/v1/responses", {"model": "m", "input": "hello", "stream": True}, COMPLETED),
        ("/openai/v1/chat/completions", chat(stream=True), CHUNK + LAST + DONE),
    ],
)
async def test_a_stream_may_come_without_a_content_type(build, new_client, path, request_, answer):
    """As from ChatGPT's backend for Codex."""
    async with build(untyped(answer)) as (house, *_):
        got = await ask(house, new_client, path, request_)
        assert (got.status, got.body, got.complete) == (200, answer, True)
        assert "content-type" not in got.headers
        (await house.books()).check("completed", "clean", health="success")


async def test_a_page_without_a_content_type_is_no_whole_stream(build, new_client):
    async with build(untyped(b"<html>log in</html>")) as (house, *_):
        got = await ask(house, new_client, "/openai/v1/chat/completions", chat(stream=True))
        assert b"html" not in got.body
        assert got.last_event["error"]["code"] == "server_error"
        (await house.books()).check("upstream_error", "truncated", health="failure")


async def test_who_answered_is_known_of_a_cut_stream_too(build, new_client):
    """Ollama tells id and model in events that all look alike."""
    event = (
        b'data: {"id":"chatcmpl-7","object":"chat.completion.chunk","created":1,"model":"qwen3","system_fingerprint":'
        b'"fp_ollama","choices":[{"index":0,"delta":{"role":"assistant","content":"a"},"finish_reason":null}]}\n\n'
    )
    async with build(stream(event, event)) as (house, *_):
        await ask(house, new_client, "/openai/v1/chat/completions", chat(stream=True))
        books = await house.books()
        books.check("upstream_error", "truncated", health="failure")
        assert (books.outcome.message_id, books.outcome.response_model) == ("chatcmpl-7", "qwen3")
