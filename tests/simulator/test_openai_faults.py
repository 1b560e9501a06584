"""What faults do on the wire in OpenAI's APIs, and in those of compatible servers, read byte by byte."""

import json

import pytest

OPENAI = ["chat", "responses"]
USAGE = {"stream_options": {"include_usage": True}}


def chunks(answer):
    return [json.loads(data) for _, data in answer.events if data != b"[DONE]"]


@pytest.mark.parametrize(
    ("words", "last"),
    [
        ("error_event@2", b'data: {"error":{"message":"%b","type":"server_error","param":null,"code":null}}\n\n'),
        ("error_event:rate@2", b'data: {"error":{"message":"%b","type":"rate","param":null,"code":"rate"}}\n\n'),
        (
            "error_event@2+server:vllm",
            (
                b'data: {"error":{"message":"%b","type":"InternalServerError","param":null,"code":500}}\n\n'
                b"data: [DONE]\n\n"
            ),
        ),
        (
            "error_event@2+server:ollama",
            b'data: {"error":{"message":"%b","type":"api_error","param":null,"code":null}}\n\n',
        ),
        ("error_event@2+server:llamacpp", b'error: {"code":500,"message":"%b","type":"server_error"}\n\n'),
        ("error_event@2+server:azure", b'data: {"error":{"code":"500","message":"%b"}}\n\n'),
        (
            "error_event@2+server:openrouter",
            (
                b'data: {"id":"gen-sim","object":"chat.completion.chunk","created":1767874658,"model":"gpt-sim",'
                b'"provider":"Simulator","choices":[{"index":0,"delta":{"role":"assistant","content":""},'
                b'"finish_reason":"error"}],"error":{"code":500,"message":"%b"}}\n\n'
            ),
        ),
    ],
)
async def test_u13_errors_in_chat(simulator, ask, words, last):
    clean = await ask(simulator, "chat", "server:azure" if "azure" in words else "clean")
    answer = await ask(simulator, "chat", words)
    row = (await simulator.ledger.wait_for(2))[1]
    message = b"The server had an error while processing your request. Sorry about that!"
    assert answer.body == b"".join(clean.chunks[:2]) + last % message
    assert (answer.complete, row.terminal_sent) == (True, False)


@pytest.mark.parametrize(
    ("words", "kind", "where"),
    [
        ("error_event@3", "response.failed", ("response", "error", "code")),
        ("error_event:server_error@3", "response.failed", ("response", "error", "code")),
        ("error_event:flat@3", "error", ("code",)),
        ("error_event:nested@3", "error", ("error", "code")),
    ],
)
async def test_u13_errors_in_responses(simulator, ask, words, kind, where):
    answer = await ask(simulator, "responses", words)
    (row,) = await simulator.ledger.wait_for(1)
    name, data = answer.events[-1]
    document = found = json.loads(data)
    for member in where:
        found = found[member]
    assert (name, document["type"], document["sequence_number"], found) == (kind, kind, 3, "server_error")
    assert (answer.complete, row.terminal_sent, row.events) == (True, False, 4)
    if kind == "response.failed":
        assert document["response"]["id"] == json.loads(answer.events[0][1])["response"]["id"]
        assert document["response"]["status"] == "failed"


KINDS = {
    "": {400: "invalid_request_error", 401: "invalid_request_error", 404: "invalid_request_error", 429: "requests",
         500: "server_error", 503: "server_error"},
    "vllm": {400: "BadRequestError", 404: "NotFoundError", 500: "InternalServerError"},
    "llamacpp": {400: "invalid_request_error", 404: "not_found_error", 503: "unavailable_error"},
    "ollama": {400: "invalid_request_error", 500: "api_error"},
}  # fmt: skip
STATUSES = [(server, status, kind) for server, kinds in KINDS.items() for status, kind in kinds.items()]


@pytest.mark.parametrize("api", OPENAI)
@pytest.mark.parametrize(("server", "status", "kind"), STATUSES)
async def test_u18_u19_statuses(simulator, ask, api, server, status, kind):
    words = f"status:{status}:7" + (f"+server:{server}" if server else "")
    answer = await ask(simulator, api, words)
    (row,) = await simulator.ledger.wait_for(1)
    assert answer.status == row.status == status
    assert answer.document["error"]["type"] == kind
    assert (answer.headers["retry-after"], answer.headers["content-type"]) == ("7", "application/json")
    assert answer.headers["x-ratelimit-limit-requests"] == "10000"
    assert answer.headers["x-request-id"] == row.request_id
    assert (row.terminal_sent, row.usage) == (False, None)


@pytest.mark.parametrize(("server", "code"), [("azure", "rate_limit_exceeded"), ("openrouter", 429)])
async def test_errors_without_a_type(simulator, ask, server, code):
    answer = await ask(simulator, "chat", f"status:429+server:{server}")
    assert list(answer.document["error"]) == ["code", "message"]
    assert answer.document["error"]["code"] == code


@pytest.mark.parametrize("api", OPENAI)
async def test_u18_too_long(simulator, ask, api):
    answer = await ask(simulator, api, "too_long")
    assert (answer.status, answer.document["error"]["code"]) == (400, "context_length_exceeded")


async def test_u24_everything_but_done(simulator, ask):
    clean = await ask(simulator, "chat")
    answer = await ask(simulator, "chat", "no_done")
    row = (await simulator.ledger.wait_for(2))[1]
    assert answer.body + b"data: [DONE]\n\n" == clean.body
    assert chunks(answer)[-1]["choices"][0]["finish_reason"] == "stop"
    assert (answer.complete, row.terminal_sent) == (True, True)


async def test_u24_and_the_usage_behind_it(simulator, ask):
    answer = await ask(simulator, "chat", "no_done", **USAGE)
    assert (chunks(answer)[-1]["choices"], chunks(answer)[-1]["usage"]["completion_tokens"]) == ([], 12)


@pytest.mark.parametrize("members", [{}, USAGE])
async def test_usage_in_every_chunk_grows(simulator, ask, members):
    answer = await ask(simulator, "chat", "usage_every", **members)
    (row,) = await simulator.ledger.wait_for(1)
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks(answer)]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1], row.usage["completion_tokens"]) == (0, 12, 12)


@pytest.mark.parametrize("members", [{}, USAGE])
async def test_usage_in_the_last_chunk_of_a_choice(simulator, ask, members):
    answer = await ask(simulator, "chat", "usage_in_finish", n=2, **members)
    (row,) = await simulator.ledger.wait_for(1)
    assert [chunk["usage"] for chunk in chunks(answer) if chunk.get("usage")] == [row.usage]
    assert chunks(answer)[-1]["usage"] == row.usage
    assert chunks(answer)[-1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("api", OPENAI)
@pytest.mark.parametrize("streaming", [True, False])
async def test_no_usage_at_all(simulator, ask, api, streaming):
    answer = await ask(simulator, api, "no_usage", streaming=streaming, **(USAGE if api == "chat" else {}))
    (row,) = await simulator.ledger.wait_for(1)
    assert b"_tokens_details" not in answer.body
    assert (row.usage, row.terminal_sent) == (None, True)


@pytest.mark.parametrize("api", OPENAI)
async def test_comments_keep_it_alive(simulator, ask, api):
    clean = await ask(simulator, api)
    answer = await ask(simulator, api, "pings+crlf")
    comment = b": OPENROUTER PROCESSING\r\n\r\n"
    assert answer.body.count(comment) == len(clean.events) - 1
    assert answer.body.replace(comment, b"").replace(b"\r\n", b"\n") == clean.body


async def test_azure_begins_without_choices(simulator, ask):
    answer = await ask(simulator, "chat", "server:azure")
    first, second = chunks(answer)[:2]
    assert (first["choices"], first["id"], list(first)[-1]) == ([], "", "prompt_filter_results")
    assert second["choices"][0]["delta"]["role"] == "assistant"


async def test_unknown_servers_are_refused(simulator, ask):
    answer = await ask(simulator, "chat", "server:none")
    assert answer.status == 400
    assert "known are: azure, llamacpp" in answer.document["error"]["message"]
