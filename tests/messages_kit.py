"""Turns of the Messages API written by hand, and a client that says whether what it got is one message."""

import base64
import json
from itertools import pairwise

from aibridge.body import read_body
from aibridge.toolloop import Text, Tool, ToolResult, new_loops
from aibridge.values import Event
from aibridge.wire import ChunkTranscoder, SSEScanner, encode_frame

OURS = "bmcp_house_look"
TOOLS = (
    Tool(OURS, "house", "look", "Looks.", b'{"type":"object"}'),
    Tool("bmcp_house_run", "house", "run", "", b'{"properties":{"n":{"type":"integer"}},"type":"object"}'),
)
ASKED = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
FRAME_HEADERS = {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}


def loop_of(asked=ASKED, tools=TOOLS):
    return new_loops()["messages"](read_body(json.dumps(asked).encode()), tools)


def start(name="msg_1", **usage):
    message = {"id": name, "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None}
    return {"type": "message_start", "message": message | {"usage": {"input_tokens": 10, "output_tokens": 1} | usage}}


def block(index, content_block, *deltas):
    return [
        {"type": "content_block_start", "index": index, "content_block": content_block},
        *[{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas],
        {"type": "content_block_stop", "index": index},
    ]


def text(index, *pieces):
    return block(index, {"type": "text", "text": ""}, *[{"type": "text_delta", "text": piece} for piece in pieces])


def thinking(index, *pieces, signature="c2ln"):
    deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces]
    began = {"type": "thinking", "thinking": "", "signature": ""}
    return block(index, began, *deltas, {"type": "signature_delta", "signature": signature})


def tool(index, name, *pieces, id="toolu_1", kind="tool_use"):  # noqa: A002  the API's word
    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    return block(index, {"type": kind, "id": id, "name": name, "input": {}}, *deltas)


def end(reason, metrics=None, **usage):
    delta = {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}}
    stop = {"type": "message_stop"}
    if metrics is not None:
        stop["amazon-bedrock-invocationMetrics"] = metrics
    return [delta | {"usage": {"output_tokens": 5} | usage}, stop]


PING = {"type": "ping"}


def compact(event):
    return json.dumps(event, separators=(",", ":")).encode()


def sse(events, line_end=b"\n"):
    """Write events as Anthropic does, blanks before the last brace and all."""
    lines = []
    for number, event in enumerate(events):
        data = compact(event)[:-1] + b" " * (number % 4) + b"}"
        lines += [b"event: " + event["type"].encode(), b"data: " + data, b""]
    return b"".join(line + line_end for line in lines)


def frames(events):
    return b"".join(
        encode_frame(FRAME_HEADERS, json.dumps({"bytes": base64.b64encode(compact(event)).decode()}).encode())
        for event in events
    )


WIRES = {"sse": (sse, SSEScanner), "bedrock": (frames, ChunkTranscoder)}


def feed(loop, data, places=(), decoder=SSEScanner):
    """Feed a turn, cut at some places; return what the client got and the events."""
    decoding = loop.decoder(decoder(quiet=()))
    got, events = b"", []
    for begin, stop in pairwise([0, *sorted(places), len(data)]):
        got += take(decoding.feed_data(data[begin:stop]), events)
    return got + take(decoding.feed_eof(), events), events


def take(scan, events):
    ends = [0, *[event.end for event in scan.events if isinstance(event, Event)], len(scan.relay)]
    assert ends == sorted(ends)
    assert scan.count == len(scan.events)
    events += [(event.type, event.data) for event in scan.events if isinstance(event, Event)]
    return scan.relay


def run(loop, turns, places=(), wire="sse"):
    """Feed turns and answer each call with its own name; return the client's text and all requests."""
    encode, decoder = WIRES[wire]
    got, requests = b"", [loop.request()]
    for number, events in enumerate(turns):
        if number:
            assert loop.calls
            loop.answer([ToolResult((Text(f"{call.id} {call.arguments}"),)) for call in loop.calls])
            requests.append(loop.request())
        data = encode(events)
        text, seen = feed(loop, data, [place % (len(data) + 1) for place in places], decoder)
        assert [kind for kind, _ in seen] == [event["type"] for event in events]
        assert [json.loads(said) for _, said in seen] == events  # observers miss nothing
        got += text
    return got, [json.loads(request) for request in requests]


def events_of(got):
    blocks = [block for block in got.decode().split("\n\n") if block]
    return [json.loads(block.partition("data: ")[2]) for block in blocks]


def message_of(got):
    """Put a client's stream together, and insist that it is one message: each word of the API in its place, once."""
    events = [event for event in events_of(got) if event["type"] != "ping"]
    assert events[0]["type"] == "message_start"
    message = events[0]["message"]
    open_at = None
    for event in events[1:-2]:
        if event["type"] == "content_block_start":
            assert open_at is None
            assert event["index"] == len(message["content"])
            open_at = event["index"]
            message["content"].append(dict(event["content_block"]))
            continue
        assert event["index"] == open_at
        if event["type"] == "content_block_stop":
            open_at = None
            continue
        assert event["type"] == "content_block_delta"
        for name, value in event["delta"].items():
            if name != "type":
                message["content"][-1][name] = message["content"][-1].get(name, "") + value
    assert open_at is None
    delta, stop = events[-2:]
    assert (delta["type"], stop["type"]) == ("message_delta", "message_stop")
    message["stop_reason"] = delta["delta"]["stop_reason"]
    message["usage"] |= delta["usage"]
    message["metrics"] = stop.get("amazon-bedrock-invocationMetrics")
    return message


def texts_of(message):
    return [block.get("text", block.get("thinking", block.get("name"))) for block in message["content"]]
