"""Frames built by hand, field by field, for tests and fuzzers: also frames that `encode_frame` would never make."""

import base64
import struct
import zlib
from collections.abc import Iterable

CHUNK_HEADERS = {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}

TEXT_DELTA = b'{"type":"content_block_delta","index":#,"delta":{"type":"text_delta","text":$}}'
THINKING_DELTA = b'{"type":"content_block_delta","index":#,"delta":{"type":"thinking_delta","thinking":$}}'
PING = b'{"type":"ping"}'
QUIET = (TEXT_DELTA, THINKING_DELTA, PING)

EVENTS = (
    b'{"type":"message_start","message":{"id":"msg_bdrk_1","role":"assistant","usage":{"input_tokens":583}}}',
    b'{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}  }',
    b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello"}         }',
    b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\\u00e9 \xe2\x82\xac \\"q\\""}}',
    b'{"type":"content_block_delta","index":1,"delta":{"type":"thinking_delta","thinking":"\xe2\x80\xa8 hm \xc2\x85"}}',
    b'{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\\"fil"}}',
    b'{"type": "ping"}',
    b'{"type":"ping"}',
    b'{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":56}}',
    b'{"type":"message_stop","amazon-bedrock-invocationMetrics":{"inputTokenCount":583,"outputTokenCount":56}}',
)

WIDTHS = {2: "!b", 3: "!h", 4: "!i", 5: "!q", 8: "!q"}


def raw_header(name: bytes, kind: int, value: object) -> bytes:
    """Return a header of any of the ten types, by its number."""
    head = bytes((len(name),)) + name + bytes((kind,))
    if kind in (0, 1):
        return head
    if kind in WIDTHS:
        return head + struct.pack(WIDTHS[kind], value)
    if kind in (6, 7):
        return head + struct.pack("!H", len(value)) + value
    return head + value


def raw_frame(block: bytes, payload: bytes) -> bytes:
    """Return a frame around a ready block of headers."""
    return signed(struct.pack("!III", 16 + len(block) + len(payload), len(block), 0) + block + payload + bytes(4))


def signed(frame: bytes) -> bytes:
    """Return the frame with both checksums made right, whatever else it says."""
    prelude = frame[:8] + struct.pack("!I", zlib.crc32(frame[:8]))
    message = prelude + frame[12:-4]
    return message + struct.pack("!I", zlib.crc32(message))


def string_headers(headers: dict[str, str]) -> bytes:
    return b"".join(raw_header(name.encode(), 7, value.encode()) for name, value in headers.items())


def chunk_payload(event: bytes, padding: str = "abcdefg") -> bytes:
    return b'{"bytes":"%b","p":"%b"}' % (base64.b64encode(event), padding.encode())


def chunk_frame(event: bytes, padding: str = "abcdefg") -> bytes:
    """Return a frame as Bedrock sends it."""
    return raw_frame(string_headers(CHUNK_HEADERS), chunk_payload(event, padding))


def exception_frame(kind: str, message: str) -> bytes:
    headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    return raw_frame(string_headers(headers), b'{"message":"%b"}' % message.encode())


def sse_of(events: Iterable[bytes], end: bytes = b"\n") -> bytes:
    """Return the text of events, each with an `event:` line."""
    texts = []
    for event in events:
        kind = event.split(b'"')[3]
        texts.append(b"event: %b%bdata: %b%b%b" % (kind, end, event, end, end))
    return b"".join(texts)


def transcript(decoder: object, chunks: Iterable[bytes], *, eof: bool = True) -> list[str]:
    """Return all that a decoder says, in words that compare types too. Goes on after an error: it must stay broken."""
    calls = [lambda chunk=chunk: decoder.feed_data(chunk) for chunk in chunks]
    if eof:
        calls += [decoder.feed_eof, decoder.feed_eof]
    return [f"{said(call)} taken {getattr(decoder, 'taken', None)}" for call in calls]


def until_behind(decoder: object, chunks: Iterable[bytes]) -> list[str]:
    """Return what a decoder of chunked bodies says, up to an error, or to what is behind the plain chunks."""
    found = []
    for chunk in chunks:
        found.append(said(lambda chunk=chunk: decoder.feed_data(chunk)))
        if not found[-1].endswith(", b'')"):
            break
    return found


def said(call: object) -> str:
    try:
        return repr(call())
    except Exception as error:  # noqa: BLE001  what it is, the caller compares
        return f"{type(error).__name__}: {error} before {getattr(error, 'before', None)!r}"
