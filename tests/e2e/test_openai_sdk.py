"""OpenAI's own SDK through the gateway: Chat Completions and Responses, streaming and blocking, sync and async."""

import asyncio
import json
from types import SimpleNamespace

import openai
import pytest

from aibridge.stores import ledger
from aibridge.stores.sqlite import querying

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
async def house(build_house):
    async with build_house(records=FULL) as built:
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


def api_of(ask):
    return ask.__name__.partition("_")[0]


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


async def exported(house, ended):
    """Return what `aibridge export` gives, once so many interceptions have ended."""
    await house.books(ended=ended)
    with querying(house.records) as query:
        return list(ledger.export(query, 0.0))


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
    calling, answering = await exported(house, ended=2)
    assert tools_of(calling) == calls
    assert (answering["tools"], answering["thread_parent_id"]) == ([], calling["id"])


async def test_a_tool_without_a_schema(house, connect):
    tools = [{"type": "custom", "name": "code_exec"}]
    async with connect().responses.stream(**ASKED["responses"], tools=tools) as stream:
        (item,) = (await stream.get_final_response()).output
    (row,) = await exported(house, ended=1)
    assert tools_of(row) == [(item.call_id, "code_exec", item.input)]


# thoughts


@pytest.mark.parametrize("ask", [responses_helper, responses_whole])
async def test_thoughts_of_responses(house, connect, ask):
    answer = await ask(connect(), reasoning={"effort": "low", "summary": "auto"})
    assert answer.usage.output_tokens_details.reasoning_tokens == 3
    (row,) = await exported(house, ended=1)
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
    (row,) = await exported(house, ended=1)
    assert [thought["thought"] for thought in row["thoughts"]] == [told]
    assert row["usage"]["extras"]["reasoning_tokens"] == 3


# broken streams

TAKEN = [chat_events, chat_helper, responses_events]
"""The ways in which this SDK takes a stream that is cut cleanly for complete."""
PLACES = {"chat": range(1, 14), "responses": range(1, 20)}
"""How many events come before the cut; behind the last of them the answer is whole."""


@pytest.mark.parametrize("ask", TAKEN)
async def test_a_cleanly_cut_stream_is_taken_for_complete_directly(house, connect, ask):
    """Why the gateway must speak up: without it the SDK notices nothing."""
    answer = await ask(connect("truncate@7", base_url=f"{house.simulator.url}/v1"))
    assert TEXT.startswith(answer.text.strip())
    assert answer.text
    assert answer.finish in {None, "response.output_text.delta"}


@pytest.mark.parametrize(("ask", "at"), [(ask, at) for ask in STREAMS for at in PLACES[api_of(ask)]])
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
    ],
)
@each_stream
async def test_a_stream_that_breaks_raises_through_the_gateway(house, connect, ask, fault, cause):
    with pytest.raises(openai.APIError, match="the upstream"):
        await ask(connect(fault))
    (await house.books()).check("upstream_error", cause, health="failure")
