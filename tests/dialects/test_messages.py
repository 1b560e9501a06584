"""What the events of the Messages API mean, and how it says an error."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aibridge.content import NOTHING
from aibridge.dialects import DIALECTS, Telling, words_of
from aibridge.faults import ErrorKind
from aibridge.lifecycle import Signal
from aibridge.values import Event, Usage, UsageSource
from aibridge.wire import SSEScanner

MESSAGES = DIALECTS["messages"]


def observe(*events):
    """Return an observer that saw these events, and its last answer. An event is its fields, or (type, bytes)."""
    observer, answer = MESSAGES.observer(NOTHING), None
    for event in events:
        kind, data = event if isinstance(event, tuple) else (event.get("type", ""), json.dumps(event).encode())
        answer = observer.observe(Event(kind, data, 0))
    return observer, answer


def start(**usage):
    return {"type": "message_start", "message": {"id": "msg_1", "model": "claude-x", "usage": usage}}


def delta(stop_reason=None, **usage):
    return {"type": "message_delta", "delta": {"stop_reason": stop_reason}, "usage": usage}


STOP = {"type": "message_stop"}


def test_a_whole_answer():
    observer, answer = observe(
        start(input_tokens=10, output_tokens=1, cache_read_input_tokens=3, cache_creation_input_tokens=4),
        delta("tool_use", output_tokens=50),
        STOP,
    )
    assert answer is Signal.LAST_WORD
    assert observer.usage == Usage(10, 50, 3, 4)
    assert observer.usage_source() is UsageSource.PROVIDER_FINAL
    assert (observer.message_id, observer.response_model, observer.stop_reason) == ("msg_1", "claude-x", "tool_use")


def test_counts_are_cumulative_the_last_one_wins():
    observer, _ = observe(start(input_tokens=10, output_tokens=3), delta(output_tokens=20), delta(output_tokens=45))
    assert observer.usage == Usage(10, 45)


def test_input_tokens_of_the_delta_win_too():
    observer, _ = observe(start(input_tokens=10), delta("end_turn", input_tokens=310, output_tokens=5))
    assert observer.usage == Usage(310, 5)


@pytest.mark.parametrize(
    ("events", "source"),
    [
        ([], UsageSource.NONE),
        ([{"type": "ping"}], UsageSource.NONE),
        ([start()], UsageSource.NONE),
        ([start(input_tokens=1)], UsageSource.PROVIDER_PARTIAL),
        ([start(input_tokens=1), delta("end_turn")], UsageSource.PROVIDER_PARTIAL),
        ([delta("end_turn", output_tokens=1)], UsageSource.PROVIDER_FINAL),
        ([start(input_tokens=0)], UsageSource.PROVIDER_PARTIAL),
    ],
)
def test_where_counts_come_from(events, source):
    assert observe(*events)[0].usage_source() is source


def test_nested_counts_are_kept_under_their_own_names():
    usage = {
        "input_tokens": 1,
        "cache_creation": {"ephemeral_5m_input_tokens": 7, "ephemeral_1h_input_tokens": 8},
        "server_tool_use": {"web_search_requests": 2},
        "service_tier": "standard",
    }
    observer, _ = observe(start(**usage))
    assert observer.usage == Usage(
        1,
        extras=(("ephemeral_1h_input_tokens", 8), ("ephemeral_5m_input_tokens", 7), ("web_search_requests", 2)),
        service_tier="standard",
    )


@pytest.mark.parametrize(
    ("first", "last", "tier", "region"),
    [
        ({}, {}, "", ""),
        ({"service_tier": "priority", "inference_geo": "us"}, {}, "priority", "us"),
        ({"service_tier": "standard", "speed": "fast"}, {}, "fast", ""),
        ({"service_tier": "standard", "speed": "fast"}, {"service_tier": "standard"}, "fast", ""),
        ({"service_tier": "standard", "speed": "standard"}, {"service_tier": "batch"}, "batch", ""),
        ({"service_tier": None, "inference_geo": None}, {}, "", ""),
        ({"service_tier": 7.5, "inference_geo": ["us"], "speed": "quick"}, {}, "", ""),
        ({"service_tier": "x" * 33, "inference_geo": "sk-ant-1\n"}, {}, "", ""),
        ({"inference_geo": "not_available"}, {}, "", "not_available"),
    ],
)
def test_how_tokens_are_billed_is_told_at_the_start(first, last, tier, region):
    observer, _ = observe(start(input_tokens=1, **first), delta("end_turn", output_tokens=2, **last))
    assert observer.usage == Usage(1, 2, service_tier=tier, region=region)


@pytest.mark.parametrize("turned", [False, True])
def test_a_nested_count_does_not_take_the_place_of_one_at_the_top(turned):
    usage = {"input_tokens": 10, "iteration": {"input_tokens": 99, "deep": {"input_tokens": 98}}}
    usage = dict(reversed(usage.items())) if turned else usage
    assert observe(start(**usage))[0].usage == Usage(10)


def test_names_of_counts_are_bounded():
    """They are kept as they come, and an upstream writes them."""
    odd = {"sk-ant-1": 1, "A": 1, "a b": 1, "": 1, "é": 1, "x" * 65: 1, "deep": {"sk-ant-2": 2}}
    assert observe(start(input_tokens=3, **odd))[0].usage == Usage(3)
    many = [delta(**{f"n{event}_{number}": 1 for number in range(50)}) for event in range(20)]
    observer, _ = observe(start(input_tokens=3), *many)
    assert observer.usage.input_tokens == 3
    assert len(observer.usage.extras) == 63


def test_a_nested_count_does_not_take_the_place_of_what_another_event_told():
    observer, _ = observe(
        start(input_tokens=10, output_tokens=1),
        delta("end_turn", output_tokens=5, iteration={"input_tokens": 99, "cache_read_input_tokens": 98, "more": 3}),
    )
    assert observer.usage == Usage(10, 5, extras=(("more", 3),))


@pytest.mark.parametrize("count", [True, False, -1, 1.5, "7", None, [], 1 << 62, 10**30])
def test_what_is_no_count_is_not_counted(count):
    observer, _ = observe(start(input_tokens=count, output_tokens=2))
    assert observer.usage == Usage(None, 2)


def test_bedrock_metrics_fill_what_was_not_said():
    metrics = {
        "inputTokenCount": 100,
        "outputTokenCount": 200,
        "cacheReadInputTokenCount": 300,
        "cacheWriteInputTokenCount": 400,
        "invocationLatency": 1234,
    }
    observer, answer = observe({**STOP, "amazon-bedrock-invocationMetrics": metrics})
    assert answer is Signal.LAST_WORD
    assert observer.usage == Usage(100, 200, 300, 400)
    assert observer.usage_source() is UsageSource.PROVIDER_FINAL


def test_bedrock_metrics_win_and_what_the_message_said_is_kept_beside():
    metrics = {"inputTokenCount": 999, "outputTokenCount": 7, "cacheReadInputTokenCount": "x"}
    observer, _ = observe(
        start(input_tokens=10, output_tokens=7), {**STOP, "amazon-bedrock-invocationMetrics": metrics}
    )
    assert observer.usage == Usage(999, 7, extras=(("message_input_tokens", 10),))


def test_where_all_agree_nothing_is_kept_beside():
    counts = {"input_tokens": 1, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 4}
    metrics = {
        "inputTokenCount": 1,
        "outputTokenCount": 2,
        "cacheReadInputTokenCount": 3,
        "cacheWriteInputTokenCount": 4,
    }
    observer, _ = observe(
        start(**counts, output_tokens=1),
        delta("end_turn", output_tokens=2),
        {**STOP, "amazon-bedrock-invocationMetrics": metrics},
    )
    assert observer.usage == Usage(1, 2, 3, 4)


@pytest.mark.parametrize(
    ("told", "usage"),
    [
        ({"inputTokenCount": 111}, Usage(1, None, 100, 10)),
        ({"inputTokenCount": 112}, Usage(112, None, 100, 10, (("message_input_tokens", 1),))),
        (
            {"inputTokenCount": 111, "cacheReadInputTokenCount": 0, "cacheWriteInputTokenCount": 0},
            Usage(
                111,
                None,
                0,
                0,
                (
                    ("message_cache_creation_input_tokens", 10),
                    ("message_cache_read_input_tokens", 100),
                    ("message_input_tokens", 1),
                ),
            ),
        ),
    ],
)
def test_one_number_for_all_input_is_no_disagreement(told, usage):
    """Older metrics have no counts of the cache, and may tell all input in one."""
    said = start(input_tokens=1, cache_read_input_tokens=100, cache_creation_input_tokens=10)
    observer, _ = observe(said, {**STOP, "amazon-bedrock-invocationMetrics": told})
    assert observer.usage == usage


def test_the_time_that_the_provider_took():
    observer, _ = observe(
        {**STOP, "amazon-bedrock-invocationMetrics": {"invocationLatency": 1234, "firstByteLatency": 5}}
    )
    assert (observer.invocation_latency, observer.first_byte_latency) == (1.234, 0.005)
    assert observer.usage_source() is UsageSource.NONE


@pytest.mark.parametrize("odd", [None, -1, "7", True, 1 << 63, [1]])
def test_a_time_of_odd_shape_is_none(odd):
    observer, _ = observe(
        {**STOP, "amazon-bedrock-invocationMetrics": {"invocationLatency": odd, "firstByteLatency": odd}}
    )
    assert (observer.invocation_latency, observer.first_byte_latency) == (None, None)


@pytest.mark.parametrize("metrics", [None, [], "x", {}, {"inputTokenCount": None}])
def test_metrics_of_odd_shape_are_passed_over(metrics):
    observer, answer = observe({**STOP, "amazon-bedrock-invocationMetrics": metrics})
    assert answer is Signal.LAST_WORD
    assert observer.usage_source() is UsageSource.NONE


@pytest.mark.parametrize("reason", ["end_turn", "max_tokens", "refusal", "pause_turn", "stop_sequence", "new_reason"])
def test_every_reason_to_stop_is_a_finished_answer(reason):
    observer, answer = observe(start(), delta(reason, output_tokens=1), STOP)
    assert (answer, observer.stop_reason) == (Signal.LAST_WORD, reason)


def test_a_later_delta_without_a_reason_keeps_the_first():
    observer, _ = observe(delta("tool_use"), delta(None), delta(7))
    assert observer.stop_reason == "tool_use"


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (
            {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
            "overloaded_error: Overloaded",
        ),
        ({"type": "error", "error": {"message": "no type"}}, "no type"),
        ({"type": "error", "error": "plain"}, "plain"),
        ({"type": "error", "message": "at the top"}, "at the top"),
        ({"type": "error"}, ""),
        (("error", b'{"error":{"type":"api_error","message":"m"}}'), "api_error: m"),
        (("error", b'"words"'), ""),
        (("error", b""), ""),
        (("error", b"not json"), ""),
    ],
)
def test_errors_in_the_stream(event, words):
    observer, answer = observe(event)
    assert answer is Signal.ERROR_EVENT
    assert observer.error == words


@pytest.mark.parametrize(
    "event",
    [
        ("", b"[DONE]"),
        ("", b""),
        ("message_start", b"null"),
        ("message_delta", b"[]"),
        ("ping", b'"x"'),
        ("", b'{"type":5}'),
        ("", b'{"type":["message_stop"]}'),
        ("message_start", b'{"message":[]}'),
        ("message_start", b'{"message":{"id":5,"model":null,"usage":[1]}}'),
        ("message_delta", b'{"delta":"x","usage":5}'),
        ("content_block_delta", b'{"type":"content_block_delta","delta":{"type":"new_delta"}}'),
        ("new_event", b'{"type":"new_event","error":{"type":"not an error event"}}'),
    ],
)
def test_odd_events_say_nothing(event):
    observer, answer = observe(event)
    assert answer is None
    assert observer.usage == Usage()
    assert (observer.message_id, observer.response_model, observer.stop_reason, observer.error) == ("", "", "", "")


def test_the_event_line_wins_over_the_type_inside():
    """As in the SDKs, which dispatch on it."""
    assert observe(("ping", b'{"type":"message_stop"}'))[1] is None
    assert observe(("message_stop", b'{"type":"ping"}'))[1] is Signal.LAST_WORD
    assert observe(("message_stop", b"{}"))[1] is Signal.LAST_WORD
    assert observe(("", b'{"type":"message_stop"}'))[1] is Signal.LAST_WORD
    assert observe(("error", b'{"type":"overloaded_error","message":"x"}'))[1] is Signal.ERROR_EVENT


# a whole body


def test_a_body():
    observer = MESSAGES.observer(NOTHING)
    body = {
        "id": "msg_2",
        "type": "message",
        "model": "claude-y",
        "stop_reason": "max_tokens",
        "usage": {"input_tokens": 3, "output_tokens": 4, "cache_creation": {"ephemeral_5m_input_tokens": 0}},
    }
    assert observer.observe_body(json.dumps(body).encode()) is Signal.LAST_WORD
    assert observer.usage == Usage(3, 4, extras=(("ephemeral_5m_input_tokens", 0),))
    assert observer.usage_source() is UsageSource.PROVIDER_FINAL
    assert (observer.message_id, observer.response_model, observer.stop_reason) == ("msg_2", "claude-y", "max_tokens")


@pytest.mark.parametrize("body", [b"", b"[]", b"5", b"null", b'"x"', b"{", b"<html>", b'{"a":NaN}', b"{}{}", b"\xff"])
def test_a_body_that_is_not_the_json_promised(body):
    assert MESSAGES.observer(NOTHING).observe_body(body) is Signal.BAD_PAYLOAD


def test_a_body_without_usage_has_none():
    observer = MESSAGES.observer(NOTHING)
    assert observer.observe_body(b'{"id":5,"usage":"x","stop_reason":null}') is Signal.LAST_WORD
    assert observer.usage_source() is UsageSource.NONE
    assert (observer.message_id, observer.stop_reason) == ("", "")


def test_an_error_object_in_a_good_answer():
    observer = MESSAGES.observer(NOTHING)
    body = b'{"type":"error","error":{"type":"api_error","message":"broke"}}'
    assert observer.observe_body(body) is Signal.ERROR_EVENT
    assert observer.error == "api_error: broke"


# what we say


TYPES = {
    ErrorKind.INVALID_REQUEST: "invalid_request_error",
    ErrorKind.AUTHENTICATION: "authentication_error",
    ErrorKind.PERMISSION: "permission_error",
    ErrorKind.NOT_FOUND: "not_found_error",
    ErrorKind.MODEL_NOT_FOUND: "not_found_error",
    ErrorKind.TOO_LARGE: "request_too_large",
    ErrorKind.RATE_LIMIT: "rate_limit_error",
    ErrorKind.BUDGET: "permission_error",
    ErrorKind.API: "api_error",
    ErrorKind.OVERLOADED: "overloaded_error",
    ErrorKind.TIMEOUT: "timeout_error",
    ErrorKind.NOT_SUPPORTED: "not_supported",
}


@pytest.mark.parametrize("kind", ErrorKind)
def test_every_kind_of_error_has_a_word(kind):
    body = json.loads(MESSAGES.error_body(Telling(kind, "words", "id-1")))
    assert body == {"type": "error", "error": {"type": TYPES[kind], "message": "words"}, "request_id": "id-1"}


def test_no_id_where_there_is_none():
    assert "request_id" not in json.loads(MESSAGES.error_body(Telling(ErrorKind.API, "words", "")))


@settings(deadline=None)
@given(st.text(max_size=60))
def test_an_error_event_is_one_whole_event_whatever_the_words(words):
    """Words of an upstream must not end the event early, nor begin another."""
    event = MESSAGES.observer(NOTHING).error_event(Telling(ErrorKind.API, words, "id"))
    scan = SSEScanner().feed_data(event)
    assert scan.relay == event
    (only,) = scan.events
    assert only.type == "error"
    assert json.loads(only.data)["error"]["message"] == words
    assert observe((only.type, only.data))[1] is Signal.ERROR_EVENT


def test_the_ping_is_an_event_that_says_nothing():
    (only,) = SSEScanner().feed_data(MESSAGES.ping).events
    assert only.type == "ping"
    assert observe((only.type, only.data))[1] is None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"type":"error","error":{"type":"not_found_error","message":"model: x"}}', "not_found_error: model: x"),
        (b'{"error":"flat"}', "flat"),
        (b'{"message":"AWS says"}', "AWS says"),
        (b'{"Message":"AWS says"}', "AWS says"),
        (b'{"__type":"x#AccessDenied","message":"no"}', "no"),
        (b'[{"error":{"code":400,"message":"Gemini says","status":"INVALID_ARGUMENT"}}]', "Gemini says"),
        (b'{"detail":"ChatGPT says"}', "ChatGPT says"),
        (b'{"message":"no","detail":{}}', "no"),
        (b'{"error":null}', ""),
        (b'{"error":{"message":5}}', ""),
        (b"{}", ""),
        (b"[]", ""),
        (b"<html>502</html>", ""),
        (b"", ""),
    ],
)
def test_words_of_an_error_body(body, words):
    assert words_of(body) == words


@settings(deadline=None, max_examples=60)
@given(
    st.binary(max_size=50)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps).map(str.encode)
)
def test_words_of_anything_is_text(body):
    assert isinstance(words_of(body), str)
