"""Generated input of the benches: streams as Bedrock, Anthropic and agents send them, with the sizes of real ones."""

import base64
import json
import random
from collections.abc import Iterator

from aibridge.wire import encode_event, encode_frame

HEADERS = {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}
QUIET = (
    b'{"type":"content_block_delta","index":#,"delta":{"type":"text_delta","text":$}}',
    b'{"type":"content_block_delta","index":#,"delta":{"type":"thinking_delta","thinking":$}}',
    b'{"type":"ping"}',
)
TALK = """
    the of angels and to a in is question that pin dance on however, it philosophy was head debate medieval as
    theologians with for by whether they not historical\\n\\n many could \\"how be this or from - which
"""


def text_deltas(count: int, *, seed: int = 1) -> Iterator[bytes]:
    """Yield the JSON of text deltas, a few words each, padded before the last brace as the provider does."""
    dice = random.Random(seed)
    words = TALK.split()
    for _ in range(count):
        text = " ".join(dice.choices(words, k=dice.randint(1, 3)))
        yield (
            b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" %b"}%b}'
            % (text.encode(), b" " * dice.randint(0, 14))
        )


def bedrock_frames(count: int, *, seed: int = 1) -> list[bytes]:
    """Return frames of about 255 bytes, each with one text delta, wrapped and padded as Bedrock does."""
    dice = random.Random(seed)
    alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    return [
        encode_frame(
            HEADERS,
            b'{"bytes":"%b","p":"%b"}' % (base64.b64encode(event), alphabet[: dice.randint(1, 40)].encode()),
        )
        for event in text_deltas(count, seed=seed)
    ]


def sse_events(count: int, *, seed: int = 1) -> list[bytes]:
    """Return the text of server-sent events, each with one text delta."""
    return [encode_event("content_block_delta", event) for event in text_deltas(count, seed=seed)]


def request_body(size: int, *, seed: int = 1) -> bytes:
    """Return an agent's request of about `size` bytes: tools, then a long talk of text, code and tool results."""
    dice = random.Random(seed)
    schema = {"type": "object", "properties": {"path": {"type": "string"}, "limit": {"type": "integer"}}}
    tools = [{"name": f"tool_{n}", "description": "Reads a file. " * 40, "input_schema": schema} for n in range(20)]
    messages = []
    words = TALK.split()
    written = 0
    while written < size:
        code = "\n".join(f'    value = lookup["{dice.choice(words)}"]' for _ in range(dice.randint(5, 120)))
        messages.append(
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": code}]}
        )
        written += len(code) * 11 // 10 + 90
    body = {"model": "claude-sonnet-4-5", "max_tokens": 8192, "stream": True, "tools": tools, "messages": messages}
    return json.dumps(body, separators=(",", ":")).encode()
