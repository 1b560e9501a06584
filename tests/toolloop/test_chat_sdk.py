"""OpenAI's own SDK as the judge: what a client gets of several turns is one answer."""

import asyncio
import json

import openai
import pytest

from aibridge.body import read_body
from aibridge.toolloop import Text, Tool, ToolResult, new_loops
from aibridge.wire import SSEScanner

TOOLS = (Tool("bmcp_s_find", "s", "find", "Finds.", b'{"type":"object","properties":{}}'),)
HEAD = "HTTP/1.1 200 OK\r\ncontent-type: {}\r\nconnection: close\r\n\r\n"
USAGE = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}


def chunk(name, choices, **more):
    fields = {"id": name, "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices, **more}
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def stream_of(name, text, calls, reason):
    """Return a turn as OpenAI streams it, its calls one behind the other."""
    deltas = [{"role": "assistant", "content": ""}, *[{"content": word} for word in text]]
    for index, (tool, arguments) in enumerate(calls):
        begun = {"index": index, "id": f"call_{name}_{index}", "type": "function"}
        deltas.append({"tool_calls": [{**begun, "function": {"name": tool, "arguments": ""}}]})
        deltas += [{"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in arguments]
    choices = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "logprobs": None, "finish_reason": reason})
    told = b"".join(chunk(name, [choice]) for choice in choices)
    return told + chunk(name, [], usage=USAGE) + b"data: [DONE]\n\n"


def body_of(name, text, calls, reason):
    listed = [
        {"id": f"call_{name}_{index}", "type": "function", "function": {"name": tool, "arguments": arguments}}
        for index, (tool, arguments) in enumerate(calls)
    ]
    message = {"role": "assistant", "content": "".join(text), **({"tool_calls": listed} if listed else {})}
    choice = {"index": 0, "message": message, "finish_reason": reason}
    fields = {"id": name, "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": USAGE}
    return json.dumps(fields).encode()


@pytest.fixture
async def connect():
    """Return a function that starts a server which loops over turns, and gives a client of it."""
    servers, clients = [], []

    async def build(turns, asked):
        async def serve(reader, writer):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            body = read_body(await reader.readexactly(length))
            asked.append(body.raw)
            answers = run_streams(body, turns) if body.streaming else [run_bodies(body, turns)]
            kind = "text/event-stream" if body.streaming else "application/json"
            writer.write(HEAD.format(kind).encode())
            for answer in answers:
                writer.write(answer)
                await writer.drain()
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        servers.append(server)
        port = server.sockets[0].getsockname()[1]
        client = openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="k", max_retries=0, timeout=20)
        clients.append(client)
        return client

    yield build
    for client in clients:
        await client.close()
    for server in servers:
        server.close()
        await server.wait_closed()


def answer(loop):
    if loop.calls:
        loop.answer([ToolResult((Text("found"),)) for _ in loop.calls])


def run_streams(body, turns):
    loop = new_loops()["chat"](body, TOOLS)
    for turn in turns:
        loop.request()
        yield loop.decoder(SSEScanner()).feed_data(stream_of(*turn)).relay
        answer(loop)


def run_bodies(body, turns):
    loop = new_loops()["chat"](body, TOOLS)
    got = b""
    for turn in turns:
        loop.request()
        got = loop.take_body(body_of(*turn))
        answer(loop)
    return got


FIND = ("bmcp_s_find", '{"q":1}')
OWN = ("get_weather", '{"place":"Bern"}')
OTHER = ("get_time", "{}")
LAST = ("z", ("It ", "is."), [], "stop")
CASES = {
    "one call": ([("a", ("Let me see.",), [FIND], "tool_calls"), LAST], "Let me see.\n\nIt is.", [], "stop"),
    "two calls": ([("a", (), [FIND] * 2, "tool_calls"), LAST], "It is.", [], "stop"),
    "five calls": ([("a", (), [FIND] * 5, "tool_calls"), LAST], "It is.", [], "stop"),
    "three turns": (
        [("a", (), [FIND], "tool_calls"), ("b", ("So:",), [FIND] * 2, "tool_calls"), LAST],
        "So:\n\nIt is.",
        [],
        "stop",
    ),
    "mixed": ([("a", ("x",), [FIND, OWN, FIND, OTHER], "tool_calls")], "x", [OWN, OTHER], "tool_calls"),
    "mixed at last": (
        [("a", (), [FIND], "tool_calls"), ("b", (), [OWN, FIND, OTHER], "tool_calls")],
        "",
        [OWN, OTHER],
        "tool_calls",
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("way", ["helper", "body"])
async def test_one_answer(connect, case, way):
    turns, text, calls, reason = CASES[case]
    asked = []
    client = await connect(turns, asked)
    messages = [{"role": "user", "content": "hi"}]
    if way == "helper":
        async with client.chat.completions.stream(
            model="m", messages=messages, stream_options={"include_usage": True}
        ) as stream:
            got = await stream.get_final_completion()
    else:
        got = await client.chat.completions.create(model="m", messages=messages)
    (choice,) = got.choices
    called = choice.message.tool_calls or []
    assert (choice.message.content or "", choice.finish_reason, got.id) == (text, reason, "a")
    assert [(call.function.name, call.function.arguments) for call in called] == calls
    assert choice.message.role == "assistant"
    assert got.usage.total_tokens == 12 * len(turns)
    # what the client sends next is valid: it holds its own calls, each with an answer
    if called:
        answers = [{"role": "tool", "tool_call_id": call.id, "content": "x"} for call in called]
        assert len({call.id for call in called}) == len(called)
        said = choice.message.model_dump(include={"role", "content", "tool_calls"})
        await client.chat.completions.create(model="m", messages=[*messages, said, *answers])
        assert b"bmcp" not in asked[-1]
