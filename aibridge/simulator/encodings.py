"""Events to bytes: server-sent events with their legal variants, and AWS event-stream frames, good or lying.

The frame builder is the simulator's own on purpose: a decoder must not be tested against its own twin, and lies with
right checksums need their hands on every field.
"""

import struct
from base64 import b64encode
from binascii import crc32
from collections.abc import Mapping

from aibridge.simulator.faults import Play, Word
from aibridge.simulator.values import Event

_PADDING = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_STRING_HEADER = 7
_PRELUDE_BYTES = 12
CHECKSUM_BYTES = 4
CHUNK_HEADERS = {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}


def encode_sse(event: Event, play: Play, *, first: bool = False) -> bytes:
    """Return one server-sent event as a play wants it. The stream's `first` takes the byte order mark.

    An event without a type has no `event` line.
    """
    blank = b"" if Word.NO_SPACE in play else b" "
    names = [b"event:" + blank + event.type.encode()] if event.type else []
    lines = [*names, b"data:" + blank + event.data, b"", b""]
    if Word.COMMENTS in play:
        lines = [b": a comment", b"", *names, b":", *lines[len(names) :]]
    text = line_end(play).join(lines)
    return b"\xef\xbb\xbf" + text if first and Word.BOM in play else text


def blank_line_bytes(play: Play) -> int:
    """Return how long an event's blank line is."""
    return len(line_end(play))


def line_end(play: Play) -> bytes:
    """Return what ends a line in a play."""
    if Word.CRLF in play:
        return b"\r\n"
    return b"\r" if Word.CR in play else b"\n"


def encode_chunk(event: Event) -> bytes:
    """Return one event as a Bedrock `chunk` frame."""
    return build_frame(CHUNK_HEADERS, chunk_payload(event.data))


def chunk_payload(data: bytes) -> bytes:
    """Return a chunk's payload, with AWS's padding against guessing by length."""
    padding = _PADDING[: 1 + len(data) * 7 % len(_PADDING)]
    return b'{"bytes":"' + b64encode(data) + b'","p":"' + padding + b'"}'


def encode_headers(headers: Mapping[str, str]) -> bytes:
    """Return event-stream headers, all strings."""
    return b"".join(
        bytes((len(name),)) + name.encode() + struct.pack(">BH", _STRING_HEADER, len(value.encode())) + value.encode()
        for name, value in headers.items()
    )


def build_frame(headers: Mapping[str, str] | bytes, payload: bytes, *, total: int | None = None) -> bytes:
    """Return a frame with right checksums. `total` is the length it tells of itself, where that shall be a lie."""
    block = headers if isinstance(headers, bytes) else encode_headers(headers)
    return sign_frame(len(block), block + payload, total=total)


def sign_frame(headers_bytes: int, content: bytes, *, total: int | None = None) -> bytes:
    """Return a frame around its content (headers and payload) that tells any lengths, with checksums to match."""
    length = _PRELUDE_BYTES + len(content) + CHECKSUM_BYTES if total is None else total
    lengths = struct.pack(">II", length, headers_bytes)
    return checked(lengths + struct.pack(">I", crc32(lengths)) + content)


def checked(frame: bytes) -> bytes:
    """Return a frame's bytes with the message checksum behind them."""
    return frame + struct.pack(">I", crc32(frame))
