"""Quiet templates: a match proves valid JSON of a known shape."""

import json
from random import Random

import pytest
from hypothesis import given
from wire_kit import QUIET, TEXT_DELTA
from wire_strategies import filled_templates, mutated

from aibridge.wire.template import Templates


def delta(text=b'"x"', index=b"0", pads=(b"", b"")):
    return b'{"type":"content_block_delta","index":%b,"delta":{"type":"text_delta","text":%b%b}%b}' % (
        index,
        text,
        *pads,
    )


def is_quiet(wire, data, *templates):
    """Tell whether data matches: a scanner counts it, but gives no event. JSON is not looked at otherwise."""
    scan = wire.SSEScanner(quiet=templates or (TEXT_DELTA,), check_json=False).feed_data(b"data: " + data + b"\n\n")
    assert scan.count == 1
    return not scan.events


@pytest.mark.parametrize(
    "data",
    [
        delta(),
        delta(b'""'),
        delta(pads=(b"   ", b" ")),
        delta(index=b"-7"),
        delta(index=b"1234567890123456789012"),
        delta(b'"' + b"long text, " * 50 + b'"'),
        delta(rb'"\"\\\/\b\f\n\r\t\u12aF\ud800"'),
        delta('"h\xe9llo \u20ac \U0001f600 \u2028\x7f"'.encode()),
        delta(b'"\xf4\x8f\xbf\xbf \xed\x9f\xbf \xee\x80\x80 \xe0\xa0\x80 \xf0\x90\x80\x80 \xc2\x80"'),
    ],
)
def test_match(wire, data):
    assert json.loads(data)["index"] is not None
    assert is_quiet(wire, data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        delta()[:-1],
        delta() + b" ",
        b" " + delta(),
        delta() + delta(),
        delta(index=b"01"),
        delta(index=b"-"),
        delta(index=b""),
        delta(index=b"1.5"),
        delta(index=b"1e3"),
        delta(index=b" 1"),
        delta(b"1"),
        delta(b'"'),
        delta(b'"a" "'),
        delta(b'"\t"'),
        delta(b'"\0"'),
        delta(b'"\\x"'),
        delta(b'"\\u12G4"'),
        delta(b'"\\u123'),
        delta(b'"\\'),
        delta(pads=(b"\t", b"")),
        delta(pads=(b"", b"\xc2\xa0")),
        delta().replace(b"text_delta", b"text_delto"),
        delta().replace(b":0", b": 0"),
        *(
            delta(b'"' + bad + b'"')
            for bad in (
                b"\x80 \xff \xc0\x80 \xc1\xbf \xe0\x9f\xbf \xed\xa0\x80 \xf0\x8f\xbf\xbf \xf4\x90\x80\x80 "
                b"\xf5\x80\x80\x80 "
                b"\xc3 \xe2\x82 \xf0\x9f\x98 \xe2\x28\xa1 \xf0\x9f\x28\x80"
            ).split()
        ),
    ],
)
def test_no_match(wire, data):
    assert not is_quiet(wire, data)


@pytest.mark.parametrize("size", range(70))
def test_every_length(wire, size):
    """Around the steps of the compiled twin: 16 bytes, 8 bytes, one."""
    assert is_quiet(wire, delta(b'"' + b"x" * size + b'"'))
    assert is_quiet(wire, delta(b'"' + b"x" * size + b'\xc3\xa9"'))
    assert not is_quiet(wire, delta(b'"' + b"x" * size + b'\n"'.replace(b"\n", b"\x1f")))
    assert not is_quiet(wire, delta(b'"' + b"x" * size + b'\xff"'))


@given(mutated(filled_templates) | filled_templates)
def test_a_match_proves_json(wire, text):
    data = text.replace(b"\n", b" ").replace(b"\r", b" ")
    if is_quiet(wire, data, *QUIET):
        assert json.loads(data.decode())["type"] in ("content_block_delta", "ping")


def test_several_holes_of_a_kind(wire):
    template = b'{"a":$,"b":[#,#],"c":{"d":$}}'
    assert is_quiet(wire, b'{"a":"x","b":[1,-20],"c":{"d":""} }', template)
    assert not is_quiet(wire, b'{"a":"x","b":[1 ,-20],"c":{"d":""}}', template)


def test_characters_of_regular_expressions_are_plain(wire):
    assert is_quiet(wire, b'{"a.b*[c]":"^(x|y)+?\\\\"}', b'{"a.b*[c]":"^(x|y)+?\\\\"}')
    assert not is_quiet(wire, b'{"aXb*[c]":"^(x|y)+?\\\\"}', b'{"a.b*[c]":"^(x|y)+?\\\\"}')


def test_no_templates(wire):
    scanner = wire.SSEScanner()
    assert len(scanner.feed_data(b"data: 1\n\n").events) == 1


@pytest.mark.parametrize(
    ("template", "text"),
    [
        (b'{"a":$', "is not JSON"),
        (b'{"a":#$}', "is not JSON"),
        (b"[#]", "is not a JSON object"),
        (b'{"a":"\n"}', "is not printable ASCII"),
        (b'{"a":"\xc3\xa9"}', "is not printable ASCII"),
    ],
)
def test_bad_templates(wire, template, text):
    for make in (wire.SSEScanner, wire.ChunkTranscoder):
        with pytest.raises(ValueError, match=text):
            make(quiet=(template,))


def test_which_one_matches():
    templates = Templates((b'{"a":"x"}', b'{"a":"y"}', b'{"b":#}'))
    texts = (b'{"a":"x"}', b'{"a":"y"}', b'{"b":1}', b"{}", b'{"b":2}', b'{"a":"x"}')
    assert [templates.find(data) for data in texts] == [0, 1, 2, -1, 2, 0]


def test_types():
    assert Templates((TEXT_DELTA, b'{"type":#}', b"{}")).types == ("content_block_delta", "", "")


FAMILY = tuple(
    b'{"id":$,%b"c":[{"d":%b}]%b}' % (head, inner, tail)
    for head in (b'"t":$,', b'"t":null,', b"")
    for inner in (b"$", b'{"x":#}', b'{"x":#,"y":#}')
    for tail in (b"", b',"u":null', b',"u":null,"o":$')
)
"""Templates of which many begin alike."""


def test_templates_that_begin_alike(wire):
    """Each event of a stream is quiet where one template matches it, whatever came before it."""
    quiet = [template.replace(b"$", b'"s"').replace(b"#", b"7") for template in FAMILY]
    loud = [data[:-1] + b',"more":1}' for data in quiet] + [data.replace(b'"c"', b'"e"') for data in quiet]
    events = [*quiet, *loud, b"{}"] * 3
    Random(7).shuffle(events)
    assert [data for data in events if is_quiet(wire, data, *FAMILY)] == [data for data in events if data in quiet]
    scan = wire.SSEScanner(quiet=FAMILY).feed_data(b"".join(b"data: %b\n\n" % data for data in events))
    assert scan.count == len(events)
    assert [event.data for event in scan.events] == [data for data in events if data not in quiet]


def test_streams_do_not_mix_what_matched_last(wire):
    streams = [wire.SSEScanner(quiet=(b'{"a":$}', b'{"b":$}', b'{"c":$}')) for _ in range(2)]
    for key in b"cabbccaab":
        for stream, other in zip(streams, (key, ord("a")), strict=True):
            assert stream.feed_data(b'data: {"%c":"x"}\n\ndata: {"d":"x"}\n\n' % other)[1][0].data == b'{"d":"x"}'


def test_the_first_event_can_be_heard(wire):
    scanner = wire.SSEScanner(quiet=(b'{"a":$}',), hear_first=True)
    first, second = b'data: {"a":"x"}\n\n', b'data: {"a":"y"}\n\n'
    scan = scanner.feed_data(b": comment\n\nevent: no data\n\n" + first + second)
    assert ([event.data for event in scan.events], scan.count) == ([b'{"a":"x"}'], 2)
    assert scanner.feed_data(first + second)[1:] == ([], 2)
