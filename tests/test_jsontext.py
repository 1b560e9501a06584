"""JSON text: orjson's speed, the standard library's exactness."""

import json
import math

import pytest

from aibridge import jsontext
from aibridge.errors import PayloadError


@pytest.mark.parametrize(
    "text",
    [
        b"null",
        b' {"a" : [1, 2.5, "x"]}\r\n',
        b'"\\ud800"',
        b'"\\udc00\\ud800 \\ud83d\\ude00"',
        b"18446744073709551615",
        b"18446744073709551616",
        b"-9223372036854775809",
        b'{"id":123456789012345678901234567890,"s":"0000000000000000000000"}',
        b"0.30000000000000000000000000000000000004",
        b"1e400",
        b"-1e400",
        b"-0",
    ],
)
def test_loads(text):
    assert repr(jsontext.loads(text)) == repr(json.loads(text))
    assert jsontext.is_valid(text)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"\xef\xbb\xbf1",
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b"[1,]",
        b"01",
        b"1 2",
    ],
)
def test_loads_refuses(text):
    with pytest.raises(PayloadError) as caught:
        jsontext.loads(text)
    assert len(str(caught.value)) < 60
    assert not jsontext.is_valid(text)


@pytest.mark.parametrize("offset", range(8))
def test_long_integers_anywhere(offset):
    for digits in ("9223372036854775808", "-9223372036854775809", "18446744073709551616", "9" * 40):
        text = f"[{' ' * offset}{digits}]"
        assert jsontext.loads(text.encode()) == [int(digits)]


def test_integers_without_end():
    assert jsontext.loads(b"9" * 4300) == int("9" * 4300)
    assert jsontext.loads(b"-" + b"9" * 5000) == -math.inf
    assert jsontext.is_valid(b"9" * 5000)


@pytest.mark.parametrize("middle", [b"1", b'"\\ud800"', b'"]]]]\\\\\\"]["'])
def test_depth(middle):
    deepest = b"[" * 512 + middle + b"]" * 512
    assert jsontext.is_valid(deepest)
    assert not jsontext.is_valid(b'{"a":' + deepest + b"}")
    assert jsontext.is_valid(b"[" + b"[1]," * 1000 + b"1]")


def test_far_too_deep():
    with pytest.raises(PayloadError):
        jsontext.loads(b"[" * 100_000 + b"]" * 100_000)


@pytest.mark.parametrize("value", [{"a": [1, 2.5, None, True]}, "\u2028\xe9", 1 << 70, {"a": "\ud800"}, -5])
def test_dumps(value):
    assert jsontext.loads(jsontext.dumps(value)) == value


def test_dumps_is_compact():
    assert jsontext.dumps({"a": [1, "\xe9"]}) == b'{"a":[1,"\xc3\xa9"]}'


@pytest.mark.parametrize("value", [object(), {"a": {1, 2}}])
def test_dumps_refuses(value):
    with pytest.raises(PayloadError, match="no JSON for this value"):
        jsontext.dumps(value)


@pytest.mark.parametrize(
    "value", [2**63 - 1, -(2**63), 1.5, "\udcff", "ü", ["", None, {"a": [True]}], 1_700_000_000.123456]
)
def test_what_was_written_is_read_again(value):
    assert jsontext.reload(jsontext.dumps([value])) == [value]


def test_what_is_no_json_is_not_read_again():
    with pytest.raises(PayloadError):
        jsontext.reload(b"[1")
