import json

import pytest

from aibridge.simulator.expected import expected_document, expected_sse
from aibridge.simulator.scripts import sample
from aibridge.simulator.values import Shape

TOOL = {
    "name": "Read",
    "input_schema": {
        "type": "object",
        "properties": {"file_path": {"type": "string"}, "limit": {"type": "integer"}, "other": {"type": "string"}},
        "required": ["file_path", "limit"],
    },
}
USER = {"role": "user", "content": "read the foo file"}
RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "foo"}]}


def body(**members):
    return json.dumps({"model": "claude-sim", "max_tokens": 1024, "messages": [USER], **members}).encode()


def message(fault="", **members):
    return expected_document(body(**members), "anthropic", fault=fault)


def events(api="anthropic", fault="", shape=None, **members):
    text = expected_sse(body(**members), api, fault=fault, shape=shape)
    blocks = [block.split(b"\n") for block in text.split(b"\n\n")[:-1]]
    assert all(name == b"event: " + json.loads(data[6:])["type"].encode() for name, data in blocks)
    return [json.loads(data[6:]) for _, data in blocks]


def test_text_by_itself():
    types = [event["type"] for event in events()]
    assert types[:3] == ["message_start", "content_block_start", "ping"]
    assert types[3:-3] == ["content_block_delta"] * 12
    assert types[-3:] == ["content_block_stop", "message_delta", "message_stop"]


def test_the_same_request_gets_the_same_answer():
    assert expected_sse(body(), "anthropic") == expected_sse(body(), "anthropic")
    assert expected_sse(body(), "anthropic") != expected_sse(body(messages=[RESULT]), "anthropic")
    assert events()[0]["message"]["id"] == events(stream=True)[0]["message"]["id"]


def test_both_ways_of_answering_say_the_same():
    whole, stream = message(thinking={"type": "enabled"}), events(thinking={"type": "enabled"})
    texts = [event["delta"].get("text", "") for event in stream if event["type"] == "content_block_delta"]
    assert whole["content"][1]["text"] == "".join(texts)
    assert whole["id"] == stream[0]["message"]["id"]
    assert whole["usage"]["output_tokens"] == stream[-2]["usage"]["output_tokens"]
    assert whole["stop_reason"] == stream[-2]["delta"]["stop_reason"] == "end_turn"


def test_usage_is_cumulative():
    stream = events()
    assert stream[0]["message"]["usage"]["output_tokens"] == 1
    assert stream[-2]["usage"] == {"output_tokens": 12}


def test_caching_splits_the_input():
    cached = message(system=[{"type": "text", "text": "x" * 400, "cache_control": {"type": "ephemeral"}}])["usage"]
    assert cached["cache_read_input_tokens"]
    assert cached["cache_creation_input_tokens"]
    assert cached["input_tokens"]


def test_bedrock_differs_where_aws_does():
    stream = events("bedrock")
    assert stream[0]["message"]["id"].startswith("msg_bdrk_")
    assert "ping" not in [event["type"] for event in stream]
    assert set(stream[-2]["usage"]) == {
        "input_tokens",
        "cache_creation_input_tokens",
        "cache_read_input_tokens",
        "output_tokens",
    }
    metrics = stream[-1]["amazon-bedrock-invocationMetrics"]
    assert metrics["outputTokenCount"] == stream[-2]["usage"]["output_tokens"] == 12
    assert metrics["inputTokenCount"] == stream[0]["message"]["usage"]["input_tokens"]
    assert set(metrics) == {"inputTokenCount", "outputTokenCount", "invocationLatency", "firstByteLatency"}


def test_a_tool_is_called_when_there_is_one():
    whole = message(tools=[{"type": "web_search_20250305", "name": "web_search"}, TOOL])
    (call,) = whole["content"]
    assert call["name"] == "Read", "a server's own tool has no schema, and is none to call"
    assert call["input"] == {"file_path": "sample", "limit": 7}
    assert whole["stop_reason"] == "tool_use"
    parts = [event["delta"]["partial_json"] for event in events(tools=[TOOL]) if event["type"] == "content_block_delta"]
    assert parts[0] == ""
    assert json.loads("".join(parts)) == call["input"]


@pytest.mark.parametrize(
    ("members", "fault", "names"),
    [
        ({"messages": [USER, RESULT]}, "", []),
        ({"messages": [USER, RESULT]}, "tool_loop", ["Read"]),
        ({"tool_choice": {"type": "none"}}, "", []),
        ({"tool_choice": {"type": "tool", "name": "Write"}}, "", ["Write"]),
        ({}, "tool:bmcp_x", ["bmcp_x"]),
        ({}, "tools:3", ["Read"] * 3),
        ({"tools": 5}, "", []),
        ({"tools": [5, {"name": "odd", "input_schema": {"enum": 5, "required": 5, "properties": 5}}]}, "", ["odd"]),
    ],
)
def test_which_tool(members, fault, names):
    calls = [
        block for block in message(fault, **{"tools": [TOOL], **members})["content"] if block["type"] == "tool_use"
    ]
    assert [call["name"] for call in calls] == names
    assert len({call["id"] for call in calls}) == len(calls)


def test_thinking():
    (thought, _) = message(thinking={"type": "adaptive"})["content"]
    assert thought["thinking"]
    (thought, _) = message(thinking={"type": "adaptive", "display": "omitted"})["content"]
    assert not thought["thinking"]
    assert thought["signature"]
    (block,) = message(thinking={"type": "disabled"})["content"]
    assert block["type"] == "text"


def test_max_tokens_cuts_short():
    whole = message(max_tokens=3)
    assert whole["stop_reason"] == "max_tokens"
    assert whole["usage"]["output_tokens"] == 3
    assert message("many:20", max_tokens=3)["stop_reason"] == "end_turn", "a number asked for by a word is kept"


@pytest.mark.parametrize(
    ("fault", "deltas", "characters"), [("many:3", 3, None), ("size:50", 12, 50), ("huge:9000", 12, None)]
)
def test_lengths(fault, deltas, characters):
    texts = [event["delta"]["text"] for event in events(fault=fault) if event["type"] == "content_block_delta"]
    assert len(texts) == deltas
    assert characters in (None, *set(map(len, texts)))
    assert fault != "huge:9000" or len(texts[0]) == 9000


def test_the_shape_decides_otherwise():
    deltas = [event for event in events(shape=Shape(deltas=5, delta_chars=7)) if event["type"] == "content_block_delta"]
    assert [len(event["delta"]["text"]) for event in deltas] == [7] * 5


def test_padding_and_pings_and_stop_reasons():
    padded = expected_sse(body(), "anthropic", fault="padded")
    assert b"  }\n" in padded
    assert events(fault="padded") == events()
    assert [event["type"] for event in events(fault="pings")].count("ping") == 13
    assert events(fault="stop:refusal")[-2]["delta"]["stop_reason"] == "refusal"


def test_letters_that_break_careless_readers():
    raw = expected_sse(body(), "anthropic", fault="unicode")
    assert "\u2028".encode() in raw
    assert rb"\ud83d\ude42" in raw, "a pair of escapes"
    escaped = expected_sse(body(), "bedrock", fault="unicode")
    assert "\u2028".encode() not in escaped
    assert rb"\u2028" in escaped
    assert events(fault="unicode")[3] == json.loads(json.dumps(events(fault="unicode")[3]))


def test_a_lone_surrogate_in_the_request_is_no_trouble():
    assert message(messages=[{"role": "user", "content": "\ud800"}])["usage"]["input_tokens"]


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({}, "sample"),
        ({"type": "string", "enum": ["a", "b"]}, "a"),
        ({"const": 5}, 5),
        ({"type": ["integer", "null"], "minimum": 3}, 3),
        ({"type": "number"}, 1.5),
        ({"type": "boolean"}, True),
        ({"type": "null"}, None),
        ({"type": "array", "items": {"type": "boolean"}}, [True]),
        ({"type": "array"}, []),
        ({"properties": {"a": {"default": 1}, "b": 5}}, {"a": 1}),
        ({"type": "object"}, {}),
    ],
)
def test_samples(schema, value):
    assert sample(schema) == value


def test_a_schema_without_end():
    schema = {"type": "object", "properties": {}}
    schema["properties"]["again"] = schema
    assert json.dumps(sample(schema)).count("again") == 8
