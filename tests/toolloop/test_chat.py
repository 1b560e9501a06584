"""The tool loop of Chat Completions: requests, turns, and what the client sees."""

import hashlib
import json
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from aibridge.body import read_body
from aibridge.content import NOTHING
from aibridge.dialects import DIALECTS, UsageWithheld
from aibridge.errors import CorruptPayload, TruncatedEvent
from aibridge.lifecycle import State
from aibridge.relay import MISSING_DONE, Relay
from aibridge.toolloop import Image, Text, Tool, ToolCall, ToolResult, chat_message, new_loops
from aibridge.wire import SSEScanner

CHAT = DIALECTS["chat"]
SCHEMA = b'{"properties":{"q":{"type":"string"}},"type":"object"}'
TOOLS = (Tool("bmcp_s_find", "s", "find", "Finds.", SCHEMA), Tool("bmcp_s_now", "s", "now", "The time.", b"{}"))
FIND = b'{"type":"function","function":{"name":"bmcp_s_find","description":"Finds.","parameters":%b}}' % SCHEMA
NOW = (
    b'{"type":"function","function":{"name":"bmcp_s_now","description":"The time.",'
    b'"parameters":{"type":"object","properties":{}}}}'
)
ASKED = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true}'
USAGE = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12, "prompt_tokens_details": {"cached_tokens": 4}}
DONE = b"data: [DONE]\n\n"


def loop_of(body=ASKED, tools=TOOLS):
    return new_loops()["chat"](read_body(body), tools)


def sse(value):
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


def chunk(delta=None, reason=None, *, name="one", usage=None, **more):
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": reason}]
    created = sum(name.encode())
    fields = {"id": name, "object": "chat.completion.chunk", "created": created, "model": "m", "choices": choices}
    return sse({**fields, **({"usage": usage} if usage else {}), **more})


def entry(index, name="", arguments="", call_id=""):
    function = {**({"name": name} if name else {}), "arguments": arguments}
    return {"index": index, **({"id": call_id, "type": "function"} if call_id else {}), "function": function}


def calling(*calls, text="", name="one", reason="tool_calls", usage=USAGE, done=True):
    """Return the stream of a turn that calls (index, tool, arguments), each in two pieces, by turns."""
    out = chunk({"role": "assistant", "content": text or None}, name=name)
    begun = [entry(index, tool, "", f"call_{name}_{index}") for index, tool, _ in calls]
    out += b"".join(chunk({"tool_calls": [one]}, name=name) for one in begun)
    for half in (0, 1):
        for index, _, arguments in calls:
            middle = len(arguments) // 2
            piece = arguments[middle:] if half else arguments[:middle]
            out += chunk({"tool_calls": [entry(index, arguments=piece)]}, name=name)
    out += chunk({}, reason, name=name)
    return out + (chunk(name=name, usage=usage) if usage else b"") + (DONE if done else b"")


def saying(*texts, name="two", reason="stop", usage=USAGE, done=True):
    out = chunk({"role": "assistant", "content": "", "refusal": None}, name=name)
    out += b"".join(chunk({"content": text}, name=name) for text in texts)
    out += chunk({}, reason, name=name)
    return out + (chunk(name=name, usage=usage) if usage else b"") + (DONE if done else b"")


def feed(loop, stream, cuts=(), *, build=SSEScanner, wrap=lambda decoder: decoder):
    """Feed a turn through a relay; return what the client gets of it, and the relay."""
    relay = Relay(CHAT, "id", NOTHING)
    relay.begin_stream(wrap(loop.decoder(build())))
    out = b""
    for begin, end in pairwise([0, *sorted(cuts), len(stream)]):
        out += relay.feed_data(stream[begin:end], 0.0)
    out += relay.feed_eof(0.0)
    last = b"" if loop.calls else relay.last_words
    return out + last, relay


def run(turns, cuts_of=lambda _: (), loop=None, **how):
    """Run all turns; return the client's text, and the loop. Each result says what was called."""
    loop = loop or loop_of()
    out = b""
    for number, stream in enumerate(turns, 1):
        text, relay = feed(loop, stream, cuts_of(stream), **how)
        out += text
        assert relay.state is State.FINISHED
        assert bool(loop.calls) is (number < len(turns))
        if loop.calls:
            loop.answer([ToolResult((Text(f"result of {call.arguments}"),)) for call in loop.calls])
    return out, loop


def chunks_of(text):
    assert text.endswith(DONE)
    assert text.count(DONE) == 1
    return [json.loads(part[6:]) for part in text.split(b"\n\n") if part.startswith(b"data: {")]


def seen(text):
    """Return content, calls by index, finish reasons, usages and ids of a client's stream."""
    content, calls, reasons, usages = "", {}, [], []
    chunks = chunks_of(text)
    for one in chunks:
        usages += [one["usage"]] if one.get("usage") else []
        for choice in one["choices"]:
            content += choice["delta"].get("content") or ""
            reasons += [choice["finish_reason"]] if choice["finish_reason"] else []
            for call in choice["delta"].get("tool_calls", []):
                known = calls.setdefault(call["index"], ["", ""])
                known[0] += call["function"].get("name", "")
                known[1] += call["function"].get("arguments", "")
    roles = sum("role" in choice["delta"] for one in chunks for choice in one["choices"])
    return content, calls, reasons, usages, {(one["id"], one["created"]) for one in chunks}, roles


# requests


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (b'{"messages":[]}', b'{"messages":[],"tools":[%b,%b]}'),
        (b'{"messages":[], "tools" : null }', b'{"messages":[], "tools" : [%b,%b] }'),
        (b'{"tools":[ ],\n"messages":[]}', b'{"tools":[ %b,%b],\n"messages":[]}'),
        (b' {"tools":[{"type": "x"} ],"messages":[1.0]}\n', b' {"tools":[{"type": "x"} ,%b,%b],"messages":[1.0]}\n'),
        (b'{"messages":[],"n":1,"tool_choice":"auto"}', b'{"messages":[],"n":1,"tool_choice":"auto","tools":[%b,%b]}'),
        (
            b'{"messages":[],"parallel_tool_calls":true,"tool_choice":"required"}',
            b'{"messages":[],"parallel_tool_calls":true,"tool_choice":"required","tools":[%b,%b]}',
        ),
    ],
)
def test_tools_stand_behind_the_clients(body, sent):
    assert loop_of(body).request() == sent % (FIND, NOW)
    assert loop_of(body).request() == loop_of(body).request()


@pytest.mark.parametrize(
    "more",
    [
        '"n":2',
        '"tool_choice":"none"',
        '"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[]}}',
        '"functions":[]',
        '"function_call":"auto"',
        '"prediction":{"type":"content","content":"x"}',
        '"audio":{"voice":"x"}',
        '"tools":{}',
        '"messages":"x"',
    ],
)
def test_requests_that_take_no_tools(more):
    assert loop_of(f'{{"messages":[],{more}}}'.encode()) is None


def test_a_name_of_the_clients_stays_the_clients():
    own = b'{"tools":[{"type":"function","function":{"name":"bmcp_s_find"}}],"messages":[]}'
    loop = loop_of(own)
    assert json.loads(loop.request())["tools"][1:] == [json.loads(NOW)]
    text, _ = feed(loop, calling((0, "bmcp_s_find", "{}")))
    assert seen(text)[1] == {0: ["bmcp_s_find", "{}"]}
    assert loop_of(own, TOOLS[:1]) is None


def test_the_next_request():
    body = b'{"messages":[{"role":"user","content":"hi"} ],"tool_choice":"required" ,"stream":true}'
    loop = loop_of(body)
    feed(loop, calling((0, "bmcp_s_find", '{"q":"é"}'), (1, "bmcp_s_gone", "{"), text="Let me see."))
    assert loop.calls == (
        ToolCall("call_one_0", "bmcp_s_find", '{"q":"é"}'),
        ToolCall("call_one_1", "bmcp_s_gone", "{"),
    )
    loop.answer([ToolResult((Text("a"), Image("image/png", "aaaa"))), ToolResult((Text("no JSON"),), is_error=True)])
    said = loop.request()
    assert said.startswith(b'{"messages":[{"role":"user","content":"hi"} ,{"role":"assistant",')
    assert said.endswith(b'],"tool_choice":"auto" ,"stream":true,"tools":[%b,%b]}' % (FIND, NOW))
    _, assistant, first, second = json.loads(said)["messages"]
    functions = [call["function"] for call in assistant.pop("tool_calls")]
    assert assistant == {"role": "assistant", "content": "Let me see."}
    assert functions == [
        {"name": "bmcp_s_find", "arguments": '{"q":"é"}'},
        {"name": "bmcp_s_gone", "arguments": '{"invalid_json":"{"}'},
    ]
    assert first == {
        "role": "tool",
        "tool_call_id": "call_one_0",
        "content": "a\n[image left out: this API takes none]",
    }
    assert second == {"role": "tool", "tool_call_id": "call_one_1", "content": "Error: no JSON"}


def test_thoughts_and_signatures_go_back():
    details = [{"type": "reasoning.text", "text": "a", "format": "f", "index": 0}]
    signed = [{"type": "reasoning.text", "text": "b", "signature": "s", "format": "f", "index": 0}]
    call = {**entry(0, "bmcp_s_now", "{}", "c"), "extra_content": {"google": {"thought_signature": "t"}}}
    stream = chunk({"role": "assistant", "content": "", "reasoning": "a", "reasoning_details": details})
    stream += chunk({"role": "assistant", "reasoning": "b", "reasoning_details": signed})
    stream += chunk({"role": "assistant", "content": "", "tool_calls": [call]}) + chunk({}, "tool_calls") + DONE
    loop = loop_of()
    shown, _ = feed(loop, stream)
    assert b"bmcp" not in shown
    assert shown.count(b'"role"') == 2
    loop.answer([ToolResult((Text("x"),))])
    message = json.loads(loop.request())["messages"][1]
    assert message["reasoning"] == "ab"
    assert message["reasoning_details"] == [
        {"type": "reasoning.text", "text": "ab", "signature": "s", "format": "f", "index": 0}
    ]
    assert message["tool_calls"][0]["extra_content"] == {"google": {"thought_signature": "t"}}
    text, _ = feed(loop, chunk({"reasoning_details": details}, name="two") + saying("x"))
    assert chunks_of(text)[0]["choices"][0]["delta"]["reasoning_details"][0]["index"] == 1


# streams


@pytest.mark.parametrize("count", [1, 2, 5])
def test_parallel_calls(count):
    calls = [(index, "bmcp_s_find", json.dumps({"q": index})) for index in range(count)]
    turns = [calling(*calls, text="Let me see."), saying("It ", "is.")]
    text, loop = run(turns)
    content, own, reasons, (usage,), ids, roles = seen(text)
    assert (content, own, reasons, roles) == ("Let me see.\n\nIt is.", {}, ["stop"], 1)
    assert ids == {("one", sum(b"one"))}
    assert usage == {
        "prompt_tokens": 20,
        "completion_tokens": 4,
        "total_tokens": 24,
        "prompt_tokens_details": {"cached_tokens": 8},
    }
    assert b"bmcp" not in text
    answers = json.loads(loop.request())["messages"][2:]
    assert [one["content"] for one in answers] == [f"result of {arguments}" for _, _, arguments in calls]


def test_three_turns():
    turns = [calling((0, "bmcp_s_now", "{}"), name=name) for name in ("one", "two")]
    text, loop = run([*turns, calling((0, "own", "{}"), name="three", text="Now you.")])
    content, own, reasons, usages, ids, roles = seen(text)
    assert (content, own, reasons, roles, len(ids)) == ("Now you.", {0: ["own", "{}"]}, ["tool_calls"], 1, 1)
    assert [usage["total_tokens"] for usage in usages] == [36]
    assert [one["role"] for one in json.loads(loop.request())["messages"]] == [
        "user", "assistant", "tool", "assistant", "tool"
    ]  # fmt: skip


def test_a_mixed_turn_is_the_last():
    calls = [(0, "bmcp_s_find", "{}"), (1, "own", '{"a":1}'), (2, "bmcp_s_now", "{}"), (3, "other", "{}")]
    text, loop = run([calling(*calls)])
    _, own, reasons, usages, _, _ = seen(text)
    assert own == {0: ["own", '{"a":1}'], 1: ["other", "{}"]}
    assert (reasons, usages) == (["tool_calls"], [USAGE])
    assert [call.tool for call in loop.skipped] == ["bmcp_s_find", "bmcp_s_now"]


def test_what_has_no_injected_call_is_untouched():
    for stream in (saying("a", "b"), calling((0, "own", '{"a":1}'), text="x"), saying("é\u2028", usage=None)):
        text, loop = run([stream])
        assert text == stream
        assert loop.skipped == ()


def test_a_first_call_may_have_any_index_and_no_text_before_it():
    first = chunk({"role": "assistant", "content": None, "tool_calls": [entry(1, "bmcp_s_find", "", "c1")]})
    stream = first + chunk({"tool_calls": [entry(1, arguments="{}")]}) + chunk({}, "tool_calls") + DONE
    loop = loop_of()
    text, _ = feed(loop, stream)
    assert text == chunk({"role": "assistant", "content": None})
    assert loop.calls == (ToolCall("c1", "bmcp_s_find", "{}"),)
    text, _ = feed(loop_of(), calling((3, "own", "{}")))
    assert seen(text)[1] == {0: ["own", "{}"]}


def test_the_name_may_come_late():
    pieces = [entry(0, call_id="a"), entry(1, call_id="b"), entry(0, "bmcp_s_now", "{}"), entry(1, "own", "{}")]
    stream = b"".join(chunk({"tool_calls": [piece]}) for piece in pieces) + chunk({}, "tool_calls") + DONE
    loop = loop_of()
    text, _ = feed(loop, stream)
    assert seen(text)[1] == {0: ["own", "{}"]}
    assert b'"id":"b"' in text
    assert b'"id":"a"' not in text


@pytest.mark.parametrize("index", [{"index": 0}, {}])
def test_calls_that_an_index_does_not_tell_apart(index):
    function = {"name": "bmcp_s_find", "arguments": "{}"}
    calls = [{**index, "id": name, "type": "function", "function": function} for name in "ab"]
    stream = b"".join(chunk({"tool_calls": [call]}) for call in calls) + chunk({}, "stop") + DONE
    loop = loop_of()
    feed(loop, stream)
    assert [call.id for call in loop.calls] == ["a", "b"]


def test_calls_without_ids_get_some():
    call = {"index": 0, "function": {"name": "bmcp_s_now", "arguments": {}}}
    loop = loop_of()
    feed(loop, chunk({"tool_calls": [call]}) + chunk({}, "tool_calls") + DONE)
    assert loop.calls == (ToolCall("call_0_0", "bmcp_s_now", "{}"),)
    loop.answer([ToolResult((Text("x"),))])
    _, assistant, tool = json.loads(loop.request())["messages"]
    assert assistant["tool_calls"][0]["id"] == tool["tool_call_id"] == "call_0_0"


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_a_model_that_was_stopped_in_mid_call(reason):
    text, loop = run([calling((0, "bmcp_s_find", '{"q"'), text="x", reason=reason)])
    content, own, reasons, usages, _, _ = seen(text)
    assert (content, own, reasons, usages) == ("x", {}, [reason], [USAGE])
    assert loop.skipped == ()


def test_servers_that_never_say_done():
    loop = loop_of()
    text, relay = feed(loop, calling((0, "bmcp_s_now", "{}"), done=False))
    assert (relay.state, relay.note, len(loop.calls)) == (State.FINISHED, MISSING_DONE, 1)
    loop.answer([ToolResult((Text("x"),))])
    more, relay = feed(loop, saying("y", done=False))
    assert (relay.state, relay.note, loop.calls) == (State.FINISHED, MISSING_DONE, ())
    assert seen(text + more + DONE)[:3] == ("y", {}, ["stop"])


def test_text_and_usage_in_the_chunk_that_finishes():
    call = chunk({"role": "assistant", "tool_calls": [entry(0, "bmcp_s_now", "{}", "c")]})
    stream = call + chunk({"content": "see"}, "tool_calls", usage=USAGE) + DONE
    last = chunk({"content": "\nso"}, "stop", name="two", usage=USAGE, x_groq={"usage": USAGE}) + DONE
    text, _ = run([stream, last])
    content, _, reasons, (usage,), _, _ = seen(text)
    assert (content, reasons, usage["total_tokens"]) == ("see\nso", ["stop"], 24)
    assert chunks_of(text)[-1]["x_groq"]["usage"]["total_tokens"] == 24


def test_counts_beside_a_choice_behind_the_end():
    tail = chunk({"role": "assistant", "content": ""}, usage={**USAGE, "cost": 0.5})
    turns = [calling((0, "bmcp_s_now", "{}"), usage=None, done=False) + tail + DONE]
    turns += [saying("x", usage=None, done=False) + tail + DONE]
    _, _, reasons, usages, _, roles = seen(run(turns)[0])
    assert (reasons, roles, [(one["cost"], one["total_tokens"]) for one in usages]) == (["stop"], 1, [(1.0, 24)])


def test_comments_pass():
    ping = b": ping\n\n"
    stream = ping.join([b"", *[part + b"\n\n" for part in calling((0, "bmcp_s_now", "{}")).split(b"\n\n")[:-1]]])
    text, _ = feed(loop_of(), stream)
    assert text.count(ping) == stream.count(ping) - 1  # one stands with the last word
    assert b"bmcp" not in text


@pytest.mark.parametrize("order", ["below", "above"])
def test_usage_that_only_the_gateway_ordered(order):
    how = {"build": lambda: UsageWithheld(SSEScanner())} if order == "below" else {"wrap": UsageWithheld}
    text, _ = run([calling((0, "bmcp_s_now", "{}"), text="a"), saying("b")], **how)
    assert seen(text)[:4] == ("a\n\nb", {}, ["stop"], [])


def random_cuts(stream):
    random = Random(hashlib.sha256(stream).digest())
    return sorted(random.sample(range(1, len(stream)), 25))


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("cuts_of", [lambda stream: range(1, len(stream)), random_cuts], ids=["bytes", "random"])
@pytest.mark.parametrize("order", ["alone", "below", "above"])
def test_every_cut(cuts_of, ending, order):
    calls = [(2, "bmcp_s_find", '{"q":"é"}'), (4, "own", '{"a":[1]}')]
    turns = [calling(calls[0], text="a"), calling(*calls, name="two", text="b")]
    turns = [b": ping\n\n" + turn for turn in turns]
    turns = [turn.replace(b"\n", ending) for turn in turns]
    how = {"build": lambda: UsageWithheld(SSEScanner())} if order == "below" else {}
    how = {"wrap": UsageWithheld} if order == "above" else how
    whole, _ = run(turns, **how)
    assert run(turns, cuts_of, **how)[0] == whole


def test_an_error_ends_the_loop():
    error = sse({"error": {"message": "overloaded", "type": "server_error"}})
    for end in (error, sse({"id": "x", "choices": [{"index": 0, "delta": {}, "error": {"message": "overloaded"}}]})):
        for turns in ([], [calling((0, "bmcp_s_now", "{}"))]):
            loop = loop_of()
            for turn in turns:
                feed(loop, turn)
                loop.answer([ToolResult((Text("x"),)) for _ in loop.calls])
            head = calling((0, "bmcp_s_now", "{}"), name="two").removesuffix(DONE)
            text, relay = feed(loop, head + end + DONE)
            assert (relay.state, relay.cause, loop.calls) == (State.ENDED, "error_event", ())
            assert text.endswith(end)
            assert "overloaded" in relay.error


def test_a_body_that_ends_too_early():
    loop = loop_of()
    stream = calling((0, "bmcp_s_now", "{}"), usage=None, done=False).removesuffix(chunk({}, "tool_calls"))
    _, relay = feed(loop, stream)
    assert (relay.cause, loop.calls) == ("truncated", ())
    decoder = loop_of().decoder(SSEScanner())
    decoder.feed_data(chunk({"content": "x"}) + b"data: {")
    with pytest.raises(TruncatedEvent):
        decoder.feed_eof()


# hostile upstreams


@pytest.mark.parametrize(
    "data",
    [
        "[]", "1", "{}", '{"choices":1}', '{"choices":[1]}', '{"choices":[{"delta":1}]}', '{"choices":[]}',
        '{"choices":[{"index":7,"delta":{"tool_calls":[{"function":{"name":"bmcp_x"}}]}}]}',
        '{"choices":[{"delta":{"tool_calls":1}}]}', '{"choices":[{"delta":{"tool_calls":[]}}],"usage":{}}',
        '{"id":1,"choices":[{"finish_reason":1,"delta":{"content":5}}]}',
        '{"choices":[{"delta":{"tool_calls":[1]}}]}',
    ],
)  # fmt: skip
def test_odd_events_pass(data):
    text, _ = run([b"data: " + data.encode() + b"\n\n" + saying("x")])
    assert text.startswith(b"data: " + data.encode() + b"\n\n")


def test_odd_calls_do_no_harm():
    odd = [{}, {"index": -1}, {"function": 5}, {"id": 3, "function": {"name": 4}}, {"custom": {"name": "bmcp_x"}}]
    stream = b"".join(chunk({"tool_calls": [one]}) for one in odd) + saying("x")
    text, loop = run([stream])
    assert loop.skipped == ()
    assert b"bmcp_x" in text


def test_what_comes_behind_the_end_changes_nothing():
    late = chunk({"tool_calls": [entry(9, "own", "{}", "late")]})
    stream = calling((0, "bmcp_s_now", "{}"), done=False) + late + chunk({}, "stop") + DONE
    loop = loop_of()
    text, relay = feed(loop, stream + late + sse({"error": "x"}) + DONE)
    assert (relay.state, [call.tool for call in loop.calls]) == (State.FINISHED, ["bmcp_s_now"])
    assert text == chunk({"role": "assistant", "content": None})


def test_a_turn_is_bounded(monkeypatch):
    monkeypatch.setattr(chat_message, "MAX_TURN_BYTES", 1000)
    for delta in ({"content": "x" * 90}, {"tool_calls": [entry(0, "bmcp_x", "y" * 90, "c")]}, {"odd": {"a": 1}}):
        decoder = loop_of().decoder(SSEScanner())
        good = chunk({"content": "a"})
        with pytest.raises(CorruptPayload, match="over the limit") as caught:
            decoder.feed_data(good + chunk(delta) * 200)
        assert caught.value.before.relay.startswith(good)
        assert caught.value.before.events[-1].end == len(caught.value.before.relay)
        with pytest.raises(CorruptPayload, match="over the limit"):
            decoder.feed_data(good)
        with pytest.raises(CorruptPayload, match="over the limit"):
            decoder.feed_eof()


def test_calls_are_bounded():
    calls = b"".join(chunk({"tool_calls": [entry(index, "bmcp_x", "", str(index))]}) for index in range(1025))
    with pytest.raises(CorruptPayload, match="calls"):
        loop_of().decoder(SSEScanner()).feed_data(calls)


def test_a_type_that_cannot_be_written_again():
    loop = loop_of()
    feed(loop, calling((0, "bmcp_s_now", "{}")))
    loop.answer([ToolResult((Text("x"),))])
    text, relay = feed(loop, b"event: a\x01b\n" + chunk({"content": "x"}, name="two"))
    assert relay.cause == "corrupt_payload"
    assert text.startswith(b'data: {"error"')


# whole answers


def answer_of(message, reason="stop", name="one", usage=USAGE):
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}
    return json.dumps({"id": name, "created": len(name), "choices": [choice], "usage": usage, "x": 1.0}).encode()


def whole_call(name, call_id, arguments="{}"):
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_whole_answers():
    loop = loop_of()
    calls = [whole_call("bmcp_s_find", "a", '{"q":1}'), whole_call("bmcp_s_now", "a"), whole_call("bmcp_s_now", "")]
    loop.take_body(answer_of({"content": "See.", "reasoning": "h", "tool_calls": calls}, "tool_calls"))
    assert [call.id for call in loop.calls] == ["a", "a", "call_0_2"]
    loop.answer([ToolResult((Text("x"),))] * 3)
    loop.take_body(answer_of({"content": None, "tool_calls": [whole_call("bmcp_s_now", "b")]}, "stop", "three"))
    assert len(loop.calls) == 1
    loop.answer([ToolResult((Text("y"),))])
    said = json.loads(loop.request())["messages"]
    assert [one["role"] for one in said] == ["user", "assistant", "tool", "tool", "tool", "assistant", "tool"]
    assert said[1]["reasoning"] == "h"
    got = json.loads(loop.take_body(answer_of({"content": "So.", "refusal": None}, "stop", "seven")))
    assert loop.calls == ()
    assert (got["id"], got["created"], got["x"], got["usage"]["total_tokens"]) == ("one", 3, 1.0, 36)
    assert got["choices"][0] == {
        "index": 0,
        "message": {"role": "assistant", "content": "See.\n\nSo.", "refusal": None, "reasoning": "h"},
        "finish_reason": "stop",
    }


def test_whole_answers_of_one_turn():
    for body in (answer_of({"content": "x", "tool_calls": [whole_call("own", "a")]}), b'{"choices":[]}', b"{}"):
        loop = loop_of()
        assert loop.take_body(body) == body
        assert loop.calls == loop.skipped == ()
    loop = loop_of()
    mixed = [whole_call("bmcp_s_now", "a"), whole_call("own", "b")]
    got = json.loads(loop.take_body(answer_of({"content": "x", "tool_calls": mixed}, "tool_calls")))
    assert got["choices"][0]["message"]["tool_calls"] == mixed[1:]
    assert (loop.calls, [call.tool for call in loop.skipped]) == ((), ["bmcp_s_now"])
    loop = loop_of()
    got = json.loads(loop.take_body(answer_of({"content": "x", "tool_calls": mixed[:1]}, "length")))
    assert got["choices"][0]["message"] == {"role": "assistant", "content": "x"}
    with pytest.raises(CorruptPayload):
        loop_of().take_body(b"[]")


# recorded

FIXTURE = Path(__file__).parents[3] / "shared/fixtures/openai/chatcompletions/single_injected_tool.txtar"


@pytest.fixture
def recorded():
    if not FIXTURE.exists():
        pytest.skip("the recorded traffic is not here")
    parts = FIXTURE.read_bytes().split(b"\n-- ")[1:]
    return {name.decode(): text.lstrip(b"\n") for name, text in (part.split(b" --\n", 1) for part in parts)}


TOOL = (Tool("bmcp_coder_coder_list_workspaces", "coder", "coder_list_workspaces", "", b"{}"),)


def test_the_recorded_stream(recorded):
    loop = loop_of(recorded["request"], TOOL)
    text, _ = run([recorded["streaming"], recorded["streaming/tool-call"]], loop=loop)
    content, own, reasons, (usage,), _, roles = seen(text)
    assert (own, reasons, roles) == ({}, ["stop"], 1)
    assert b"tool_calls" not in text
    assert "workspace" in content
    assert usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"] == 5047
    assert usage["completion_tokens"] == 105
    *_, assistant, tool = json.loads(loop.request())["messages"]
    assert json.loads(assistant["tool_calls"][0]["function"]["arguments"]) == {"owner": "admin"}
    assert assistant["tool_calls"][0]["id"] == tool["tool_call_id"]


def test_the_recorded_bodies(recorded):
    loop = loop_of(recorded["request"], TOOL)
    loop.take_body(recorded["non-streaming"])
    assert [call.arguments for call in loop.calls] == ['{"owner":"admin"}']
    loop.answer([ToolResult((Text("x"),))])
    got = json.loads(loop.take_body(recorded["non-streaming/tool-call"]))
    assert "dd711d5c-83c6-4c08-a0af-b73055906e8c" in got["choices"][0]["message"]["content"]
    assert got["usage"]["completion_tokens"] == 105
    assert got["usage"]["prompt_tokens"] - got["usage"]["prompt_tokens_details"]["cached_tokens"] == 5047
