"""The bytes the bench sends: realistic requests, and the answers that the scripted upstream plays."""

import base64
import itertools
import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

MODEL = "claude-sonnet-4-5"
BEDROCK_MODEL = "anthropic.claude-sonnet-4-5-20250929-v1:0"
MESSAGES_PATH = "/v1/messages"
BEDROCK_PATH = f"/model/{BEDROCK_MODEL}/invoke-with-response-stream"

# Seven letters each, so that all events of a stream have one length and the upstream may count ticks.
WORDS = ("relayed", "streams", "bridges", "gateway", "without", "parsing", "another", "message", "through", "network")

Json = dict[str, object]


@dataclass(frozen=True)
class Script:
    """One answer for the upstream to play: the head at once, then `ticks` of `tick_size` bytes, then the rest."""

    content: bytes
    head_size: int
    tick_size: int
    ticks: int


@dataclass(frozen=True)
class Marks:
    """How the load generator recognises an event, and a whole answer; and how many events an answer must have."""

    event: str
    end: str
    least: int


# ---- requests


def _code(size: int) -> str:
    """Text as agents send it: lines of code, with quotes and indentation to be escaped."""
    line = '    if value_{number} == "{word}":\n\t\treturn self.lookup("{word}", key={number})\n'
    words = enumerate(itertools.cycle(WORDS))
    return "".join(line.format(number=number, word=word) for number, word in itertools.islice(words, size // 40 + 1))[
        :size
    ]


def _turns(size: int) -> Iterator[Json]:
    """Turns of an agent's conversation, about `size` bytes of tool results in pieces of 8 KB."""
    piece = _code(min(size, 8192))
    for number in range(max(1, size // 9000)):
        call = f"toolu_{number:024d}"
        yield {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": call, "name": "read_file", "input": {"path": f"src/part_{number}.py"}}
            ],
        }
        yield {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call, "content": piece}]}


def request_body(size: int, *, stream: bool, bedrock: bool) -> bytes:
    """An Anthropic request of roughly `size` bytes: a short question below 2 KB, an agent's long conversation above."""
    question: Json = {
        "role": "user",
        "content": "Why does the relay close the stream early? " + _code(max(0, size - 600) if size < 2048 else 100),
    }
    messages = [question, *(_turns(size) if size >= 2048 else ())]
    body: Json = {"anthropic_version": "bedrock-2023-05-31"} if bedrock else {"model": MODEL}
    body |= {"max_tokens": 1024, "system": "You are a careful engineer. Answer in short sentences, with code."}
    if stream and not bedrock:
        body["stream"] = True
    body |= {"metadata": {"user_id": "user_0123456789abcdef"}, "temperature": 1.0, "messages": messages}
    return json.dumps(body, separators=(",", ":")).encode()


def request(port: int, path: str, body: bytes, headers: dict[str, str]) -> bytes:
    """The whole request, head and body, as the load generator sends it."""
    fields = {
        "host": f"127.0.0.1:{port}",
        "user-agent": "aibridge-bench",
        "accept": "application/json",
        "content-type": "application/json",
        "anthropic-version": "2023-06-01",
        **headers,
        "content-length": str(len(body)),
    }
    return f"POST {path} HTTP/1.1\r\n{_lines(fields)}\r\n".encode() + body


def _lines(fields: dict[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in fields.items())


# ---- answers


def _head(fields: dict[str, str]) -> bytes:
    always = {"date": "Sat, 07 Nov 2026 10:00:00 GMT", "request-id": "req_011CSHoEeqs5C35K2UUqR7Fy", "server": "bench"}
    return f"HTTP/1.1 200 OK\r\n{_lines(always | fields)}\r\n".encode()


def _chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


def _usage(output: int) -> Json:
    return {"input_tokens": 25, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": output}


def _message(content: list[Json], stop: str | None, output: int) -> Json:
    ending: Json = {"stop_reason": stop, "stop_sequence": None, "usage": _usage(output)}
    return {
        "id": "msg_014p7gG3wDgGV9EUtLvnow3U",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": content,
    } | ending


def _opening() -> list[Json]:
    return [
        {"type": "message_start", "message": _message([], None, 1)},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    ]


def _deltas(count: int) -> Iterator[Json]:
    for word in itertools.islice(itertools.cycle(WORDS), count):
        yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": f" {word}"}}


def _closing(output: int) -> list[Json]:
    metrics = {"inputTokenCount": 25, "outputTokenCount": output, "invocationLatency": 2000, "firstByteLatency": 300}
    return [
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": _usage(output)},
        {"type": "message_stop", "amazon-bedrock-invocationMetrics": metrics},
    ]


def _compact(event: Json) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode()


def sse(event: Json) -> bytes:
    """One event as Anthropic writes it."""
    own = {key: value for key, value in event.items() if not key.startswith("amazon-")}
    return b"event: %s\ndata: %s\n\n" % (str(event["type"]).encode(), _compact(own))


def frame(event: Json) -> bytes:
    """One event as Bedrock frames it: prelude, three headers, the event in base64 with a padding, two checksums."""
    headers = b"".join(
        struct.pack(f">B{len(name)}sBH{len(value)}s", len(name), name, 7, len(value), value)
        for name, value in (
            (b":event-type", b"chunk"),
            (b":content-type", b"application/json"),
            (b":message-type", b"event"),
        )
    )
    payload = _compact({"bytes": base64.b64encode(_compact(event)).decode(), "p": "abcdefghijkl"})
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    prelude += struct.pack(">I", zlib.crc32(prelude))
    message = prelude + headers + payload
    return message + struct.pack(">I", zlib.crc32(message))


def json_script() -> Script:
    """A small answer in one piece."""
    text = "The relay closes the stream early because the upstream's keep-alive timeout is shorter than the pause. " * 3
    body = _compact(_message([{"type": "text", "text": text}], "end_turn", 60))
    content = _head({"content-type": "application/json", "content-length": str(len(body))}) + body
    return Script(content, 0, 0, 0)


def stream_script(ticks: int, *, bedrock: bool) -> Script:
    """A stream of `ticks` text deltas, proper at both ends, one HTTP chunk for each event."""
    encode = frame if bedrock else sse
    kind = "application/vnd.amazon.eventstream" if bedrock else "text/event-stream; charset=utf-8"
    fields = {
        "content-type": kind,
        "transfer-encoding": "chunked",
        "x-amzn-requestid": "5fa64f1c-09d4-4a0c-8f4b-1c1f0ddc0a52",
    }
    head = _head(fields) + b"".join(_chunk(encode(event)) for event in _opening())
    body = [_chunk(encode(event)) for event in _deltas(ticks)]
    tail = b"".join(_chunk(encode(event)) for event in _closing(ticks)) + b"0\r\n\r\n"
    if len({len(one) for one in body}) > 1:
        raise AssertionError("ticks must be of one length")
    return Script(head + b"".join(body) + tail, len(head), len(body[0]), ticks)


EVENTS_AROUND = len(_opening()) + len(_closing(0))  # events of a stream that are not text


def json_marks() -> Marks:
    return Marks("", '"output_tokens":60}}', 0)


def sse_marks(ticks: int) -> Marks:
    return Marks("\n\n", "event: message_stop\n", ticks + EVENTS_AROUND)


def frame_marks(ticks: int) -> Marks:
    """The end of raw frames is the last piece of base64 text: message_stop's."""
    last = frame(_closing(ticks)[-1])
    return Marks(":event-type", last[-64:-4].decode(), ticks + EVENTS_AROUND)
