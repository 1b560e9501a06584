"""The OpenAI faces: to their own SDK, and to requests that their provider would refuse."""

import json

import openai
import pytest

from aibridge.simulator.expected import expected_document

ASKED = {"model": "gpt-sim", "messages": [{"role": "user", "content": "Hello?"}]}
INPUT = {"model": "gpt-sim", "input": "Hello?"}
SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}}
CHAT_TOOL = {"type": "function", "function": {"name": "Read", "parameters": SCHEMA}}
TOOL = {"type": "function", "name": "Read", "parameters": SCHEMA}
TEXT = "The simulator gives the same answer"
KEY = {"authorization": "Bearer sk-test"}


@pytest.fixture
async def client(simulator):
    async with openai.AsyncOpenAI(base_url=f"{simulator.url}/v1", api_key="sk-test", max_retries=0) as opened:
        yield opened


def fault(words):
    return {"extra_headers": {"x-sim-fault": words}}


async def read_chat(client, **asked):
    """Return the texts by choice, the tool calls, the finish reasons and the usages of a stream."""
    texts, calls, reasons, usages = {}, {}, {}, []
    async for chunk in await client.chat.completions.create(**{**ASKED, **asked}, stream=True):
        if chunk.usage is not None:
            usages.append(chunk.usage)
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
            reasons[choice.index] = choice.finish_reason or reasons.get(choice.index)
            for call in choice.delta.tool_calls or []:
                name, arguments = calls.get(call.index, ("", ""))
                calls[call.index] = (name or call.function.name, arguments + call.function.arguments)
    return texts, calls, reasons, usages


async def test_chat_blocking(simulator, client):
    completion = await client.chat.completions.create(**ASKED)
    (row,) = await simulator.ledger.wait_for(1)
    expected = expected_document(json.dumps(ASKED).encode(), "chat")
    assert completion.choices[0].message.content == expected["choices"][0]["message"]["content"]
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage.completion_tokens == 12
    assert completion._request_id == row.request_id
    assert row.usage == expected["usage"]
    assert (row.api, row.terminal_sent) == ("chat", True)


@pytest.mark.parametrize("words", ["clean", "crlf+bom+comments", "no_space", "pings", "padded", "gzip", "no_done"])
async def test_chat_streaming(simulator, client, words):
    texts, _, reasons, usages = await read_chat(client, stream_options={"include_usage": True}, **fault(words))
    (row,) = await simulator.ledger.wait_for(1)
    assert texts[0].startswith(TEXT)
    assert reasons == {0: "stop"}
    assert [usage.model_dump(exclude_none=True) for usage in usages] == [row.usage]
    assert row.terminal_sent


async def test_chat_has_usage_only_where_it_is_asked_for(simulator, client):
    assert (await read_chat(client))[3] == []
    (row,) = await simulator.ledger.wait_for(1)
    assert row.usage is None


async def test_chat_choices_are_interleaved(ask, simulator):
    answer = await ask(simulator, "chat", n=3)
    indexes = [json.loads(data)["choices"][0]["index"] for _, data in answer.events[:-1]]
    assert indexes == [0, 1, 2] * (len(indexes) // 3)
    assert len(indexes) == 3 * 14


async def test_chat_tools(client):
    texts, calls, reasons, _ = await read_chat(client, tools=[CHAT_TOOL], **fault("tools:2"))
    assert calls == {0: ("Read", '{"path": "sample"}'), 1: ("Read", '{"path": "sample"}')}
    assert (texts, reasons) == ({0: ""}, {0: "tool_calls"})
    completion = await client.chat.completions.create(**ASKED, tools=[CHAT_TOOL])
    call = completion.choices[0].message.tool_calls[0]
    turn = [
        *ASKED["messages"],
        completion.choices[0].message,
        {"role": "tool", "tool_call_id": call.id, "content": "five"},
    ]
    after = await client.chat.completions.create(model="gpt-sim", messages=turn, tools=[CHAT_TOOL])
    assert after.choices[0].message.content.startswith(TEXT)
    chosen = {"type": "function", "function": {"name": "Other"}}
    forced = await client.chat.completions.create(**ASKED, tools=[CHAT_TOOL], tool_choice=chosen)
    assert forced.choices[0].message.tool_calls[0].function.name == "Other"


async def test_chat_limits_and_reasons(client):
    short = await client.chat.completions.create(**ASKED, max_completion_tokens=3)
    assert (short.choices[0].finish_reason, short.usage.completion_tokens) == ("length", 3)
    stopped = await client.chat.completions.create(**ASKED, **fault("stop:content_filter"))
    assert stopped.choices[0].finish_reason == "content_filter"


async def test_chat_thoughts(client):
    silent = await client.chat.completions.create(**ASKED, reasoning_effort="low")
    assert silent.usage.completion_tokens_details.reasoning_tokens == 3
    assert "reasoning" not in silent.choices[0].message.model_dump()
    told = await client.chat.completions.create(**ASKED, reasoning_effort="low", **fault("server:openrouter"))
    assert told.choices[0].message.reasoning.startswith("The user asks")


async def test_responses_blocking(simulator, client):
    response = await client.responses.create(**INPUT)
    (row,) = await simulator.ledger.wait_for(1)
    assert response.output_text.startswith(TEXT)
    assert response.status == "completed"
    assert response.usage.model_dump(exclude_none=True) == row.usage
    assert row.usage == expected_document(json.dumps(INPUT).encode(), "responses")["usage"]
    assert (row.api, row.request_id) == ("responses", response._request_id)


@pytest.mark.parametrize("words", ["clean", "crlf+bom+comments", "no_space", "pings", "padded", "drip"])
async def test_responses_streaming(simulator, client, words):
    reasoning = {"effort": "low", "summary": "auto"}
    async with client.responses.stream(**INPUT, reasoning=reasoning, **fault(words)) as stream:
        events = [event async for event in stream]
        response = await stream.get_final_response()
    (row,) = await simulator.ledger.wait_for(1)
    assert [event.sequence_number for event in events if event.type != "response.output_text.delta"][:3] == [0, 1, 2]
    assert response.output_text.startswith(TEXT)
    assert response.output[0].summary[0].text.startswith("The user asks")
    assert response.usage.output_tokens_details.reasoning_tokens == 3
    assert response.usage.total_tokens == row.usage["total_tokens"]
    assert row.events >= len(events)


async def test_responses_numbers_and_places(ask, simulator):
    answer = await ask(simulator, "responses", "tools:2", tools=[{"type": "web_search"}, TOOL])
    documents = [json.loads(data) for _, data in answer.events]
    assert [kind for kind, _ in answer.events] == [document["type"] for document in documents]
    assert [document["sequence_number"] for document in documents] == list(range(len(documents)))
    final = documents[-1]["response"]
    assert [item["type"] for item in final["output"]] == ["web_search_call", "function_call", "function_call"]
    done = [one for one in documents if one["type"] == "response.output_item.done"]
    assert [one["item"] for one in done] == final["output"]
    assert [one["output_index"] for one in done] == [0, 1, 2]


async def test_responses_tools(client):
    custom = {"type": "custom", "name": "code_exec"}
    async with client.responses.stream(**INPUT, tools=[TOOL]) as stream:
        call = (await stream.get_final_response()).output[0]
    assert (call.type, call.name, call.arguments) == ("function_call", "Read", '{"path": "sample"}')
    written = (await client.responses.create(**INPUT, tools=[custom])).output[0]
    assert (written.type, written.name, written.input) == ("custom_tool_call", "code_exec", 'print("hello world")')
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "five"}
    after = await client.responses.create(model="gpt-sim", input=[result], tools=[TOOL])
    assert after.output_text.startswith(TEXT)


HOSTED = ["web_search", "file_search", "code_interpreter", "image_generation", "mcp", "local_shell", "shell",
          "apply_patch", "computer_use_preview"]  # fmt: skip


@pytest.mark.parametrize("kind", HOSTED)
async def test_hosted_tools(ask, simulator, kind):
    answer = await ask(simulator, "responses", tools=[{"type": kind}], streaming=False)
    item, text = answer.document["output"]
    assert item["type"] == f"{kind.removesuffix('_use_preview')}_call"
    assert (item["status"], text["type"]) == ("completed", "message")


async def test_responses_that_are_not_finished(client):
    response = await client.responses.create(**INPUT, max_output_tokens=3)
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    stream = await client.responses.create(**INPUT, stream=True, **fault("stop:content_filter"))
    last = [event async for event in stream][-1]
    assert last.type == "response.incomplete"
    assert last.response.incomplete_details.reason == "content_filter"


async def test_what_is_kept(simulator, client):
    begun = await client.responses.create(**INPUT, background=True)
    assert (begun.status, begun.usage) == ("queued", None)
    assert (await client.responses.retrieve(begun.id)).status == "completed"
    assert (await client.responses.cancel(begun.id)).status == "cancelled"
    assert [item.type async for item in client.responses.input_items.list(begun.id)] == ["message"]
    await client.responses.delete(begun.id)
    compacted = await client.responses.compact(**INPUT)
    assert compacted.output[0].type == "compaction"
    assert compacted.usage.input_tokens > 0
    conversation = await client.conversations.create()
    assert (await client.conversations.retrieve(conversation.id)).id == conversation.id
    assert [item.type async for item in client.conversations.items.list(conversation.id)] == ["message"]
    assert (await client.conversations.delete(conversation.id)).deleted
    rows = await simulator.ledger.wait_for(10)
    assert [row.api for row in rows] == ["responses"] + ["openai"] * 4 + ["responses"] + ["openai"] * 4


async def test_models(client):
    assert "gpt-sim" in [model.id async for model in client.models.list()]
    assert (await client.models.retrieve("gpt-sim-large")).id == "gpt-sim-large"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("status:429:1", openai.RateLimitError),
        ("status:500", openai.InternalServerError),
        ("too_long", openai.BadRequestError),
        ("close_before_head", openai.APIConnectionError),
        ("error_event@2", openai.APIError),
        ("error_event:rate_limit_exceeded@2+server:openrouter", openai.APIError),
    ],
)
async def test_errors_are_told_by_the_sdk(client, words, error):
    with pytest.raises(error):
        await read_chat(client, **fault(words))


async def test_the_sdk_believes_truncated_streams(client):
    texts, _, reasons, _ = await read_chat(client, **fault("truncate@6"))
    assert (bool(texts[0]), reasons) == (True, {0: None}), "why this project exists"
    stream = await client.responses.create(**INPUT, stream=True, **fault("truncate@6"))
    assert len([event async for event in stream]) == 6


async def send(connect, simulator, method, target, headers, body=b""):
    async with connect(simulator) as client:
        await client.send(method, target, headers.items(), body)
        return await client.answer()


PATHS = [
    *("/v1/chat/completions", "/chat/completions", "/openai/v1/chat/completions", "/api/v1/chat/completions"),
    *("/v1beta/openai/chat/completions", "/openai/deployments/gpt-sim/chat/completions?api-version=2024-10-21"),
    *("/v1/responses", "/responses", "/openai/v1/responses", "/backend-api/codex/responses", "/v1/responses/compact"),
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("headers", [KEY, {"api-key": "sk-test"}])
async def test_paths_and_credentials(connect, simulator, path, headers):
    body = json.dumps(ASKED if "chat" in path else INPUT).encode()
    answer = await send(connect, simulator, "POST", path, headers, body)
    assert answer.status == 200
    assert answer.document["object"].startswith("chat.completion" if "chat" in path else "response")
    assert answer.headers["x-request-id"].startswith("req_")
    assert int(answer.headers["x-ratelimit-remaining-requests"])


@pytest.mark.parametrize("path", ["/v1/models", "/models", "/openai/v1/models"])
async def test_models_elsewhere(connect, simulator, path):
    answer = await send(connect, simulator, "GET", path, KEY)
    assert answer.document["data"][0]["id"] == "gpt-sim"
    other = await send(connect, simulator, "GET", "/v1/models", {"x-api-key": "x", "anthropic-version": "x"})
    assert other.document["data"][0]["id"] == "claude-sim"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/models"])
async def test_wrong_keys(connect, start, path):
    simulator = await start(openai_keys={"good"})
    method = "GET" if path == "/v1/models" else "POST"
    for headers, code in (({}, None), (KEY, "invalid_api_key"), ({"authorization": "Basic good"}, None)):
        answer = await send(connect, simulator, method, path, headers)
        assert (answer.status, answer.document["error"]["code"]) == (401, code)
    body = json.dumps(ASKED | INPUT).encode()
    assert (await send(connect, simulator, method, path, {"api-key": "good"}, body)).status == 200


async def test_keys_are_masked(connect, simulator):
    await send(connect, simulator, "GET", "/models", {"api-key": "sk-secret-0123456789"})
    (row,) = await simulator.ledger.wait_for(1)
    assert dict(row.headers)["api-key"] == "…6789"


@pytest.mark.parametrize(
    ("path", "body", "code", "message"),
    [
        ("/v1/chat/completions", b"{", None, "could not parse"),
        ("/v1/chat/completions", b'{"model":"x"}', "missing_required_parameter", "'messages'"),
        ("/v1/responses", b'{"input":"x"}', "missing_required_parameter", "'model'"),
    ],
)
async def test_bodies_that_are_refused(connect, simulator, path, body, code, message):
    answer = await send(connect, simulator, "POST", path, KEY, body)
    error = answer.document["error"]
    assert (answer.status, error["type"], error["code"]) == (400, "invalid_request_error", code)
    assert message in error["message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/chat/completions"),
        ("POST", "/v1/chat/completions/x"),
        ("GET", "/v1/responses"),
        ("PUT", "/v1/responses/resp_1"),
        ("POST", "/openai/deployments/gpt-sim/chat/completions"),
    ],
)
async def test_unknown_routes(connect, simulator, method, path):
    answer = await send(connect, simulator, method, path, KEY, json.dumps(ASKED).encode())
    assert (answer.status, answer.document["error"]["type"]) == (404, "invalid_request_error")
