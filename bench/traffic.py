"""The bytes the bench sends: realistic requests, and the answers that the scripted upstream plays."""

import base64
import itertools
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

MODEL = "claude-sonnet-4-5"
OPENAI_MODEL = "gpt-5-mini"
BEDROCK_MODEL = "anthropic.claude-sonnet-4-5-20250929-v1:0"

# The APIs that an upstream and a client may speak: Anthropic's, Claude on Bedrock, and OpenAI's two.
Api = Literal["messages", "bedrock", "chat", "responses"]
PATHS: dict[Api, str] = {
    "messages": "/v1/messages",
    "bedrock": f"/model/{BEDROCK_MODEL}/invoke",
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
}

REWRITTEN_OPENING = 6  # more events than any gateway that writes streams anew puts before the text

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
    """How the load generator recognises an event, and a whole answer; how many events, before the ticks and in all."""

    event: str
    end: str
    opening: int
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


def _conversation(size: int) -> list[Json]:
    question: Json = {
        "role": "user",
        "content": "Why does the relay close the stream early? " + _code(max(0, size - 600) if size < 2048 else 100),
    }
    return [question, *(_turns(size) if size >= 2048 else ())]


def request_body(api: Api, size: int, *, stream: bool, model: str) -> bytes:
    """A request of roughly `size` bytes: a short question below 2 KB; above, for Anthropic, an agent's conversation."""
    system = "You are a careful engineer. Answer in short sentences, with code."
    messages = _conversation(size)
    if api == "chat":
        body: Json = {"model": model, "max_completion_tokens": 1024}
        body |= {"messages": [{"role": "system", "content": system}, *messages]}
        body |= {"stream_options": {"include_usage": True}} if stream else {}
    elif api == "responses":
        body = {"model": model, "max_output_tokens": 1024, "instructions": system, "store": False, "input": messages}
    else:
        body = {"anthropic_version": "bedrock-2023-05-31"} if api == "bedrock" else {"model": model}
        body |= {"max_tokens": 1024, "system": system, "metadata": {"user_id": "user_0123456789abcdef"}}
        body |= {"temperature": 1.0, "messages": messages}
    if stream and api != "bedrock":
        body["stream"] = True
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


# ---- the same in OpenAI's APIs


def _chat_chunk(delta: Json, finish: str | None = None) -> Json:
    choices = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
    return _chat("chat.completion.chunk", choices) | {"usage": None, "obfuscation": "a8Kq2Zx"}


def _chat(kind: str, choices: list[Json]) -> Json:
    always: Json = {"id": "chatcmpl-CyXk3vF0mYq8Lr2TbN5wHs7Je1UaP", "object": kind, "created": 1_795_000_000}
    return always | {
        "model": f"{OPENAI_MODEL}-2025-08-07",
        "service_tier": "default",
        "system_fingerprint": None,
        "choices": choices,
    }


def _chat_usage(output: int) -> Json:
    return {
        "prompt_tokens": 25,
        "completion_tokens": output,
        "total_tokens": 25 + output,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def data_only(event: Json) -> bytes:
    """One event as OpenAI's chat writes it."""
    return b"data: %s\n\n" % _compact(event)


def _chat_stream(count: int) -> tuple[list[bytes], list[bytes], list[bytes]]:
    ticks = (
        data_only(_chat_chunk({"content": f" {word}"})) for word in itertools.islice(itertools.cycle(WORDS), count)
    )
    usage = _chat("chat.completion.chunk", []) | {"usage": _chat_usage(count), "obfuscation": ""}
    closing = [data_only(_chat_chunk({}, "stop")), data_only(usage), b"data: [DONE]\n\n"]
    return [data_only(_chat_chunk({"role": "assistant", "content": "", "refusal": None}))], list(ticks), closing


def _response(status: str, output: list[Json], usage: Json | None) -> Json:
    always: Json = {"id": "resp_68af4030592c81938ec0a5fbab4a3e9f05438e46b5f69a3b", "object": "response"}
    return always | {
        "created_at": 1_795_000_000,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": "You are a careful engineer. Answer in short sentences, with code.",
        "max_output_tokens": 1024,
        "model": f"{OPENAI_MODEL}-2025-08-07",
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": "medium", "summary": None},
        "store": False,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": usage,
        "metadata": {},
    }


def _response_usage(output: int) -> Json:
    return {
        "input_tokens": 25,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 25 + output,
    }


def _responses_stream(count: int) -> tuple[list[bytes], list[bytes], list[bytes]]:
    item = "msg_68af40337e588193a5d1c6f4e8b0a7d205438e46b5f69a3b"
    words = [f" {word}" for word in itertools.islice(itertools.cycle(WORDS), count)]
    part: Json = {"type": "output_text", "annotations": [], "logprobs": [], "text": "".join(words)}
    whole: Json = {"id": item, "type": "message", "status": "completed", "role": "assistant", "content": [part]}
    at: Json = {"item_id": item, "output_index": 0, "content_index": 0}
    numbers = itertools.count(100_000)  # of one length, as all ticks are

    def event(kind: str, **fields: object) -> bytes:
        told = {"type": kind, "sequence_number": next(numbers), **fields}
        return b"event: %s\ndata: %s\n\n" % (kind.encode(), _compact(told))

    opening = [
        event("response.created", response=_response("in_progress", [], None)),
        event("response.in_progress", response=_response("in_progress", [], None)),
        event("response.output_item.added", output_index=0, item=whole | {"status": "in_progress", "content": []}),
        event("response.content_part.added", **at, part=part | {"text": ""}),
    ]
    ticks = [
        event("response.output_text.delta", **at, delta=word, logprobs=[], obfuscation="a8Kq2Zx") for word in words
    ]
    closing = [
        event("response.output_text.done", **at, text="".join(words), logprobs=[]),
        event("response.content_part.done", **at, part=part),
        event("response.output_item.done", output_index=0, item=whole),
        event("response.completed", response=_response("completed", [whole], _response_usage(count))),
    ]
    return opening, ticks, closing


# ---- scripts and marks


def _anthropic_stream(encode: Callable[[Json], bytes], count: int) -> tuple[list[bytes], list[bytes], list[bytes]]:
    groups = (_opening(), _deltas(count), _closing(count))
    opening, ticks, closing = ([encode(event) for event in group] for group in groups)
    return opening, ticks, closing


def stream_events(api: Api, ticks: int) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """The events of a proper stream with `ticks` pieces of text: those before the text, the text, those behind."""
    if api == "chat":
        return _chat_stream(ticks)
    if api == "responses":
        return _responses_stream(ticks)
    return _anthropic_stream(frame if api == "bedrock" else sse, ticks)


def json_answer(api: Api) -> bytes:
    """The body of a small answer in one piece."""
    text = "The relay closes the stream early because the upstream's keep-alive timeout is shorter than the pause. " * 3
    if api == "chat":
        message: Json = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
        choice: Json = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        return _compact(_chat("chat.completion", [choice]) | {"usage": _chat_usage(60)})
    if api == "responses":
        part: Json = {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
        whole: Json = {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "content": [part]}
        return _compact(_response("completed", [whole], _response_usage(60)))
    return _compact(_message([{"type": "text", "text": text}], "end_turn", 60))


def json_script(api: Api) -> Script:
    """A small answer in one piece."""
    body = json_answer(api)
    fields = {"content-type": "application/json", "content-length": str(len(body))}
    if api == "bedrock":
        fields |= {"x-amzn-bedrock-input-token-count": "25", "x-amzn-bedrock-output-token-count": "60"}
    return Script(_head(fields) + body, 0, 0, 0)


def stream_script(api: Api, ticks: int) -> Script:
    """A stream of `ticks` text deltas, proper at both ends, one HTTP chunk for each event."""
    kind = "application/vnd.amazon.eventstream" if api == "bedrock" else "text/event-stream; charset=utf-8"
    fields = {
        "content-type": kind,
        "transfer-encoding": "chunked",
        "x-amzn-requestid": "5fa64f1c-09d4-4a0c-8f4b-1c1f0ddc0a52",
    }
    opening, body, closing = ([_chunk(event) for event in group] for group in stream_events(api, ticks))
    if len({len(one) for one in body}) > 1:
        raise AssertionError("ticks must be of one length")
    head = _head(fields) + b"".join(opening)
    content = head + b"".join(body) + b"".join(closing) + b"0\r\n\r\n"
    return Script(content, len(head), len(body[0]), ticks)


def json_marks(api: Api, *, exact: bool) -> Marks:
    """An answer relayed as it was ends as it did; one written anew is known by its status and its frame alone."""
    return Marks("", json_answer(api)[-24:].decode() if exact else "", 0, 0)


def stream_marks(api: Api, ticks: int, *, exact: bool) -> Marks:
    """The marks of a stream relayed event by event (`exact`) or written anew: then only its text is all there."""
    opening, _, closing = stream_events(api, ticks)
    ends: dict[Api, str] = {
        "messages": "event: message_stop",
        "bedrock": closing[-1][-64:-4].decode(errors="replace"),  # the last of its base64
        "chat": "data: [DONE]",
        "responses": closing[-1][-28:].decode(errors="replace").strip(),
    }
    mark = ":event-type" if api == "bedrock" else "\n\n"
    if exact:
        return Marks(mark, ends[api], len(opening), len(opening) + ticks + len(closing))
    return Marks(mark, ends[api], REWRITTEN_OPENING, ticks)
