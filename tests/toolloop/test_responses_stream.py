"""The one stream that the client sees of all turns of the Responses API."""

import json

import pytest
from responses_kit import (
    OWN,
    Upstream,
    at_random,
    bytewise,
    call,
    dump,
    events,
    gone_on,
    loop_of,
    message,
    numbered,
    parse,
    relay_turn,
    run,
    search,
    sse,
    thought,
    whole,
)

from aibridge.lifecycle import Cause, State
from aibridge.toolloop import base, responses_turn
from aibridge.values import Event
from aibridge.wire import SSEScanner

LOOPS = {
    "one": [[call("a")], [message()]],
    "two": [[call("a"), call("b", "bmcp_maps_find")], [message()]],
    "five": [[call(name) for name in "abcde"], [message()]],
    "three turns": [[call("a")], [call("b"), call("c")], [message()]],
    "words before": [[message("m1", "I look."), call("a")], [message("m2")]],
    "thoughts": [[thought("r1"), call("a")], [thought("r2"), message()]],
    "thoughts with words": [[thought("r1", "Hm", "Well"), call("a")], [thought("r2", "So"), message()]],
    "a search": [[search(), call("a")], [call("b"), search("ws2"), message()], [message("m2")]],
    "own at last": [[call("a")], [message("m1"), call("o", "own"), call("p", "own")]],
    "none": [[message()]],
    "mixed": [[thought("r1"), call("a"), message(), call("o", "own"), call("b")]],
}
each_loop = pytest.mark.parametrize("scripts", LOOPS.values(), ids=LOOPS)


def stream(*scripts, cut=whole, **fields):
    """Return the client's events, the loop, the upstream and the relays."""
    loop, upstream = loop_of(stream=True, **fields), Upstream(*scripts)
    text, relays = run(loop, upstream.ask, cut=cut)
    return parse(text), loop, upstream, relays


@each_loop
@pytest.mark.parametrize("store", [True, False])
def test_one_answer(scripts, store):
    told, _, upstream, relays = stream(*scripts, store=store)
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    kinds = [event["type"] for event in told]
    assert (kinds[:2], kinds[-1]) == (["response.created", "response.in_progress"], "response.completed")
    assert kinds.count("response.created") == kinds.count("response.in_progress") == 1
    visible = [item for script in scripts for item in script if not item.get("name", "").startswith("bmcp_")]
    assert told[-1]["response"]["output"] == visible
    for kind in ("added", "done"):
        items = [event for event in told if event["type"] == f"response.output_item.{kind}"]
        assert [event["output_index"] for event in items] == list(range(len(visible)))
        assert [event["item"]["id"] for event in items] == [item["id"] for item in visible]
    for event in told:
        if "item_id" in event:
            assert visible[event["output_index"]]["id"] == event["item_id"]
    assert b"bmcp_" not in dump(told)
    turns = len(scripts)
    told_usage = told[-1]["response"]["usage"]
    assert told_usage["input_tokens"] == 100 * turns * (turns + 1) // 2
    assert told_usage["output_tokens_details"]["reasoning_tokens"] == turns * (turns + 1) // 2
    assert [relay.cause for relay in relays] == [None] * turns
    assert {relay.state for relay in relays} == {State.FINISHED}
    assert [relay.observer.usage.output_tokens for relay in relays] == [20 * (n + 1) for n in range(turns)]
    assert {event["response"]["id"] for event in told if "response" in event} == {told[0]["response"]["id"]}
    assert {event["response"]["created_at"] for event in told if "response" in event} == {1790000001}
    assert upstream.scripts == []


@each_loop
@pytest.mark.parametrize("cut", [bytewise, *map(at_random, range(5))], ids=["bytes", *map(str, range(5))])
def test_cuts_change_nothing(scripts, cut):
    def text(cut):
        return run(loop_of(stream=True), Upstream(*scripts).ask, cut=cut)[0]

    assert text(cut) == text(whole)


@pytest.mark.parametrize("ending", [b"\r\n", b"\r"])
@pytest.mark.parametrize("cut", [whole, bytewise])
def test_other_line_ends(ending, cut):
    scripts = LOOPS["words before"]

    def ask(upstream):
        return lambda body: b": hello\n\n".replace(b"\n", ending) + upstream.ask(body).replace(b"\n", ending)

    text, _ = run(loop_of(stream=True), ask(Upstream(*scripts)), cut=cut)
    plain, _ = run(loop_of(stream=True), Upstream(*scripts).ask)
    lines = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    assert lines.count(b": hello\n\n") == 2
    assert parse(lines) == parse(plain)


def test_without_a_call_every_byte_stays():
    """But for the echo of our tools."""
    upstream = Upstream([thought("r", "Hm"), message(text="Schön \u2028 ☂"), search(), call("o", "own")])
    data = upstream.ask(loop_of(stream=True).request())
    data = data.replace(b'data: {"type"', b'data:  { "type"').replace(b',"item_id"', b' , "item_id"')
    ours = b",".join(map(dump, json.loads(upstream.bodies[0])["tools"]))
    text, _ = relay_turn(loop_of(stream=True), data)
    assert text == data.replace(ours, b"")
    assert text != data


def test_events_are_the_upstreams():
    """Observers see all, unwritten; each has its place in the text."""
    loop, upstream = loop_of(stream=True), Upstream([message("m1"), call("a"), call("b")], [message("m2")])
    plain = SSEScanner().feed_data(data := upstream.ask(loop.request())).events
    scan = loop.decoder(SSEScanner()).feed_data(data)
    assert [(event.type, event.data) for event in scan.events] == [(event.type, event.data) for event in plain]
    assert scan.count == len(plain)
    ends = [event.end for event in scan.events]
    assert ends == sorted(ends)
    assert ends[-1] == len(scan.relay)
    blocks = [scan.relay[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    for event, block in zip(scan.events, blocks, strict=True):
        assert isinstance(event, Event)
        withheld = b'"fc_' in event.data or event.type == "response.completed" or block.count(b"data: ") > 1
        assert block == b"" or withheld or json.loads(event.data)["type"] == parse(block)[0]["type"]
    assert b"fc_" not in scan.relay


def test_words_flow_at_once():
    """Each piece is with the client before the next one comes, in each turn."""
    upstream, loop = (
        Upstream([message("m1", "I look at it."), call("a")], [message("m2", "It rains.")]),
        loop_of(stream=True),
    )
    for words in ("I look at it.", "It rains."):
        decoder, seen = loop.decoder(SSEScanner()), ""
        for event in parse(upstream.ask(loop.request())):
            text = decoder.feed_data(sse(event)).relay
            if event["type"] == "response.output_text.delta":
                seen += parse(text)[-1]["delta"]
                assert words.startswith(seen)
        assert seen == words
        if loop.calls:
            loop.answer([base.ToolResult(())])


@pytest.mark.parametrize(
    ("first", "shown"),
    [
        ([call("a")], "resp_2"),
        ([thought("r"), call("a")], "resp_2"),
        ([thought("r", encrypted_content="x"), call("a")], "resp_2"),
        ([thought("r", "Hm"), call("a")], "resp_1"),
        ([message("m1"), call("a")], "resp_1"),
        ([search(), call("a")], "resp_1"),
    ],
)
def test_whose_id_is_shown(first, shown):
    """The last turn's where nothing had to be said before; what cannot be gone on with by its id begins at once."""
    told, loop, _, _ = stream(first, [message()])
    assert told[0]["response"]["id"] == told[-1]["response"]["id"] == shown
    assert gone_on(loop, previous_response_id=shown) == ("resp_2", [])
    for fields in ({"store": False}, {"conversation": "conv_1"}):
        told, loop, _, _ = stream(first, [message()], **fields)
        assert told[-1]["response"]["id"] == "resp_1"
        assert gone_on(loop, previous_response_id="resp_1") == ("resp_1", [])


def test_a_choice_for_the_first_turn_is_echoed():
    told, _, upstream, _ = stream([call("a")], [message()], tool_choice="required")
    assert [asked["tool_choice"] for asked in upstream.asked] == ["required", "auto"]
    assert {event["response"]["tool_choice"] for event in told if "response" in event} == {"required"}


def test_the_clients_tools_are_echoed():
    told, _, _, _ = stream([call("a")], [message()], tools=[OWN, {"type": "web_search"}])
    for event in told:
        if "response" in event:
            assert event["response"]["tools"] == [OWN, {"type": "web_search"}]


# mixed turns


def test_mixed():
    told, loop, _, _ = stream([call("a"), call("o", "own"), call("b", "bmcp_maps_find")])
    assert loop.calls == ()
    assert [one.id for one in loop.skipped] == ["a", "b"]
    assert gone_on(loop, previous_response_id="resp_1") == ("resp_1", ["a", "b"])
    assert [item["call_id"] for item in told[-1]["response"]["output"]] == ["o"]


@pytest.mark.parametrize(
    ("others", "mixed"),
    [
        ([search()], False),
        ([{"id": "x", "type": "mcp_call", "name": "n", "arguments": "{}"}], False),
        ([{"id": "x", "type": "program_call", "call_id": "c"}], False),
        ([{"id": "x", "type": "custom_tool_call", "call_id": "c", "name": "n", "input": "i"}], True),
        ([{"id": "x", "type": "mcp_approval_request"}], True),
        ([{"id": "x", "type": "local_shell_call", "call_id": "c"}], True),
        ([{"id": "x", "type": "shell_call", "call_id": "c"}], True),
        (
            [
                {"id": "x", "type": "shell_call", "call_id": "c"},
                {"id": "y", "type": "shell_call_output", "call_id": "c"},
            ],
            False,
        ),
        (
            [
                {"id": "x", "type": "shell_call", "call_id": "c"},
                {"id": "y", "type": "shell_call_output", "call_id": "d"},
            ],
            True,
        ),
        ([{"id": "x", "type": "tool_search_call"}, {"id": "y", "type": "tool_search_output"}], False),
        ([{"id": "x", "type": "tool_search_call"}], True),
        ([call("c", "bmcp_theirs")], True),
        ([call("c", "bmcp_unknown_tool")], False),
        ([call("c", "bmcp_maps_find", namespace="theirs")], True),
    ],
)
def test_what_makes_a_turn_mixed(others, mixed):
    loop = loop_of(stream=True, tools=[{**OWN, "name": "bmcp_theirs"}])
    relay_turn(loop, Upstream([*others, call("a")]).ask(loop.request()))
    assert (bool(loop.calls), bool(loop.skipped)) == (not mixed, mixed)


# ends that are no end of a turn


HALF = call("a", arguments='{"pla', status="incomplete")


@pytest.mark.parametrize("before", [[], [[call("z")]]], ids=["first turn", "second turn"])
def test_incomplete_in_a_call(before):
    details = {"incomplete_details": {"reason": "max_output_tokens"}}
    told, loop, _, relays = stream(*before, ([message(), HALF], "incomplete", details))
    assert (loop.calls, loop.skipped) == ((), ())
    assert told[-1]["type"] == "response.incomplete"
    assert told[-1]["response"]["output"] == [message()]
    assert told[-1]["response"]["incomplete_details"] == details["incomplete_details"]
    assert relays[-1].observer.stop_reason == "max_output_tokens"


def test_incomplete_behind_a_whole_call():
    """It is not run, and the upstream wants its output."""
    _, loop, _, _ = stream(([call("a"), message(status="incomplete")], "incomplete", {}))
    assert (loop.calls, [one.id for one in loop.skipped]) == ((), ["a"])
    assert gone_on(loop, previous_response_id="resp_1") == ("resp_1", ["a"])


def test_mixed_in_a_conversation():
    _, loop, _, _ = stream([call("a"), call("o", "own")], conversation="conv_1")
    assert gone_on(loop, conversation={"id": "conv_1"}) == (None, ["a"])
    assert gone_on(loop, conversation="conv_1") == (None, [])


@pytest.mark.parametrize("fields", [{"store": False}, {}])
def test_mixed_and_not_stored(fields):
    """Nobody can go on with it by its id."""
    _, loop, _, _ = stream(([call("a"), call("o", "own")], "completed", {"store": False}), **fields)
    assert gone_on(loop, previous_response_id="resp_1") == ("resp_1", [])


def test_keepalives():
    """They are no event of an answer that has not begun; later they are numbered with the others."""
    alive = {"type": "keepalive", "sequence_number": 7}
    first, second = [*map(sse, turn([call("a")]))], [*map(sse, turn([message()]))]
    loop = loop_of(stream=True)
    text, _ = relay_turn(loop, b"".join((*first[:2], sse(alive), *first[2:])))
    assert text == b": ping\n\n"
    loop.answer([base.ToolResult(())])
    text, _ = relay_turn(loop, b"".join((*second[:4], sse(alive), *second[4:])))
    told = parse(text)
    assert told[4] == {**alive, "sequence_number": 4}
    assert [event["sequence_number"] for event in told] == list(range(len(told)))


@pytest.mark.parametrize("first", [[call("z")], [message("m1"), call("z")]], ids=["silent", "words"])
def test_failed_in_the_second_turn(first):
    failure = {"error": {"code": "server_error", "message": "m"}}
    told, loop, _, relays = stream(first, ([call("a")], "failed", failure))
    assert loop.calls == ()
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    assert (told[0]["type"], told[-1]["type"]) == ("response.created", "response.failed")
    assert told[-1]["response"]["id"] == told[0]["response"]["id"]
    assert told[-1]["response"]["error"] == failure["error"]
    assert told[-1]["response"]["output"] == first[:-1]
    assert (relays[-1].cause, relays[-1].error) == (Cause.ERROR_EVENT, "server_error: m")


def test_an_error_in_the_second_turn():
    loop, upstream = loop_of(stream=True), Upstream([call("a")], [message()])
    relay_turn(loop, upstream.ask(loop.request()))
    loop.answer([base.ToolResult(())])
    good = upstream.ask(loop.request()).split(b"\n\n")[:5]
    error = {"type": "error", "code": "c", "message": "m", "param": None, "sequence_number": 99}
    text, relay = relay_turn(loop, b"\n\n".join((*good, b"")) + sse(error) + sse({"type": "late"}))
    assert parse(text)[-1] == {**error, "sequence_number": 5}
    assert (relay.cause, loop.calls) == (Cause.ERROR_EVENT, ())


@pytest.mark.parametrize("tail", [b"", b"event: x\ndata: {", b"data: {no\n\n"])
@pytest.mark.parametrize("events_before", range(1, 10))
def test_a_cut_stream(tail, events_before):
    """What came is the client's, also what waited; then an error of ours."""
    loop, upstream = loop_of(stream=True), Upstream([thought("r"), message("m1"), call("a")])
    blocks = upstream.ask(loop.request()).split(b"\n\n")[:events_before]
    text, relay = relay_turn(loop, b"\n\n".join((*blocks, b"")) + tail)
    told = parse(text)
    assert [event["type"] for event in told[:-1]] == [parse(block + b"\n\n")[0]["type"] for block in blocks]
    assert told[-1]["type"] == "response.failed"
    assert relay.cause in {Cause.TRUNCATED, Cause.CORRUPT_PAYLOAD}


def test_a_call_that_never_ended():
    loop = loop_of(stream=True)
    data = Upstream([call("a")]).ask(loop.request())
    text, relay = relay_turn(loop, data[: data.index(b"event: response.output_item.done")])
    assert (relay.cause, loop.calls) == (Cause.TRUNCATED, ())
    assert b"bmcp_" not in text


# servers of other habits


def test_an_output_that_is_left_empty_at_the_end():
    """As ChatGPT's backend does: the items that came count."""
    data = {"output": []}
    told, _, upstream, _ = stream(
        ([message("m1"), call("a")], "completed", data), ([message("m2")], "completed", data), store=False
    )
    assert told[-1]["response"]["output"] == [message("m1"), message("m2")]
    assert [item.get("id") for item in upstream.asked[1]["input"]] == [None, "m1", "fc_a", None]


def test_no_numbers_and_no_names():
    def ask(body):
        plain = [{k: v for k, v in event.items() if k != "sequence_number"} for event in parse(upstream.ask(body))]
        return b"".join(b"data: %b\n\n" % dump(event) for event in plain)

    upstream, loop = Upstream([message("m1"), call("a")], [message("m2")]), loop_of(stream=True)
    text, _ = run(loop, ask)
    told = parse(text)
    assert not any("sequence_number" in event for event in told)
    assert b"event:" not in text
    assert [item["id"] for item in told[-1]["response"]["output"]] == ["m1", "m2"]


def test_no_beginning_and_no_added():
    def ask(body):
        return b"".join(
            sse(event)
            for event in parse(upstream.ask(body))
            if event["type"] not in {"response.created", "response.in_progress", "response.output_item.added"}
            and "arguments" not in event["type"]
        )

    upstream, loop = Upstream([call("a"), message("m1"), call("b")], [message("m2")]), loop_of(stream=True)
    text, _ = run(loop, ask)
    told = parse(text)
    assert [event["output_index"] for event in told if event["type"] == "response.output_item.done"] == [0, 1]
    assert [item["id"] for item in told[-1]["response"]["output"]] == ["m1", "m2"]


def test_no_places():
    def ask(body):
        plain = [{k: v for k, v in event.items() if k != "output_index"} for event in parse(upstream.ask(body))]
        return b"".join(map(sse, plain))

    upstream, loop = Upstream([call("a"), message("m1")], [message("m2")]), loop_of(stream=True)
    text, _ = run(loop, ask)
    assert b"fc_a" not in text
    assert [item["id"] for item in parse(text)[-1]["response"]["output"]] == ["m1", "m2"]


def test_every_place_is_zero():
    """As some bridges write it."""
    first = [
        event | ({"output_index": 0} if "output_index" in event else {}) for event in turn([call("a"), message("m1")])
    ]
    loop = loop_of(stream=True)
    text, _ = relay_turn(loop, b"".join(map(sse, first)))
    assert b"fc_" not in text
    assert {event["output_index"] for event in parse(text) if "output_index" in event} == {0}
    assert [one.id for one in loop.calls] == ["a"]


def turn(items):
    response = {"id": "resp_1", "status": "in_progress"}
    return numbered(events(response, items, {**response, "status": "completed", "output": items}))


HOSTILE = [
    {"type": "response.output_item.added", "item": None, "output_index": 3},
    {"type": "response.output_item.added", "item": [], "output_index": "x"},
    {"type": "response.output_item.added", "item": {"type": 5, "name": []}, "output_index": 10**30},
    {"type": "response.output_item.done"},
    {"type": "response.output_text.delta", "output_index": -1, "sequence_number": 1.5},
    {"type": "response.created", "response": 5},
    {"type": "response.created"},
    {"type": 5},
    {},
]


@pytest.mark.parametrize("event", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("at", [0, 1, 3])
@pytest.mark.parametrize("kind", ["x", "", "a\x00b", "\u2028"])
def test_odd_events(event, at, kind):
    """Nothing fails, and the answer comes to its end."""
    odd = b"event: %b\ndata: %b\n\n" % (kind.encode(), dump(event))
    blocks = [*map(sse, turn([message(), call("a")]))]
    loop = loop_of(stream=True)
    text, relay = relay_turn(loop, b"".join((*blocks[:at], odd, *blocks[at:])))
    assert relay.state is State.FINISHED
    assert [one.id for one in loop.calls] == ["a"]
    assert b"It ra" in text


@pytest.mark.parametrize(
    "response",
    [
        None,
        5,
        {},
        {"usage": 5, "output": 5, "tools": "bmcp_"},
        {
            "usage": {"input_tokens": 10**4299, "x": {"y": []}},
            "output": [None, 5, []],
            "tools": [{"name": {"bmcp_": 1}}, []],
        },
        {"usage": {"input_tokens": True, "x": None}, "output": None, "id": 5, "created_at": "then"},
    ],
    ids=range(6),
)
def test_odd_ends(response):
    loop = loop_of(stream=True)
    for _ in range(2):
        end = {"type": "response.completed", "response": response}
        blocks = [*map(sse, turn([message(), call("a")]))]
        relay_turn(loop, b"".join((*blocks[:-1], sse(end))))
        assert [one.id for one in loop.calls] == ["a"]
        loop.answer([base.ToolResult(())])
    text, relay = relay_turn(loop, b"".join(map(sse, turn([message("m3")])[:-1])) + sse(end))
    assert relay.state is State.FINISHED
    assert parse(text)[-1]["type"] == "response.completed"


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(responses_turn, "MAX_TURN_BYTES", 10_000)
    one = message(text="x" * 3000)
    floods = {
        "items": [{"type": "response.output_item.done", "item": one, "output_index": 0}] * 5,
        "places": [{"type": "response.output_text.delta", "output_index": n} for n in range(100)],
        "beginnings": turn([])[:1] * 200,
        "thoughts": [{"type": "response.output_item.added", "item": thought("r"), "output_index": 0}] * 200,
        "withheld": [{"type": "response.output_item.added", "item": call(str(n))} for n in range(100)],
    }
    for flood in floods.values():
        data = b"".join(map(sse, flood))
        text, relay = relay_turn(loop_of(stream=True), data, bytewise)
        assert relay.cause is Cause.CORRUPT_PAYLOAD
        assert "calls tools of the gateway" in relay.error
        assert parse(text)[-1]["type"] == "response.failed"
        assert relay_turn(loop_of(stream=True), data)[0] == text


def test_words_are_not_kept(monkeypatch):
    """A long answer is no flood: of its deltas nothing stays."""
    monkeypatch.setattr(responses_turn, "MAX_TURN_BYTES", 100_000)
    told, _, _, _ = stream([message(text="x" * 50_000)])
    assert sum(len(event.get("delta", "")) for event in told) == 50_000
