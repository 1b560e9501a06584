"""Frames: the format spelled out, cross-checked against botocore; limits; what is broken stays broken."""

import contextlib
import struct
import tracemalloc
import uuid
import zlib

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from wire_kit import EVENTS, chunk_frame, raw_frame, raw_header, signed
from wire_strategies import any_frames, cut, streams

from aibridge.errors import CorruptFrame, TruncatedFrame
from aibridge.values import Frame

VECTORS = {
    "empty": (
        (
            b"\x00\x00\x00\x10"  # total length
            b"\x00\x00\x00\x00"  # headers length
            b"\x05\xc2\x48\xeb"  # prelude checksum
            b"\x7d\x98\xc8\xff"  # message checksum
        ),
        Frame({}, b""),
    ),
    "payload only": (
        (
            b"\x00\x00\x00\x1d"  # total length
            b"\x00\x00\x00\x00"  # headers length
            b"\xfd\x52\x8c\x5a"  # prelude checksum
            b"{'foo':'bar'}"  # payload
            b"\xc3\x65\x39\x36"  # message checksum
        ),
        Frame({}, b"{'foo':'bar'}"),
    ),
    "string header": (
        (
            b"\x00\x00\x00\x32"  # total length
            b"\x00\x00\x00\x20"  # headers length
            b"\x85\xad\x14\x47"  # prelude checksum
            b"\x0c"  # name length
            b"content-type"  # name
            b"\x07"  # type 7: string
            b"\x00\x10"  # value length
            b"application/json"  # value, text
            b"{}"  # payload
            b"\xe7\xe8\x01\x34"  # message checksum
        ),
        Frame({"content-type": "application/json"}, b"{}"),
    ),
    "all ten types": (
        (
            b"\x00\x00\x00\x8a"  # total length
            b"\x00\x00\x00\x79"  # headers length
            b"\xb7\xad\xbe\xc2"  # prelude checksum
            b"\x04"  # name length
            b"true"  # name
            b"\x00"  # type 0: true
            b"\x05"  # name length
            b"false"  # name
            b"\x01"  # type 1: false
            b"\x04"  # name length
            b"byte"  # name
            b"\x02"  # type 2: byte
            b"\xcf"  # value
            b"\x05"  # name length
            b"short"  # name
            b"\x03"  # type 3: short
            b"\x80\x00"  # value
            b"\x07"  # name length
            b"integer"  # name
            b"\x04"  # type 4: integer
            b"\x00\x00\xa0\x0c"  # value
            b"\x04"  # name length
            b"long"  # name
            b"\x05"  # type 5: long
            b"\xff\xff\xff\xff\xff\xff\xff\xff"  # value
            b"\x05"  # name length
            b"bytes"  # name
            b"\x06"  # type 6: bytes
            b"\x00\x03"  # value length
            b"\x00\xff\x0a"  # value
            b"\x06"  # name length
            b"string"  # name
            b"\x07"  # type 7: string
            b"\x00\x02"  # value length
            b"\xc3\xa9"  # value
            b"\x09"  # name length
            b"timestamp"  # name
            b"\x08"  # type 8: timestamp
            b"\x00\x00\x01\x94\x21\xbc\xaa\x00"  # value
            b"\x04"  # name length
            b"uuid"  # name
            b"\x09"  # type 9: uuid
            b"\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10"  # value
            b"x"  # payload
            b"\x9b\x05\xa1\x62"  # message checksum
        ),
        Frame(
            {
                "true": True,
                "false": False,
                "byte": -49,
                "short": -32768,
                "integer": 40972,
                "long": -1,
                "bytes": b"\x00\xff\n",
                "string": "é",
                "timestamp": 1735732800000,
                "uuid": "01020304-0506-0708-090a-0b0c0d0e0f10",
            },
            b"x",
        ),
    ),
}
GOOD = chunk_frame(EVENTS[0])


def prelude(total, headers):
    lengths = struct.pack("!II", total, headers)
    return lengths + struct.pack("!I", zlib.crc32(lengths))


@pytest.fixture(params=VECTORS)
def vector(request):
    return VECTORS[request.param]


def test_whole(wire, vector):
    data, frame = vector
    decoder = wire.FrameDecoder()
    assert repr(decoder.feed_data(data)) == repr([frame])
    assert decoder.feed_eof() is None


def test_byte_at_a_time(wire, vector):
    data, frame = vector
    decoder = wire.FrameDecoder()
    for at in range(len(data) - 1):
        assert decoder.feed_data(data[at : at + 1]) == []
    assert decoder.feed_data(data[-1:]) == [frame]


def test_trailing_bytes(wire, vector):
    data, frame = vector
    decoder = wire.FrameDecoder()
    assert decoder.feed_data(data + data[:5]) == [frame]
    with pytest.raises(TruncatedFrame, match="the body ended inside a frame, 5 bytes into it"):
        decoder.feed_eof()


def test_every_cut(wire, vector):
    data, frame = vector
    for at in range(len(data) + 1):
        decoder = wire.FrameDecoder()
        assert decoder.feed_data(data[:at]) + decoder.feed_data(data[at:]) == [frame]


def test_botocore_agrees(wire, vector):
    data, _ = vector
    assert botocore_frames(data) == as_botocore(wire.FrameDecoder().feed_data(data))


@given(streams(any_frames))
def test_botocore_agrees_on_any_stream(wire, data):
    """Where we decode, botocore decodes the same; what botocore refuses, we refuse."""
    theirs = botocore_frames(data)
    try:
        ours = wire.FrameDecoder().feed_data(data)
    except CorruptFrame as error:
        ours = error.before
        theirs = theirs[: len(ours)]
    assert theirs == as_botocore(ours)


def botocore_frames(data):
    """Return what botocore decodes, up to its first error."""
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    found = []
    with contextlib.suppress(Exception):  # botocore raises many kinds
        found.extend((message.headers, message.payload) for message in buffer)
    return found


def as_botocore(frames):
    """Return our frames with UUIDs as bytes, as botocore has them."""
    return [({name: raw_uuid(value) for name, value in frame.headers.items()}, frame.payload) for frame in frames]


def raw_uuid(value):
    try:
        return uuid.UUID(value).bytes if isinstance(value, str) and len(value) == 36 else value
    except ValueError:
        return value


@given(cut(streams(any_frames)))
def test_cuts_do_not_matter(wire, chunks):
    def decode(pieces):
        decoder = wire.FrameDecoder()
        frames = []
        try:
            for piece in pieces:
                frames += decoder.feed_data(piece)
            decoder.feed_eof()
        except (CorruptFrame, TruncatedFrame) as error:
            return frames + error.before, str(error)
        return frames, ""

    assert decode(chunks) == decode([b"".join(chunks)])


LIMITS = {
    "prelude checksum": (GOOD[:8] + b"\0\0\0\0" + GOOD[12:], "prelude checksum is 00000000, computed [0-9a-f]{8}"),
    "message checksum": (GOOD[:-4] + b"\0\0\0\0", "message checksum is 00000000, computed [0-9a-f]{8}"),
    "payload changed": (GOOD[:-9] + b"#" + GOOD[-8:], "message checksum is [0-9a-f]{8}, computed [0-9a-f]{8}"),
    "no length": (prelude(0, 0), "frame of 0 bytes is shorter than 16"),
    "short": (prelude(15, 0), "frame of 15 bytes is shorter than 16"),
    "long": (prelude((1 << 24) + 1, 0), "frame of 16777217 bytes is over the limit of 16777216"),
    "longest": (prelude((1 << 32) - 1, (1 << 32) - 1), "frame of 4294967295 bytes is over the limit of 16777216"),
    "headers long": (prelude(1 << 20, (128 << 10) + 1), "headers of 131073 bytes are over the limit of 131072"),
    "headers over frame": (prelude(100, 85), "headers of 85 bytes do not fit a frame of 100 bytes"),
    "unknown type": (raw_frame(b"\x01a\x0a", b""), "header type 10 is unknown"),
    "type 255": (raw_frame(b"\x01a\xff", b""), "header type 255 is unknown"),
    "name overruns": (raw_frame(b"\x05a\x00", b""), "header overruns the headers"),
    "no type": (raw_frame(b"\x01a", b""), "header overruns the headers"),
    "no value": (raw_frame(b"\x01a\x05\0\0", b"12345678"), "header overruns the headers"),
    "half a length": (raw_frame(b"\x01a\x07\0", b""), "header overruns the headers"),
    "value overruns": (raw_frame(b"\x01a\x07\0\x03ab", b"cdefgh"), "header overruns the headers"),
    "uuid overruns": (raw_frame(b"\x01a\x09" + bytes(15), b"x" * 20), "header overruns the headers"),
    "name not text": (raw_frame(raw_header(b"\xff", 0, None), b""), "header name is not UTF-8"),
    "value not text": (raw_frame(raw_header(b"a", 7, b"\xed\xa0\x80"), b""), "header string is not UTF-8"),
    "twice": (raw_frame(raw_header(b"a", 0, None) * 2, b""), "header occurs twice"),
}


@pytest.fixture(params=LIMITS)
def broken(request):
    return LIMITS[request.param]


def test_broken(wire, broken):
    data, text = broken
    with pytest.raises(CorruptFrame, match=f"^{text}$") as caught:
        wire.FrameDecoder().feed_data(data)
    assert caught.value.before == []


def test_what_came_before(wire, broken):
    data, text = broken
    with pytest.raises(CorruptFrame, match=text) as caught:
        wire.FrameDecoder().feed_data(GOOD + GOOD + data + GOOD)
    assert caught.value.before == wire.FrameDecoder().feed_data(GOOD + GOOD)


def test_stays_broken(wire, broken):
    data, text = broken
    decoder = wire.FrameDecoder()
    with pytest.raises(CorruptFrame):
        decoder.feed_data(GOOD + data)
    for again in (lambda: decoder.feed_data(GOOD), lambda: decoder.feed_data(b""), decoder.feed_eof):
        with pytest.raises(CorruptFrame, match=f"^{text}$") as caught:
            again()
        assert caught.value.before == []


def test_broken_byte_at_a_time(wire, broken):
    """A lie in the prelude is found with its last byte; nothing behind it is waited for."""
    data, text = broken
    size = 12 if text.startswith(("prelude", "frame of", "headers of")) else len(data)
    decoder = wire.FrameDecoder()
    assert [decoder.feed_data(data[at : at + 1]) for at in range(size - 1)] == [[]] * (size - 1)
    with pytest.raises(CorruptFrame, match=f"^{text}$"):
        decoder.feed_data(data[size - 1 : size])


def test_limits_are_inclusive(wire):
    decoder = wire.FrameDecoder(max_frame_bytes=64, max_headers_bytes=4)
    frame = raw_frame(raw_header(b"ab", 0, None), b"x" * 44)
    assert len(frame) == 64
    assert len(decoder.feed_data(frame)) == 1
    with pytest.raises(CorruptFrame, match="frame of 65 bytes is over the limit of 64"):
        wire.FrameDecoder(max_frame_bytes=64).feed_data(prelude(65, 0))
    with pytest.raises(CorruptFrame, match="headers of 5 bytes are over the limit of 4"):
        wire.FrameDecoder(max_frame_bytes=64, max_headers_bytes=4).feed_data(prelude(40, 5))


def test_largest_frame(wire):
    """24 MiB, headers full to the brim, in pieces."""
    block = b"".join(raw_header(b"h%d" % number, 6, bytes(32760)) for number in range(3))
    block += raw_header(b"last", 6, bytes(128 * 1024 - len(block) - 8))
    frame = raw_frame(block, bytes((24 << 20) - 16 - len(block)))
    decoder = wire.FrameDecoder(max_frame_bytes=24 << 20)
    pieces = [frame[at : at + 65536] for at in range(0, len(frame), 65536)]
    assert [len(decoder.feed_data(piece)) for piece in pieces] == [0] * (len(pieces) - 1) + [1]
    assert decoder.feed_eof() is None


@pytest.mark.parametrize("size", [15, (24 << 20) + 1, -1, 1 << 70])
def test_frame_limit_out_of_range(wire, size):
    with pytest.raises(ValueError, match="max_frame_bytes must be 16 to 25165824"):
        wire.FrameDecoder(max_frame_bytes=size)


@pytest.mark.parametrize("size", [-1, (128 << 10) + 1])
def test_headers_limit_out_of_range(wire, size):
    with pytest.raises(ValueError, match="max_headers_bytes must be 0 to 131072"):
        wire.FrameDecoder(max_headers_bytes=size)


def test_truncated(wire):
    for size in range(1, len(GOOD)):
        decoder = wire.FrameDecoder()
        assert decoder.feed_data(GOOD[:size]) == []
        for _ in range(2):
            with pytest.raises(
                TruncatedFrame, match=f"^the body ended inside a frame, {size} bytes into it$"
            ) as caught:
                decoder.feed_eof()
            assert caught.value.before == []


def test_a_lying_prelude_allocates_nothing(wire):
    decoder = wire.FrameDecoder()
    decoder.feed_data(GOOD)
    tracemalloc.start()
    before = resident()
    assert decoder.feed_data(prelude(1 << 24, 0)) == []
    assert decoder.feed_data(bytes(100)) == []
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 * 1024
    assert resident() - before < 4 << 20


def resident():
    """Return the process's address space in bytes: also what C allocates, touched or not."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123  no path object for this
        return int(file.read().split()[0]) * 4096


def test_many_bytes_one_at_a_time_are_not_quadratic(wire):
    """A megabyte, byte by byte: with a copy for each byte this would take minutes."""
    frame = raw_frame(b"", bytes(1 << 20))
    decoder = wire.FrameDecoder()
    found = [decoder.feed_data(frame[at : at + 1]) for at in range(len(frame))]
    assert len(found[-1]) == 1


def test_encode_frame(wire):
    headers = {"yes": True, "no": False, "int": -5, "long": 1 << 40, "bytes": b"\0\xff", "text": "\xe9"}
    fields = (
        raw_header(b"yes", 0, None),
        raw_header(b"no", 1, None),
        raw_header(b"int", 4, -5),
        raw_header(b"long", 5, 1 << 40),
        raw_header(b"bytes", 6, b"\0\xff"),
        raw_header(b"text", 7, b"\xc3\xa9"),
    )
    frame = wire.encode_frame(headers, b"payload")
    assert frame == raw_frame(b"".join(fields), b"payload")
    assert wire.FrameDecoder().feed_data(frame) == [Frame(headers, b"payload")]


def test_encode_vectors(wire):
    """What `encode_frame` can say, it says as AWS does."""
    for name in ("empty", "payload only", "string header"):
        data, frame = VECTORS[name]
        assert wire.encode_frame(frame.headers, frame.payload) == data


@pytest.mark.parametrize("number", [2**31 - 1, -(2**31), 2**31, -(2**31) - 1, 2**63 - 1, -(2**63)])
def test_integers(wire, number):
    frame = wire.encode_frame({"n": number}, b"")
    assert frame[14] == (4 if -(2**31) <= number < 2**31 else 5)
    assert wire.FrameDecoder().feed_data(frame)[0].headers == {"n": number}


@pytest.mark.parametrize(
    ("headers", "payload", "text"),
    [
        ({"n": 2**63}, b"", "header integer is over 64 bits"),
        ({"n" * 256: True}, b"", "header name is over 255 bytes"),
        ({"n": b"x" * 65536}, b"", "header value is over 65535 bytes"),
        ({"n": "\xe9" * 32768}, b"", "header value is over 65535 bytes"),
        ({"a": b"x" * 65535, "b": b"x" * 65535}, b"", "headers of 131080 bytes are over the limit of 131072"),
        ({}, bytes(24 << 20), "frame of 25165840 bytes is over the limit of 25165824"),
    ],
)
def test_encode_refuses(wire, headers, payload, text):
    with pytest.raises(ValueError, match=f"^{text}$"):
        wire.encode_frame(headers, payload)


def test_checksums_are_zlibs(wire):
    """At every length around the steps of the compiled twin's folding and tables."""
    for size in [*range(300), 1000, 4095, 4096, 4097]:
        payload = bytes(at * 37 % 251 for at in range(size))
        assert wire.encode_frame({}, payload) == raw_frame(b"", payload)


def test_signed_signs():
    assert signed(GOOD) == GOOD
