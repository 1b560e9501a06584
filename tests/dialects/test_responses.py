"""What the events of the Responses API mean, and how it says an error."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aibridge.content import NOTHING, ContentPolicy, Keep
from aibridge.dialects import DIALECTS, Telling
from aibridge.faults import ErrorKind
from aibridge.lifecycle import Cause, Signal, State
from aibridge.relay import Relay
from aibridge.values import Event, Thought, ToolUse, Usage, UsageSource
from aibridge.wire import SSEScanner

RESPONSES = DIALECTS["responses"]
ALL = ContentPolicy(arguments=Keep.FULL, thoughts=Keep.FULL)


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def observe(*events, policy=ALL):
    """Return an observer that saw these events, and its last answer. An event is its fields, or (type, bytes)."""
    observer, answer = RESPONSES.observer(policy), None
    for event in events:
        kind, data = event if isinstance(event, tuple) else (event.get("type", ""), compact(event))
        answer = observer.observe(Event(kind, data, 0))
    return observer, answer


def life(kind, **response):
    response = {"id": "resp_1", "model": "gpt-x", **response}
    return {"type": f"response.{kind}", "response": response, "sequence_number": 0}


def counts(**more):
    return {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120, **more}


CREATED = life("created", status="in_progress", created_at=1790000000, usage=None)


def test_a_whole_answer():
    usage = counts(input_tokens_details={"cached_tokens": 64}, output_tokens_details={"reasoning_tokens": 7})
    observer, answer = observe(CREATED, life("completed", status="completed", usage=usage))
    assert answer is Signal.LAST_WORD
    assert observer.usage == Usage(36, 20, 64, extras=(("reasoning_tokens", 7), ("total_tokens", 120)))
    assert observer.usage_source() is UsageSource.PROVIDER_FINAL
    assert (observer.message_id, observer.response_model, observer.stop_reason) == ("resp_1", "gpt-x", "completed")
    assert (observer.finished, observer.closing()) == (False, b"")


# ends


@pytest.mark.parametrize(
    ("event", "signal", "reason", "error"),
    [
        (life("completed"), Signal.LAST_WORD, "completed", ""),
        (life("incomplete"), Signal.LAST_WORD, "incomplete", ""),
        (life("completed", status="failed", error={"message": "m"}), Signal.ERROR_EVENT, "", "m"),
        (
            life("incomplete", incomplete_details={"reason": "max_output_tokens"}),
            Signal.LAST_WORD,
            "max_output_tokens",
            "",
        ),
        (life("incomplete", incomplete_details={"reason": "content_filter"}), Signal.LAST_WORD, "content_filter", ""),
        (life("cancelled"), Signal.LAST_WORD, "cancelled", ""),
        (life("failed", error={"code": "server_error", "message": "m"}), Signal.ERROR_EVENT, "", "server_error: m"),
        (life("failed", error=None), Signal.ERROR_EVENT, "", ""),
        ({"type": "response.completed"}, Signal.LAST_WORD, "completed", ""),
        ({"type": "response.completed", "response": 5}, Signal.LAST_WORD, "completed", ""),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_ends(event, signal, reason, error, named):
    """Some proxies leave out the line `event:`."""
    observer, answer = observe((event["type"] if named else "", compact(event)))
    assert (answer, observer.stop_reason, observer.error) == (signal, reason, error)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"type": "error", "code": "ERR", "message": "m", "param": None, "sequence_number": 1}, "ERR: m"),
        ({"type": "error", "code": None, "message": "m"}, "m"),
        (
            {"type": "error", "error": {"type": "invalid_request_error", "code": "not_found", "message": "m"}},
            "not_found: m",
        ),
        ({"type": "error", "error": {"type": "rate_limit_error", "code": None, "message": "m"}}, "rate_limit_error: m"),
        ({"error": {"message": "m", "type": "server_error"}}, "server_error: m"),
        ({"error": {"code": 429, "message": "m"}}, "429: m"),
        ({"error": "m"}, "m"),
        ({"type": "error"}, ""),
        ({"type": "error", "message": 5}, ""),
    ],
)
@pytest.mark.parametrize("named", ["error", ""])
def test_errors_in_the_stream(data, words, named):
    observer, answer = observe((named, compact(data)))
    assert answer is Signal.ERROR_EVENT
    assert observer.error == words


def test_an_error_by_its_line_alone():
    assert observe(("error", b'{"message":"m"}'))[1] is Signal.ERROR_EVENT
    assert observe(("error", b"not json"))[1] is Signal.ERROR_EVENT


@pytest.mark.parametrize("kind", ["completed", "incomplete", "failed", "cancelled"])
def test_usage_of_every_end_counts(kind):
    """Tokens of a failed or cut answer are billed as well."""
    observer, _ = observe(CREATED, life(kind, usage=counts()))
    assert observer.usage == Usage(100, 20, extras=(("total_tokens", 120),))
    assert observer.usage_source() is UsageSource.PROVIDER_FINAL


@pytest.mark.parametrize(
    ("events", "source"),
    [
        ([], UsageSource.NONE),
        ([CREATED], UsageSource.NONE),
        ([life("created", usage=counts())], UsageSource.PROVIDER_PARTIAL),
        ([life("created", usage=counts()), life("completed", usage=None)], UsageSource.PROVIDER_PARTIAL),
        ([CREATED, life("completed", usage=None)], UsageSource.NONE),
        ([CREATED, life("completed", usage={})], UsageSource.NONE),
        ([CREATED, life("completed", usage=counts())], UsageSource.PROVIDER_FINAL),
    ],
)
def test_where_counts_come_from(events, source):
    assert observe(*events)[0].usage_source() is source


def test_the_response_is_known_from_its_beginning_on():
    for kind in ("created", "queued", "in_progress"):
        observer, answer = observe(life(kind))
        assert (answer, observer.message_id, observer.response_model) == (None, "resp_1", "gpt-x")
    observer, _ = observe(CREATED, life("completed", id="resp_2", model="gpt-y"))
    assert (observer.message_id, observer.response_model) == ("resp_1", "gpt-y")


@pytest.mark.parametrize(
    "event",
    [
        ("", b"[DONE]"),
        ("", b""),
        ("response.created", b"null"),
        ("response.created", b'{"response":[]}'),
        ("response.created", b'{"response":{"id":5,"model":null,"usage":[1],"created_at":"x"}}'),
        ("response.output_item.done", b'{"item":5}'),
        ("response.output_item.done", b"[]"),
        ("response.output_text.delta", b'{"type":"response.output_text.delta","error":{"message":"a piece of text"}}'),
        ("response.new", b'{"type":"response.new"}'),
        ("keepalive", b'{"type":"keepalive","sequence_number":3}'),
        ("", b'{"type":5}'),
        ("", b'{"type":["error"]}'),
        ("", b'{"error":null}'),
    ],
)
def test_odd_events_say_nothing(event):
    observer, answer = observe(event)
    assert answer is None
    assert (observer.usage, observer.facts) == (Usage(), [])
    assert (observer.message_id, observer.response_model, observer.stop_reason, observer.error) == ("", "", "", "")


def test_the_type_inside_wins_over_the_event_line():
    """As in the SDKs, which read the data alone."""
    assert observe(("message", compact(life("completed"))))[1] is Signal.LAST_WORD
    assert observe(("message", b'{"type":"error","message":"m"}'))[1] is Signal.ERROR_EVENT
    assert observe(("error", compact(CREATED)))[1] is None


# counts


@pytest.mark.parametrize(
    ("usage", "told"),
    [
        (counts(input_tokens_details=None, output_tokens_details="x"), Usage(100, 20, extras=(("total_tokens", 120),))),
        ({"input_tokens": 5}, Usage(5)),
        ({"output_tokens": 0}, Usage(None, 0)),
        ({"input_tokens": 5, "input_tokens_details": {"cached_tokens": 9}}, Usage(0, None, 9)),
        ({"input_tokens_details": {"cached_tokens": 9}}, Usage(None, None, 9)),
        (
            {"input_tokens": 100, "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30}},
            Usage(10, None, 60, 30),
        ),
        (
            {
                "input_tokens": 7,
                "input_tokens_details": {"audio_tokens": 3, "input_tokens": 99},
                "output_tokens_details": {"audio_tokens": 4, "input_tokens": 98},
            },
            Usage(7, extras=(("audio_tokens", 4), ("input_audio_tokens", 3), ("input_input_tokens", 99))),
        ),
        ({"input_tokens": 7, "cost": 0.5, "A b": 1, "x" * 65: 1, "queries": 2}, Usage(7, extras=(("queries", 2),))),
    ],
)
def test_counts(usage, told):
    assert observe(life("completed", usage=usage))[0].usage == told


@pytest.mark.parametrize("count", [True, -1, 1.5, "7", None, [], 1 << 62, 10**30])
def test_what_is_no_count_is_not_counted(count):
    observer, _ = observe(life("completed", usage={"input_tokens": count, "output_tokens": 2}))
    assert observer.usage == Usage(None, 2)


def test_counts_are_bounded():
    many = {f"n{number}": 1 for number in range(500)}
    observer, _ = observe(life("completed", usage={"input_tokens": 3, **many}))
    assert observer.usage.input_tokens == 3
    assert len(observer.usage.extras) == 64


# a whole body


def whole(body, policy=ALL):
    observer = RESPONSES.observer(policy)
    return observer, observer.observe_body(body if isinstance(body, bytes) else compact(body))


@pytest.mark.parametrize(
    ("response", "signal", "reason", "error"),
    [
        ({"status": "completed", "error": None}, Signal.LAST_WORD, "completed", ""),
        ({"status": "queued", "background": True}, Signal.LAST_WORD, "queued", ""),
        ({"status": "in_progress", "background": True}, Signal.LAST_WORD, "in_progress", ""),
        ({"status": "cancelled"}, Signal.LAST_WORD, "cancelled", ""),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
            Signal.LAST_WORD,
            "content_filter",
            "",
        ),
        (
            {"status": "failed", "error": {"code": "server_error", "message": "m"}},
            Signal.ERROR_EVENT,
            "",
            "server_error: m",
        ),
        ({"status": "failed"}, Signal.ERROR_EVENT, "", ""),
        ({"object": "response.compaction"}, Signal.LAST_WORD, "", ""),
    ],
)
def test_a_body(response, signal, reason, error):
    observer, answer = whole({"id": "resp_1", "model": "gpt-x", "usage": counts(), **response})
    assert (answer, observer.stop_reason, observer.error) == (signal, reason, error)
    assert (observer.message_id, observer.response_model) == ("resp_1", "gpt-x")
    assert observer.usage == Usage(100, 20, extras=(("total_tokens", 120),))
    assert observer.usage_source() is UsageSource.PROVIDER_FINAL


def test_an_error_object_in_a_good_answer():
    observer, answer = whole({"error": {"message": "m", "type": "invalid_request_error", "code": None}})
    assert (answer, observer.error) == (Signal.ERROR_EVENT, "invalid_request_error: m")


@pytest.mark.parametrize("body", [b"", b"[]", b"5", b"null", b'"x"', b"{", b"<html>", b'{"a":NaN}', b"{}{}", b"\xff"])
def test_a_body_that_is_not_the_json_promised(body):
    assert whole(body)[1] is Signal.BAD_PAYLOAD


# recorded traffic


def section(name, file="responses_tools.txtar"):
    text = (Path(__file__).parent / "recorded" / file).read_text()
    return text.partition(f"-- {name} --\n")[2].partition("\n-- ")[0].encode()


TOLD = [
    Thought('**Counting words**\n\nI look "up" what a word is - é.', "reasoning_summary"),
    Thought("**Reading**", "reasoning_summary"),
    ToolUse("ws_own_1", "web_search_call", '{"action":{"type":"search","query":"what is a word"}}'),
    Thought("I will read the file first.", "commentary"),
    ToolUse("call_own_1", "read_file", '{"path": "/notes.txt", "limit": 1.0}'),
    ToolUse("call_own_2", "apply_patch", "*** Begin Patch\n*** End Patch"),
]
COUNTED = Usage(440, 210, 2048, 512, (("reasoning_tokens", 128), ("total_tokens", 3210)), "default")


def test_a_recorded_stream_is_told_and_relayed_whole():
    stream = section("streaming")
    relay = Relay(RESPONSES, "id-1", ALL)
    relay.begin_stream(SSEScanner(quiet=RESPONSES.quiet(ALL)))
    sent = relay.feed_data(stream, 1.0) + relay.last_words
    assert sent == stream.rstrip(b"\n") + b"\n\n"
    assert relay.state is State.FINISHED
    assert relay.events == stream.count(b"data: ")
    assert [fact for fact, message in relay.take_facts() if message == "resp_own_1"] == TOLD
    assert relay.observer.usage == COUNTED


def test_a_recorded_body_is_told_as_its_stream():
    observer, answer = whole(section("non-streaming"))
    assert answer is Signal.LAST_WORD
    assert observer.facts == TOLD
    assert observer.usage == COUNTED


def test_the_tier_is_the_one_of_the_event_that_tells_the_usage():
    observer = RESPONSES.observer(NOTHING)
    for kind, tier, usage in (("created", "auto", None), ("completed", "flex", {"input_tokens": 3})):
        response = {"id": "resp_1", "service_tier": tier, "usage": usage, "status": "completed"}
        observer.observe(
            Event(f"response.{kind}", json.dumps({"type": f"response.{kind}", "response": response}).encode(), 0)
        )
    assert observer.usage == Usage(3, service_tier="flex")


@pytest.mark.parametrize("policy", [NOTHING, ALL])
def test_all_deltas_are_quiet_and_nothing_else(policy):
    stream = section("streaming")
    scan = SSEScanner(quiet=RESPONSES.quiet(policy)).feed_data(stream)
    kinds = [json.loads(line[6:])["type"] for line in stream.splitlines() if line.startswith(b"data: ")]
    assert [event.type for event in scan.events] == [kind for kind in kinds if not kind.endswith(".delta")]
    assert scan.count == len(kinds)


def delta(kind, **more):
    fields = {"type": f"response.{kind}.delta", "delta": "x", "item_id": "i", "output_index": 0, "sequence_number": 7}
    return {**fields, **more}


DELTAS = [
    delta("output_text", content_index=0, logprobs=[]),
    delta("output_text", content_index=0),
    delta("function_call_arguments"),
    delta("custom_tool_call_input"),
    delta("reasoning_summary_text", summary_index=0),
    delta("reasoning_text", content_index=0),
]


@pytest.mark.parametrize("event", DELTAS, ids=lambda event: event["type"])
def test_deltas_are_known_as_servers_write_them(event):
    by_alphabet = dict(sorted(event.items()))
    own = {key: event[key] for key in event if key.endswith("_index") or key == "logprobs"}
    documented = {"type": "", "item_id": "", "output_index": 0, **own, "delta": "", **event}
    for written in (
        by_alphabet,
        {"type": "", **by_alphabet, **event},
        {"type": "", **dict(sorted({**event, "obfuscation": "Zz"}.items())), **event},
        {key: event[key] for key in documented},
    ):
        scan = SSEScanner(quiet=RESPONSES.quiet(ALL)).feed_data(b"data: " + compact(written) + b"\n\n")
        assert (scan.count, scan.events) == (1, [])


@settings(deadline=None)
@given(st.permutations(list(DELTAS[0])), st.booleans())
def test_deltas_that_are_written_otherwise_say_nothing_either(keys, blanks):
    data = json.dumps({key: DELTAS[0][key] for key in keys}, indent=1 if blanks else None).encode()
    observer, answer = observe(CREATED, ("response.output_text.delta", data))
    assert (answer, observer.facts, observer.message_id) == (None, [], "resp_1")


# what we say


def fail(observer, kind=ErrorKind.API, request_id="id-1"):
    text = observer.error_event(Telling(kind, "why", request_id))
    head, _, rest = text.partition(b"\ndata: ")
    assert (head, rest[-2:]) == (b"event: response.failed", b"\n\n")
    return json.loads(rest)


def test_an_error_in_the_stream_fails_the_response_that_began():
    event = fail(observe(CREATED)[0])
    assert event["type"] == "response.failed"
    response = event["response"]
    assert (response["id"], response["model"], response["created_at"]) == ("resp_1", "gpt-x", 1790000000)
    assert (response["object"], response["status"], response["output"]) == ("response", "failed", [])
    assert response["error"] == {"code": "server_error", "message": "why", "request_id": "id-1"}
    assert event["error"] == json.loads(RESPONSES.error_body(Telling(ErrorKind.API, "why", "id-1")))["error"]


REQUIRED = {
    "id", "object", "created_at", "error", "incomplete_details", "instructions", "metadata", "model", "output",
    "parallel_tool_calls", "temperature", "tool_choice", "tools", "top_p",
}  # fmt: skip
"""Of a response, by the API's own description: SDKs of typed languages refuse one without them."""


def test_an_error_where_no_response_began():
    response = fail(observe()[0])["response"]
    assert response.keys() >= REQUIRED
    assert response["id"] == "resp_id-1"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (ErrorKind.API, "server_error"),
        (ErrorKind.OVERLOADED, "server_error"),
        (ErrorKind.TIMEOUT, "server_error"),
        (ErrorKind.RATE_LIMIT, "rate_limit_exceeded"),
        (ErrorKind.INVALID_REQUEST, "invalid_prompt"),
        (ErrorKind.TOO_LARGE, "invalid_prompt"),
    ],
)
def test_codes_that_clients_act_upon(kind, code):
    """Codex asks once more at the first two, and gives up at the last; at `server_is_overloaded` it would give up."""
    assert fail(observe()[0], kind)["response"]["error"]["code"] == code


@pytest.mark.parametrize("kind", ErrorKind)
def test_every_kind_of_error_is_said(kind):
    assert fail(observe()[0], kind, "")["response"]["error"].keys() == {"code", "message"}


def test_our_error_comes_behind_all_others():
    """OpenAI's Python SDK drops what is not behind `starting_after`."""
    stream = section("streaming")
    numbers = [json.loads(line[6:])["sequence_number"] for line in stream.splitlines() if line.startswith(b"data: ")]
    assert fail(observe()[0])["sequence_number"] > max(numbers)


def test_our_error_is_an_error_to_us_too():
    """As where two gateways stand in a row."""
    relay = Relay(RESPONSES, "id-1")
    relay.begin_stream(SSEScanner(quiet=RESPONSES.quiet(NOTHING)))
    stream = section("streaming")
    relay.feed_data(stream[: stream.index(b"event: response.output_item.done")], 1.0)
    relay.feed_eof(1.0)
    assert (relay.state, relay.cause) == (State.ENDED, Cause.TRUNCATED)
    (event,) = SSEScanner(quiet=RESPONSES.quiet(NOTHING)).feed_data(relay.last_words).events
    observer, answer = observe(event[:2])
    assert answer is Signal.ERROR_EVENT
    assert observer.error == "server_error: the upstream ended its answer before it was complete"


def test_an_error_as_a_body():
    body = json.loads(RESPONSES.error_body(Telling(ErrorKind.AUTHENTICATION, "why", "id-1")))
    assert body["error"]["message"] == "why"
    assert body["error"]["request_id"] == "id-1"


def test_a_ping_is_no_event():
    scan = SSEScanner().feed_data(RESPONSES.ping)
    assert (scan.relay, scan.count) == (RESPONSES.ping, 0)
