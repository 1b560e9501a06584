"""AWS event stream: bytes to frames and back. This file knows neither what a frame means nor where bytes come from.

One frame on the wire, all numbers big-endian:

    total length      4   of the whole frame, these four bytes included
    headers length    4
    prelude checksum  4   CRC-32 of the eight bytes before
    headers               (name length 1, name, type 1, value), repeated
    payload
    message checksum  4   CRC-32 of everything before

Lengths and the prelude's checksum are checked as soon as the prelude is there, before anything of the rest is kept.
"Need more" is an empty answer, "broken" is an exception: the two are never confused.
"""

import struct
import uuid
from collections.abc import Iterator, Mapping
from typing import NoReturn
from zlib import crc32

from aibridge.errors import CorruptFrame, TruncatedFrame, WireError
from aibridge.values import Frame, HeaderValue

MAX_FRAME_BYTES = 16 * 1024 * 1024
"""Default limit of one frame. botocore takes payloads up to 24 MiB, smithy up to 16 MiB; real ones stay under 1 MiB."""
HIGHEST_FRAME_BYTES = 24 * 1024 * 1024
MAX_HEADERS_BYTES = 128 * 1024
"""Limit of one frame's headers; botocore and smithy have the same."""
MAX_NAME_BYTES = 0xFF
MAX_VALUE_BYTES = 0xFFFF

PRELUDE = struct.Struct("!III")
CHECKSUM = struct.Struct("!I")
SHORTEST_FRAME = PRELUDE.size + CHECKSUM.size

TRUE, FALSE, BYTE, SHORT, INTEGER, LONG, BYTES, STRING, TIMESTAMP, UUID = range(10)
NUMBERS = {
    BYTE: struct.Struct("!b"),
    SHORT: struct.Struct("!h"),
    INTEGER: struct.Struct("!i"),
    LONG: struct.Struct("!q"),
    TIMESTAMP: struct.Struct("!q"),
}


class FrameDecoder:
    """AWS event stream to frames, sans I/O.

    Holds at most the bytes of one frame. After a `WireError` it stays broken: every later call raises it again.

    Args:
        max_frame_bytes: limit of one frame, 16 bytes to 24 MiB.
        max_headers_bytes: limit of one frame's headers, up to 128 KiB.
    """

    def __init__(self, *, max_frame_bytes: int = MAX_FRAME_BYTES, max_headers_bytes: int = MAX_HEADERS_BYTES) -> None:
        self._splitter = FrameSplitter(max_frame_bytes, max_headers_bytes)
        self._broken: WireError | None = None

    def feed_data(self, data: bytes) -> list[Frame]:
        """Take bytes; return the frames that are now whole, in order.

        Raises `CorruptFrame`, whose `before` is the list of frames that this call decoded before the break.
        """
        if self._broken is not None:
            raise_again(self._broken, [])
        frames: list[Frame] = []
        try:
            for headers, payload in self._splitter.split(data):
                frames.append(Frame(parse_headers(headers), payload))
        except WireError as error:
            self._broken = type(error)(str(error))
            error.before = frames
            raise
        return frames

    def feed_eof(self) -> None:
        """Say that the body is complete. Raises `TruncatedFrame` where it ends inside a frame."""
        if self._broken is None and self._splitter.held:
            self._broken = TruncatedFrame(truncated_text(self._splitter.held))
        if self._broken is not None:
            raise_again(self._broken, [])


def encode_frame(headers: Mapping[str, HeaderValue], payload: bytes) -> bytes:
    """Return the wire form of one frame.

    A bool becomes type true or false, an int type integer (32 bits) or, where that is too small, long (64 bits), bytes
    type bytes, a str type string. Raises `ValueError` where a name, a value, the headers or the frame is too long.
    """
    block = b"".join(encode_header(name, value) for name, value in headers.items())
    if len(block) > MAX_HEADERS_BYTES:
        raise ValueError(f"headers of {len(block)} bytes are over the limit of {MAX_HEADERS_BYTES}")
    total = SHORTEST_FRAME + len(block) + len(payload)
    if total > HIGHEST_FRAME_BYTES:
        raise ValueError(f"frame of {total} bytes is over the limit of {HIGHEST_FRAME_BYTES}")
    lengths = struct.pack("!II", total, len(block))
    message = b"".join((lengths, CHECKSUM.pack(crc32(lengths)), block, payload))
    return message + CHECKSUM.pack(crc32(message))


class FrameSplitter:
    """Cuts bytes into whole frames and checks lengths and checksums; does not look into headers or payload.

    `held` is the number of bytes kept of a frame that is not whole yet.
    """

    def __init__(self, max_frame_bytes: int, max_headers_bytes: int) -> None:
        if not SHORTEST_FRAME <= max_frame_bytes <= HIGHEST_FRAME_BYTES:
            raise ValueError(f"max_frame_bytes must be {SHORTEST_FRAME} to {HIGHEST_FRAME_BYTES}")
        if not 0 <= max_headers_bytes <= MAX_HEADERS_BYTES:
            raise ValueError(f"max_headers_bytes must be 0 to {MAX_HEADERS_BYTES}")
        self._max_frame_bytes = max_frame_bytes
        self._max_headers_bytes = max_headers_bytes
        self._held = bytearray()
        self._needed = PRELUDE.size  # length that `_held` must reach before it is looked at again

    @property
    def held(self) -> int:
        """Bytes kept of a frame that is not whole yet."""
        return len(self._held)

    def split(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield (headers, payload) of each frame that is now whole. Raises `CorruptFrame`."""
        at = 0
        while self._held:
            taken = data[at : at + self._needed - len(self._held)]
            self._held += taken
            at += len(taken)
            if len(self._held) < self._needed:
                return
            total, headers = self._check_prelude(self._held, 0)
            if len(self._held) == total:
                frame = bytes(self._held)
                self._held = bytearray()
                self._needed = PRELUDE.size
                yield _open_frame(frame, 0, total, headers)
            else:
                self._needed = total
        while len(data) - at >= PRELUDE.size:
            total, headers = self._check_prelude(data, at)
            if len(data) - at < total:
                self._needed = total
                break
            yield _open_frame(data, at, total, headers)
            at += total
        if at < len(data):
            self._held += data[at:]

    def _check_prelude(self, data: bytes | bytearray, at: int) -> tuple[int, int]:
        """Return (length, length of the headers) of the frame that begins at `at`. Raises `CorruptFrame`."""
        total, headers, checksum = PRELUDE.unpack_from(data, at)
        computed = crc32(data[at : at + 8])
        if checksum != computed:
            raise CorruptFrame(f"prelude checksum is {checksum:08x}, computed {computed:08x}")
        if not SHORTEST_FRAME + headers <= total <= self._max_frame_bytes or headers > self._max_headers_bytes:
            raise self._complaint(total, headers)
        return total, headers

    def _complaint(self, total: int, headers: int) -> CorruptFrame:
        """Return the error for the first limit that these lengths break."""
        if total < SHORTEST_FRAME:
            return CorruptFrame(f"frame of {total} bytes is shorter than {SHORTEST_FRAME}")
        if total > self._max_frame_bytes:
            return CorruptFrame(f"frame of {total} bytes is over the limit of {self._max_frame_bytes}")
        if headers > self._max_headers_bytes:
            return CorruptFrame(f"headers of {headers} bytes are over the limit of {self._max_headers_bytes}")
        return CorruptFrame(f"headers of {headers} bytes do not fit a frame of {total} bytes")


def _open_frame(data: bytes, at: int, total: int, headers: int) -> tuple[bytes, bytes]:
    """Check the message's checksum; return (headers, payload)."""
    end = at + total - CHECKSUM.size
    (checksum,) = CHECKSUM.unpack_from(data, end)
    computed = crc32(data[at:end])
    if checksum != computed:
        raise CorruptFrame(f"message checksum is {checksum:08x}, computed {computed:08x}")
    headers_at = at + PRELUDE.size
    payload_at = headers_at + headers
    return data[headers_at:payload_at], data[payload_at:end]


def parse_headers(block: bytes) -> dict[str, HeaderValue]:
    """Return the headers of one frame, by name. Raises `CorruptFrame`."""
    headers: dict[str, HeaderValue] = {}
    at = 0
    while at < len(block):
        name_bytes, at = _take_counted(block, at, 1)
        name = _text(name_bytes, "name")
        if name in headers:
            raise CorruptFrame("header occurs twice")
        headers[name], at = _parse_value(block, at)
    return headers


def _parse_value(block: bytes, at: int) -> tuple[HeaderValue, int]:
    """Return (value, offset behind it); `at` is the offset of its type."""
    (kind,), at = _take(block, at, 1)
    if kind in (TRUE, FALSE):
        return kind == TRUE, at
    if kind in NUMBERS:
        raw, at = _take(block, at, NUMBERS[kind].size)
        return int(NUMBERS[kind].unpack(raw)[0]), at
    if kind in (BYTES, STRING):
        raw, at = _take_counted(block, at, 2)
        return (raw if kind == BYTES else _text(raw, "string")), at
    if kind == UUID:
        raw, at = _take(block, at, 16)
        return str(uuid.UUID(bytes=raw)), at
    raise CorruptFrame(f"header type {kind} is unknown")


def _take(block: bytes, at: int, size: int) -> tuple[bytes, int]:
    """Return (`size` bytes, offset behind them): the one place that looks whether they are there."""
    end = at + size
    if end > len(block):
        raise CorruptFrame("header overruns the headers")
    return block[at:end], end


def _take_counted(block: bytes, at: int, size: int) -> tuple[bytes, int]:
    """Return (bytes, offset behind them) of a value that has its length, of `size` bytes, before it."""
    count, at = _take(block, at, size)
    return _take(block, at, int.from_bytes(count, "big"))


def _text(raw: bytes, what: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise CorruptFrame(f"header {what} is not UTF-8") from None


def encode_header(name: str, value: HeaderValue) -> bytes:
    """Return the wire form of one header."""
    raw_name = name.encode()
    if len(raw_name) > MAX_NAME_BYTES:
        raise ValueError("header name is over 255 bytes")
    return bytes((len(raw_name),)) + raw_name + _encode_value(value)


def _encode_value(value: HeaderValue) -> bytes:
    if isinstance(value, bool):
        return bytes((TRUE if value else FALSE,))
    if isinstance(value, int):
        return _encode_int(value)
    kind, raw = (STRING, value.encode()) if isinstance(value, str) else (BYTES, value)
    if len(raw) > MAX_VALUE_BYTES:
        raise ValueError("header value is over 65535 bytes")
    return struct.pack("!BH", kind, len(raw)) + raw


def _encode_int(value: int) -> bytes:
    for kind in (INTEGER, LONG):
        try:
            return bytes((kind,)) + NUMBERS[kind].pack(value)
        except struct.error:
            continue
    raise ValueError("header integer is over 64 bits")


def truncated_text(held: int) -> str:
    """Return the words for a body that ends inside a frame."""
    return f"the body ended inside a frame, {held} bytes into it"


def raise_again(broken: WireError, before: object) -> NoReturn:
    """Raise the error that broke a decoder, with nothing new before it."""
    raise type(broken)(str(broken), before)
