"""An upstream of the Responses API that plays scripts, and refuses what OpenAI refuses; and a gateway for it."""

import asyncio
import json
from contextlib import asynccontextmanager
from random import Random

from aibridge.body import read_body
from aibridge.dialects import DIALECTS
from aibridge.lifecycle import State
from aibridge.relay import Relay
from aibridge.toolloop import Text, Tool, ToolResult
from aibridge.toolloop.responses import ResponsesLoops
from aibridge.wire import SSEScanner

SCHEMA = b'{"properties":{"place":{"type":"string"}},"type":"object"}'
TOOLS = (
    Tool("bmcp_maps_find", "maps", "find", "Finds a place.", SCHEMA),
    Tool("bmcp_weather_now", "weather", "now", "Tells the weather.", b'{"type":"object"}'),
)
OWN = {"type": "function", "name": "own", "parameters": {"type": "object"}, "strict": False}
ASKED = {"model": "gpt-x", "input": "How is it in Bern?"}


def dump(value):
    return json.dumps(value, separators=(",", ":")).encode()


def loop_of(ours=TOOLS, **fields):
    maker = ResponsesLoops()
    loop = maker(read_body(dump({**ASKED, **fields})), ours)
    if loop is not None:
        loop.maker = maker
    return loop


def gone_on(loop, **place):
    """Return what the upstream is asked where the client goes on: a response's id, and the calls that are answered."""
    asked = json.loads(loop.maker(read_body(dump({**ASKED, **place})), TOOLS).request())
    items = asked["input"] if isinstance(asked["input"], list) else []
    return asked.get("previous_response_id"), [item["call_id"] for item in items if "call_id" in item]


# items, as the model makes them


def message(name="msg", text="It rains.", **more):
    part = {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
    item = {"id": name, "type": "message", "status": "completed", "content": [part], "role": "assistant"}
    return {**item, **more}


def call(name, tool="bmcp_weather_now", arguments='{"place":"Bern"}', **more):
    item = {"id": f"fc_{name}", "type": "function_call", "status": "completed", "arguments": arguments}
    return {**item, "call_id": name, "name": tool, **more}


def thought(name, *summary, **more):
    parts = [{"type": "summary_text", "text": text} for text in summary]
    return {"id": name, "type": "reasoning", "summary": parts, **more}


def search(name="ws"):
    return {"id": name, "type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "q"}}


class Refused(Exception):
    """What the API answers with status 400."""


class Upstream:
    """Plays one script a request: its items; or (items, kind of the last event, members of the response)."""

    def __init__(self, *scripts):
        self.scripts = list(scripts)
        self.bodies = []
        self.stored = {}
        self.conversations = {}
        self.count = 0

    def ask(self, body):
        """Return the answer to a request: a stream's bytes, or a body."""
        fields = json.loads(body)
        context = self._context(fields)
        check(context, fields)
        self.bodies.append(body)
        script = self.scripts.pop(0)
        items, kind, more = script if isinstance(script, tuple) else (script, "completed", {})
        self.count += 1
        response = self._response(fields)
        if response["store"]:
            self.stored[response["id"]] = [*context, *items]
        if fields.get("conversation"):
            self.conversations[fields["conversation"]] = [*context, *items]
        ended = {**response, "status": kind, "output": items, "usage": usage(self.count), **more}
        if not fields.get("stream"):
            return json.dumps(ended, indent=2).encode()
        return b"".join(map(sse, numbered(events(response, items, ended))))

    @property
    def asked(self):
        return [json.loads(body) for body in self.bodies]

    def _context(self, fields):
        new = fields["input"]
        new = [{"role": "user", "content": new}] if isinstance(new, str) else new
        previous = fields.get("previous_response_id")
        if previous and previous not in self.stored:
            raise Refused(f"Previous response with id '{previous}' not found.")
        before = self.stored[previous] if previous else self.conversations.get(fields.get("conversation"), [])
        return [*before, *new]

    def _response(self, fields):
        return {
            "id": f"resp_{self.count}",
            "object": "response",
            "created_at": 1790000000 + self.count,
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "model": "gpt-x-2026",
            "output": [],
            "parallel_tool_calls": True,
            "previous_response_id": fields.get("previous_response_id"),
            "store": fields.get("store", True),
            "temperature": 1.0,
            "tool_choice": fields.get("tool_choice", "auto"),
            "tools": fields.get("tools", []),
            "top_p": 1.0,
            "usage": None,
            "metadata": {},
        }


def check(context, fields):
    """Refuse a context as OpenAI does."""
    calls = [item["call_id"] for item in context if item.get("type") == "function_call"]
    outputs = [item["call_id"] for item in context if item.get("type") == "function_call_output"]
    for call_id in calls:
        if call_id not in outputs:
            raise Refused(f"No tool output found for function call {call_id}.")
    for call_id in outputs:
        if call_id not in calls:
            raise Refused(f"No tool call found for function call output with call_id {call_id}.")
    ids = [item["id"] for item in context if "id" in item]
    if len(set(ids)) < len(ids):
        raise Refused("Duplicate item found.")
    for item in fields["input"] if isinstance(fields["input"], list) else ():
        if item.get("type") == "reasoning" and fields.get("store") is False and not item.get("encrypted_content"):
            raise Refused(
                f"Item with id '{item['id']}' not found. Items are not persisted when `store` is set to false."
            )


def usage(number):
    return {
        "input_tokens": 100 * number,
        "input_tokens_details": {"cached_tokens": 10 * number},
        "output_tokens": 20 * number,
        "output_tokens_details": {"reasoning_tokens": number},
        "total_tokens": 120 * number,
    }


def events(response, items, ended):
    yield {"type": "response.created", "response": response}
    yield {"type": "response.in_progress", "response": response}
    for index, item in enumerate(items):
        yield from events_of(item, index)
    yield {"type": f"response.{ended['status']}", "response": ended}


def events_of(item, index):
    place = {"item_id": item["id"], "output_index": index}
    empty = {"content": [], "summary": [], "arguments": ""}
    begun = {key: empty.get(key, value) for key, value in item.items()}
    if "status" in item:
        begun["status"] = "in_progress"
    yield {"type": "response.output_item.added", "item": begun, "output_index": index}
    for number, part in enumerate(item.get("content", ())):
        inner = {**place, "content_index": number}
        yield {"type": "response.content_part.added", **inner, "part": {**part, "text": ""}}
        for piece in pieces(part["text"]):
            yield {"type": "response.output_text.delta", **inner, "delta": piece, "logprobs": []}
        yield {"type": "response.output_text.done", **inner, "text": part["text"], "logprobs": []}
        yield {"type": "response.content_part.done", **inner, "part": part}
    for number, part in enumerate(item.get("summary", ())):
        inner = {**place, "summary_index": number}
        yield {"type": "response.reasoning_summary_part.added", **inner, "part": {**part, "text": ""}}
        yield {"type": "response.reasoning_summary_text.delta", **inner, "delta": part["text"]}
        yield {"type": "response.reasoning_summary_text.done", **inner, "text": part["text"]}
        yield {"type": "response.reasoning_summary_part.done", **inner, "part": part}
    if item["type"] == "function_call":
        for piece in pieces(item["arguments"]):
            yield {"type": "response.function_call_arguments.delta", **place, "delta": piece}
        done = {"type": "response.function_call_arguments.done", **place}
        yield {**done, "arguments": item["arguments"], "name": item["name"]}
    if item["type"] == "web_search_call":
        yield {"type": "response.web_search_call.searching", **place}
    yield {"type": "response.output_item.done", "item": item, "output_index": index}


def pieces(text):
    return [text[at : at + 5] for at in range(0, len(text), 5)]


def numbered(plain):
    return [{**event, "sequence_number": number} for number, event in enumerate(plain)]


def sse(event):
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), dump(event))


# the loop's owner


def whole(data):
    return [data]


def bytewise(data):
    return [data[at : at + 1] for at in range(len(data))]


def at_random(seed):
    random = Random(seed)

    def cut(data):
        chunks, at = [], 0
        while at < len(data):
            size = random.choice((1, 3, 40, 400, 4000))
            chunks.append(data[at : at + size])
            at += size
        return chunks

    return cut


def good(call):
    return ToolResult((Text(f"result of {call.id}"),))


def relay_turn(loop, data, cut=whole):
    """Return what the client gets of one turn, and the relay."""
    relay = Relay(DIALECTS["responses"], "req")
    relay.begin_stream(loop.decoder(SSEScanner()))
    texts = [relay.feed_data(chunk, 0.0) for chunk in cut(data)]
    texts.append(relay.feed_eof(0.0))
    return b"".join(texts) + relay.last_words, relay


def run(loop, ask, *, cut=whole, result=good, stream=True):
    """Return what the client gets of all turns, and the relays."""
    texts, relays = [], []
    for _ in range(20):
        data = ask(loop.request())
        if stream:
            text, relay = relay_turn(loop, data, cut)
            relays.append(relay)
            ended = relay.state is not State.FINISHED
        else:
            text, ended = loop.take_body(data), False
        texts.append(text)
        if ended or not loop.calls:
            return b"".join(texts), relays
        loop.answer([result(call) for call in loop.calls])
    raise AssertionError("no end of turns")


def parse(text):
    """Return the events of a client's text."""
    assert text.endswith(b"\n\n")
    return [json.loads(block.partition(b"data: ")[2]) for block in text.split(b"\n\n") if b"data: " in block]


@asynccontextmanager
async def gateway(upstream, *, cut=whole):
    """Serve on loopback what a gateway makes of the upstream's answers; yield the base URL and the loops."""
    make, loops = ResponsesLoops(), []

    def answer(raw):
        body = read_body(raw)
        loop = make(body, TOOLS)
        loops.append(loop)
        try:
            text, _ = run(loop, upstream.ask, cut=cut, stream=body.streaming)
        except Refused as refused:
            return b"400 Bad Request", b"application/json", dump({"error": {"message": str(refused)}})
        return b"200 OK", b"text/event-stream" if body.streaming else b"application/json", text

    async def serve(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        (size,) = [int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length" in line]
        status, kind, text = answer(await reader.readexactly(size))
        head = b"HTTP/1.1 %b\r\ncontent-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        writer.write(head % (status, kind, len(text)) + text)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", loops
