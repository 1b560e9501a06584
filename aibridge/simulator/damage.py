"""What each fault does to the body: a table from fault word to a function over the pieces of a stream.

It knows events and bytes, not HTTP: faults of framing and of the socket are the delivery's. A broken piece and all that
follow it are never marked terminal, since no reader may believe them.
"""

import random
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from aibridge.simulator.encodings import (
    CHECKSUM_BYTES,
    CHUNK_HEADERS,
    blank_line_bytes,
    build_frame,
    checked,
    chunk_payload,
    encode_headers,
    sign_frame,
)
from aibridge.simulator.faults import Fault, Play, Word
from aibridge.simulator.values import Event, Piece

_NOT_JSON = b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","te'
_HUGE_TOTAL = 0x7FFFFFFF
_SHORT_TOTAL = 15
_HUGE_HEADERS = 200 * 1024
_UNKNOWN_TYPE = 42
_PRELUDE_CHECKSUM_AT = 8
_LONGEST_RANDOM_CUT = 97
_GZIP_WINDOW = 31


@dataclass(frozen=True, slots=True)
class Stream:
    """A whole stream, before damage: its events, the terminal one last, and how its API encodes one.

    `error_event` says an error of a kind in band, as the event of a place; an empty kind is the API's usual one.
    """

    events: Sequence[Event]
    encode: Callable[[Event], bytes]
    error_event: Callable[[str, int], Event]
    play: Play

    def pieces(self, stop: int | None = None) -> list[Piece]:
        """Return the first `stop` events, or all, as whole pieces."""
        last = len(self.events) - 1
        return [Piece(self.encode(event), 1, place == last) for place, event in enumerate(self.events[:stop])]

    def place(self, fault: Fault, *, last: bool = False) -> int:
        """Return the index of the event that a fault breaks: its K, else the middle, else the last."""
        default = len(self.events) - 1 if last else len(self.events) // 2
        return min(default if fault.at is None else fault.at, len(self.events) - 1)

    def stop(self, fault: Fault) -> int:
        """Return after how many events a fault comes: its K, else the middle."""
        return len(self.events) // 2 if fault.at is None else fault.at

    def with_broken(self, place: int, data: bytes) -> list[Piece]:
        """Return all pieces, with other bytes in one place."""
        rest = [piece._replace(terminal=False) for piece in self.pieces()[place + 1 :]]
        return [*self.pieces(place), Piece(data), *rest]

    def cut_inside(self, place: int, size: int) -> list[Piece]:
        """Return the pieces before a place and the first `size` bytes of the event there."""
        return [*self.pieces(place), Piece(self.encode(self.events[place])[:size], events=0)]


def damage(stream: Stream) -> list[Piece]:
    """Return the pieces of a stream as its play wants them."""
    end = stream.play.end
    wreck = _WRECKS.get(end.word) if end else None
    pieces = wreck(stream, end) if wreck and end else stream.pieces()
    trailing = stream.play.get(Word.TRAILING)
    if trailing is not None:
        pieces.append(Piece(b"x" * stream.play.number(Word.TRAILING, 16), events=0))
    return pieces


def _truncate(stream: Stream, fault: Fault) -> list[Piece]:
    return stream.pieces(stream.stop(fault))


def _error_event(stream: Stream, fault: Fault) -> list[Piece]:
    before = stream.pieces(stream.stop(fault))
    return [*before, Piece(stream.encode(stream.error_event(fault.name, len(before))))]


def _half_event(stream: Stream, fault: Fault) -> list[Piece]:
    place = stream.place(fault, last=True)
    return stream.cut_inside(place, len(stream.encode(stream.events[place])) * 2 // 3)


def _no_blank_line(stream: Stream, fault: Fault) -> list[Piece]:
    place = stream.place(fault, last=True)
    return stream.cut_inside(place, len(stream.encode(stream.events[place])) - blank_line_bytes(stream.play))


def _bad_json(stream: Stream, fault: Fault) -> list[Piece]:
    place = stream.place(fault)
    whole = stream.encode(stream.events[place])
    if whole.startswith(b"\0"):  # a frame: its length begins with a zero, which no text does
        return stream.with_broken(place, build_frame(CHUNK_HEADERS, b'{"bytes":"eyJ0eXBl'))
    return stream.with_broken(place, stream.encode(Event(stream.events[place].type, _NOT_JSON)))


def _bad_base64(stream: Stream, fault: Fault) -> list[Piece]:
    return stream.with_broken(stream.place(fault), build_frame(CHUNK_HEADERS, b'{"bytes":"*not*base64*","p":"ab"}'))


def _bad_inner_json(stream: Stream, fault: Fault) -> list[Piece]:
    return stream.with_broken(stream.place(fault), build_frame(CHUNK_HEADERS, chunk_payload(_NOT_JSON)))


def _bad_prelude_crc(stream: Stream, fault: Fault) -> list[Piece]:
    """Only the prelude's checksum is wrong: the frame's own is made over what is there."""
    place = stream.place(fault)
    frame = bytearray(stream.encode(stream.events[place]))
    frame[_PRELUDE_CHECKSUM_AT] ^= 0xFF
    return stream.with_broken(place, checked(bytes(frame[:-CHECKSUM_BYTES])))


def _bad_crc(stream: Stream, fault: Fault) -> list[Piece]:
    place = stream.place(fault)
    frame = bytearray(stream.encode(stream.events[place]))
    frame[-1] ^= 0xFF
    return stream.with_broken(place, bytes(frame))


def _lie(make: Callable[[bytes, bytes], bytes]) -> Callable[[Stream, Fault], list[Piece]]:
    """Return a wreck that puts a lying frame, made from good headers and a good payload, in its place."""

    def wreck(stream: Stream, fault: Fault) -> list[Piece]:
        place = stream.place(fault)
        payload = chunk_payload(stream.events[place].data)
        return stream.with_broken(place, make(encode_headers(CHUNK_HEADERS), payload))

    return wreck


def _unknown_header(headers: bytes, payload: bytes) -> bytes:
    return build_frame(headers + b"\x03odd" + bytes((_UNKNOWN_TYPE, 0)), payload)


def _header_overrun(headers: bytes, payload: bytes) -> bytes:
    return build_frame(headers + b"\x03odd\x07\xff\xff" + b"short", payload)


def _headers_huge(headers: bytes, payload: bytes) -> bytes:
    filler = b"\x03odd\x07\xff\xff" + b"x" * 0xFFFF
    return build_frame(headers + filler * (_HUGE_HEADERS // len(filler) + 1), payload)


def _exception(stream: Stream, fault: Fault) -> list[Piece]:
    headers = {":exception-type": fault.name, ":content-type": "application/json", ":message-type": "exception"}
    return [*stream.pieces(stream.stop(fault)), Piece(build_frame(headers, exception_payload(fault.name)))]


def _error_frame(stream: Stream, fault: Fault) -> list[Piece]:
    headers = {
        ":error-code": "InternalError",
        ":error-message": "An internal server error occurred",
        ":message-type": "error",
    }
    return [*stream.pieces(stream.stop(fault)), Piece(build_frame(headers, b""))]


def exception_payload(name: str) -> bytes:
    """Return the payload of an exception frame."""
    message = EXCEPTION_MESSAGES.get(name, "The simulator raised an exception.").encode()
    if name == "modelStreamErrorException":
        return b'{"message":"%b","originalStatusCode":500,"originalMessage":"Overloaded"}' % message
    return b'{"message":"%b"}' % message


EXCEPTION_MESSAGES = {
    "throttlingException": "Too many requests, please wait before trying again.",
    "modelStreamErrorException": "The model returned an error while streaming.",
    "internalServerException": "The system encountered an unexpected error during processing. Try your request again.",
    "modelTimeoutException": "The request took too long to process. Processing time exceeded the model timeout length.",
    "serviceUnavailableException": "Bedrock is unable to process your request.",
    "validationException": "The provided request is not valid.",
}

_WRECKS: dict[Word, Callable[[Stream, Fault], list[Piece]]] = {
    Word.TRUNCATE: _truncate,
    Word.ERROR_EVENT: _error_event,
    Word.HALF_FRAME: _half_event,
    Word.HALF_EVENT: _half_event,
    Word.NO_BLANK_LINE: _no_blank_line,
    Word.BAD_JSON: _bad_json,
    Word.BAD_BASE64: _bad_base64,
    Word.BAD_INNER_JSON: _bad_inner_json,
    Word.BAD_PRELUDE_CRC: _bad_prelude_crc,
    Word.BAD_CRC: _bad_crc,
    Word.FRAME_SHORT: _lie(lambda headers, payload: build_frame(headers, payload, total=_SHORT_TOTAL)),
    Word.FRAME_HUGE: _lie(lambda headers, payload: build_frame(headers, payload, total=_HUGE_TOTAL)),
    Word.HEADERS_OVERRUN: _lie(lambda headers, payload: sign_frame(len(headers + payload) + 1, headers + payload)),
    Word.HEADERS_HUGE: _lie(_headers_huge),
    Word.UNKNOWN_HEADER_TYPE: _lie(_unknown_header),
    Word.HEADER_OVERRUN: _lie(_header_overrun),
    Word.EXCEPTION: _exception,
    Word.ERROR_FRAME: _error_frame,
}


def compress(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Yield the pieces in gzip, each whole at its own end, so that a reader gets every event when it is sent."""
    packer = zlib.compressobj(wbits=_GZIP_WINDOW)
    for piece in pieces:
        yield piece._replace(data=packer.compress(piece.data) + packer.flush(zlib.Z_SYNC_FLUSH))
    yield Piece(packer.flush(), events=0)


def rechunk(pieces: Iterable[Piece], seed: int) -> Iterator[Piece]:
    """Yield the same bytes in pieces cut at random places. An event counts in the piece that has its last byte."""
    draw = random.Random(seed)  # noqa: S311 - a reproducible draw is the point
    held, wanted = Piece(b"", events=0), draw.randint(1, _LONGEST_RANDOM_CUT)
    for piece in pieces:
        rest = piece.data
        while len(held.data) + len(rest) > wanted:
            taken = wanted - len(held.data)
            yield held._replace(data=held.data + rest[:taken])
            rest = rest[taken:]
            held, wanted = Piece(b"", events=0), draw.randint(1, _LONGEST_RANDOM_CUT)
        held = Piece(held.data + rest, held.events + piece.events, held.terminal or piece.terminal)
    yield held
