"""Bedrock's frames to the text of Anthropic's server-sent events, in one step. This file knows no dialect.

A frame of type `chunk` has the payload `{"bytes":"<base64>","p":"<padding>"}`; decoded, the bytes are the JSON of one
event, whose top-level "type" names it. The frame becomes the text `event: <type>`, `data: <JSON>`, a blank line.

`:message-type` exception or error: the frame is handed on as it is, and gives no text. Any other value, or none, makes
an event, as for botocore. An event whose `:event-type` is not `chunk` (initial-response, and whatever AWS adds) is
passed over, as every AWS client does.
"""

import binascii
import re
from typing import Any

from aibridge import jsontext
from aibridge.errors import CorruptPayload, PayloadError, TruncatedFrame, WireError
from aibridge.values import Event, Frame, Scan

from .eventstream import (
    MAX_FRAME_BYTES,
    MAX_HEADERS_BYTES,
    SHORTEST_FRAME,
    FrameSplitter,
    parse_headers,
    raise_again,
    truncated_text,
)
from .sse import UNFIT_FOR_TYPE, encode_event, escape_data
from .template import templates_of

USUAL_PAYLOAD = re.compile(rb'\{"bytes":"([A-Za-z0-9+/]*+={0,2})"(?:,"p":"[\x20\x21\x23-\x5b\x5d-\x7f]*+")?\}')
"""As Bedrock writes it. The padding may be any ASCII that JSON needs no escape for."""
BASE64 = re.compile(r"[A-Za-z0-9+/]*+={0,2}")
"""Strict base64, if its length is a multiple of four. `binascii` in strict mode takes "e30K=", so we look ourselves."""


class ChunkTranscoder:
    """Bedrock's event stream to the text of server-sent events, sans I/O; a `StreamDecoder`.

    An event that matches a quiet template is relayed and counted, but not returned. An exception or error frame is
    returned as the last of the events: it ends the stream, and nothing behind it is decoded. After a `WireError` it
    stays broken: every later call raises it again.

    Args:
        quiet: templates of events that carry no facts, each with a "type"; see `aibridge.wire.template`.
        max_frame_bytes: limit of one frame, 16 bytes to 24 MiB.
        max_headers_bytes: limit of one frame's headers, up to 128 KiB.
    """

    def __init__(
        self,
        *,
        quiet: tuple[bytes, ...] = (),
        max_frame_bytes: int = MAX_FRAME_BYTES,
        max_headers_bytes: int = MAX_HEADERS_BYTES,
    ) -> None:
        self._splitter = FrameSplitter(max_frame_bytes, max_headers_bytes)
        self._quiet = templates_of(quiet)
        if not all(self._quiet.types):
            raise ValueError("quiet template has no type")
        self._quiet_heads = [encode_event(kind, b"").removesuffix(b"\n\n") for kind in self._quiet.types]
        self._usual_headers = b"\0"  # of the last chunk; no headers are like this
        self._broken: WireError | None = None
        self._ended = False
        self._taken = 0

    @property
    def taken(self) -> int:
        """Bytes of the body decoded so far: whole frames only."""
        return self._taken

    def feed_data(self, data: bytes) -> Scan:
        """Take a chunk; return the text of the events that are now whole.

        Raises `CorruptFrame` and `CorruptPayload`; their `before` is the `Scan` of what came before the bad frame.
        """
        if self._broken is not None:
            raise_again(self._broken, Scan(b"", [], 0))
        output = _Output()
        frames = iter(()) if self._ended else self._splitter.split(data)
        try:
            for headers, payload in frames:
                self._take_frame(headers, payload, output)
                self._taken += SHORTEST_FRAME + len(headers) + len(payload)
                if self._ended:
                    break
        except WireError as error:
            self._broken = type(error)(str(error))
            error.before = output.scan()
            raise
        return output.scan()

    def feed_eof(self) -> Scan:
        """Say that the body is complete. Raises `TruncatedFrame` where it ends inside a frame."""
        empty = Scan(b"", [], 0)
        if self._broken is None and self._splitter.held and not self._ended:
            self._broken = TruncatedFrame(truncated_text(self._splitter.held))
        if self._broken is not None:
            raise_again(self._broken, empty)
        return empty

    def _take_frame(self, headers: bytes, payload: bytes, output: "_Output") -> None:
        if headers != self._usual_headers:
            named = parse_headers(headers)
            if named.get(":message-type") in ("exception", "error"):
                output.events.append(Frame(named, payload))
                self._ended = True
                return
            if named.get(":event-type") != "chunk":
                return
            self._usual_headers = headers
        data = unwrap(payload)
        index = self._quiet.find(data)
        kind = ""
        if index >= 0:
            text = b"%b%b\n\n" % (self._quiet_heads[index], data if data.isascii() else escape_data(data))
        else:
            kind = event_type(data)
            text = encode_event(kind, data)
        output.texts.append(text)
        output.size += len(text)
        if index < 0:
            output.events.append(Event(kind, data, output.size))


class _Output:
    """What one call has given so far."""

    __slots__ = ("events", "size", "texts")

    def __init__(self) -> None:
        self.texts: list[bytes] = []
        self.size = 0
        self.events: list[Event | Frame] = []

    def scan(self) -> Scan:
        return Scan(b"".join(self.texts), self.events, len(self.texts))


def unwrap(payload: bytes) -> bytes:
    """Return the event inside a chunk's payload. Raises `CorruptPayload`."""
    usual = USUAL_PAYLOAD.fullmatch(payload)
    encoded = usual[1] if usual else _find_bytes(payload)
    if len(encoded) % 4:
        raise CorruptPayload("bytes of a chunk are not base64")
    return binascii.a2b_base64(encoded)


def _find_bytes(payload: bytes) -> bytes:
    """Return the base64 text of a payload that is not of the usual form."""
    chunk = _load(payload, "payload of a chunk is not valid JSON")
    encoded = chunk.get("bytes") if isinstance(chunk, dict) else None
    if not isinstance(encoded, str):
        raise CorruptPayload("payload of a chunk has no bytes")
    if not BASE64.fullmatch(encoded):
        raise CorruptPayload("bytes of a chunk are not base64")
    return encoded.encode()


def event_type(data: bytes) -> str:
    """Return the top-level "type" of an event's JSON. Raises `CorruptPayload`."""
    event = _load(data, "event in a chunk is not valid JSON")
    kind = event.get("type") if isinstance(event, dict) else None
    if not isinstance(kind, str) or UNFIT_FOR_TYPE.search(kind):
        raise CorruptPayload("event in a chunk has no type")
    return kind


def _load(data: bytes, complaint: str) -> Any:
    try:
        value = jsontext.loads(data)
    except PayloadError:
        raise CorruptPayload(complaint) from None
    if jsontext.too_deep(data):
        raise CorruptPayload(complaint)
    return value
