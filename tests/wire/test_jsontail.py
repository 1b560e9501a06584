"""The last elements of arrays and objects, found from their end."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

VALUES = st.recursive(
    st.none() | st.integers() | st.text(st.sampled_from('a"\\[]{},: \né'), max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


def elements(wire, text):
    """Return the elements of an array or object, the first one first."""
    found, end = [], len(text) - 1
    while end > 0:
        start = wire.element_start(text, 0, end)
        found.append(text[start:end])
        end = start - 1
    return found[::-1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"[]", [b""]),
        (b"[ ]", [b" "]),
        (b"[1]", [b"1"]),
        (b'[1, "a" ,[2,3],{"b":[4]}]', [b"1", b' "a" ', b"[2,3]", b'{"b":[4]}']),
        (b'["a,b","]","[","\\"",","]', [b'"a,b"', b'"]"', b'"["', b'"\\""', b'","']),
        (b'["\\\\","\\\\\\"","x\\\\"]', [b'"\\\\"', b'"\\\\\\""', b'"x\\\\"']),
        (b'["",""]', [b'""', b'""']),
        (b'{"a":1,"b":{"c":[1,2]},"d,e":"}"}', [b'"a":1', b'"b":{"c":[1,2]}', b'"d,e":"}"']),
    ],
)
def test_elements(wire, text, expected):
    assert elements(wire, text) == expected


@given(st.lists(VALUES, min_size=1, max_size=6), st.booleans(), st.sampled_from([(",", ":"), (" , ", " : ")]))
def test_elements_are_those_of_the_value(wire, values, ascii_only, separators):
    text = json.dumps(values, ensure_ascii=ascii_only, separators=separators).encode()
    assert [json.loads(element) for element in elements(wire, text)] == values


@pytest.mark.parametrize("size", [*range(4070, 4110), 16_380, 16_384, 20_479, 20_480, 20_481, 70_000])
@pytest.mark.parametrize("filling", [b"x", b'\\"', b"\\\\", b'"'])
def test_elements_longer_than_a_look(wire, size, filling):
    """The pure wire looks through windows of a size; where one begins must not matter."""
    long = b'"%b"' % (filling * (size // len(filling))) if filling != b'"' else b'[%b""]' % (b'"",' * (size // 3))
    assert elements(wire, b'["a",%b,"b"]' % long) == [b'"a"', long, b'"b"']


def test_a_part_of_a_text(wire):
    text = b'{"messages":[1,[2,3]],"x":[4]}'
    begin, end = text.index(b"["), text.index(b'],"x"')
    assert text[wire.element_start(text, begin, end) : end] == b"[2,3]"


@pytest.mark.compiled
def test_the_compiled_one_stays_inside_the_text(twins):
    _, compiled = twins
    for begin, end in ((-1, 1), (0, 4), (2, 1), (0, -1)):
        with pytest.raises(IndexError):
            compiled.element_start(b"[1]", begin, end)
    for text in (b"", b'"', b'"""', b"]]]", b"\\\\", b'\\"'):
        assert 0 <= compiled.element_start(text, 0, len(text)) <= len(text)
