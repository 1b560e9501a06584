"""Bedrock's frames to the text of events."""

import base64
import json

import pytest
from hypothesis import given
from wire_kit import (
    CHUNK_HEADERS,
    EVENTS,
    QUIET,
    TEXT_DELTA,
    chunk_frame,
    chunk_payload,
    exception_frame,
    raw_frame,
    raw_header,
    sse_of,
    string_headers,
    transcript,
)
from wire_strategies import chunk_frames, cut, json_texts, streams

from aibridge.errors import CorruptFrame, CorruptPayload, TruncatedFrame, WireError
from aibridge.values import Event, Frame, Scan

PLAIN = tuple(event for event in EVENTS if b"\xe2\x80\xa8" not in event)
STREAM = b"".join(map(chunk_frame, PLAIN))
BLOCK = string_headers(CHUNK_HEADERS)


def scan_one(wire, payload, block=BLOCK):
    return wire.ChunkTranscoder(quiet=QUIET).feed_data(raw_frame(block, payload))


def test_whole(wire):
    scan = wire.ChunkTranscoder(quiet=QUIET).feed_data(STREAM)
    assert scan.relay == sse_of(PLAIN)
    assert scan.count == len(PLAIN)
    expected = wire.SSEScanner(quiet=QUIET).feed_data(sse_of(PLAIN))
    assert scan.events == expected.events
    assert len(scan.events) < len(PLAIN)


def test_byte_at_a_time(wire):
    for event in PLAIN:
        transcoder = wire.ChunkTranscoder(quiet=QUIET)
        frame = chunk_frame(event)
        for at in range(len(frame) - 1):
            assert transcoder.feed_data(frame[at : at + 1]) == Scan(b"", [], 0)
        assert transcoder.feed_data(frame[-1:]).relay == sse_of([event])
        assert transcoder.feed_eof() == Scan(b"", [], 0)


def test_trailing_bytes(wire):
    transcoder = wire.ChunkTranscoder()
    assert transcoder.feed_data(STREAM + STREAM[:20]).count == len(PLAIN)
    for _ in range(2):
        with pytest.raises(TruncatedFrame, match=r"^the body ended inside a frame, 20 bytes into it$") as caught:
            transcoder.feed_eof()
        assert caught.value.before == Scan(b"", [], 0)


@given(cut(streams(chunk_frames)))
def test_cuts_do_not_matter(wire, chunks):
    def whole(pieces):
        transcoder = wire.ChunkTranscoder(quiet=QUIET)
        text, found, count, error = b"", [], 0, ""
        try:
            for piece in pieces:
                scan = transcoder.feed_data(piece)
                text, count = text + scan.relay, count + scan.count
                found += [event[:2] for event in scan.events]
        except WireError as broken:
            scan, error = broken.before, str(broken)
            text, count = text + scan.relay, count + scan.count
            found += [event[:2] for event in scan.events]
        return text, found, count, error

    assert whole(chunks) == whole([b"".join(chunks)])


@given(json_texts())
def test_the_scanner_reads_what_the_transcoder_writes(wire, text):
    event = b'{"type":"x","value":%b}' % text.strip()
    scan = scan_one(wire, chunk_payload(event))
    (written,) = wire.SSEScanner().feed_data(scan.relay).events
    (decoded,) = scan.events
    assert (written.type, written.end) == (decoded.type, decoded.end) == ("x", len(scan.relay))
    assert decoded.data == event
    assert json.loads(written.data) == json.loads(event)


def test_separators_are_escaped(wire):
    event = b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\xe2\x80\xa8 \xc2\x85"}}'
    scan = wire.ChunkTranscoder(quiet=(TEXT_DELTA,)).feed_data(chunk_frame(event))
    assert scan.relay == sse_of([event.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xc2\x85", b"\\u0085")])
    assert scan.events == []
    loud = wire.ChunkTranscoder().feed_data(chunk_frame(event))
    assert loud == Scan(scan.relay, [Event("content_block_delta", event, len(scan.relay))], 1)


def test_line_breaks_become_lines(wire):
    scan = scan_one(wire, chunk_payload(b'{"type":\r\n"x"\r}\n'))
    assert scan.relay == b'event: x\ndata: {"type":\ndata: "x"\ndata: }\ndata: \n\n'


ENCODED = base64.b64encode(EVENTS[0])


@pytest.mark.parametrize(
    "payload",
    [
        b'{"bytes":"%b"}' % ENCODED,
        b'{"bytes":"%b","p":""}' % ENCODED,
        b'{"bytes":"%b","p":"a b"}' % ENCODED,
        b'{"p":"abc","bytes":"%b"}' % ENCODED,
        b'{ "bytes" : "%b" , "p" : "abc" }' % ENCODED,
        b'{"bytes":"%b","p":"abc","x":[1,{}]}' % ENCODED,
        b'{"bytes":"AAAA","bytes":"%b"}' % ENCODED,
        b'{"\\u0062ytes":"%b"}\n' % ENCODED.replace(b"I", b"\\u0049"),
    ],
)
def test_payload_spelled_otherwise(wire, payload):
    assert scan_one(wire, payload).relay == sse_of(EVENTS[:1])


BAD_PAYLOADS = {
    "nothing": (b"", "payload of a chunk is not valid JSON"),
    "not JSON": (b'{"bytes":"AAAA"', "payload of a chunk is not valid JSON"),
    "not UTF-8": (b'{"bytes":"AAAA","p":"\xff"}', "payload of a chunk is not valid JSON"),
    "trailing": (b'{"bytes":"e30="}}', "payload of a chunk is not valid JSON"),
    "too deep": (b'{"bytes":"e30=","p":' + b"[" * 600 + b"]" * 600 + b"}", "payload of a chunk is not valid JSON"),
    "no object": (b"[]", "payload of a chunk has no bytes"),
    "no bytes": (b'{"byte":"AAAA"}', "payload of a chunk has no bytes"),
    "number": (b'{"bytes":1}', "payload of a chunk has no bytes"),
    "alphabet": (b'{"bytes":"e30-"}', "bytes of a chunk are not base64"),
    "alphabet late": (b'{"bytes":"e30KAAAA*AAA"}', "bytes of a chunk are not base64"),
    "length": (b'{"bytes":"e30"}', "bytes of a chunk are not base64"),
    "padding": (b'{"bytes":"e30=="}', "bytes of a chunk are not base64"),
    "padding behind a full group": (b'{"bytes":"e30K="}', "bytes of a chunk are not base64"),
    "more padding behind a full group": (b'{"bytes":"e30K=="}', "bytes of a chunk are not base64"),
    "only padding": (b'{"bytes":"===="}', "bytes of a chunk are not base64"),
    "padding three": (b'{"bytes":"e==="}', "bytes of a chunk are not base64"),
    "padding within": (b'{"bytes":"e30=e30="}', "bytes of a chunk are not base64"),
    "padding in the group": (b'{"bytes":"e3=0"}', "bytes of a chunk are not base64"),
    "blank": (b'{"bytes":"e30= "}', "bytes of a chunk are not base64"),
    "line break": (b'{"bytes":"e30=\\n"}', "bytes of a chunk are not base64"),
    "not ASCII": (b'{"bytes":"e30\xc3\xa9"}', "bytes of a chunk are not base64"),
    "no event": (b'{"bytes":""}', "event in a chunk is not valid JSON"),
    "event is no JSON": (chunk_payload(b'{"type":"x"'), "event in a chunk is not valid JSON"),
    "event is no UTF-8": (chunk_payload(b'{"type":"\xff"}'), "event in a chunk is not valid JSON"),
    "event too deep": (
        chunk_payload(b'{"type":"x","a":' + b"[" * 512 + b"]" * 512 + b"}"),
        "event in a chunk is not valid",
    ),
    "event is no object": (chunk_payload(b"[1]"), "event in a chunk has no type"),
    "event is text": (chunk_payload(b'"type"'), "event in a chunk has no type"),
    "no type": (chunk_payload(b"{}"), "event in a chunk has no type"),
    "type within": (chunk_payload(b'{"a":{"type":"x"}}'), "event in a chunk has no type"),
    "type is a number": (chunk_payload(b'{"type":"x","type":1}'), "event in a chunk has no type"),
    "type would break the line": (chunk_payload(b'{"type":"x\\ny"}'), "event in a chunk has no type"),
    "type is half a character": (chunk_payload(b'{"type":"\\ud800"}'), "event in a chunk has no type"),
}


@pytest.fixture(params=BAD_PAYLOADS)
def bad(request):
    return BAD_PAYLOADS[request.param]


def test_bad_payload(wire, bad):
    payload, text = bad
    transcoder = wire.ChunkTranscoder(quiet=QUIET)
    with pytest.raises(CorruptPayload, match=text) as caught:
        transcoder.feed_data(STREAM + raw_frame(BLOCK, payload) + STREAM)
    assert caught.value.before == wire.ChunkTranscoder(quiet=QUIET).feed_data(STREAM)
    for again in (lambda: transcoder.feed_data(STREAM), transcoder.feed_eof):
        with pytest.raises(CorruptPayload, match=text) as caught:
            again()
        assert caught.value.before == Scan(b"", [], 0)


@pytest.mark.parametrize("event", [b'{"\\u0074ype":"x"}', b'{"type":"y","type":"x"}', b'{"type":"\\u0078"}'])
def test_type_spelled_otherwise(wire, event):
    assert scan_one(wire, chunk_payload(event)).events[0].type == "x"


def test_empty_type_gives_no_event_line(wire):
    scan = scan_one(wire, chunk_payload(b'{"type":""}'))
    assert scan.relay == b'data: {"type":""}\n\n'


def test_corrupt_frame(wire):
    transcoder = wire.ChunkTranscoder(quiet=QUIET)
    with pytest.raises(CorruptFrame, match=r"message checksum is 00000000, computed [0-9a-f]{8}") as caught:
        transcoder.feed_data(STREAM + STREAM[: len(chunk_frame(PLAIN[0])) - 4] + b"\0\0\0\0" + STREAM)
    assert caught.value.before == wire.ChunkTranscoder(quiet=QUIET).feed_data(STREAM)
    with pytest.raises(CorruptFrame) as caught:
        transcoder.feed_data(b"")
    assert caught.value.before == Scan(b"", [], 0)


def test_limits(wire):
    with pytest.raises(CorruptFrame, match="over the limit of 64"):
        wire.ChunkTranscoder(max_frame_bytes=64).feed_data(STREAM)
    with pytest.raises(CorruptFrame, match="headers of 75 bytes are over the limit of 10"):
        wire.ChunkTranscoder(max_headers_bytes=10).feed_data(STREAM)


def test_nothing_behind_an_exception_frame_is_decoded(wire):
    bad = exception_frame("throttlingException", "slow down")
    decoder = wire.ChunkTranscoder(quiet=QUIET)
    scan = decoder.feed_data(chunk_frame(PLAIN[0]) + bad + chunk_frame(PLAIN[1]))
    first, frame = scan.events
    assert frame == Frame(
        {":exception-type": "throttlingException", ":content-type": "application/json", ":message-type": "exception"},
        b'{"message":"slow down"}',
    )
    assert first.data == PLAIN[0]
    assert scan.relay == sse_of(PLAIN[:1])
    assert scan.count == 1
    assert decoder.taken == len(chunk_frame(PLAIN[0]) + bad)
    assert decoder.feed_data(b"whatever comes") == Scan(b"", [], 0)
    assert decoder.feed_eof() == Scan(b"", [], 0)


@pytest.mark.parametrize("held", [0, 1, 11, 12, 40])
def test_taken_counts_whole_frames(wire, held):
    decoder = wire.ChunkTranscoder(quiet=QUIET)
    whole = chunk_frame(PLAIN[0]) + chunk_frame(PLAIN[1])
    decoder.feed_data(whole + chunk_frame(PLAIN[0])[:held])
    assert decoder.taken == len(whole)
    with pytest.raises(CorruptFrame):
        decoder.feed_data(chunk_frame(PLAIN[0])[held:] + b"x" * 40)
    assert decoder.taken == len(whole + chunk_frame(PLAIN[0]))


def test_error_frame(wire):
    headers = {":error-code": "500", ":error-message": "oops", ":message-type": "error"}
    assert scan_one(wire, b"", string_headers(headers)) == Scan(b"", [Frame(headers, b"")], 0)


def test_exception_wins_over_event_type(wire):
    headers = {":message-type": "exception", ":event-type": "chunk"}
    assert scan_one(wire, b"junk", string_headers(headers)).events == [Frame(headers, b"junk")]


@pytest.mark.parametrize(
    "block",
    [
        b"",
        string_headers({":message-type": "event", ":event-type": "initial-response"}),
        string_headers({":message-type": "event"}),
        raw_header(b":event-type", 6, b"chunk"),
        string_headers({":event-type": "Chunk"}),
    ],
)
def test_other_frames_are_passed_over(wire, block):
    assert scan_one(wire, b"whatever", block) == Scan(b"", [], 0)


@pytest.mark.parametrize(
    "block",
    [
        string_headers({":event-type": "chunk"}),
        string_headers({":event-type": "chunk", ":message-type": "strange"}),
        string_headers({"x": "y", ":message-type": "event", ":event-type": "chunk"}),
        string_headers({":event-type": "chunk"}) + raw_header(b":message-type", 6, b"exception"),
    ],
)
def test_anything_else_is_an_event(wire, block):
    """As for botocore, which looks for error and exception only."""
    assert scan_one(wire, chunk_payload(PLAIN[0]), block).relay == sse_of(PLAIN[:1])


@pytest.mark.parametrize("size", range(120))
def test_base64_of_every_length(wire, size):
    """Around the steps of the compiled twin: sixteen characters, four, the padding. All 64 characters take part."""
    text = bytes(0x21 + (at * 11 + size) % 90 for at in range(size)).replace(b'"', b"~").replace(b"\\", b"?")
    event = b'{"type":"x","a":"%b\xc3\xbf"}' % text
    assert scan_one(wire, chunk_payload(event)).events[0].data == event
    encoded = base64.b64encode(event)
    for bad in (b"-", b"_", b"=", b"\x80", b"\xff", b"@", b"[", b"`", b"{", b"\0", b" ", b".", b":"):
        at = size % (len(encoded) - 2)
        with pytest.raises(CorruptPayload):
            scan_one(wire, b'{"bytes":"%b"}' % (encoded[:at] + bad + encoded[at + 1 :]))


def test_headers_may_change_midway(wire):
    other = string_headers({":message-type": "event", ":event-type": "chunk"})
    skipped = string_headers({":message-type": "event", ":event-type": "other"})
    data = b"".join(
        raw_frame(block, chunk_payload(event))
        for block, event in zip((BLOCK, other, skipped, BLOCK, other), PLAIN, strict=False)
    )
    assert wire.ChunkTranscoder().feed_data(data).relay == sse_of((*PLAIN[:2], *PLAIN[3:5]))


def test_quiet_templates_need_a_type(wire):
    with pytest.raises(ValueError, match="quiet template has no type"):
        wire.ChunkTranscoder(quiet=(b'{"a":#}',))


def test_large_event(wire):
    event = b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"%b"}}' % (b"x" * 300_000)
    transcoder = wire.ChunkTranscoder(quiet=QUIET)
    data = (chunk_frame(event) + chunk_frame(PLAIN[0])) * 2
    scans = [transcoder.feed_data(data[at : at + 10_000]) for at in range(0, len(data), 10_000)]
    assert b"".join(scan.relay for scan in scans) == sse_of((event, PLAIN[0])) * 2


def test_goes_on_after_an_empty_chunk(wire):
    assert transcript(wire.ChunkTranscoder(), [b"", b""]) == [f"{Scan(b'', [], 0)!r} taken 0"] * 4
