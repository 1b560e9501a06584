"""Requests of the Responses loop, results, and answers that are not streamed."""

import json

import pytest
from responses_kit import (
    ASKED,
    OWN,
    SCHEMA,
    TOOLS,
    Upstream,
    call,
    dump,
    gone_on,
    good,
    loop_of,
    message,
    run,
    search,
    thought,
    usage,
)

from aibridge.body import edited, read_body
from aibridge.errors import CorruptPayload
from aibridge.toolloop import Image, Text, Tool, ToolCall, ToolResult, new_loops, responses
from aibridge.toolloop.responses import ResponsesLoops

OURS = (
    '{"type":"function","name":"bmcp_maps_find","description":"Finds a place.","parameters":' + SCHEMA.decode() + ","
    '"strict":false},{"type":"function","name":"bmcp_weather_now","description":"Tells the weather.",'
    '"parameters":{"type":"object"},"strict":false}'
)


def first(body, tools=TOOLS):
    return ResponsesLoops()(read_body(body.encode()), tools).request().decode()


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        ('{"model":"m"}', '{"model":"m","tools":[' + OURS + "]}"),
        (' { "n" : 1.0 ,\n"input":"é\\u00e9" }\n', ' { "n" : 1.0 ,\n"input":"é\\u00e9","tools":[' + OURS + "] }\n"),
        ('{"tools":null,"a":1}', '{"tools":[' + OURS + '],"a":1}'),
        ('{"tools":[ ],"a":1}', '{"tools":[ ' + OURS + '],"a":1}'),
        ('{"tools": [ {"x":1.0} ] ,"a":1}', '{"tools": [ {"x":1.0} ,' + OURS + '] ,"a":1}'),
        ('{"prompt":null}', '{"prompt":null,"tools":[' + OURS + "]}"),
        ('{"prompt":{"id":"p"},"tools":[]}', '{"prompt":{"id":"p"},"tools":[' + OURS + "]}"),
        (
            '{"tool_choice":{"type":"function","name":"own"}}',
            '{"tool_choice":{"type":"function","name":"own"},"tools":[' + OURS + "]}",
        ),
    ],
)
def test_tools_are_put_behind_the_clients(body, sent):
    assert first(body) == sent
    assert first(body) == sent


@pytest.mark.parametrize(
    "body",
    [
        '{"tool_choice":"none"}',
        '{"tool_choice":{"type":"allowed_tools","mode":"auto","tools":[]}}',
        '{"background":true}',
        '{"prompt":{"id":"p"}}',
        '{"prompt":{"id":"p"},"tools":null}',
        '{"tools":{}}',
        '{"tools":"x"}',
        '{"input":{}}',
        '{"input":5}',
    ],
)
def test_requests_that_take_no_tools(body):
    assert new_loops()["responses"](read_body(body.encode()), TOOLS) is None


def test_a_tool_that_the_client_has_itself():
    own = {**OWN, "name": "bmcp_maps_find"}
    loop = loop_of(tools=[own, 5])
    assert [tool["name"] for tool in json.loads(loop.request())["tools"][2:]] == ["bmcp_weather_now"]
    loop.take_body(Upstream([call("a", "bmcp_maps_find")]).ask(dump(ASKED)))
    assert (loop.calls, loop.skipped) == ((), ())
    assert loop_of(ours=TOOLS[:1], tools=[own]) is None


def test_a_request_without_tools_goes_on_as_well():
    for fields in ({"tool_choice": "none"}, {"background": True}):
        loop = loop_of()
        loop.take_body(Upstream([call("a"), call("o", "own")]).ask(dump(ASKED)))
        raw = dump({**ASKED, **fields, "previous_response_id": "resp_1"})
        going_on = loop.maker(read_body(raw), TOOLS)
        sent = json.loads(going_on.request())
        assert "tools" not in sent
        assert [item.get("call_id") for item in sent["input"]] == ["a", None]
        answer = Upstream([message()])
        answer.stored["resp_1"] = [call("a")]
        body = answer.ask(going_on.request())
        assert going_on.take_body(body) == body
        assert loop.maker(read_body(raw.replace(b"resp_1", b"resp_2")), TOOLS) is None


def test_odd_words_of_a_tool():
    tool = Tool("bmcp_s_t", "s", "t", 'says "hi"\n\ud800☂', b"{}")
    assert json.loads(first("{}", (tool,)))["tools"][0]["description"] == tool.description


# the next request


def bodies(*scripts, result=good, **fields):
    """Return the requests of a loop."""
    upstream, loop = Upstream(*scripts), loop_of(**fields)
    run(loop, upstream.ask, result=result, stream=fields.get("stream", False))
    return upstream.bodies


def output(call_id):
    return {"type": "function_call_output", "call_id": call_id, "output": f"result of {call_id}"}


USER = {"type": "message", "role": "user", "content": ASKED["input"]}


@pytest.mark.parametrize("stream", [True, False])
def test_what_came_goes_back(stream):
    """All items of a turn, in their order, and the results behind them; then those of the next turn."""
    turns = [thought("r"), search(), message("m"), call("a"), call("b")], [call("c")], [message("m2")]
    sent = [json.loads(body) for body in bodies(*turns, stream=stream)]
    assert [one["tools"] for one in sent] == [sent[0]["tools"]] * 3
    assert sent[0]["input"] == ASKED["input"]
    assert sent[1]["input"] == [USER, *turns[0], output("a"), output("b")]
    assert sent[2]["input"] == [*sent[1]["input"], call("c"), output("c")]


def test_every_other_byte_stays():
    raw = (
        b' { "model" : "gpt","tool_choice": "required", "input" : [ {"role":"user", "content":"\\u00e9"} ] , "n": 1.0}'
    )
    loop = ResponsesLoops()(read_body(raw), TOOLS)
    loop.take_body(b'{"output":[ { "type":"function_call","call_id":"a", "name":"bmcp_x" , "arguments":"{}"} ]}')
    loop.answer([ToolResult((Text("t"),))])
    items = b'{"type":"function_call_output","call_id":"a","output":"t"}'
    item = b' { "type":"function_call","call_id":"a", "name":"bmcp_x" , "arguments":"{}"} ,'
    expected = raw.replace(b"} ] ,", b"} ," + item + items + b"] ,").replace(b'"required"', b'"auto"')
    assert loop.request() == expected[:-1] + b',"tools":[' + OURS.encode() + b"]}"


def test_equal_requests_give_equal_bytes():
    turns = [thought("r"), call("a"), call("b")], [call("c")], [message()]
    assert len({tuple(bodies(*turns, tools=[OWN], stream=True)) for _ in range(10)}) == 1


@pytest.mark.parametrize("asked", [None, [], [USER]])
def test_inputs(asked):
    fields = {key: value for key, value in {"input": asked}.items() if value is not None}
    loop = ResponsesLoops()(read_body(dump({"previous_response_id": "p", **fields})), TOOLS)
    loop.take_body(Upstream([call("a")]).ask(dump(ASKED)))
    loop.answer([good(loop.calls[0])])
    sent = json.loads(loop.request())
    assert sent["input"] == [*(asked or []), call("a"), output("a")]
    assert sent["previous_response_id"] == "p"


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "bmcp_maps_find"}, {"type": "web_search"}])
def test_a_forced_tool_is_forced_once(choice):
    sent = [json.loads(body) for body in bodies([call("a")], [call("b")], [message()], tool_choice=choice)]
    assert [one["tool_choice"] for one in sent] == [choice, "auto", "auto"]


@pytest.mark.parametrize("choice", [{}, {"tool_choice": "auto"}, {"tool_choice": None}])
def test_other_choices_stay(choice):
    sent = [json.loads(body) for body in bodies([call("a")], [message()], **choice)]
    assert all(
        ("tool_choice" in one, one.get("tool_choice")) == ("tool_choice" in choice, choice.get("tool_choice"))
        for one in sent
    )


def test_a_conversation_keeps_what_came():
    for stream in (True, False):
        turns = [thought("r"), call("a")], [call("b"), call("c")], [message()]
        sent = [
            json.loads(body) for body in bodies(*turns, conversation="conv_1", stream=stream, tool_choice="required")
        ]
        assert [one["input"] for one in sent[1:]] == [[output("a")], [output("b"), output("c")]]
        assert [(one["conversation"], one["tool_choice"]) for one in sent[1:]] == [("conv_1", "auto")] * 2


@pytest.mark.parametrize(
    ("item", "goes_back"),
    [
        (thought("r"), False),
        (thought("r", "Hm"), False),
        (thought("r", encrypted_content=None), False),
        (thought("r", encrypted_content="gAAA"), True),
        (thought("r", content=[{"type": "reasoning_text", "text": "Hm"}]), True),
        (message("m"), True),
    ],
)
@pytest.mark.parametrize("said_by", ["client", "upstream"])
def test_thoughts_that_are_not_stored(item, goes_back, said_by):
    """An id alone would be refused: "Items are not persisted when `store` is set to false"."""
    loop = loop_of(**({"store": False} if said_by == "client" else {}))
    loop.take_body(dump({"store": False if said_by == "upstream" else None, "output": [item, call("a")]}))
    loop.answer([good(loop.calls[0])])
    sent = json.loads(loop.request())["input"]
    assert sent == [USER, *([item] if goes_back else []), call("a"), output("a")]
    kept = loop_of()
    kept.take_body(dump({"store": True, "output": [item, call("a")]}))
    kept.answer([good(kept.calls[0])])
    assert item in json.loads(kept.request())["input"]


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (ToolResult(()), ""),
        (ToolResult((Text("a"),)), "a"),
        (ToolResult((Text("a"), Text("b\ud800"))), "a\nb\ud800"),
        (ToolResult((Text("Error: no"),), is_error=True), "Error: no"),
        (ToolResult((Text("no"),), is_error=True), "Error:\nno"),
        (ToolResult((), is_error=True), "Error:"),
        (
            ToolResult((Text("a"), Image("image/png", "aGk="))),
            [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": "data:image/png;base64,aGk="}],
        ),
        (
            ToolResult((Image("image/png", "aGk="),), is_error=True),
            [
                {"type": "input_text", "text": "Error:"},
                {"type": "input_image", "image_url": "data:image/png;base64,aGk="},
            ],
        ),
    ],
)
def test_results(result, said):
    sent = json.loads(bodies([call("a")], [message()], result=lambda _: result)[1])
    assert sent["input"][-1] == {"type": "function_call_output", "call_id": "a", "output": said}


# answers that are not streamed


def test_an_answer_of_one_turn_stays_as_it_is():
    loop, upstream = loop_of(), Upstream([thought("r"), message(text="☂"), call("o", "own")])
    body = upstream.ask(dump(ASKED))
    assert b'\n  "tools": []' in body
    assert loop.take_body(body) == body
    assert (loop.calls, loop.skipped) == ((), ())
    assert gone_on(loop, previous_response_id="resp_1") == ("resp_1", [])


def test_an_answer_of_three_turns():
    turns = [thought("r"), message("m1"), call("a")], [search(), call("b"), call("c")], [message("m2")]
    loop, upstream = loop_of(tools=[OWN], tool_choice="required"), Upstream(*turns)
    text, _ = run(loop, upstream.ask, stream=False)
    told = json.loads(text)
    assert told["output"] == [thought("r"), message("m1"), search(), message("m2")]
    assert told["usage"] == usage(6)
    assert (told["id"], told["created_at"], told["tool_choice"]) == ("resp_3", 1790000001, "required")
    assert told["tools"] == [OWN]
    assert gone_on(loop, previous_response_id="resp_3") == ("resp_3", [])


def test_calls_are_as_the_model_wrote_them():
    loop = loop_of()
    assert loop.take_body(Upstream([call("a", "bmcp_gone", "{no"), call("b")]).ask(dump(ASKED))) == b""
    assert loop.calls == (ToolCall("a", "bmcp_gone", "{no"), ToolCall("b", "bmcp_weather_now", '{"place":"Bern"}'))


def test_a_mixed_turn_and_a_cut_one():
    loop = loop_of()
    text = loop.take_body(Upstream([call("a"), call("o", "own")]).ask(dump(ASKED)))
    assert json.loads(text)["output"] == [call("o", "own")]
    assert [one.id for one in loop.skipped] == ["a"]
    assert gone_on(loop, previous_response_id="resp_1") == ("resp_1", ["a"])
    loop = loop_of()
    cut = [message(), call("a", arguments='{"p', status="incomplete")], "incomplete", {}
    assert json.loads(loop.take_body(Upstream(cut).ask(dump(ASKED))))["output"] == [message()]
    assert (loop.calls, loop.skipped) == ((), ())


def test_bodies_that_are_no_answer(monkeypatch):
    for body in (b"[]", b"5", b'"x"', b"{"):
        with pytest.raises(CorruptPayload):
            loop_of().take_body(body)
    monkeypatch.setattr(responses, "MAX_TURN_BYTES", 100)
    with pytest.raises(CorruptPayload, match="over 100 bytes"):
        loop_of().take_body(b'{"output":"' + b"x" * 100 + b'"}')


def test_edits_of_a_body():
    body = read_body(b' { "a" : 1 , "b": [2], "a":3 } ')
    assert edited(body, {"a": b"0"}) == b' { "a" : 0 , "b": [2], "a":0 } '
    assert edited(body, {"c": b"0", "b": b"9"}) == b' { "a" : 1 , "b": 9, "a":3,"c":0 } '
    assert edited(body, {}) == body.raw
    assert edited(read_body(b" { } "), {"b": b"0", "a": b"1"}) == b' {"a":1,"b":0 } '
