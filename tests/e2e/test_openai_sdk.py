"""OpenAI's own SDK through the gateway: Chat Completions and Responses, streaming and blocking, sync and async."""

import asyncio
import json
from types import SimpleNamespace

import openai
import pytest
from silence_kit import silence_of

MODEL = "gpt-sim"
ASKED = {
    "chat": {"model": MODEL, "messages": [{"role": "user", "content": "What is the weather in Bern?"}]},
    "responses": {"model": MODEL, "input": "What is the weather in Bern?"},
}
SCHEMA = {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}
TOOLS = {
    "chat": [{"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}],
    "responses": [{"type": "function", "name": "get_weather", "parameters": SCHEMA}],
}
APIS = ("chat", "responses")
ARGUMENTS = {"place": "sample"}
THOUGHTS = ("The user asks something.", " I think about it", " for three deltas.")
TEXT = "The simulator gives the same answer"
FULL = {"content": {"prompts": "full", "arguments": "full", "thoughts": "full"}}


@pytest.fixture
async def house(build_house, request):
    spec = getattr(request.node, "callspec", None)
    fault = spec.params.get("fault", "") if spec else ""
    async with build_house(records=FULL, timeouts=silence_of(fault)) as built:
        yield built


@pytest.fixture
async def connect(house):
    """Return a function that gives an SDK client of the house's provider, or of another base URL."""
    clients = []

    def build(fault="", *, base_url=None, kind=openai.AsyncOpenAI, **more):
        client = kind(
            base_url=base_url or f"http://127.0.0.1:{house.port}/openai/v1",
            api_key="sk-client-key-1234",
            default_headers={"x-sim-fault": fault} if fault else {},
            **{"max_retries": 0, "timeout": 20, **more},
        )
        clients.append(client)
        return client

    yield build
    for client in clients:
        closed = client.close()
        if asyncio.iscoroutine(closed):
            await closed


# the ways to ask: each returns what it took for the answer, or raises


async def chat_events(client, **more):
    """Iterate over chunks, and put them together as programs do."""
    texts, reasons, usage = {}, {}, None
    async for chunk in await client.chat.completions.create(**ASKED["chat"], stream=True, **more):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
            reasons[choice.index] = choice.finish_reason
    return SimpleNamespace(text=texts.get(0), texts=texts, finish=reasons.get(0), usage=usage)


async def chat_helper(client, **more):
    async with client.chat.completions.stream(**ASKED["chat"], **more) as stream:
        completion = await stream.get_final_completion()
    (choice,) = completion.choices
    return SimpleNamespace(text=choice.message.content, finish=choice.finish_reason, usage=completion.usage)


async def chat_whole(client, **more):
    completion = await client.chat.completions.create(**ASKED["chat"], **more)
    (choice,) = completion.choices
    return SimpleNamespace(text=choice.message.content, finish=choice.finish_reason, usage=completion.usage)


async def responses_events(client, **more):
    text, last = "", None
    async for event in await client.responses.create(**ASKED["responses"], stream=True, **more):
        text, last = text + (event.delta if event.type == "response.output_text.delta" else ""), event
    response = getattr(last, "response", None)
    return SimpleNamespace(text=text, finish=getattr(last, "type", None), usage=response and response.usage, last=last)


async def responses_helper(client, **more):
    async with client.responses.stream(**ASKED["responses"], **more) as stream:
        response = await stream.get_final_response()
    return SimpleNamespace(text=response.output_text, finish=response.status, usage=response.usage)


async def responses_whole(client, **more):
    response = await client.responses.create(**ASKED["responses"], **more)
    return SimpleNamespace(text=response.output_text, finish=response.status, usage=response.usage)


STREAMS = [chat_events, chat_helper, responses_events, responses_helper]
WHOLES = [chat_whole, responses_whole]
each_stream = pytest.mark.parametrize("ask", STREAMS)
each_way = pytest.mark.parametrize("ask", STREAMS + WHOLES)
each_api = pytest.mark.parametrize("api", APIS)


# good answers


@each_way
async def test_an_answer(house, connect, ask):
    answer = await ask(connect())
    assert answer.text.startswith(TEXT)
    assert answer.finish in {"stop", "completed", "response.completed"}
    books = await house.books()
    books.check("completed", "clean", health="success")
    (done,) = await house.simulator.ledger.wait_for(1)
    told = books.outcome.usage.input_tokens, books.outcome.usage.output_tokens
    counted = done.usage
    assert told == (
        counted.get("prompt_tokens", counted.get("input_tokens")),
        counted.get("completion_tokens", counted.get("output_tokens")),
    )
    if ask in {chat_events, chat_helper}:
        assert answer.usage is None, "the gateway asked for usage, the client did not"
    else:
        assert answer.usage.total_tokens == sum(told)


async def test_usage_that_was_ordered_is_served(house, connect):
    answer = await chat_events(connect(), stream_options={"include_usage": True})
    (done,) = await house.simulator.ledger.wait_for(1)
    assert answer.usage.total_tokens == done.usage["total_tokens"]


@each_api
async def test_blocking_clients_without_an_event_loop(house, connect, api):
    client = connect(kind=openai.OpenAI)

    def ask():
        if api == "chat":
            with client.chat.completions.stream(**ASKED[api]) as stream:
                streamed = stream.get_final_completion().choices[0].message.content
            return streamed, client.chat.completions.create(**ASKED[api]).choices[0].message.content
        with client.responses.stream(**ASKED[api]) as stream:
            streamed = stream.get_final_response().output_text
        return streamed, client.responses.create(**ASKED[api]).output_text

    streamed, whole = await asyncio.to_thread(ask)
    assert streamed == whole
    assert whole.startswith(TEXT)
    await house.books(ended=2)
    assert house.metric("aibridge_interceptions_total", provider="openai", termination="completed", cause="clean") == 2


async def test_several_choices(house, connect):
    answer = await chat_events(connect(), n=3)
    assert list(answer.texts) == [0, 1, 2]
    assert all(text == answer.text for text in answer.texts.values())
    completion = await connect().chat.completions.create(**ASKED["chat"], n=3)
    assert [choice.message.content for choice in completion.choices] == [answer.text] * 3
    books = await house.books(ended=2)
    assert books.outcome.usage.output_tokens == completion.usage.completion_tokens


# tools


async def chat_calls(client, *, stream, **more):
    """Return the calls of an answer as (id, name, arguments), and the messages that repeat it."""
    asked = {**ASKED["chat"], "tools": TOOLS["chat"], **more}
    if stream:
        async with client.chat.completions.stream(**asked) as answer:
            message = (await answer.get_final_completion()).choices[0].message
    else:
        message = (await client.chat.completions.create(**asked)).choices[0].message
    calls = [(call.id, call.function.name, call.function.arguments) for call in message.tool_calls]
    results = [{"role": "tool", "tool_call_id": call_id, "content": "sunny"} for call_id, _, _ in calls]
    return calls, {"messages": [*ASKED["chat"]["messages"], message.to_dict(), *results]}


async def responses_calls(client, *, stream, **more):
    asked = {**ASKED["responses"], "tools": TOOLS["responses"], **more}
    if stream:
        async with client.responses.stream(**asked) as answer:
            response = await answer.get_final_response()
    else:
        response = await client.responses.create(**asked)
    calls = [(item.call_id, item.name, item.arguments) for item in response.output if item.type == "function_call"]
    results = [{"type": "function_call_output", "call_id": call_id, "output": "sunny"} for call_id, _, _ in calls]
    user = {"role": "user", "content": ASKED["responses"]["input"]}
    return calls, {"input": [user, *(item.to_dict() for item in response.output), *results]}


CALLS = {"chat": chat_calls, "responses": responses_calls}


def tools_of(row):
    return [(tool["tool_call_id"], tool["tool"], tool["arguments"]) for tool in row["tools"]]


@each_api
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "blocking"])
@pytest.mark.parametrize("number", [1, 24])
async def test_parallel_tools_and_their_results(house, connect, api, stream, number):
    client = connect()
    calls, turn = await CALLS[api](client, stream=stream, extra_headers={"x-sim-fault": f"tools:{number}"})
    assert len({call_id for call_id, _, _ in calls}) == number
    assert [(name, json.loads(arguments)) for _, name, arguments in calls] == [("get_weather", ARGUMENTS)] * number
    create = client.chat.completions.create if api == "chat" else client.responses.create
    await create(model=MODEL, tools=TOOLS[api], **turn)
    calling, answering = await house.exported(ended=2)
    assert tools_of(calling) == calls
    assert (answering["tools"], answering["thread_parent_id"]) == ([], calling["id"])


async def test_a_tool_without_a_schema(house, connect):
    tools = [{"type": "custom", "name": "code_exec"}]
    async with connect().responses.stream(**ASKED["responses"], tools=tools) as stream:
        (item,) = (await stream.get_final_response()).output
    (row,) = await house.exported(ended=1)
    assert tools_of(row) == [(item.call_id, "code_exec", item.input)]


# thoughts


@pytest.mark.parametrize("ask", [responses_helper, responses_whole])
async def test_thoughts_of_responses(house, connect, ask):
    answer = await ask(connect(), reasoning={"effort": "low", "summary": "auto"})
    assert answer.usage.output_tokens_details.reasoning_tokens == 3
    (row,) = await house.exported(ended=1)
    assert [thought["thought"] for thought in row["thoughts"]] == ["".join(THOUGHTS)]
    assert row["usage"]["extras"]["reasoning_tokens"] == 3


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "blocking"])
async def test_thoughts_of_chat_completions(house, connect, stream):
    """OpenAI only counts them; compatible servers tell them too."""
    client = connect("server:openrouter")
    asked = {**ASKED["chat"], "reasoning_effort": "low"}
    if stream:
        told = ""
        async for chunk in await client.chat.completions.create(**asked, stream=True):
            told += "".join((choice.delta.model_extra or {}).get("reasoning", "") for choice in chunk.choices)
    else:
        told = (await client.chat.completions.create(**asked)).choices[0].message.reasoning
    assert told == "".join(THOUGHTS)
    (row,) = await house.exported(ended=1)
    assert [thought["thought"] for thought in row["thoughts"]] == [told]
    assert row["usage"]["extras"]["reasoning_tokens"] == 3


# broken streams

TAKEN = [chat_events, chat_helper, responses_events]
"""The ways in which this SDK takes a stream that is cut cleanly for complete."""
PLACES = {chat_events: range(1, 14), responses_events: range(1, 20)}
"""How many events come before the cut; behind the last of them the answer is whole."""
PLACES |= {chat_helper: (1, 7, 13), responses_helper: (1, 7, 13, 19)}  # which read those same events


@pytest.mark.parametrize("ask", TAKEN)
async def test_a_cleanly_cut_stream_is_taken_for_complete_directly(house, connect, ask):
    """Why the gateway must speak up: without it the SDK notices nothing."""
    answer = await ask(connect("truncate@7", base_url=f"{house.simulator.url}/v1"))
    assert TEXT.startswith(answer.text.strip())
    assert answer.text
    assert answer.finish in {None, "response.output_text.delta"}


@pytest.mark.parametrize(("ask", "at"), [(ask, at) for ask in STREAMS for at in PLACES[ask]])
async def test_a_cleanly_cut_stream_raises_through_the_gateway(house, connect, ask, at):
    with pytest.raises(openai.APIError, match="before it was complete"):
        await ask(connect(f"truncate@{at}"))
    (await house.books()).check("upstream_error", "truncated", health="failure")


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("cut@900", "incomplete_body"),
        ("rst@5", "connection_reset"),
        ("stall@5", "idle_timeout"),
        ("half_event@5", "truncated"),
        ("no_blank_line@5", "truncated"),
        ("bad_chunk@5", "protocol_error"),
        ("bad_json@5", "corrupt_payload"),
    ],
)
@each_stream
async def test_a_stream_that_breaks_raises_through_the_gateway(house, connect, ask, fault, cause):
    with pytest.raises(openai.APIError, match="the upstream"):
        await ask(connect(fault))
    (await house.books()).check("upstream_error", cause, health="failure")


@each_api
async def test_a_cut_stream_raises_in_blocking_clients_too(house, connect, api):
    client = connect("truncate@7", kind=openai.OpenAI)
    create = client.chat.completions.create if api == "chat" else client.responses.create

    def read():
        return list(create(**ASKED[api], stream=True))

    with pytest.raises(openai.APIError, match="before it was complete"):
        await asyncio.to_thread(read)
    (await house.books()).check("upstream_error", "truncated", health="failure")


async def test_an_error_tells_the_interception(house, connect):
    with pytest.raises(openai.APIError) as caught:
        await responses_events(connect("truncate@7"))
    books = await house.books()
    assert (caught.value.type, caught.value.code) == ("server_error", "server_error")
    assert caught.value.body["request_id"] == books.interception.id


@pytest.mark.parametrize("ask", [chat_events, chat_helper])
async def test_an_answer_without_its_last_word_is_whole(house, connect, ask):
    """As many servers end it: every choice has its finish reason, and no `[DONE]` comes."""
    assert (await ask(connect("no_done"))).finish == "stop"
    books = await house.books()
    books.check("completed", "clean", health="success")
    assert books.record["note"] == "missing_done"


@pytest.mark.parametrize(
    ("ask", "fault", "words"),
    [
        (chat_events, "error_event@5", "server had an error"),
        (chat_helper, "error_event:rate_limit_exceeded@5", "server had an error"),
        (chat_events, "error_event@5+server:openrouter", "server had an error"),
        (chat_events, "error_event@5+server:vllm", "server had an error"),
        (responses_events, "error_event:nested@5", "server had an error"),
        (responses_helper, "error_event:nested@5", "server had an error"),
    ],
)
async def test_the_upstream_s_error_in_the_stream_raises(house, connect, ask, fault, words):
    with pytest.raises(openai.APIError, match=words):
        await ask(connect(fault))
    (await house.books()).check("upstream_error", "error_event", health="failure")


@pytest.mark.parametrize(
    ("fault", "last"), [("error_event@5", "response.failed"), ("error_event:flat@5", "error")]
)  # fmt: skip
async def test_the_upstream_s_error_of_responses_is_an_event_of_its_own(house, connect, fault, last):
    """The SDK hands it out, as its bytes are the upstream's; its helper misses `response.completed` then."""
    answer = await responses_events(connect(fault))
    assert answer.finish == last
    (await house.books()).check("upstream_error", "error_event", health="failure")
    with pytest.raises(RuntimeError, match=r"response\.completed"):
        await responses_helper(connect(fault))


@pytest.mark.parametrize("reason", ["max_output_tokens", "content_filter"])
async def test_a_response_that_is_incomplete_is_an_answer(house, connect, reason):
    answer = await responses_events(connect(f"stop:{reason}"))
    assert (answer.finish, answer.last.response.incomplete_details.reason) == ("response.incomplete", reason)
    books = await house.books()
    books.check("completed", "clean", health="success")
    assert books.outcome.stop_reason == reason


# errors instead of an answer


STATUSES = [
    ("status:400", openai.BadRequestError, "http_status", "neither"),
    ("too_long", openai.BadRequestError, "http_status", "neither"),
    ("status:401", openai.AuthenticationError, "http_status", "neither"),
    ("status:403", openai.PermissionDeniedError, "http_status", "neither"),
    ("status:404", openai.NotFoundError, "http_status", "neither"),
    ("status:422", openai.UnprocessableEntityError, "http_status", "neither"),
    ("status:429:1", openai.RateLimitError, "http_status", "failure"),
    ("status:500", openai.InternalServerError, "http_status", "failure"),
    ("status:503", openai.InternalServerError, "http_status", "failure"),
    ("status:529", openai.InternalServerError, "http_status", "failure"),
    ("status_html:502", openai.InternalServerError, "http_status", "failure"),
    ("html", openai.InternalServerError, "unexpected_response", "failure"),
    ("close_before_head", openai.InternalServerError, "connection_reset", "failure"),
]


@pytest.mark.parametrize(("fault", "error", "cause", "health"), STATUSES)
@pytest.mark.parametrize("ask", [chat_events, responses_whole])
async def test_errors_have_the_sdk_s_own_kinds(house, connect, ask, fault, error, cause, health):
    with pytest.raises(error):
        await ask(connect(fault))
    (await house.books()).check("upstream_error", cause, health=health)


@pytest.mark.parametrize("ask", [chat_events, responses_whole])
@pytest.mark.parametrize("fault", ["no_head"])
async def test_silence_before_the_head_is_an_error_of_the_server(house, connect, ask, fault):
    with pytest.raises(openai.InternalServerError, match="did not answer in time"):
        await ask(connect(fault))
    (await house.books()).check("upstream_error", "response_timeout", health="failure")


@pytest.mark.parametrize("ask", WHOLES)
@pytest.mark.parametrize(
    ("fault", "cause"), [("short_json", "incomplete_body"), ("rst@2", "connection_reset"), ("stall@2", "idle_timeout")]
)  # fmt: skip
async def test_a_broken_body_is_an_error_of_the_server(house, connect, ask, fault, cause):
    with pytest.raises(openai.InternalServerError, match="the upstream"):
        await ask(connect(fault))
    (await house.books()).check("upstream_error", cause, health="failure")


# trying again


@pytest.mark.parametrize("ask", [chat_helper, responses_events, responses_whole])
@pytest.mark.parametrize("fault", ["status:429:1", "status:500:1", "close_before_head"])
async def test_the_sdk_tries_again(house, connect, ask, fault):
    house.simulator.play(fault)
    answer = await ask(connect(max_retries=2))
    assert answer.text.startswith(TEXT)
    first, second = await house.simulator.ledger.wait_for(2)
    if fault.endswith(":1"):
        assert second.received_at - first.ended_at >= 1, "`retry-after` reached the SDK"
    (await house.books(ended=2)).check("completed", "clean", health="success")


QUOTA = b"""HTTP/1.1 429 Too Many Requests
content-type: application/json
x-should-retry: false

{"error": {"message": "You exceeded your current quota.", "type": "insufficient_quota", "param": null, "code": "x"}}"""


@each_way
async def test_the_sdk_does_not_try_again_where_the_upstream_says_so(house, connect, ask):
    house.simulator.replay(QUOTA)
    with pytest.raises(openai.RateLimitError, match="quota"):
        await ask(connect(max_retries=2))
    await house.books(ended=1)
    assert len(await house.simulator.ledger.wait_for(1)) == 1


async def test_a_stream_that_broke_is_not_asked_for_again(house, connect):
    with pytest.raises(openai.APIError):
        await chat_events(connect("truncate@3", max_retries=2))
    await house.books(ended=1)
    assert len(house.simulator.ledger.rows) == 1


async def test_a_bad_gateway_key_is_final(build_house, connect):
    async with build_house(auth={"keys": [{"name": "alice", "key": "alice-key-0123456789"}]}) as guarded:
        base_url = f"http://127.0.0.1:{guarded.port}/openai/v1"
        with pytest.raises(openai.AuthenticationError) as caught:
            await chat_whole(connect(base_url=base_url, max_retries=2))
        assert caught.value.response.headers["x-should-retry"] == "false"
        known = connect(base_url=base_url).with_options(api_key="alice-key-0123456789")
        assert (await chat_whole(known)).text.startswith(TEXT)


# what is passed through


async def test_models(connect):
    client = connect()
    models = [model.id async for model in client.models.list()]
    assert "gpt-sim" in models
    assert (await client.models.retrieve(models[0])).id == models[0]


async def test_what_is_kept_upstream(house, connect):
    client = connect()
    begun = await client.responses.create(**ASKED["responses"], background=True)
    assert begun.status == "queued"
    (await house.books()).check("completed", "clean", health="success")
    assert (await client.responses.retrieve(begun.id)).status == "completed"
    assert (await client.responses.cancel(begun.id)).status == "cancelled"
    assert [item.type async for item in client.responses.input_items.list(begun.id)] == ["message"]
    await client.responses.delete(begun.id)
    conversation = await client.conversations.create()
    assert (await client.conversations.delete(conversation.id)).deleted
    compacted = await client.responses.compact(**ASKED["responses"])
    books = await house.books(ended=2)
    assert books.outcome.usage.input_tokens == compacted.usage.input_tokens
    assert house.metric("aibridge_passthrough_total", provider="openai") == 6


# leaving


@pytest.mark.parametrize("api", APIS)
async def test_a_client_that_leaves_is_gone(house, connect, api):
    client = connect("stall@5")
    create = client.chat.completions.create if api == "chat" else client.responses.create
    async with await create(**ASKED[api], stream=True) as stream:
        await anext(aiter(stream))
    (await house.books()).check("client_gone", "disconnected", health="neither")
