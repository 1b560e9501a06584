"""Requests of the Messages API with injected tools, their results, and answers that are not streamed."""

import json

import pytest
from messages_kit import OURS, TOOLS, loop_of

from aibridge.body import read_body
from aibridge.errors import CorruptPayload
from aibridge.toolloop import Image, Text, Tool, ToolCall, ToolResult, messages, new_loops
from aibridge.toolloop.messages_usage import summed

INJECTED = (
    b'{"name":"bmcp_house_look","description":"Looks.","input_schema":{"type":"object"}},'
    b'{"name":"bmcp_house_run","input_schema":{"properties":{"n":{"type":"integer"}},"type":"object"}}'
)
MESSAGES = b'"messages" : [ {"role":"user","content":"\\u00e9 1.0"} ]'


def raw_loop(body):
    return new_loops()["messages"](read_body(body), TOOLS)


@pytest.mark.parametrize(
    ("tools", "sent"),
    [
        (
            b'"tools": [ {"name":"Read", "cache_control":{"type":"ephemeral"} } ]',
            b'"tools": [%b, {"name":"Read", "cache_',
        ),
        (b'"tools":[ ]', b'"tools":[%b]}'),
        (b'"tools": null', b'"tools": [%b]}'),
        (b'"x": 1', b'"x": 1,"tools":[%b]}'),
    ],
)
def test_tools_are_put_before_the_clients_own(tools, sent):
    body = b'{ "model":"m",\n%b , %b}' % (MESSAGES, tools)
    request = raw_loop(body).request()
    assert sent.replace(b"%b", INJECTED) in request
    assert request.startswith(b'{ "model":"m",\n%b , ' % MESSAGES)
    own, asked = json.loads(body), json.loads(request)
    assert asked.pop("tools")[2:] == (own.pop("tools", None) or [])
    assert asked == own
    assert request == raw_loop(body).request()


@pytest.mark.parametrize(
    "more", ['"tool_choice":{"type":"none"}', '"tools":{}', '"tools":5', '"messages":"Hi"', '"messages":null']
)
def test_requests_that_take_no_tools(more):
    assert raw_loop(b'{"messages":[],%b}' % more.encode()) is None


def test_a_request_without_messages_takes_no_tools():
    assert raw_loop(b"{}") is None


def test_tools_of_the_client_that_are_named_as_ours_stay_its_own():
    own = [{"name": OURS}, {"name": "bmcp_other_tool"}, 5, {"name": 5}]
    loop = loop_of({"messages": [], "tools": own})
    assert [tool["name"] for tool in json.loads(loop.request())["tools"][:-2]] == [
        "bmcp_house_run",
        OURS,
        "bmcp_other_tool",
    ]
    called = message(call("a", OURS), call("b", "bmcp_other_tool"))
    assert loop.take_body(called) == called
    assert (loop.calls, loop.skipped) == ((), ())
    both = [{"name": tool.id} for tool in TOOLS]
    assert loop_of({"messages": [], "tools": both}) is None


@pytest.mark.parametrize(
    ("choice", "later"),
    [
        (None, None),
        ({"type": "auto"}, {"type": "auto"}),
        ({"type": "any"}, {"type": "auto"}),
        ({"type": "tool", "name": OURS}, {"type": "auto"}),
        (
            {"type": "any", "disable_parallel_tool_use": True},
            {"type": "auto", "disable_parallel_tool_use": True},
        ),
        ("odd", "odd"),
    ],
)
def test_a_forced_choice_is_forced_once(choice, later):
    asked = {"messages": []} | ({"tool_choice": choice} if choice is not None else {})
    loop = loop_of(asked)
    assert json.loads(loop.request()).get("tool_choice") == choice
    loop.take_body(message(call("a")))
    loop.answer([ToolResult(())])
    assert json.loads(loop.request()).get("tool_choice") == later


def test_the_bytes_of_the_client_stay_behind_later_turns():
    body = b'{"model":"m", %b ,"temperature":1.0 }' % MESSAGES
    loop = raw_loop(body)
    assert loop.take_body(message(call("a"))) == b""
    loop.answer([ToolResult((Text("x"),))])
    assert loop.request() == (
        b'{"model":"m", "messages" : [ {"role":"user","content":"\\u00e9 1.0"} ,'
        b'{"role":"assistant","content":[{"type": "tool_use", "id": "a", "name": "bmcp_house_look", "input": {}}]},'
        b'{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":[{"type":"text","text":"x"}]}]}]'
        b' ,"temperature":1.0,"tools":[%b] }' % INJECTED
    )


PICTURE = Image("image/png", "iVBORw==")
SENT_PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw=="}}


@pytest.mark.parametrize(
    ("result", "sent"),
    [
        (
            ToolResult((Text("a"), Text("b"))),
            {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        ),
        (ToolResult(()), {}),
        (ToolResult((Text(" \n"),)), {}),
        (ToolResult((Text("no"),), is_error=True), {"content": [{"type": "text", "text": "no"}], "is_error": True}),
        (
            ToolResult((), is_error=True),
            {"content": [{"type": "text", "text": "the tool failed without a word"}], "is_error": True},
        ),
        (ToolResult((Text("\ud83d"),)), {"content": [{"type": "text", "text": "\ud83d"}]}),
    ],
)
def test_results(result, sent):
    assert result_of(result) == {"type": "tool_result", "tool_use_id": "a"} | sent


@pytest.mark.parametrize(
    ("picture", "is_error", "why"),
    [
        (PICTURE, True, "takes none with an error"),
        (Image("image/svg+xml", "AAAA"), False, "type"),
        (Image("image/png", "A" * (5 * 1024 * 1024 + 4)), False, "larger"),
        (Image("image/png", "AAA"), False, "base64"),
        (Image("image/png", ""), False, "base64"),
        (Image("image/png", "!!!!"), False, "base64"),
    ],
)
def test_pictures_that_the_api_would_refuse_are_left_out(picture, is_error, why):
    (block,) = result_of(ToolResult((picture,), is_error))["content"]
    assert block["type"] == "text"
    assert block["text"].startswith("[image left out: ")
    assert why in block["text"]


def result_of(result):
    loop = loop_of()
    loop.take_body(message(call("a")))
    loop.answer([result])
    return json.loads(loop.request())["messages"][-1]["content"][0]


def test_as_many_results_as_calls():
    loop = loop_of()
    loop.take_body(message(call("a")))
    with pytest.raises(ValueError, match="argument 2"):
        loop.answer([])


# answers that are not streamed


def call(id, name=OURS, **more):  # noqa: A002  the API's word
    return {"type": "tool_use", "id": id, "name": name, "input": {}} | more


def message(*content, reason="tool_use", id="msg_1", **more):  # noqa: A002  the API's word
    said = {"id": id, "type": "message", "role": "assistant", "content": list(content), "stop_reason": reason}
    return json.dumps(
        said | {"usage": {"input_tokens": 3, "output_tokens": 2, "service_tier": "standard"}} | more
    ).encode()


def words(text):
    return {"type": "text", "text": text}


def test_turns_are_one_message():
    loop = loop_of()
    thought = {"type": "thinking", "thinking": "Hm", "signature": "c2ln"}
    assert loop.take_body(message(thought, words("I look."), call("a"), call("b", input={"n": 1.0}))) == b""
    assert loop.calls == (ToolCall("a", OURS, "{}"), ToolCall("b", OURS, '{"n": 1.0}'))
    loop.answer([ToolResult((Text("x"),)), ToolResult((Text("y"),))])
    history = json.loads(loop.request())["messages"]
    assert history[1]["content"] == [thought, words("I look."), call("a"), call("b", input={"n": 1.0})]
    assert [result["tool_use_id"] for result in history[2]["content"]] == ["a", "b"]
    assert loop.take_body(message(words(""), call("c"), id="msg_2")) == b""
    loop.answer([ToolResult(())])
    assert json.loads(loop.request())["messages"][3]["content"] == [call("c")]
    got = json.loads(loop.take_body(message(words("Blue."), call("d", "Read"), id="msg_3", container={"id": "x"})))
    assert (loop.calls, loop.skipped) == ((), ())
    assert got == json.loads(
        message(thought, words("I look."), words(""), words("Blue."), call("d", "Read"), container={"id": "x"})
    ) | {"usage": {"input_tokens": 9, "output_tokens": 6, "service_tier": "standard"}}


def test_answers_without_calls_of_ours_stay():
    for body in (message(words("x"), call("a", "Read")), b'{ "content" : 5 }', b'{"content":[5,null]}', b"{}"):
        loop = loop_of()
        assert loop.take_body(body) == body
        assert (loop.calls, loop.skipped) == ((), ())


@pytest.mark.parametrize("reason", ["tool_use", "max_tokens"])
def test_calls_that_are_not_run(reason):
    loop = loop_of()
    beside = [call("b", "Read")] if reason == "tool_use" else [words("y")]
    assert json.loads(loop.take_body(message(call("a"), *beside, reason=reason))) == json.loads(
        message(*beside, reason=reason)
    )
    assert loop.calls == ()
    assert loop.skipped == (ToolCall("a", OURS, "{}"),)


def test_a_call_without_an_object_goes_back_as_one():
    loop = loop_of()
    odd = call("a")
    del odd["input"]
    loop.take_body(message(odd, call("b", input="x")))
    assert [one.arguments for one in loop.calls] == ["", '"x"']
    loop.answer([ToolResult(()), ToolResult(())])
    assert [one["input"] for one in json.loads(loop.request())["messages"][1]["content"]] == [{}, {}]


def test_answers_that_are_no_message(monkeypatch):
    for body in (b"[]", b"5", b'{"content":' + b"[" * 600 + b"]" * 600 + b"}"):
        with pytest.raises(CorruptPayload, match="not what was promised"):
            loop_of().take_body(body)
    monkeypatch.setattr(messages, "MAX_BLOCKS", 300)
    many = message(*[words("x")] * 300, reason="end_turn")
    assert loop_of().take_body(many) == many
    with pytest.raises(CorruptPayload, match="over 300 content blocks"):
        loop_of().take_body(message(*[words("x")] * 301))
    monkeypatch.setattr(messages, "MAX_TURN_BYTES", 100)
    with pytest.raises(CorruptPayload, match="over the limit"):
        loop_of().take_body(message(words("x" * 100)))


def test_a_loop_begins_without_calls():
    loop = loop_of()
    assert (loop.calls, loop.skipped) == ((), ())


def test_counts_that_are_none_are_not_added():
    before = {"a": 1, "b": True, "c": None, "d": {"e": 1}, "f": "x"}
    assert summed(before, {"a": -1, "b": True, "c": 2, "d": 5, "f": None, "g": None}) == {
        "a": -1,
        "b": True,
        "c": 2,
        "d": 5,
        "f": "x",
        "g": None,
    }
    assert summed({"a": (1 << 62) - 1}, {"a": (1 << 62) - 1}) == {"a": (1 << 63) - 2}


def test_a_description_is_optional_and_tools_are_rendered_once():
    tool = Tool("bmcp_a_b", "a", "b", "", b"{}")
    first, second = (json.loads(loop_of(tools=(tool,)).request())["tools"] for _ in range(2))
    assert first == second == [{"name": "bmcp_a_b", "input_schema": {}}]
