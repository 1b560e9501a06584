"""What the chunks of Chat Completions mean, and how that API says an error."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aibridge.content import NOTHING, ContentPolicy, Keep
from aibridge.dialects import DIALECTS, ChatDialect, Telling
from aibridge.dialects.chat import MAX_CHOICES
from aibridge.faults import ErrorKind
from aibridge.lifecycle import Cause, Signal, State
from aibridge.relay import MISSING_DONE, Relay
from aibridge.values import Event, Thought, ToolUse, Usage, UsageSource
from aibridge.wire import SSEScanner

CHAT = DIALECTS["chat"]
ALL = ContentPolicy(arguments=Keep.FULL, thoughts=Keep.FULL)
RECORDED = Path(__file__).parent / "recorded"
"""Streams made for this suite, in the shape of recorded traffic."""

DONE = ("", b"[DONE]")
FINAL, PARTIAL, NONE = UsageSource.PROVIDER_FINAL, UsageSource.PROVIDER_PARTIAL, UsageSource.NONE


def chunk(*choices, **more):
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "gpt-x", "choices": list(choices), **more}


def choice(index=0, finish_reason=None, **delta):
    return {"index": index, "delta": delta, "finish_reason": finish_reason}


def counts(prompt, completion, **more):
    return {"prompt_tokens": prompt, "completion_tokens": completion, **more}


def observe(*events, policy=NOTHING):
    """Return an observer that saw these events, and its last answer. An event is its fields, or (type, bytes)."""
    observer, answer = CHAT.observer(policy), None
    for event in events:
        kind, data = event if isinstance(event, tuple) else ("", json.dumps(event).encode())
        answer = observer.observe(Event(kind, data, 0))
    return observer, answer


def scan(stream, *, policy=ALL, quiet=None, cuts=()):
    """Return an observer that saw a stream through a scanner, its signals, and how many events were looked at."""
    scanner = SSEScanner(quiet=CHAT.quiet(policy) if quiet is None else quiet, hear_first=True)
    observer, signals, seen = CHAT.observer(policy), [], 0
    places = [0, *sorted(cuts), len(stream)]
    for begin, end in pairwise(places):
        for event in scanner.feed_data(stream[begin:end]).events:
            seen += 1
            signals.append(observer.observe(event))
    return observer, [signal for signal in signals if signal is not None], seen


def learned(observer):
    return (
        observer.message_id, observer.response_model, observer.stop_reason, observer.error, observer.usage,
        observer.usage_source(), observer.finished, observer.facts,
    )  # fmt: skip


CALL_1 = ToolUse("call_own1", "read_file", '{"path":"a.txt"}')
CALL_2 = ToolUse("call_own2", "read_file", '{"path":"b.txt"}')
NO_PREDICTION = (("accepted_prediction_tokens", 0), ("audio_tokens", 0))
STREAMS = {
    "openai": (
        "chatcmpl-own1", "gpt-4.1-2025-04-14", "tool_calls", FINAL, [CALL_1, CALL_2],
        Usage(93, 46, 1024, None, (
            *NO_PREDICTION, ("prompt_audio_tokens", 0), ("reasoning_tokens", 7), ("rejected_prediction_tokens", 0),
            ("total_tokens", 1163),
        ), "default"),
    ),
    "openai_bare": ("chatcmpl-own2", "gpt-5-2025-08-07", "length", NONE, [], Usage()),
    "azure": (
        "chatcmpl-own3", "gpt-4o-2024-11-20", "stop", FINAL, [],
        Usage(14, 2, 0, None, (
            *NO_PREDICTION, ("prompt_audio_tokens", 0), ("reasoning_tokens", 0), ("rejected_prediction_tokens", 0),
            ("total_tokens", 16),
        )),
    ),
    "vllm": (
        "chatcmpl-own4", "Qwen/Qwen3-8B", "stop", FINAL, [Thought("They ask for 4.", "reasoning_content")],
        Usage(20, 12, extras=(("total_tokens", 32),)),
    ),
    "vllm_usage_on_every_chunk": (
        "chatcmpl-own4", "Qwen/Qwen3-8B", "stop", FINAL, [], Usage(20, 3, extras=(("total_tokens", 23),)),
    ),
    "ollama": (
        "chatcmpl-511", "qwen3:8b", "stop", FINAL, [Thought("Sum it.", "reasoning")],
        Usage(11, 9, extras=(("total_tokens", 20),)),
    ),
    "llama_cpp": (
        "chatcmpl-own6", "gpt-oss-20b.gguf", "stop", FINAL, [Thought("Hm.", "reasoning_content")],
        Usage(6, 8, 64, extras=(("total_tokens", 78),)),
    ),
    "openrouter": (
        "gen-1790000000-own7", "anthropic/claude-sonnet-4.5", "stop", FINAL, [Thought("It is", "reasoning")],
        Usage(25, 15, 10, 5, (("reasoning_tokens", 6), ("total_tokens", 55))),
    ),
    "groq": (
        "chatcmpl-own8", "llama-3.3-70b-versatile", "stop", FINAL, [], Usage(41, 3, extras=(("total_tokens", 44),)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STREAMS)
def test_streams_of_servers(name):
    message_id, model, reason, source, facts, usage = STREAMS[name]
    observer, signals, _ = scan((RECORDED / f"{name}.sse").read_bytes())
    assert signals == [Signal.LAST_WORD]
    assert learned(observer) == (message_id, model, reason, "", usage, source, True, facts)


def test_every_recorded_stream_is_tried():
    assert {path.stem for path in RECORDED.glob("*.sse")} == set(STREAMS)


@pytest.mark.parametrize(
    "policy", [ALL, NOTHING, ContentPolicy(arguments=Keep.FULL), ContentPolicy(thoughts=Keep.FULL)]
)
@pytest.mark.parametrize("name", STREAMS)
def test_quiet_chunks_carry_no_fact(name, policy):
    stream = (RECORDED / f"{name}.sse").read_bytes()
    heard, signals, seen = scan(stream, policy=policy)
    all_heard, all_signals, all_seen = scan(stream, policy=policy, quiet=())
    assert (learned(heard), signals) == (learned(all_heard), all_signals)
    assert seen <= all_seen


@given(st.sampled_from(sorted(STREAMS)), st.lists(st.integers(0, 4000), max_size=6))
@settings(max_examples=60)
def test_streams_in_any_pieces(name, cuts):
    stream = (RECORDED / f"{name}.sse").read_bytes()
    whole, signals, _ = scan(stream)
    cut, cut_signals, _ = scan(stream, cuts=[at for at in cuts if at < len(stream)])
    assert (learned(cut), cut_signals) == (learned(whole), signals)


def test_what_was_whole_before_a_cut_is_told():
    calls = (RECORDED / "openai.sse").read_bytes()
    assert scan(calls[: calls.index(b'"call_own2"') - 1])[0].facts == []
    cut, signals, _ = scan(calls[: calls.index(b"b.txt")])
    assert (cut.facts, signals, cut.finished, cut.message_id) == ([CALL_1], [], False, "chatcmpl-own1")
    for name in ("vllm", "ollama", "llama_cpp"):
        text = (RECORDED / f"{name}.sse").read_bytes()
        cut, _, _ = scan(text[: text.index(b'"content":"!"')])
        assert cut.facts == STREAMS[name][4]


@pytest.mark.parametrize("name", ["ollama", "openrouter", "vllm", "openai"])
def test_who_answers_is_known_from_the_first_event(name):
    text = (RECORDED / f"{name}.sse").read_bytes()
    cut, _, seen = scan(text[: text.index(b"\n\ndata:", text.index(b"data:")) + 2], policy=NOTHING)
    assert seen == 1
    assert (cut.message_id, cut.response_model) == STREAMS[name][:2]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 300) | st.text(max_size=3) | st.sampled_from(["stop", "call_1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from([
            "id", "model", "object", "error", "choices", "index", "delta", "message", "finish_reason", "content",
            "tool_calls", "function_call", "function", "custom", "name", "arguments", "input", "reasoning", "usage",
            "x_groq", "prompt_tokens", "completion_tokens", "prompt_tokens_details", "cached_tokens",
        ]), inner, max_size=6,
    ),
    max_leaves=30,
)  # fmt: skip


@given(st.lists(st.dictionaries(st.just("choices"), st.lists(JSON, max_size=3)) | JSON, max_size=6), JSON)
def test_any_json_is_taken(events, body):
    observer, _ = observe(*(("", json.dumps(event).encode()) for event in events), DONE, policy=ALL)
    assert all(isinstance(part, str) for fact in observer.facts for part in fact)
    assert CHAT.observer(ALL).observe_body(json.dumps(body).encode()) in Signal


def test_the_last_word():
    observer, answer = observe(chunk(choice(content="x")))
    assert answer is None
    assert not observer.finished
    assert observe(chunk(choice(finish_reason="stop")), DONE)[1] is Signal.LAST_WORD
    assert observe(DONE)[1] is Signal.LAST_WORD


@pytest.mark.parametrize(
    ("choices", "finished", "reason"),
    [
        ([], False, ""),
        ([choice(content="x")], False, ""),
        ([choice(finish_reason="stop")], True, "stop"),
        ([choice(content="x", finish_reason="length")], True, "length"),
        ([choice(finish_reason="")], False, ""),
        ([choice(finish_reason=5)], False, ""),
        ([choice(0), choice(1), choice(1, "length")], False, "length"),
        ([choice(0), choice(1), choice(1, "length"), choice(0, "stop")], True, "stop"),
        ([choice(0, "stop"), choice(1)], False, "stop"),
        ([choice(0, "stop"), choice(1), choice(1, "length")], True, "stop"),
        ([choice(1, "stop")], False, "stop"),  # the first choice may have begun in quiet chunks
        ([choice(0, "stop"), choice(0, content="")], True, "stop"),
        ([choice(0, "stop"), choice(MAX_CHOICES)], True, "stop"),
        ([{"delta": {"content": "x"}, "finish_reason": "stop"}], True, "stop"),
        ([{"index": 0, "finish_reason": "stop"}], True, "stop"),
        (["x", None, {"index": "1", "delta": 5}], False, ""),
    ],
)
def test_finish_reasons(choices, finished, reason):
    observer, _ = observe(*(chunk(one) for one in choices))
    assert (observer.finished, observer.stop_reason) == (finished, reason)
    at_once, _ = observe(chunk(*choices))
    assert (at_once.finished, at_once.stop_reason) == (finished, reason)


def test_many_choices_are_bounded():
    observer, _ = observe(*(chunk(choice(index, "stop")) for index in range(3 * MAX_CHOICES)))
    assert len(observer._stopped) == MAX_CHOICES
    assert observer.finished


@pytest.mark.parametrize(
    "event",
    [
        {"error": {"message": "Sorry about that!", "type": "server_error"}},
        {"error": {"message": "Sorry about that!", "type": "server_error", "param": None, "code": 500}},
        {"object": "error", "message": "Sorry about that!", "type": "server_error", "code": 500},
        {**chunk(choice(finish_reason="error")), "error": {"message": "Sorry about that!", "type": "server_error"}},
        ("error", b'{"error": {"message": "Sorry about that!", "type": "server_error"}}'),
        ("error", b'{"message": "Sorry about that!", "type": "server_error"}'),
    ],
)
def test_errors_in_a_stream(event):
    observer, answer = observe(chunk(choice(content="x")), event)
    assert answer is Signal.ERROR_EVENT
    assert observer.error == "server_error: Sorry about that!"


DIED = {"code": 502, "message": "the provider died"}


@pytest.mark.parametrize(
    ("failing", "error"),
    [
        (choice(finish_reason="error"), ""),
        ({**choice(finish_reason="error"), "error": DIED}, "the provider died"),
        ({**choice(), "error": DIED}, "the provider died"),
    ],
)
def test_a_choice_that_broke_off(failing, error):
    observer, answer = observe(chunk(choice(content="x")), chunk(failing))
    assert (answer, observer.stop_reason, observer.error) == (Signal.ERROR_EVENT, "error", error)
    assert CHAT.observer(ALL).observe_body(json.dumps(chunk(failing)).encode()) is Signal.ERROR_EVENT


def test_the_others_come_whole_where_one_choice_broke_off():
    begun, broken = chunk(choice(0, content="x"), choice(1, content="y")), chunk(choice(0, "error"))
    assert observe(begun, broken)[1] is None
    assert observe(begun, broken, chunk(choice(1, "stop")))[1] is Signal.ERROR_EVENT
    assert observe(begun, broken, DONE)[1] is Signal.ERROR_EVENT


def test_an_error_that_is_a_string():
    observer, answer = observe({"error": "model runner has unexpectedly stopped"})
    assert (answer, observer.error) == (Signal.ERROR_EVENT, "model runner has unexpectedly stopped")


@pytest.mark.parametrize("error", [None, "", {}])
def test_no_error(error):
    assert observe({**chunk(choice(content="x")), "error": error})[1] is None


@pytest.mark.parametrize("data", [b"", b"5", b"[]", b"null", b'"x"', b'{"choices":5,"usage":[],"id":7,"model":{}}'])
def test_odd_events_say_nothing(data):
    observer, answer = observe(("", data))
    assert answer is None
    assert learned(observer) == ("", "", "", "", Usage(), NONE, False, [])


def test_azure_begins_with_empty_names():
    observer, _ = observe({"id": "", "model": "", "choices": []}, chunk(choice(content="x")), chunk(id="other"))
    assert (observer.message_id, observer.response_model) == ("chatcmpl-1", "gpt-x")


@pytest.mark.parametrize(
    ("events", "usage", "source"),
    [
        ([chunk(usage=None)], Usage(), NONE),
        ([chunk(usage={})], Usage(), NONE),
        ([chunk(choice(), usage=counts(9, 1)), chunk(choice(), usage=counts(9, 4))], Usage(9, 4), PARTIAL),
        ([chunk(choice(), usage=counts(9, 1)), chunk(choice(0, "stop"))], Usage(9, 1), PARTIAL),
        ([chunk(choice(0, "stop"), usage=counts(9, 4))], Usage(9, 4), FINAL),
        ([chunk(choice(0, "stop")), chunk(usage=counts(9, 4))], Usage(9, 4), FINAL),
        ([chunk(choice(0, "stop")), chunk(usage=counts(0, 0))], Usage(0, 0), FINAL),
        ([chunk(choice(0, "stop"), x_groq={"id": "r", "usage": counts(9, 4)})], Usage(9, 4), FINAL),
        ([chunk({**choice(0, "stop"), "usage": counts(9, 4)})], Usage(9, 4), FINAL),
    ],
)
def test_where_usage_stands(events, usage, source):
    observer, _ = observe(*events)
    assert (observer.usage, observer.usage_source()) == (usage, source)


@pytest.mark.parametrize(
    ("said", "usage"),
    [
        (counts(100, 5, prompt_tokens_details={"cached_tokens": 64}), Usage(36, 5, 64)),
        (counts(100, 5, prompt_tokens_details={"cached_tokens": 64, "cache_write_tokens": 30}), Usage(6, 5, 64, 30)),
        (counts(10, 5, prompt_tokens_details={"cached_tokens": 64}), Usage(0, 5, 64)),
        (counts(100, 5, prompt_tokens_details=None, completion_tokens_details=[]), Usage(100, 5)),
        (counts(100, 5, cached_tokens=64), Usage(36, 5, 64)),
        (
            counts(100, 5, prompt_cache_hit_tokens=64, prompt_cache_miss_tokens=36),
            Usage(36, 5, 64, extras=(("prompt_cache_miss_tokens", 36),)),
        ),
        (
            counts(100, 5, prompt_tokens_details={"cached_tokens": 64}, cache_read_input_tokens=64,
                   cache_creation_input_tokens=30),
            Usage(6, 5, 64, 30),
        ),
        (
            counts(9, 5, prompt_tokens_details={"audio_tokens": 4}, completion_tokens_details={"audio_tokens": 3}),
            Usage(9, 5, extras=(("audio_tokens", 3), ("prompt_audio_tokens", 4))),
        ),
        ({"prompt_tokens": 9}, Usage(9)),
        ({"prompt_tokens": -1, "completion_tokens": True, "total_tokens": 1 << 70, "Odd": 5, "cost": 0.5}, Usage()),
    ],
)  # fmt: skip
def test_counts(said, usage):
    assert observe(chunk(usage=said))[0].usage == usage


def test_counts_are_bounded():
    observer, _ = observe(chunk(usage=counts(1, 2, **{f"count_{n}": n for n in range(1000)})))
    assert observer.usage[:2] == (1, 2)
    assert len(observer.usage.extras) == 64


MESSAGE = {
    "role": "assistant",
    "content": None,
    "reasoning_content": "Both.",
    "tool_calls": [
        {"id": "call_own1", "type": "function", "function": {"name": "read_file", "arguments": CALL_1.arguments}},
        {"id": "call_own2", "type": "function", "function": {"name": "read_file", "arguments": CALL_2.arguments}},
    ],
}


def test_a_whole_answer():
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "gpt-x",
        "choices": [
            {"index": 0, "message": MESSAGE, "finish_reason": "tool_calls"},
            {"index": 1, "message": {"content": "No."}, "finish_reason": "stop"},
            {"index": 2, "message": {"function_call": {"name": "old", "arguments": "{}"}}, "finish_reason": "stop"},
        ],
        "usage": counts(60, 15, prompt_tokens_details={"cached_tokens": 32}),
    }
    observer = CHAT.observer(ALL)
    assert observer.observe_body(json.dumps(body, indent=2).encode()) is Signal.LAST_WORD
    facts = [Thought("Both.", "reasoning_content"), CALL_1, CALL_2, ToolUse("", "old", "{}")]
    assert learned(observer) == ("chatcmpl-1", "gpt-x", "tool_calls", "", Usage(28, 15, 32), FINAL, True, facts)
    sparing = CHAT.observer(NOTHING)
    sparing.observe_body(json.dumps(body).encode())
    assert sparing.facts == [
        ToolUse("call_own1", "read_file", ""), ToolUse("call_own2", "read_file", ""), ToolUse("", "old", ""),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "signal", "error"),
    [
        (b'{"error": {"message": "no", "type": "server_error"}}', Signal.ERROR_EVENT, "server_error: no"),
        (b'{"object": "error", "message": "no", "type": "BadRequestError"}', Signal.ERROR_EVENT, "BadRequestError: no"),
        (b'{"error": "no"}', Signal.ERROR_EVENT, "no"),
        (b"<html>", Signal.BAD_PAYLOAD, ""),
        (b"", Signal.BAD_PAYLOAD, ""),
        (b"[]", Signal.BAD_PAYLOAD, ""),
        (b'{"choices": [{"index": 0, "mess', Signal.BAD_PAYLOAD, ""),
        (b'{"choices": [5, {"message": 5}], "usage": 5}', Signal.LAST_WORD, ""),
    ],
)
def test_whole_bodies(body, signal, error):
    observer = CHAT.observer(ALL)
    assert (observer.observe_body(body), observer.error) == (signal, error)
    assert observer.facts == []
    assert observer.usage_source() is NONE


def stream(*events):
    return b"".join(
        b"data: " + (event[1] if isinstance(event, tuple) else json.dumps(event).encode()) + b"\n\n" for event in events
    )


def relay(text, dialect=CHAT):
    """Return a relay that was fed a whole body, and what its client got before the last words."""
    one = Relay(dialect, "01-id")
    one.begin_stream(SSEScanner(quiet=dialect.quiet(NOTHING)))
    got = one.feed_data(text, 1.0)
    if one.state is State.STREAMING:
        got += one.feed_eof(2.0)
    return one, got


STOPPED = chunk(choice(content="x")), chunk(choice(finish_reason="stop"))


@pytest.mark.parametrize("half", [b"", b"data: [DO", b"data: [DONE]", b"data: [DONE]\n"])
def test_a_clean_end_without_the_last_word(half):
    one, got = relay(stream(*STOPPED) + half)
    assert (one.state, one.note, one.last_words) == (State.FINISHED, MISSING_DONE, b"")
    assert got == stream(*STOPPED)


def test_the_last_word_is_repaired_only_where_that_is_on():
    one, got = relay(stream(*STOPPED), ChatDialect(repair_done=True))
    assert (one.state, one.note, one.last_words) == (State.FINISHED, MISSING_DONE, b"data: [DONE]\n\n")
    assert got == stream(*STOPPED)
    one, _ = relay(stream(*STOPPED[:1]), ChatDialect(repair_done=True))
    assert (one.cause, b"[DONE]" in one.last_words) == (Cause.TRUNCATED, False)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        stream(STOPPED[0]),
        stream(chunk(choice(0)), chunk(choice(1)), chunk(choice(0, "stop"))),
        stream(*STOPPED)[:-1],  # the finish reason is in half an event
    ],
)
def test_a_clean_end_of_half_an_answer_is_no_success(text):
    one, got = relay(text)
    assert one.cause is Cause.TRUNCATED
    assert one.last_words.startswith(b'data: {"error":{"message":"the upstream ended')
    assert text.startswith(got)
    assert b"[DONE]" not in got + one.last_words


def test_an_error_event_is_the_last_word():
    error = stream({"error": {"message": "Sorry", "type": "server_error"}})
    one, got = relay(stream(STOPPED[0]) + error + stream(DONE))
    assert (one.cause, one.error) == (Cause.ERROR_EVENT, "server_error: Sorry")
    assert (got, one.last_words) == (stream(STOPPED[0]), error)


@pytest.mark.parametrize(
    ("kind", "type_", "code"),
    [
        (ErrorKind.RATE_LIMIT, "rate_limit_error", "rate_limit_exceeded"),
        (ErrorKind.INVALID_REQUEST, "invalid_request_error", None),
        (ErrorKind.API, "server_error", "server_error"),
    ],
)
def test_errors_of_ours(kind, type_, code):
    error = {"message": "no \u2028", "type": type_, "param": None, "code": code, "request_id": "01-id"}
    telling = Telling(kind, "no \u2028", "01-id")
    assert json.loads(CHAT.error_body(telling)) == {"error": error}
    scan_ = SSEScanner().feed_data(CHAT.observer(NOTHING).error_event(telling))
    assert [(event.type, json.loads(event.data)) for event in scan_.events] == [("", {"error": error})]


def test_a_ping_is_a_comment():
    scan_ = SSEScanner().feed_data(CHAT.ping)
    assert scan_ == (CHAT.ping, [], 0)


@pytest.mark.parametrize(("metrics", "seconds"), [({"invocationLatency": 1250}, 1.25), ({"inputTokenCount": 5}, None)])
def test_the_time_alone_is_learned_from_metrics(metrics, seconds):
    observer, _ = observe(STOPPED[0])
    observer.observe_metrics(metrics)
    assert (observer.usage, observer.usage_source()) == (Usage(), NONE)
    assert (observer.invocation_latency, observer.first_byte_latency) == (seconds, None)
