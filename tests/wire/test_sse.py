"""Server-sent events: relayed to the byte, cut at blank lines, whatever ends the lines and wherever the chunks end."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_kit import EVENTS, PING, QUIET, TEXT_DELTA, sse_of
from wire_strategies import cut, json_texts, sse_texts

from aibridge.errors import CorruptFrame, CorruptPayload, TruncatedEvent, WireError
from aibridge.values import Event, Scan

STREAM = sse_of(EVENTS)


def scan_all(scanner, chunks):
    """Return (relayed bytes, [(type, data)], count, error) of a whole stream; `relay` and `end` are checked."""
    relayed, found, count, error = b"", [], 0, ""
    try:
        for chunk in (*chunks, None):
            scan = scanner.feed_eof() if chunk is None else scanner.feed_data(chunk)
            relayed, count = relayed + scan.relay, count + scan.count
            found += checked(scan)
    except WireError as broken:
        scan, error = broken.before, f"{type(broken).__name__}: {broken}"
        relayed, count = relayed + scan.relay, count + scan.count
        found += checked(scan)
    return relayed, found, count, error


def checked(scan):
    ends = [event.end for event in scan.events]
    assert ends == sorted(set(ends))
    assert all(scan.relay[:end].endswith((b"\n", b"\r")) for end in ends)
    return [(event.type, event.data) for event in scan.events]


ONE = [("a", b"1")]
CASES = {
    "LF": (b"event: a\ndata: 1\n\n", ONE),
    "CRLF": (b"event: a\r\ndata: 1\r\n\r\n", ONE),
    "CR": (b"event: a\rdata: 1\r\r", ONE),
    "mixed ends": (b"event: a\rdata: 1\r\n\n", ONE),
    "CR then CRLF": (b"event: a\rdata: 1\r\r\n", ONE),
    "no blank behind the colon": (b"event:a\ndata:1\n\n", ONE),
    "two blanks": (b"event:  a\ndata:  1\n\n", [(" a", b" 1")]),
    "byte order mark": (b"\xef\xbb\xbfevent: a\ndata: 1\n\n", ONE),
    "byte order mark and blank line": (b"\xef\xbb\xbf\n\nevent: a\ndata: 1\n\n", ONE),
    "second mark is text": (b"\xef\xbb\xbf\xef\xbb\xbfevent: a\ndata: 1\n\n", [("", b"1")]),
    "mark within": (b"event: a\ndata: 1\n\n\xef\xbb\xbfdata: 2\n\n", ONE),
    "comment before": (b": hello\nevent: a\n:\ndata: 1\n\n", ONE),
    "comment alone": (b": ping\n\nevent: a\ndata: 1\n\n: ping\n\n", ONE),
    "several lines": (b"event: a\ndata: [1,\ndata: 2]\ndata\n\n", [("a", b"[1,\n2]\n")]),
    "last event field wins": (b"event: b\nevent: a\ndata: 1\n\n", ONE),
    "event behind data": (b"data: 1\nevent: a\n\n", ONE),
    "event without colon": (b"event: b\nevent\ndata: 1\n\n", [("", b"1")]),
    "no type": (b"data: 1\n\n", [("", b"1")]),
    "empty data": (b"data:\n\ndata\n\ndata: \n\n", [("", b"")] * 3),
    "no data": (b"event: a\n\nid: 1\nretry: 2\n\nevent: a\ndata: 1\n\n", ONE),
    "other fields": (b"id: 1\nretry: 5\nevent: a\nfoo: x\nbar\n datax: 3\ndata: 1\n\n", ONE),
    "near fields": (b"Data: 3\ndata : 3\ndatas: 3\nevent: a\ndata: 1\n\n", ONE),
    "blank lines": (b"\n\n\r\r\n\nevent: a\ndata: 1\n\n\n\n", ONE),
    "separators are text": (
        b'event: a\ndata: "\xe2\x80\xa8\xe2\x80\xa9\xc2\x85\\n\x7f"\n\n',
        [("a", b'"\xe2\x80\xa8\xe2\x80\xa9\xc2\x85\\n\x7f"')],
    ),
    "vertical tab and form feed are text": (
        b"event: \x0b\x0c\x1c\x1d\x85\ndata: 1\n\n",
        [("\x0b\x0c\x1c\x1d\ufffd", b"1")],
    ),
    "type is not UTF-8": (b"event: \xff\xc3\xa9\ndata: 1\n\n", [("\ufffd\xe9", b"1")]),
    "done": (b"data: [DONE]\n\n", [("", b"[DONE]")]),
    "nothing": (b"", []),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def test_whole(wire, case):
    data, events = case
    scanner = wire.SSEScanner()
    assert scan_all(scanner, [data]) == (data, events, len(events), "")


def test_byte_at_a_time(wire, case):
    data, events = case
    chunks = [data[at : at + 1] for at in range(len(data))]
    assert scan_all(wire.SSEScanner(), chunks) == (data, events, len(events), "")


def test_every_cut(wire, case):
    data, events = case
    for at in range(len(data) + 1):
        assert scan_all(wire.SSEScanner(), [data[:at], b"", data[at:]]) == (data, events, len(events), "")


@given(st.data())
def test_cuts_do_not_matter(wire, data):
    chunks = data.draw(cut(sse_texts()))
    check = data.draw(st.booleans())
    whole = scan_all(wire.SSEScanner(quiet=QUIET, check_json=check), [b"".join(chunks)])
    cut_up = scan_all(wire.SSEScanner(quiet=QUIET, check_json=check), chunks)
    assert cut_up == whole


@given(cut(sse_texts()))
def test_relay_is_what_came(wire, chunks):
    relayed, _, _, _ = scan_all(wire.SSEScanner(check_json=False), chunks)
    assert b"".join(chunks).startswith(relayed)


def test_chunk_is_not_copied(wire):
    scanner = wire.SSEScanner(quiet=QUIET)
    for _ in range(3):
        assert scanner.feed_data(STREAM).relay is STREAM


def test_half_event_is_held(wire):
    scanner = wire.SSEScanner()
    first = sse_of(EVENTS[:1])
    assert scanner.feed_data(first + b"event: pi").relay == first
    assert scanner.feed_data(b"ng\ndata: {}\n") == Scan(b"", [], 0)
    assert scanner.feed_data(b"\n: x") == Scan(b"event: ping\ndata: {}\n\n", [Event("ping", b"{}", 22)], 1)


def test_ends(wire):
    scan = wire.SSEScanner(quiet=QUIET).feed_data(STREAM + b"data: 1")
    assert scan.relay == STREAM
    assert scan.count == len(EVENTS)
    begin = 0
    for event in scan.events:
        block = scan.relay[: event.end][scan.relay.rfind(b"event: ", begin, event.end) :]
        assert block == sse_of([event.data])
        begin = event.end


HELD_CR = {
    "after CRLF it waits": ([b"data: 1\r\n\r"], [b""]),
    "LF comes": ([b"data: 1\r\n\r", b"\n"], [b"", b"data: 1\r\n\r\n"]),
    "no LF comes": ([b"data: 1\r\n\r", b"data: 2\r\n\r\n"], [b"", b"data: 1\r\n\rdata: 2\r\n\r\n"]),
    "after CR it does not": ([b"data: 1\r\r"], [b"data: 1\r\r"]),
    "after LF it does not": ([b"data: 1\n\r"], [b"data: 1\n\r"]),
    "late LF": ([b"data: 1\r\r", b"\n", b"\n"], [b"data: 1\r\r", b"\n", b"\n"]),
    "late LF with more": ([b"data: 1\n\r", b"\ndata: 2\n\n"], [b"data: 1\n\r", b"\ndata: 2\n\n"]),
    "blank line only": ([b"data: 1\r\n\r\n\r", b"\n"], [b"data: 1\r\n\r\n", b"\r\n"]),
    "at the start": ([b"\r", b"\n", b"data: 1\n\n"], [b"\r", b"\n", b"data: 1\n\n"]),
    "CR ends a line": ([b"data: 1\r", b"\n", b"\r", b"\n"], [b"", b"", b"", b"data: 1\r\n\r\n"]),
}


@pytest.mark.parametrize(("chunks", "relays"), HELD_CR.values(), ids=HELD_CR.keys())
def test_cr_at_the_end_of_a_chunk(wire, chunks, relays):
    scanner = wire.SSEScanner()
    assert [scanner.feed_data(chunk).relay for chunk in chunks] == relays
    assert b"".join(relays) + scanner.feed_eof().relay == b"".join(chunks)


def test_eof_flushes_a_held_cr(wire):
    scanner = wire.SSEScanner()
    assert scanner.feed_data(b"data: 1\r\n\r") == Scan(b"", [], 0)
    assert scanner.feed_eof() == Scan(b"data: 1\r\n\r", [Event("", b"1", 10)], 1)


@pytest.mark.parametrize("rest", [b"d", b"data: 1", b"data: 1\n", b"event: a\r\n", b": c\nda", b"id: 1\n", b"\xef\xbb"])
def test_truncated(wire, rest):
    scanner = wire.SSEScanner()
    assert scanner.feed_data(STREAM + rest if rest[0] != 0xEF else rest).count in (0, len(EVENTS))
    text = f"the body ended inside an event, {len(rest)} bytes into it"
    for _ in range(2):
        with pytest.raises(TruncatedEvent, match=rf"^{text}$") as caught:
            scanner.feed_eof()
        assert caught.value.before == Scan(b"", [], 0)
    with pytest.raises(TruncatedEvent):
        scanner.feed_data(b"\n\n")


def test_what_a_held_cr_completed_comes_before_a_truncation(wire):
    scanner = wire.SSEScanner()
    scanner.feed_data(b"data: 1\r\n\r")
    assert scanner.feed_data(b"data: 2") == Scan(b"data: 1\r\n\r", [Event("", b"1", 10)], 1)
    with pytest.raises(TruncatedEvent):
        scanner.feed_eof()


@pytest.mark.parametrize("rest", [b"", b":", b": half", b": one\n: two\r\n:", b"\n", b"\r\n"])
def test_not_truncated(wire, rest):
    scanner = wire.SSEScanner()
    scan = scanner.feed_data(STREAM + rest)
    assert scan.relay in (STREAM, STREAM + rest)
    assert scanner.feed_eof() == Scan(b"", [], 0)


@pytest.mark.parametrize("bad", [b"{", b"'a'", b"NaN", b"[1,]", b'"\xff"', b"[DONE", b"[DONE] ", b" ", b'"\t"', b"1 2"])
def test_data_must_be_json(wire, bad):
    scanner = wire.SSEScanner(quiet=QUIET)
    with pytest.raises(CorruptPayload, match=r"^data of an event is not valid JSON$") as caught:
        scanner.feed_data(STREAM + b"data:" + b" " + bad + b"\n\n" + STREAM)
    assert caught.value.before == wire.SSEScanner(quiet=QUIET).feed_data(STREAM)
    for again in (lambda: scanner.feed_data(STREAM), scanner.feed_eof):
        with pytest.raises(CorruptPayload, match=r"^data of an event is not valid JSON$") as caught:
            again()
        assert caught.value.before == Scan(b"", [], 0)


def test_data_need_not_be_json(wire):
    scan = wire.SSEScanner(check_json=False).feed_data(b"data: {\xff\n\n")
    assert scan.events == [Event("", b"{\xff", 10)]


@given(json_texts())
def test_any_json_passes(wire, text):
    lines = text.replace(b"\r\n", b"\n").split(b"\n")
    data = b"".join(b"data: " + line + b"\n" for line in lines) + b"\n"
    assert wire.SSEScanner().feed_data(data).events[0].data == b"\n".join(lines)


def test_over_the_limit(wire):
    block = b"data: 12345"
    fits = wire.SSEScanner(max_event_bytes=len(block))
    assert fits.feed_data((block + b"\r\n\r\n") * 2).count == 2
    for end in (b"\n\n", b"\r\n\r\n", b"\r\r"):
        tight = wire.SSEScanner(max_event_bytes=len(block) - 1)
        with pytest.raises(CorruptFrame, match=r"^event is over the limit of 10 bytes$") as caught:
            tight.feed_data(b": c" + end + block + end)
        assert caught.value.before == Scan(b": c" + end, [], 0)


def test_over_the_limit_while_held(wire):
    scanner = wire.SSEScanner(max_event_bytes=100)
    assert scanner.feed_data(b"data: " + b"1" * 97).relay == b""
    with pytest.raises(CorruptFrame, match=r"^event is over the limit of 100 bytes$"):
        scanner.feed_data(b"1")
    with pytest.raises(CorruptFrame, match=r"^event is over the limit of 100 bytes$"):
        scanner.feed_eof()


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
@pytest.mark.parametrize("limit", range(5, 12))
def test_cuts_do_not_matter_at_the_limit(wire, end, limit):
    data = b": c" + end + b"data: 123" + end
    whole = scan_all(wire.SSEScanner(max_event_bytes=limit), [data])
    for at in range(len(data)):
        assert scan_all(wire.SSEScanner(max_event_bytes=limit), [data[:at], data[at:]]) == whole
    assert scan_all(wire.SSEScanner(max_event_bytes=limit), [bytes((byte,)) for byte in data]) == whole


def test_limit_must_be_positive(wire):
    with pytest.raises(ValueError, match="max_event_bytes must be positive"):
        wire.SSEScanner(max_event_bytes=0)


def test_many_bytes_one_at_a_time_are_not_quadratic(wire):
    data = b'data: "' + b"x" * (1 << 19) + b'"\n\n'
    scanner = wire.SSEScanner()
    scans = [scanner.feed_data(data[at : at + 1]) for at in range(len(data))]
    assert scans[-1].relay == data


def test_quiet_events_are_counted_only(wire):
    scanner = wire.SSEScanner(quiet=(TEXT_DELTA, PING))
    scan = scanner.feed_data(STREAM)
    assert scan.count == len(EVENTS)
    quiet = [event for event in EVENTS if b"text_delta" in event or event == b'{"type":"ping"}']
    assert len(quiet) == 3
    assert [event.data for event in scan.events] == [event for event in EVENTS if event not in quiet]


def test_fixture_shapes(wire):
    """Blanks as providers send them: padding before a brace matches, `{"type": "ping"}` is looked at in full."""
    data = b'event: ping\ndata: {"type": "ping"}\n\nevent: ping\ndata: {"type":"ping"   }\n\n'
    assert [event.data for event in wire.SSEScanner(quiet=QUIET).feed_data(data).events] == [b'{"type": "ping"}']


@pytest.mark.parametrize(
    ("kind", "data", "text"),
    [
        ("ping", b"{}", b"event: ping\ndata: {}\n\n"),
        ("", b"[DONE]", b"data: [DONE]\n\n"),
        ("a", b"", b"event: a\ndata: \n\n"),
        ("\xe9", b"1", b"event: \xc3\xa9\ndata: 1\n\n"),
        ("a", b"{\n\r\n\r}", b"event: a\ndata: {\ndata: \ndata: \ndata: }\n\n"),
        ("a", b"1\n", b"event: a\ndata: 1\ndata: \n\n"),
        (
            "a",
            b'"\xe2\x80\xa8-\xe2\x80\xa9-\xc2\x85-\xe2\x80\xa7-\xc2\x86-\xe2"',
            b'event: a\ndata: "\\u2028-\\u2029-\\u0085-\xe2\x80\xa7-\xc2\x86-\xe2"\n\n',
        ),
    ],
)
def test_encode_event(wire, kind, data, text):
    assert wire.encode_event(kind, data) == text


@pytest.mark.parametrize("kind", ["a\nb", "a\r", "\0", "\x7f", "\x85", "\u2028", "\u2029", "\ud800"])
def test_encode_event_refuses(wire, kind):
    with pytest.raises(ValueError, match="event type holds a control character, a line break or a lone surrogate"):
        wire.encode_event(kind, b"{}")


@given(json_texts())
def test_encoded_events_are_read_back(wire, text):
    (event,) = wire.SSEScanner().feed_data(wire.encode_event("a", text)).events
    assert event.type == "a"
    assert json.loads(event.data) == json.loads(text)
    assert len(wire.encode_event("a", text).decode().splitlines()) == event.data.count(b"\n") + 3


def test_taken_counts_what_was_given_on(wire):
    scanner = wire.SSEScanner()
    scanner.feed_data(b"data: 1\n\ndata: 2\n\nda")
    assert scanner.taken == 18
    scanner.feed_data(b"ta: 3\n\n")
    assert scanner.taken == 27
    with pytest.raises(CorruptPayload):
        scanner.feed_data(b"data: 4\n\ndata: {\n\n")
    assert scanner.taken == 36
