"""A request body's members, and edits that leave every other byte as it was."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aibridge.body import read_body, replaced, splice, without
from aibridge.errors import RequestRejected


@pytest.mark.parametrize(
    ("raw", "model", "streaming"),
    [
        (b"{}", "", False),
        (b'{"model":"claude-x"}', "claude-x", False),
        (b' \n{ "stream" :true , "model" : "cl\\u0061ude" }\r\n', "claude", True),
        (b'{"model":"a","model":"b"}', "b", False),
        (b'{"stream":true,"stream":false}', "", False),
        (b'{"stream":"true"}', "", False),
        (b'{"stream":1}', "", False),
        (b'{"stream":null}', "", False),
        (b'{"model":5}', "", False),
        (b'{"model":null}', "", False),
        (b'{"model":["x"]}', "", False),
        (b'{"metadata":{"model":"inner","stream":true}}', "", False),
        (b'{"messages":[{"model":"inner"}],"model":"outer"}', "outer", False),
        ('{"model":"modèle-日本"}'.encode(), "modèle-日本", False),
        (b'{"mod\\u0065l":"escaped key"}', "escaped key", False),
    ],
)
def test_learns_model_and_stream(raw, model, streaming):
    body = read_body(raw)
    assert (body.model, body.streaming, body.raw) == (model, streaming, raw)


@pytest.mark.parametrize(
    "raw", [b"", b" ", b"[]", b"5", b'"x"', b"null", b"{", b'{"a":1}x', b'{"a":NaN}', b"\xff", b'\xef\xbb\xbf{"a":1}']
)
def test_what_is_no_object_is_refused(raw):
    with pytest.raises(RequestRejected) as refused:
        read_body(raw)
    assert (refused.value.reason, refused.value.status) == ("invalid_json", 400)


@pytest.mark.parametrize("name", [r"\ud800", r"claude\udfff", r"a\u0000b", r"a\nb", r"a\u001fb", r"a\u007f"])
def test_what_no_model_can_be_called_is_refused(name):
    body = read_body(b'{"model":"%b"}' % name.encode())
    with pytest.raises(RequestRejected) as refused:
        _ = body.model
    assert (refused.value.reason, refused.value.status) == ("invalid_request", 400)


def test_values_are_the_bytes_that_stand_there():
    body = read_body(b'{"n": 1e400 , "big":123456789012345678901234567890,"s":"\\u00e9\\ud83d","o":{ "a" :[ 1 ]}}')
    assert body.value("n") == b"1e400"
    assert body.value("big") == b"123456789012345678901234567890"
    assert body.value("s") == b'"\\u00e9\\ud83d"'
    assert body.value("o") == b'{ "a" :[ 1 ]}'
    assert body.value("none") is None


@pytest.mark.parametrize(
    ("raw", "drop", "add", "result"),
    [
        (b"{}", {"model"}, {}, b"{}"),
        (b"{}", set(), {"v": b'"1"'}, b'{"v":"1"}'),
        (b'{"model":"x"}', {"model"}, {}, b"{}"),
        (b'{"model":"x","a":1}', {"model"}, {}, b'{"a":1}'),
        (b'{"a":1,"model":"x"}', {"model"}, {}, b'{"a":1}'),
        (b'{ "a" : 1.50 , "model":"x" , "b":[ ] }', {"model"}, {"v": b"2"}, b'{"a" : 1.50,"b":[ ],"v":2}'),
        (b'{"model":1,"a":1,"model":2,"a":2}', {"model"}, {}, b'{"a":1,"a":2}'),
        (b'{"mod\\u0065l":1,"z":"\\u00e9"}', {"model"}, {}, b'{"z":"\\u00e9"}'),
    ],
)
def test_splice(raw, drop, add, result):
    assert splice(read_body(raw), drop=frozenset(drop), add=add) == result


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=60)
@given(
    st.dictionaries(st.sampled_from(["model", "stream", "tags", "messages", "é", "a"]) | st.text(), VALUES, max_size=6),
    st.booleans(),
    st.sampled_from([None, 1, "\t"]),
)
def test_splice_drops_and_adds_and_nothing_else(fields, ascii_only, indent):
    raw = json.dumps(fields, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")
    drop = frozenset({"model", "stream", "tags", "v"})
    result = splice(read_body(raw), drop=drop, add={"v": b'"new"'})
    kept = {key: value for key, value in fields.items() if key not in drop}
    assert json.loads(result) == {**kept, "v": "new"}
    assert list(json.loads(result)) == [*kept, "v"]


@pytest.mark.parametrize(
    ("raw", "path", "result"),
    [
        (b'{"a":1,"b":2}', "a", b'{"b":2}'),
        (b'{ "a" : 1 , "b" : 2.50 }', "c", b'{ "a" : 1 , "b" : 2.50 }'),
        (b'{"a":{"b":1 , "c":[ 2 ]},"d":1}', "a.b", b'{"a":{"c":[ 2 ]},"d":1}'),
        (b'{"a":{"b":1}}', "a.kind.b", b'{"a":{"b":1}}'),
        (b'{"a":{"b":1,"type":"kind"}}', "a.kind.b", b'{"a":{"type":"kind"}}'),
        (b'{"a":{"b":1,"type":"other"}}', "a.kind.b", b'{"a":{"b":1,"type":"other"}}'),
        (b'{"a":{"type":"kind","kind":{"b":1}, "b":2}}', "a.kind.b", b'{"a":{"type":"kind","kind":{"b":1}}}'),
        (b'{"a":[{"b":1},{"b":1,"type":"custom"},{"b":1,"type":"c"},{"b":1,"type":[2]}]}', "a.*.custom.b",
         b'{"a":[{},{"type":"custom"},{"b":1,"type":"c"},{"b":1,"type":[2]}]}'),
        (b'{"a":{"b":1}}', "a.b.c", b'{"a":{"b":1}}'),
        (b'{"a":[{"x":1,"y":2} , {"y":3},[1,"]},{"],"x",{"x":"\\"}]"}]}', "a.*.x",
         b'{"a":[{"y":2}, {"y":3},[1,"]},{"],"x",{}]}'),
        (b'{"a":[]}', "a.*.x", b'{"a":[]}'),
        (b'{"a":[ ]}', "a.*.x", b'{"a":[ ]}'),
        (b'{"a":[[{"x":1}],[]]}', "a.*.*.x", b'{"a":[[{}],[]]}'),
        (b'{"a":"text"}', "a.x", b'{"a":"text"}'),
        (b'{"a":[{"x":1}]}', "a.x", b'{"a":[{"x":1}]}'),
        (b'{"x":1,"x":2,"y":3}', "x", b'{"y":3}'),
        (b"[]", "a", b"[]"),
        (b"5", "a", b"5"),
        (b"{}", "", b"{}"),
    ],
)  # fmt: skip
def test_without(raw, path, result):
    assert without(raw, [step for step in path.split(".") if step]) == result


@settings(deadline=None, max_examples=80)
@given(st.lists(st.dictionaries(st.sampled_from(["x", "y"]) | st.text(max_size=3), VALUES, max_size=3), max_size=4))
def test_without_takes_a_member_of_every_item_and_nothing_else(items):
    raw = json.dumps({"items": items, "last": [1.50, "é"]}).encode("utf-8", "surrogatepass")
    result = without(raw, ("items", "*", "x"))
    left = [{key: value for key, value in item.items() if key != "x"} for item in items]
    assert json.loads(result) == {"items": left, "last": [1.50, "é"]}
    if left == items:
        assert result == raw


def test_splice_puts_a_value_in_the_place_of_another():
    raw = b'{ "a" : 1 ,"b":{"c":[ ]}, "d":3}'
    result = splice(read_body(raw), drop=frozenset({"d"}), replace={"b": b"2", "none": b"5"}, add={"e": b"4"})
    assert result == b'{"a" : 1,"b":2,"e":4}'


@pytest.mark.parametrize(
    ("raw", "result"),
    [
        (b'{"model":"a"}', b'{"model":"b"}'),
        (b' { "x" : [ 1 ] , "model" :  "a" , "y":2 }\n', b' { "x" : [ 1 ] , "model" :  "b" , "y":2 }\n'),
        (b'{"model":1,"m":0,"mod\\u0065l":"a"}', b'{"model":"b","m":0,"mod\\u0065l":"b"}'),
        (b'{"m":{"model":"a"}}', b'{"m":{"model":"a"}}'),
    ],
)
def test_replaced_leaves_all_other_bytes(raw, result):
    assert replaced(read_body(raw), "model", b'"b"') == result
