"""From a result to what a model is told."""

import base64

import pytest

from aibridge.mcp import results
from aibridge.mcp.results import NOTHING, read_result
from aibridge.toolloop.base import Image, Text, ToolResult

PNG = base64.b64encode(b"picture").decode()
BLOB = {"uri": "a:b", "blob": PNG}


def told(*content, limit=1000, **more):
    return read_result({"content": list(content), **more}, limit).result.content


@pytest.mark.parametrize(
    ("block", "part"),
    [
        ({"type": "text", "text": "x"}, Text("x")),
        ({"type": "text", "text": "\ud800"}, Text("?")),
        ({"type": "text", "text": ""}, Text(NOTHING)),
        ({"type": "text"}, Text(NOTHING)),
        ({"type": "image", "mimeType": "image/png", "data": PNG}, Image("image/png", PNG)),
        (
            {"type": "image", "mimeType": "image/svg+xml", "data": PNG},
            Text("[image left out: image/svg+xml is not taken]"),
        ),
        ({"type": "image", "data": PNG}, Text("[image left out: no type is not taken]")),
        ({"type": "image", "mimeType": "image/png", "data": "*"}, Text("[image left out: it is not base64]")),
        ({"type": "image", "mimeType": "image/png", "data": "é"}, Text("[image left out: it is not base64]")),
        ({"type": "image", "mimeType": "image/png", "data": ""}, Text("[image left out: it is empty]")),
        ({"type": "audio", "mimeType": "audio/wav", "data": PNG}, Text("[audio left out: no text and no image]")),
        ({"type": "resource_link", "name": "a", "uri": "b:c"}, Text("[resource: a, b:c]")),
        ({"type": "resource", "resource": {**BLOB, "mimeType": "image/png"}}, Image("image/png", PNG)),
        ({"type": "resource", "resource": BLOB}, Text("[resource left out: a:b, no type, binary]")),
        ({"type": "resource", "resource": "odd"}, Text("[resource: ]")),
        ({"type": 7}, Text("[content left out: no text and no image]")),
        ("odd", Text(NOTHING)),
    ],
)  # fmt: skip
def test_each_kind_of_content(block, part):
    assert told(block) == (part,)


def test_structured_content_stands_in_where_there_is_no_other():
    assert told(structuredContent={"a": [1]}) == (Text('{"a":[1]}'),)
    assert told({"type": "text", "text": "x"}, structuredContent={"a": 1}) == (Text("x"),)


@pytest.mark.parametrize(("said", "is_error"), [(True, True), (False, False), ("yes", False), (None, False)])
def test_is_error_is_honoured(said, is_error):
    assert read_result({"content": [], "isError": said}, 10).result == ToolResult((Text(NOTHING),), is_error)


def test_texts_share_one_bound_and_are_cut_between_characters():
    texts = [{"type": "text", "text": text} for text in ("ab", "ü" * 5, "c")]
    assert told(*texts, limit=5) == (Text("ab"), Text("ü"), Text("[cut: 9 bytes more were returned]"))
    assert read_result({"content": texts}, 5).size == 13


def test_a_secret_is_hidden_before_it_could_be_cut_in_two():
    secret = "sk-0123456789abcdefghijklmnop"
    read = read_result({"content": [{"type": "text", "text": f"{'x' * 10}{secret} and more"}]}, 30, (secret,))
    assert secret[:16] not in read.result.content[0].text
    assert read.size == len(f"{'x' * 10}{secret} and more")


def test_pictures_have_a_bound_of_their_own(monkeypatch):
    monkeypatch.setattr(results, "MAX_IMAGE_BYTES", len(PNG))
    picture = {"type": "image", "mimeType": "image/png", "data": PNG}
    assert told(picture, picture, limit=1) == (
        Image("image/png", PNG),
        Text(f"[image left out: {len(PNG)} bytes are too many]"),
    )
