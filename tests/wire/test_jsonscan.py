"""The members of a JSON object, found where they stand."""

import json

import pytest
from hypothesis import given
from wire_strategies import json_texts, mutated

from aibridge.errors import PayloadError

BAD = "body is not valid JSON, or nested too deep"


def spell(body, members):
    return [
        (member.key, body[member.start : member.value_start], body[member.value_start : member.value_end])
        for member in members
    ]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", []),
        (b" {\t} \r\n", []),
        (b'{"a":1}', [("a", b'"a":', b"1")]),
        (b'{ "a" : 1 , "b":[ 1, {"c":2} ] }', [("a", b'"a" : ', b"1"), ("b", b'"b":', b'[ 1, {"c":2} ]')]),
        (b'{"a":{"a":"}"},"a":"\\"]"}', [("a", b'"a":', b'{"a":"}"}'), ("a", b'"a":', b'"\\"]"')]),
        (
            b'{"\\u0061\\n\xc3\xa9":null,"":-1.5e+3}',
            [("a\n\xe9", b'"\\u0061\\n\xc3\xa9":', b"null"), ("", b'"":', b"-1.5e+3")],
        ),
        (b'{"\\ud800":true}', [("\ud800", b'"\\ud800":', b"true")]),
        (
            b'{"a":"\\ud800","b":[[],{},[{}]] , "c": false}',
            [("a", b'"a":', b'"\\ud800"'), ("b", b'"b":', b"[[],{},[{}]]"), ("c", b'"c": ', b"false")],
        ),
        (b'{"a":"x,y:{z}[","b":""}', [("a", b'"a":', b'"x,y:{z}["'), ("b", b'"b":', b'""')]),
        (b'{"n":123456789012345678901234567890}', [("n", b'"n":', b"123456789012345678901234567890")]),
        (b'{"n":1e999}', [("n", b'"n":', b"1e999")]),
        (b'{"n":' + b"9" * 5000 + b"}", [("n", b'"n":', b"9" * 5000)]),
    ],
)
def test_members(wire, body, expected):
    members = wire.scan_object(body)
    assert isinstance(members, tuple)
    assert all(type(member) is wire.Member for member in members)
    assert spell(body, members) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b'{"a"',
        b'{"a":',
        b'{"a":1',
        b'{"a":1,',
        b'{"a":1,}',
        b'{,"a":1}',
        b'{"a" 1}',
        b"{a:1}",
        b"{'a':1}",
        b'{"a":1]',
        b'{"a":[1}',
        b'{"a":1}}',
        b'{"a":1} x',
        b'{"a":1}\0',
        b'\xef\xbb\xbf{"a":1}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":01}',
        b'{"a":1.}',
        b'{"a":.5}',
        b'{"a":+1}',
        b'{"a":1e}',
        b'{"a":-}',
        b'{"a":0x1}',
        b'{"a":tru}',
        b'{"a":True}',
        b'{"a":nulll}',
        b'{"a":"\n"}',
        b'{"a":"\x1f"}',
        b'{"a":"\\x41"}',
        b'{"a":"\\u12"}',
        b'{"a":"\\',
        b'{"a":"\xff"}',
        b'{"a":"\xc0\x80"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"\xf4\x90\x80\x80":1}',
        b'{"a":1}\xa0',
        b'{"a":\x0b1}',
        b"{1:2}",
        b"[1",
        b"{}{}",
        '{"a":1}'.encode("utf-16"),
        b'{"a":' + b"[" * 512 + b"]" * 512 + b"}",
    ],
)
def test_bad(wire, body):
    with pytest.raises(PayloadError, match=f"^{BAD}$"):
        wire.scan_object(body)


@pytest.mark.parametrize("body", [b"[]", b"1", b'"{"', b"null", b" [1,2]", b'"\\ud800"'])
def test_no_object(wire, body):
    with pytest.raises(PayloadError, match=r"^body is not a JSON object$"):
        wire.scan_object(body)


@pytest.mark.parametrize("middle", [b"1", b'"\\ud800"', b'"[[[{{{\\""'])
def test_deep(wire, middle):
    for levels in (1, 100, 511):
        value = b"[" * (levels // 2) + b'{"x":' * (levels - levels // 2) + middle
        value += b"}" * (levels - levels // 2) + b"]" * (levels // 2)
        body = b'{"a":' + value + b"}"
        assert spell(body, wire.scan_object(body)) == [("a", b'"a":', value)]
    with pytest.raises(PayloadError):
        wire.scan_object(b'{"a":' + b"[" * 512 + middle + b"]" * 512 + b"}")


def test_endless_nesting_is_refused_cheaply(wire):
    with pytest.raises(PayloadError):
        wire.scan_object(b'{"a":' + b"[" * 5_000_000)


def test_brackets_in_strings_are_not_nesting(wire):
    body = json.dumps({"code": "[{(" * 5000, "quote": '\\"[' * 3000}).encode()
    assert [member.key for member in wire.scan_object(body)] == ["code", "quote"]


@pytest.mark.parametrize("size", range(40))
def test_every_length(wire, size):
    for text in (b"x" * size, b"x" * size + b'\\"', b"x" * size + b"\xe2\x82\xac", b"\xe2\x82\xac" * size):
        body = b'{"k":"%b"}' % text
        assert spell(body, wire.scan_object(body)) == [("k", b'"k":', b'"%b"' % text)]
    for bad in (b"\x00", b"\x1f", b"\x80", b"\xff", b"\\", b"\xe2\x82"):
        with pytest.raises(PayloadError):
            wire.scan_object(b'{"k":"%b"}' % (b"x" * size + bad))


@given(json_texts() | mutated(json_texts()))
def test_members_tile_the_object(wire, text):
    """Each value parses to what the whole says, and between the members there is nothing but punctuation."""
    body = b'{"first":%b, "second" :\t%b }' % (text, text)
    try:
        json.loads(text.decode(), parse_constant=refuse)
        valid = text != b""
    except ValueError:
        valid = False
    if not valid:
        try:
            json.loads(body.decode(), parse_constant=refuse)
        except ValueError:
            with pytest.raises(PayloadError):
                wire.scan_object(body)
        return
    first, second = wire.scan_object(body)
    assert (first.key, second.key) == ("first", "second")
    for member in (first, second):
        assert body[member.value_start : member.value_end] == text.strip(b" \t\r\n")
    assert body[first.value_end : second.start].strip() == b","


def refuse(constant):
    raise ValueError(constant)
