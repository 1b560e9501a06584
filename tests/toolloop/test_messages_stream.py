"""Streams of the Messages API with injected tools: the client sees one message, whatever the turns and the cuts."""

import http.server
import json
import threading
from pathlib import Path

import anthropic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from messages_kit import (
    OURS,
    PING,
    WIRES,
    block,
    end,
    events_of,
    feed,
    frames,
    loop_of,
    message_of,
    run,
    sse,
    start,
    text,
    texts_of,
    thinking,
    tool,
)

from aibridge.errors import CorruptPayload, TruncatedEvent
from aibridge.toolloop import Image, Text, ToolCall, ToolResult, messages_stream
from aibridge.toolloop.rewriting import RewritingDecoder
from aibridge.values import Frame
from aibridge.wire import ChunkTranscoder, SSEScanner, encode_frame

LAST = [start("msg_2"), *text(0, "It is ", "blue."), *end("end_turn")]
ONE = [
    start(),
    *thinking(0, "Hm", "m."),
    *text(1, "I'll look."),
    PING,
    *tool(2, OURS, "", '{"a":', " 1.0}"),
    *end("tool_use"),
]


def parallel(count):
    calls = [event for at in range(count) for event in tool(at + 1, OURS, f'{{"n":{at}}}', id=f"toolu_{at}")]
    return [start(), *text(0, "I'll look."), *calls, *end("tool_use")]


@pytest.mark.parametrize("wire", WIRES)
def test_one_call_and_its_result_are_one_message(wire):
    got, (_, request) = run(loop_of(), [ONE, LAST], wire=wire)
    message = message_of(got)
    assert texts_of(message) == ["Hmm.", "I'll look.", "It is blue."]
    assert message["id"] == "msg_1"
    assert message["usage"] == {"input_tokens": 20, "output_tokens": 10}
    assert OURS.encode() not in got
    assert events_of(got).count(PING) == 1
    assert request["messages"] == [
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hmm.", "signature": "c2ln"},
                {"type": "text", "text": "I'll look."},
                {"type": "tool_use", "id": "toolu_1", "name": OURS, "input": {"a": 1.0}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_1",
                    "content": [{"type": "text", "text": 'toolu_1 {"a": 1.0}'}],
                }
            ],
        },
    ]


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_parallel_calls_come_back_in_one_message_in_their_order(wire, count):
    loop = loop_of()
    got, (_, request) = run(loop, [parallel(count), LAST], wire=wire)
    assert texts_of(message_of(got)) == ["I'll look.", "It is blue."]
    results = request["messages"][-1]["content"]
    assert [result["tool_use_id"] for result in results] == [f"toolu_{at}" for at in range(count)]
    assert [result["content"][0]["text"] for result in results] == [f'toolu_{at} {{"n":{at}}}' for at in range(count)]


@pytest.mark.parametrize("wire", WIRES)
def test_three_turns_and_the_clients_own_call_at_last(wire):
    second = [start("msg_2"), *tool(0, OURS, "{}", id="b"), *thinking(1, "More."), *end("tool_use", input_tokens=30)]
    third = [start("msg_3"), *text(0, "Read it."), *tool(1, "Read", '{"f":1}', id="c"), *end("tool_use")]
    loop = loop_of()
    got, requests = run(loop, [ONE, second, third], wire=wire)
    message = message_of(got)
    assert texts_of(message) == ["Hmm.", "I'll look.", "More.", "Read it.", "Read"]
    assert message["stop_reason"] == "tool_use"
    assert message["usage"] == {"input_tokens": 50, "output_tokens": 15}
    assert (loop.calls, loop.skipped) == ((), ())
    assert [len(request["messages"]) for request in requests] == [1, 3, 5]


@pytest.mark.parametrize("wire", WIRES)
def test_calls_of_both_kinds_leave_ours_undone(wire):
    mixed = [
        start(),
        *tool(0, OURS, "{}", id="a"),
        *text(1, "And you."),
        *tool(2, "Read", '{"f":1}', id="c"),
        *tool(3, "bmcp_gone", "{", id="d"),
        *end("tool_use"),
    ]
    loop = loop_of()
    got, _ = run(loop, [mixed], wire=wire)
    message = message_of(got)
    assert texts_of(message) == ["And you.", "Read"]
    assert message["stop_reason"] == "tool_use"
    assert loop.calls == ()
    assert loop.skipped == (ToolCall("a", OURS, "{}"), ToolCall("d", "bmcp_gone", "{"))


def test_tools_of_the_provider_make_no_turn_mixed():
    found = {"type": "web_search_tool_result", "tool_use_id": "srv", "content": []}
    cited = {"type": "citations_delta", "citation": {"cited_text": "x"}}
    searched = [
        start(),
        *block(0, {"type": "redacted_thinking", "data": "b3BhcXVl"}),
        *tool(1, "web_search", '{"query":"x"}', id="srv", kind="server_tool_use"),
        *block(2, found),
        *block(3, {"type": "text", "text": "See ", "citations": []}, {"type": "text_delta", "text": "x"}, cited),
        *tool(4, OURS, "{}"),
        *end("tool_use"),
    ]
    loop = loop_of()
    got, (_, request) = run(loop, [searched, LAST])
    assert events_of(got)[-5]["index"] == 4
    content = request["messages"][1]["content"]
    assert content[:4] == [
        {"type": "redacted_thinking", "data": "b3BhcXVl"},
        {"type": "server_tool_use", "id": "srv", "name": "web_search", "input": {"query": "x"}},
        found,
        {"type": "text", "text": "See x", "citations": [{"cited_text": "x"}]},
    ]
    assert content[4]["name"] == OURS


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_without_injected_calls_every_byte_stays(line_end):
    own = [start(), PING, *text(0, "a", "b"), *tool(1, "Read", "{}"), *end("tool_use", metrics={"inputTokenCount": 1})]
    data = b": hello\n\n" + sse(own, line_end)
    loop = loop_of()
    assert feed(loop, data)[0] == data
    assert (loop.calls, loop.skipped) == ((), ())


@pytest.mark.parametrize("reason", ["max_tokens", "refusal", "model_context_window_exceeded", None])
def test_a_call_that_was_cut_short_is_not_run(reason):
    cut = [start(), *text(0, "Now."), *tool(1, OURS, '{"a')[:-1], *end(reason)]
    loop = loop_of()
    got, _ = run(loop, [cut])
    assert b"bmcp" not in got
    events = events_of(got)
    assert events[-1]["type"] == "message_stop"
    if reason:
        assert message_of(got)["stop_reason"] == reason
    assert loop.calls == ()
    assert loop.skipped == (ToolCall("toolu_1", OURS, '{"a'),)


def test_arguments_that_are_no_object_go_back_as_an_empty_one():
    odd = [
        start(),
        *tool(0, OURS, '{"a', id="a"),
        *tool(1, OURS, "[1]", id="b"),
        *tool(2, OURS, id="c"),
        *end("tool_use"),
    ]
    loop = loop_of()
    _, (_, request) = run(loop, [odd, LAST])
    assert [call["input"] for call in request["messages"][1]["content"]] == [{}, {}, {}]
    assert [r["content"][0]["text"] for r in request["messages"][2]["content"]] == ['a {"a', "b [1]", "c {}"]


def test_blank_text_is_not_sent_back():
    _, (_, request) = run(
        loop_of(), [[start(), *text(0), *text(1, " \n"), *tool(2, OURS, "{}"), *end("tool_use")], LAST]
    )
    assert [one["type"] for one in request["messages"][1]["content"]] == ["tool_use"]


def test_an_error_in_a_later_turn_reaches_the_client():
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    loop = loop_of()
    run(loop, [ONE])
    loop.answer([ToolResult((Text("x"),))])
    got, _ = feed(loop, sse([start("msg_2"), *text(0, "It")[:-1], error]))
    assert [(event["type"], event.get("index")) for event in events_of(got)] == [
        ("content_block_start", 2),
        ("content_block_delta", 2),
        ("error", None),
    ]
    assert loop.calls == ()


def test_a_frame_that_ends_the_stream_passes():
    headers = {":message-type": "exception", ":exception-type": "throttlingException"}
    data = frames(ONE[:2]) + encode_frame(headers, b'{"message":"slow"}')
    loop = loop_of()
    scan = loop.decoder(ChunkTranscoder(quiet=())).feed_data(data)
    assert scan.events[-1] == Frame(headers, b'{"message":"slow"}')
    assert loop.calls == ()


def test_what_came_before_a_break_is_rewritten_too():
    loop = loop_of()
    run(loop, [ONE])
    loop.answer([ToolResult(())])
    decoder = loop.decoder(SSEScanner(quiet=()))
    with pytest.raises(CorruptPayload) as caught:
        decoder.feed_data(sse([start(), *text(0, "It")]) + b"data: {\n\n")
    assert [event["index"] for event in events_of(caught.value.before.relay)] == [2, 2, 2]
    with pytest.raises(CorruptPayload):
        decoder.feed_data(b"")
    halved = loop.decoder(SSEScanner(quiet=()))
    halved.feed_data(sse([start()]) + b"data: {")
    with pytest.raises(TruncatedEvent):
        halved.feed_eof()


def test_counts_of_all_kinds_are_summed():
    caching = {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 0}
    first = [
        start(cache_creation=caching, service_tier="standard", cache_read_input_tokens=7),
        *tool(0, OURS, "{}"),
        *end("tool_use", server_tool_use={"searches": 1}, cache_read_input_tokens=None, iterations=[{"n": 1}]),
    ]
    second = [start(cache_creation=caching), *text(0, "x"), *end("end_turn", iterations=[{"n": 2}], input_tokens=11)]
    message = message_of(run(loop_of(), [first, second])[0])
    assert message["usage"] == {
        "input_tokens": 21,
        "output_tokens": 10,
        "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 0},
        "cache_read_input_tokens": 7,
        "server_tool_use": {"searches": 1},
        "service_tier": "standard",
        "iterations": [{"n": 1}, {"n": 2}],
    }


def test_metrics_of_bedrock_are_summed_but_the_first_byte():
    def metrics(*numbers):
        return dict(
            zip(("inputTokenCount", "outputTokenCount", "invocationLatency", "firstByteLatency"), numbers, strict=True)
        )

    first = [start(), *tool(0, OURS, "{}"), *end("tool_use", metrics(10, 5, 900, 300))]
    second = [start(), *text(0, "x"), *end("end_turn", metrics(12, 6, 800, 200))]
    message = message_of(run(loop_of(), [first, second], wire="bedrock")[0])
    assert message["metrics"] == metrics(22, 11, 1700, 300)


# hostile streams


def test_numbers_out_of_order_or_repeated_are_set_right():
    odd = [start(), *text(7, "a"), *text(3, "b"), *text(3, "c"), *tool(3, OURS, "{}"), *end("tool_use")]
    got, (_, request) = run(loop_of(), [odd, [start(), *text(-5, "d"), *text(1 << 70, "e"), *end("end_turn")]])
    assert texts_of(message_of(got)) == ["a", "b", "c", "d", "e"]
    assert len(request["messages"][1]["content"]) == 4


def test_deltas_without_a_block_never_reach_another_block():
    stray = [text(0, "x")[1], text(5, "x")[2], {"type": "content_block_delta"}, {"type": "content_block_start"}]
    late = tool(9, OURS, "{}")
    second = [start(), start(), *stray, *text(0, "y"), *stray, *end("end_turn")[:1], *late, *end("tool_use")[1:]]
    loop = loop_of()
    got, _ = run(loop, [ONE, second])
    assert texts_of(message_of(got)) == ["Hmm.", "I'll look.", "y"]
    assert loop.calls == ()


@pytest.mark.parametrize("index", [None, "1", [0], {}, 1.5])
def test_a_call_of_ours_without_a_number_is_never_shown(index):
    events = [start(), *text(0, "y"), *[event | {"index": index} for event in tool(0, OURS, "{}")], *end("tool_use")]
    loop = loop_of()
    assert texts_of(message_of(run(loop, [events])[0])) == ["y"]
    assert loop.calls == ()


def test_nothing_grows_without_bound(monkeypatch):
    monkeypatch.setattr(messages_stream, "MAX_TURN_BYTES", 1000)
    loop = loop_of()
    decoder = loop.decoder(SSEScanner(quiet=()))
    with pytest.raises(CorruptPayload) as caught:
        decoder.feed_data(sse([start(), *text(0, *["x" * 300] * 5), *end("end_turn")]))
    assert [event["type"] for event in events_of(caught.value.before.relay)][-1] == "content_block_delta"
    assert caught.value.before.count == len(caught.value.before.events) == 4
    with pytest.raises(CorruptPayload):
        decoder.feed_data(b"")
    with pytest.raises(CorruptPayload):
        decoder.feed_eof()
    monkeypatch.setattr(messages_stream, "MAX_BLOCKS", 2)
    monkeypatch.setattr(messages_stream, "MAX_TURN_BYTES", 1 << 20)
    with pytest.raises(CorruptPayload, match="over 2 content blocks"):
        feed(loop_of(), sse([start(), *text(0, "a"), *text(1, "b"), *text(2, "c")]))


@pytest.mark.parametrize("data", [b"", b"[1]", b"5", b"[DONE]", b'"x"'])
@pytest.mark.parametrize("kind", ["content_block_start", "content_block_delta", "message_delta", "ping"])
def test_events_of_other_shapes_do_no_harm(kind, data):
    odd = b"event: %b\ndata: %b\n\n" % (kind.encode(), data)
    loop = loop_of()
    first = sse(ONE)
    feed(loop, first.replace(b"event: ping", odd + b"event: ping"))
    assert [call.id for call in loop.calls] == ["toolu_1"]


INDEXES = st.sampled_from([0, 1, 2, 3, -1, 1 << 40, None, "0", [], True])
ODD_BLOCKS = st.sampled_from(
    [
        {"type": "text", "text": "a"},
        {"type": "text"},
        {"type": "thinking", "thinking": 5},
        {"type": "tool_use", "name": OURS, "id": "a", "input": {}},
        {"type": "tool_use", "name": OURS, "input": "x"},
        {"type": "tool_use", "name": ["Read"]},
        {"type": ["tool_use"]},
        {"type": "server_tool_use", "name": OURS},
        5,
        None,
    ]
)
ODD_DELTAS = st.sampled_from(
    [
        {"type": "text_delta", "text": "\ud83d"},
        {"type": "text_delta", "text": None},
        {"type": "input_json_delta", "partial_json": '{"a"'},
        {"type": "thinking_delta", "thinking": "x"},
        {"type": "signature_delta", "signature": 5},
        {"type": "citations_delta"},
        {"type": "odd_delta", "partial_json": {"x": 1}, "input": [], "text": 5},
        {"type": []},
        {},
        "x",
    ]
)
ODD_ENDS = st.sampled_from(
    [
        {"delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": -1}},
        {"delta": {"stop_reason": None}, "usage": []},
        {"delta": 5, "usage": {"a": {"b": [1 << 70]}}},
        {},
    ]
)
ODD_EVENTS = st.one_of(
    st.builds(lambda at, one: {"type": "content_block_start", "index": at, "content_block": one}, INDEXES, ODD_BLOCKS),
    st.builds(lambda at, one: {"type": "content_block_delta", "index": at, "delta": one}, INDEXES, ODD_DELTAS),
    st.builds(lambda at: {"type": "content_block_stop", "index": at}, INDEXES),
    st.builds(lambda one: {"type": "message_delta"} | one, ODD_ENDS),
    st.sampled_from([start(), {"type": "message_start", "message": 5}, {"type": "odd"}, PING]),
)
ODD_TURNS = st.lists(ODD_EVENTS, max_size=25).map(lambda events: [*events, *end("tool_use", {"inputTokenCount": 1})])


@settings(deadline=None, max_examples=80)
@given(st.lists(ODD_TURNS, min_size=1, max_size=3), st.lists(st.integers(0, 3000), max_size=5))
def test_whatever_comes_no_call_of_ours_is_shown(events, places):
    loop = loop_of()
    for turn in events:
        data = sse(turn)
        got, _ = feed(loop, data, [place % (len(data) + 1) for place in places])
        shown = [event.get("content_block") for event in events_of(got)]
        assert not [
            one for one in shown if isinstance(one, dict) and (one.get("type"), one.get("name")) == ("tool_use", OURS)
        ]
        if not loop.calls:
            assert events_of(got)[-1]["type"] == "message_stop"
            break
        assert "message_stop" not in [event["type"] for event in events_of(got)]
        loop.answer([ToolResult((), is_error=True)] * len(loop.calls))
        assert json.loads(loop.request())["messages"][-1]["role"] == "user"


# every cut

TOLD = st.text(st.characters(codec="utf-8"), max_size=12)
PIECES = st.lists(TOLD, max_size=3)


@st.composite
def turns(draw):
    """Draw turns of a loop, and the texts that the client is to see."""
    drawn, seen = [], []
    count = draw(st.integers(1, 4))
    for number in range(count):
        last = number == count - 1
        events = [start(f"msg_{number}")]
        kinds = draw(st.lists(st.sampled_from(["text", "thinking", "ours"]), max_size=5))
        kinds = [kind for kind in kinds if kind != "ours"] if last else [*kinds, "ours"]
        for index, kind in enumerate(kinds):
            pieces = draw(PIECES)
            if kind == "ours":
                events += tool(index, OURS, *pieces, id=f"toolu_{number}_{index}")
            else:
                events += (text if kind == "text" else thinking)(index, *pieces)
                seen.append("".join(pieces))
            if draw(st.booleans()):
                events.append(PING)
        drawn.append(events + end("end_turn" if last else "tool_use"))
    return drawn, seen


@settings(deadline=None, max_examples=60)
@given(turns(), st.lists(st.integers(0, 5000), max_size=8), st.sampled_from(sorted(WIRES)))
def test_any_turns_in_any_cuts_are_one_message(drawn, places, wire):
    events, seen = drawn
    got, requests = run(loop_of(), events, places, wire)
    assert texts_of(message_of(got)) == seen
    assert (got, requests) == run(loop_of(), events, (), wire)
    for turn, request in zip(events, requests[1:], strict=False):
        ours = [event["content_block"]["id"] for event in turn if event.get("content_block", {}).get("name") == OURS]
        assert [result["tool_use_id"] for result in request["messages"][-1]["content"]] == ours


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_byte_by_byte_is_the_same(line_end):
    texts = set()
    for every in (1, 2, 3, 7, 1 << 20):
        loop, got = loop_of(), b""
        for events in (ONE, LAST):
            data = b": a\n\n" + sse(events, line_end)
            got += feed(loop, data, range(every, len(data), every))[0]
            if loop.calls:
                loop.answer([ToolResult((Image("image/png", "AAAA"),))])
        texts.add(got)
    assert len(texts) == 1


def test_half_of_a_line_end_goes_with_its_event():
    decoder = RewritingDecoder(SSEScanner(quiet=()), lambda event: b"" if event.data == b"1" else None)
    scans = [decoder.feed_data(piece) for piece in (b"data: 1\r\r", b"", b"\n", b"data: 2\r\r", b"\n\n")]
    assert b"".join(scan.relay for scan in scans) == b"data: 2\r\r\n\n"


# the judge


@pytest.fixture
def sdk():
    """Anthropic's own SDK against a server that says what it is given."""
    said = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            kind, body = said.pop(0)
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    client = anthropic.Anthropic(
        base_url=f"http://127.0.0.1:{server.server_port}", api_key="sk", max_retries=0, timeout=20
    )

    def ask(got, kind="text/event-stream"):
        said.append((kind, got))
        asked = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
        if kind == "application/json":
            return client.messages.create(**asked)
        with client.messages.stream(**asked) as stream:
            return stream.get_final_message()

    yield ask
    client.close()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_sdk_sees_one_coherent_message(sdk, wire, count):
    got, _ = run(
        loop_of(),
        [parallel(count), ONE, [*LAST[:-2], *tool(1, "Read", '{"f":1}', id="c"), *end("tool_use")]],
        wire=wire,
    )
    message = sdk(got)
    kinds = [(one.type, getattr(one, "text", None)) for one in message.content]
    assert kinds == [
        ("text", "I'll look."),
        ("thinking", None),
        ("text", "I'll look."),
        ("text", "It is blue."),
        ("tool_use", None),
    ]
    assert message.content[1].signature == "c2ln"
    assert message.content[-1].input == {"f": 1}
    assert (message.id, message.stop_reason) == ("msg_1", "tool_use")
    assert (message.usage.input_tokens, message.usage.output_tokens) == (30, 15)


def test_the_sdk_goes_on_behind_a_mixed_turn(sdk):
    mixed = [start(), *tool(0, OURS, "{}", id="a"), *tool(1, "Read", '{"f":1}', id="c"), *end("tool_use")]
    message = sdk(run(loop_of(), [mixed])[0])
    assert [(one.id, one.name) for one in message.content] == [("c", "Read")]
    result = {"type": "tool_result", "tool_use_id": "c", "content": "x"}
    history = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [one.model_dump(mode="json") for one in message.content]},
        {"role": "user", "content": [result]},
    ]
    _, (first, second) = run(loop_of({"model": "m", "max_tokens": 9, "messages": history}), [ONE, LAST])
    assert first["messages"] == second["messages"][:3] == history
    said = [one for message in second["messages"] if isinstance(message["content"], list) for one in message["content"]]
    called = [one["id"] for one in said if one["type"] == "tool_use"]
    answered = [one["tool_use_id"] for one in said if one["type"] == "tool_result"]
    assert called == answered == ["c", "toolu_1"]


RECORDED = Path(__file__).resolve().parents[3] / "shared/fixtures/anthropic/single_injected_tool.txtar"


@pytest.mark.skipif(not RECORDED.exists(), reason="the recorded traffic is not here")
def test_recorded_traffic(sdk):
    sections = RECORDED.read_text().split("\n-- ")[1:]
    parts = dict(section.split(" --\n", 1) for section in sections)
    asked = json.loads(parts["request"])
    loop = loop_of(asked)
    got, _ = feed(loop, parts["streaming"].encode())
    assert [(call.tool, json.loads(call.arguments)) for call in loop.calls] == [
        ("bmcp_coder_coder_list_workspaces", {"owner": "admin"})
    ]
    loop.answer([ToolResult((Text("[]"),))])
    assert [said["role"] for said in json.loads(loop.request())["messages"]] == ["user", "assistant", "user"]
    message = sdk(got + feed(loop, parts["streaming/tool-call"].encode())[0])
    # 74 and 128. The one token of each message_start is a part of these: the counts are cumulative.
    assert (message.usage.input_tokens, message.usage.output_tokens) == (15308, 202)
    assert {one.type for one in message.content} == {"text"}

    whole = loop_of(asked)
    whole.take_body(parts["non-streaming"].encode())
    assert len(whole.calls) == 1
    whole.answer([ToolResult((Text("[]"),))])
    message = sdk(whole.take_body(parts["non-streaming/tool-call"].encode()), "application/json")
    assert {one.type for one in message.content} == {"text"}
    assert (message.usage.input_tokens, message.usage.output_tokens) == (15308, 204)
