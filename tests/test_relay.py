"""The relay at the level of bytes: whatever the cuts, the client's text and the verdict are the same."""

import base64
import itertools
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aibridge.content import NOTHING
from aibridge.dialects import DIALECTS
from aibridge.faults import FAULT_OF, ErrorKind
from aibridge.lifecycle import TERMINATION_OF, TRANSITIONS, Cause, Signal, State, Termination
from aibridge.relay import MAX_ERROR_CHARACTERS, Relay
from aibridge.values import UsageSource
from aibridge.wire import ChunkTranscoder, SSEScanner, encode_event, encode_frame

MESSAGES = DIALECTS["messages"]
ID = "0193-the-interception"

START = b'{"type":"message_start","message":{"id":"msg_1","model":"claude-x","usage":{"input_tokens":5}}}'
PING = b'{"type": "ping"}'
BLOCK = b'{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}'
DELTA = b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Gr\xc3\xbc\xc3\x9fe"}}'
STOP_BLOCK = b'{"type":"content_block_stop","index":0}'
LAST_DELTA = b'{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":7}}'
STOP = b'{"type":"message_stop"}'
ERROR = b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'
CLEAN = (START, PING, BLOCK, DELTA, DELTA, STOP_BLOCK, LAST_DELTA, STOP)
ENDLESS = CLEAN[:-1]


def kind_of(event):
    return json.loads(event)["type"]


def text_of(events):
    """What the client gets of these events."""
    return b"".join(encode_event(kind_of(event), event) for event in events)


def chunk_frame(event):
    headers = {":event-type": "chunk", ":content-type": "application/json", ":message-type": "event"}
    return encode_frame(headers, b'{"bytes":"%b","p":"abc"}' % base64.b64encode(event))


def frames_of(events):
    return b"".join(map(chunk_frame, events))


class SSE:
    """Anthropic's own stream: what comes is what goes."""

    name = "sse"
    body_of = staticmethod(text_of)

    @staticmethod
    def decoder():
        return SSEScanner(quiet=MESSAGES.quiet(NOTHING))


class Frames:
    """The same events in Bedrock's frames."""

    name = "frames"
    body_of = staticmethod(frames_of)

    @staticmethod
    def decoder():
        return ChunkTranscoder(quiet=MESSAGES.quiet(NOTHING))


WIRES = pytest.mark.parametrize("wire", [SSE, Frames], ids=["sse", "frames"])


def new_relay(wire=SSE, state=State.STREAMING):
    relay = Relay(MESSAGES, ID)
    if state in {State.BETWEEN, State.RECONNECTING}:
        relay.follow(Relay(MESSAGES, ID), None)
    if state is State.RECONNECTING:
        relay.on(Signal.SENT)
    elif state is State.COLLECTING:
        relay.on(Signal.BODY_HEAD)
    elif state is State.REFUSED:
        relay.on(Signal.ERROR_HEAD)
    elif state not in {State.CONNECTING, State.BETWEEN}:
        relay.begin_stream(wire.decoder())
    if state in {State.FINISHED, State.ENDED}:
        relay.feed_data(wire.body_of(CLEAN), 0.0)
    if state is State.ENDED:
        relay.on(Signal.DELIVERED)
    assert relay.state is state
    return relay


def cut(body, cuts):
    """Cut a body at these offsets."""
    edges = [0, *sorted(at % (len(body) + 1) for at in cuts), len(body)]
    return [body[start:end] for start, end in itertools.pairwise(edges) if start < end]


def feed(relay, chunks, now=0.0):
    return b"".join(relay.feed_data(chunk, now) for chunk in chunks)


CUTS = st.lists(st.integers(0, 10_000), max_size=25)
EXAMPLES = settings(deadline=None, max_examples=60)


# whole streams


@WIRES
@EXAMPLES
@given(cuts=CUTS)
@example(cuts=[])
@example(cuts=list(range(4000)))
def test_a_clean_stream(wire, cuts):
    body, text = wire.body_of(CLEAN), text_of(CLEAN)
    relay = new_relay(wire)
    came = feed(relay, cut(body, cuts))

    assert came + relay.last_words == text
    assert relay.last_words.endswith(text_of([STOP])), "the terminal event is the owner's to hand over"
    assert (relay.state, relay.cause, relay.error) == (State.FINISHED, None, "")
    assert relay.feed_eof(1.0) == b""
    assert relay.state is State.FINISHED
    relay.on(Signal.DELIVERED)
    assert (relay.state, relay.cause, relay.error) == (State.ENDED, Cause.CLEAN, "")
    evidence = relay.evidence(0.0)
    assert (evidence.terminal_event_seen, evidence.events, evidence.last_event) == (True, len(CLEAN), "message_stop")
    assert (evidence.bytes_in, relay.trailing_bytes) == (len(body), 0)
    assert relay.observer.usage_source() is UsageSource.PROVIDER_FINAL
    assert (relay.observer.message_id, relay.observer.stop_reason) == ("msg_1", "end_turn")


@WIRES
@EXAMPLES
@given(keep=st.integers(0, 10_000), cuts=CUTS)
def test_a_stream_that_stops_anywhere(wire, keep, cuts):
    """However short: whole events only, then an error event of ours; and the cause is told from where it stopped."""
    whole = wire.body_of(ENDLESS)
    body = whole[: keep % (len(whole) + 1)]
    relay = new_relay(wire)
    came = feed(relay, cut(body, cuts)) + relay.feed_eof(0.0)

    events = next(n for n in range(len(ENDLESS), -1, -1) if len(wire.body_of(ENDLESS[:n])) <= len(body))
    at_boundary = len(wire.body_of(ENDLESS[:events])) == len(body)
    assert came == text_of(ENDLESS[:events])
    cause = Cause.TRUNCATED if at_boundary or wire is SSE else Cause.TRUNCATED_FRAME
    assert (relay.state, relay.cause) == (State.ENDED, cause)
    assert relay.last_words == relay.observer.error_event(relay.telling())
    assert not relay.evidence(0.0).terminal_event_seen
    assert relay.evidence(0.0).events == events


@EXAMPLES
@given(frame=st.integers(0, len(ENDLESS) - 1), at=st.integers(0, 10_000), flip=st.integers(1, 255), cuts=CUTS)
def test_a_flipped_byte_in_a_frame(frame, at, flip, cuts):
    """Nothing of the bad frame and nothing behind it reaches the client."""
    before, bad = frames_of(CLEAN[:frame]), bytearray(chunk_frame(CLEAN[frame]))
    bad[at % len(bad)] ^= flip
    relay = new_relay(Frames)
    came = feed(relay, cut(before + bytes(bad) + frames_of(CLEAN[frame + 1 :]), cuts)) + relay.feed_eof(0.0)
    assert came == text_of(CLEAN[:frame])
    assert relay.cause in {Cause.CORRUPT_FRAME, Cause.TRUNCATED_FRAME}, "a length made longer can look like the latter"
    assert relay.last_words == relay.observer.error_event(relay.telling())


@WIRES
@EXAMPLES
@given(place=st.integers(0, len(ENDLESS)), cuts=CUTS)
def test_an_error_event_is_the_last_word(wire, place, cuts):
    """It is passed on to the byte, and nothing behind it, not even a terminal event in the same chunk."""
    events = (*CLEAN[:place], ERROR)
    relay = new_relay(wire)
    came = feed(relay, cut(wire.body_of((*events, *CLEAN[place:])), cuts))
    assert came + relay.last_words == text_of(events)
    assert relay.last_words.endswith(text_of([ERROR]))
    assert (relay.state, relay.cause) == (State.ENDED, Cause.ERROR_EVENT)
    assert relay.error == "overloaded_error: Overloaded"
    assert not relay.terminal_event_seen
    assert relay.last_event == "error"
    assert relay.trailing_bytes > 0
    assert wire is Frames or relay.trailing_bytes == len(wire.body_of(CLEAN[place:]))


@WIRES
@EXAMPLES
@given(extra=st.lists(st.sampled_from(CLEAN), min_size=1, max_size=4), cuts=CUTS)
@example(extra=[ERROR], cuts=[])
@example(extra=[STOP], cuts=[])
def test_events_behind_the_last_word_are_counted_and_not_relayed(wire, extra, cuts):
    body = wire.body_of((*CLEAN, *extra))
    relay = new_relay(wire)
    came = feed(relay, cut(body, cuts)) + relay.feed_eof(0.0)
    assert came + relay.last_words == text_of(CLEAN)
    relay.on(Signal.DELIVERED)
    assert (relay.state, relay.cause, relay.error) == (State.ENDED, Cause.CLEAN, "")
    assert relay.trailing_bytes > 0
    assert wire is Frames or relay.trailing_bytes == len(wire.body_of(extra))
    assert relay.bytes_in == len(body)
    assert relay.last_event == "message_stop"


@WIRES
@EXAMPLES
@given(garbage=st.binary(min_size=1, max_size=200), cuts=CUTS)
def test_garbage_behind_the_last_word_changes_nothing(wire, garbage, cuts):
    relay = new_relay(wire)
    came = feed(relay, cut(wire.body_of(CLEAN) + garbage, cuts)) + relay.feed_eof(0.0)
    assert came + relay.last_words == text_of(CLEAN)
    assert relay.state is State.FINISHED
    assert relay.trailing_bytes == len(garbage)


def test_trailing_bytes_are_exact_where_they_come_alone():
    relay = new_relay(state=State.FINISHED)
    assert relay.feed_data(b"x" * 11, 0.0) == b""
    assert relay.feed_data(b"y", 0.0) == b""
    assert relay.trailing_bytes == 12


@EXAMPLES
@given(cuts=CUTS)
def test_bad_json_in_an_event(cuts):
    body = text_of(CLEAN[:3]) + b"event: content_block_delta\ndata: {]\n\n" + text_of(CLEAN[3:])
    relay = new_relay()
    assert feed(relay, cut(body, cuts)) == text_of(CLEAN[:3])
    assert relay.cause is Cause.CORRUPT_PAYLOAD
    assert relay.last_words == relay.observer.error_event(relay.telling())
    assert b"{]" not in relay.last_words


@EXAMPLES
@given(cuts=CUTS)
def test_a_bad_payload_in_a_good_frame(cuts):
    headers = {":event-type": "chunk", ":message-type": "event"}
    body = frames_of(CLEAN[:3]) + encode_frame(headers, b'{"bytes":"?"}') + frames_of(CLEAN[3:])
    relay = new_relay(Frames)
    assert feed(relay, cut(body, cuts)) == text_of(CLEAN[:3])
    assert relay.cause is Cause.CORRUPT_PAYLOAD


def test_a_break_behind_the_last_word_in_one_chunk_is_none():
    relay = new_relay(Frames)
    bad = bytearray(chunk_frame(PING))
    bad[-1] ^= 1
    came = relay.feed_data(frames_of(CLEAN) + bytes(bad), 0.0)
    assert came + relay.last_words == text_of(CLEAN)
    assert relay.state is State.FINISHED
    relay.on(Signal.DELIVERED)
    assert relay.cause is Cause.CLEAN


def test_no_byte_is_relayed_after_the_end():
    relay = new_relay()
    relay.fail(Signal.RESET, "gone")
    words = relay.last_words
    assert relay.feed_data(text_of(CLEAN), 0.0) == b""
    assert relay.feed_eof(0.0) == b""
    assert (relay.cause, relay.last_words, relay.error) == (Cause.CONNECTION_RESET, words, "gone")


@pytest.mark.parametrize(
    "odd",
    [b"data: [DONE]\n\n", b"data: null\n\n", b"data: 5\n\n", b"data:\n\n", b"event: ping\ndata: []\n\n", b": hm\n\n"],
)
def test_events_of_no_known_shape_pass(odd):
    relay = new_relay()
    assert relay.feed_data(odd, 0.0) == odd
    assert relay.state is State.STREAMING


@pytest.mark.parametrize("data", [b'"overloaded"', b"[]", b"{}", b'{"error":"overloaded"}', b""])
def test_an_error_event_of_odd_shape_is_one_all_the_same(data):
    relay = new_relay()
    event = b"event: error\ndata: " + data + b"\n\n"
    assert relay.feed_data(event, 0.0) == b""
    assert (relay.cause, relay.last_words) == (Cause.ERROR_EVENT, event)


# exception and error frames


def exception_frame(name, payload=b'{"message":"Too many tokens, wait."}', **more):
    return encode_frame({":message-type": "exception", ":exception-type": name, **more}, payload)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("throttlingException", "rate_limit_error"),
        ("serviceUnavailableException", "overloaded_error"),
        ("modelStreamErrorException", "api_error"),
        ("internalServerException", "api_error"),
        ("modelTimeoutException", "timeout_error"),
        ("validationException", "invalid_request_error"),
        ("somethingNewException", "api_error"),
    ],
)
@pytest.mark.parametrize("size", [1, 100, 10_000])
def test_an_exception_frame_ends_the_stream(name, kind, size):
    body = frames_of(CLEAN[:4]) + exception_frame(name)
    relay = new_relay(Frames)
    came = feed(relay, [*cut(body, range(0, len(body), size)), frames_of(CLEAN[4:])])
    assert came == text_of(CLEAN[:4])
    assert (relay.cause, relay.error_type) == (Cause.EXCEPTION_FRAME, name)
    assert relay.error == f"{name}: Too many tokens, wait."
    assert relay.last_event == f"exception:{name}"
    head, _, data = relay.last_words.rstrip().partition(b"\ndata: ")
    assert head == b"event: error"
    said = json.loads(data)
    assert said["error"] == {"type": kind, "message": "Too many tokens, wait."}, "word for word, and nothing before it"
    assert said["request_id"] == ID


def test_nothing_behind_an_exception_frame_is_relayed():
    relay = new_relay(Frames)
    body = frames_of(CLEAN[:4]) + exception_frame("throttlingException") + frames_of(CLEAN[4:])
    assert relay.feed_data(body, 0.0) == text_of(CLEAN[:4])
    assert relay.cause is Cause.EXCEPTION_FRAME


def test_an_error_frame_ends_the_stream():
    headers = {":message-type": "error", ":error-code": "InternalFailure", ":error-message": "it broke"}
    relay = new_relay(Frames)
    assert relay.feed_data(frames_of(CLEAN[:2]) + encode_frame(headers, b""), 0.0) == text_of(CLEAN[:2])
    assert (relay.cause, relay.error_type) == (Cause.ERROR_FRAME, "InternalFailure")
    assert relay.error == "InternalFailure: it broke"
    assert relay.telling().message == "it broke"
    assert relay.telling().kind is ErrorKind.API


@pytest.mark.parametrize("payload", [b"", b"not json", b"[]", b'{"other":1}'])
def test_an_exception_without_words_is_told_by_its_name(payload):
    relay = new_relay(Frames)
    relay.feed_data(exception_frame("throttlingException", payload), 0.0)
    assert relay.error == "throttlingException"


def test_an_exception_without_a_name_is_told_in_our_words():
    relay = new_relay(Frames)
    relay.feed_data(encode_frame({":message-type": "exception"}, b""), 0.0)
    assert (relay.cause, relay.error) == (Cause.EXCEPTION_FRAME, FAULT_OF[Cause.EXCEPTION_FRAME].message)
    assert relay.telling().message == FAULT_OF[Cause.EXCEPTION_FRAME].message


def test_an_exception_behind_the_last_word_changes_nothing():
    relay = new_relay(Frames)
    relay.feed_data(frames_of(CLEAN) + exception_frame("throttlingException"), 0.0)
    assert relay.state is State.FINISHED
    assert relay.last_words.endswith(text_of([STOP]))


def test_hostile_words_are_bounded():
    relay = new_relay(Frames)
    relay.feed_data(exception_frame("x", b'{"message":"%b"}' % (b"w" * 100_000)), 0.0)
    assert len(relay.error) == MAX_ERROR_CHARACTERS
    assert len(relay.last_words) < 2 * MAX_ERROR_CHARACTERS


# every signal in every state


@pytest.mark.parametrize("signal", Signal)
@pytest.mark.parametrize("state", [state for state in State if state is not State.ENDED])
def test_every_signal_in_every_state(state, signal):
    relay = new_relay(state=state)
    words = relay.last_words
    taken = TRANSITIONS[state, signal]
    relay.fail(signal, "what happened")

    assert (relay.state, relay.cause) == (taken.state, taken.cause)
    assert relay.error == ("what happened" if taken.cause not in {None, Cause.CLEAN} else "")
    if taken.state is not State.ENDED:
        assert relay.last_words == words, "what is held for the client stays held"
    elif state in {State.STREAMING, State.FINISHED} and taken.cause in FAULT_OF:
        assert relay.last_words == relay.observer.error_event(relay.telling()), "an open stream never just stops"
    else:
        assert relay.last_words == b""


@pytest.mark.parametrize("signal", Signal)
@pytest.mark.parametrize("state", [state for state in State if state is not State.ENDED])
def test_a_client_that_has_the_head_is_told_in_its_stream(state, signal):
    relay = new_relay(state=state)
    relay.committed, relay.http_status = True, 429
    held = relay.last_words
    taken = TRANSITIONS[state, signal]
    relay.fail(signal, "what happened")

    told = taken.cause in FAULT_OF or taken.cause is Cause.HTTP_STATUS
    ours = relay.observer.error_event(relay.telling()) if told else b""
    assert relay.last_words == (ours if taken.state is State.ENDED else held)
    if taken.cause is Cause.HTTP_STATUS:
        assert b"rate_limit_error" in ours
        assert b"what happened" in ours


def answered(relay):
    evidence = relay.evidence(0.0)
    return relay.outcome(ended_at=2.0, duration=1.0, evidence=evidence), evidence


def test_a_secret_that_an_upstream_calls_a_tier_or_a_count_is_told_by_nobody():
    relay = Relay(MESSAGES, ID)
    relay.secrets = ("s3cret-s3cret",)
    usage = {
        "input_tokens": 1,
        "s3cret_s3cret": 2,
        "service_tier": "s3cret-s3cret",
        "inference_geo": "us-s3cret-s3cret",
    }
    relay.begin_stream(SSE.decoder())
    relay.feed_data(SSE.body_of([json.dumps({"type": "message_start", "message": {"usage": usage}}).encode()]), 1.0)
    relay.fail(Signal.BODY_END, "")
    told = answered(relay)[0].usage
    assert (told.input_tokens, told.extras) == (1, (("s3cret_s3cret", 2),))
    assert "s3cret-s3cret" not in told.service_tier + told.region
    assert told.service_tier != "" != told.region


def test_a_further_turn_adds_to_what_the_turns_before_gave():
    first = new_relay(state=State.ENDED)
    first.bytes_out, first.secrets = 100, ("s3cret-s3cret",)
    one, _ = answered(first)
    relay = Relay(MESSAGES, ID)
    relay.follow(first, one)
    assert (relay.state, relay.secrets) == (State.BETWEEN, first.secrets)

    relay.on(Signal.SENT)
    relay.begin_stream(SSE.decoder())
    relay.feed_data(SSE.body_of(CLEAN), 7.0)
    relay.on(Signal.DELIVERED)
    both, evidence = answered(relay)

    assert both.usage.output_tokens == 2 * one.usage.output_tokens > 0
    assert (one.turns, both.turns) == ((), (one.usage, one.usage))
    assert (both.usage_source, both.cause) == (one.usage_source, Cause.CLEAN)
    assert both.evidence.events == 2 * one.evidence.events
    assert both.evidence.bytes_out == 100
    assert both.evidence.time_to_first_event == one.evidence.time_to_first_event == 0.0
    assert evidence.time_to_first_event == 7.0
    attempt = relay.attempt(number=2, origin="", started_at=0.0, duration=1.0, evidence=evidence)
    assert (attempt.usage, attempt.usage_source) == (one.usage, one.usage_source)


def test_each_of_many_turns_is_told_apart_and_one_without_tokens_is_none():
    relay = new_relay(state=State.ENDED)
    end, _ = answered(relay)
    one = end.usage
    for body in (CLEAN, (STOP,), CLEAN):
        further = Relay(MESSAGES, ID)
        further.follow(relay, end)
        further.on(Signal.SENT)
        further.begin_stream(SSE.decoder())
        further.feed_data(SSE.body_of(body), 7.0)
        further.on(Signal.DELIVERED)
        relay = further
        end, _ = answered(relay)
    assert end.turns == (one, one, one)
    assert end.usage.output_tokens == 3 * one.output_tokens


def test_a_client_that_leaves_between_two_turns_leaves_what_they_gave():
    first = new_relay(state=State.ENDED)
    one, _ = answered(first)
    relay = Relay(MESSAGES, ID)
    relay.follow(first, one)
    relay.on(Signal.CLIENT_LOST)
    end, _ = answered(relay)
    assert (end.cause, end.usage, end.message_id) == (Cause.DISCONNECTED, one.usage, one.message_id)
    assert end.turns == ()
    assert end.usage_source is UsageSource.PROVIDER_PARTIAL


def test_an_attempt_that_failed_gives_nothing_to_the_next():
    failed = new_relay(state=State.REFUSED)
    failed.fail(Signal.BODY_END, "no")
    relay = Relay(MESSAGES, ID)
    relay.follow(failed, None)
    relay.on(Signal.CLIENT_LOST)
    end, evidence = answered(relay)
    assert (end.usage_source, end.evidence) == (UsageSource.NONE, evidence)


LATE = [signal for signal in Signal if TRANSITIONS[State.FINISHED, signal].state is State.FINISHED]


@WIRES
@pytest.mark.parametrize("signal", LATE)
def test_a_fact_behind_the_last_word_does_not_take_it_back(wire, signal):
    relay = new_relay(wire, State.FINISHED)
    held = relay.last_words
    relay.fail(signal, "too late")
    assert relay.last_words == held
    relay.on(Signal.DELIVERED)
    assert (relay.cause, relay.error) == (Cause.CLEAN, "")


@pytest.mark.parametrize(
    ("signal", "cause"),
    [
        (Signal.CLIENT_LOST, Cause.DISCONNECTED),
        (Signal.CLIENT_STALLED, Cause.STALLED),
        (Signal.DRAINED, Cause.DRAINING),
        (Signal.BUG, Cause.INTERNAL),
    ],
)
def test_the_last_word_that_the_client_never_got_is_not_completed(signal, cause):
    relay = new_relay(state=State.FINISHED)
    relay.fail(signal, "why")
    assert relay.cause is cause
    assert TERMINATION_OF[cause] is not Termination.COMPLETED
    assert b"message_stop" not in relay.last_words
    relay.on(Signal.DELIVERED)
    assert relay.cause is cause


@pytest.mark.parametrize("later", Signal)
@pytest.mark.parametrize("first", [Signal.CUT, Signal.CLIENT_LOST, Signal.BUG])
def test_the_first_decisive_fact_decides(first, later):
    relay = new_relay()
    relay.fail(first, "first")
    seen = (relay.cause, relay.error, relay.last_words)
    relay.on(later, "later")
    assert (relay.cause, relay.error, relay.last_words) == seen
    relay.fail(later, "later")
    assert (relay.state, relay.cause, relay.error) == (State.ENDED, *seen[:2])


# what is told and kept


OURS_TO_TELL = {
    signal: cause
    for signal in Signal
    if (cause := TRANSITIONS[State.STREAMING, signal].cause) in FAULT_OF
    and cause not in {Cause.EXCEPTION_FRAME, Cause.ERROR_FRAME}
}


@pytest.mark.parametrize(("signal", "cause"), OURS_TO_TELL.items())
def test_telling_has_our_words_and_the_id_but_not_the_details(signal, cause):
    relay = new_relay()
    relay.fail(signal, "10.0.0.7 refused sk-secret")
    assert relay.telling() == (FAULT_OF[cause].kind, FAULT_OF[cause].message, ID)
    assert b"sk-secret" not in relay.last_words
    assert ID.encode() in relay.last_words


def test_time_to_the_first_event():
    relay = new_relay()
    first, rest = cut(text_of(CLEAN), [20])
    relay.feed_data(first, 10.5)
    assert relay.evidence(10.0).time_to_first_event is None, "half an event is none"
    relay.feed_data(rest, 10.75)
    relay.feed_data(b"", 99.0)
    assert relay.evidence(10.0).time_to_first_event == 0.75


@pytest.mark.parametrize(
    ("events", "last"),
    [
        ([START], "message_start"),
        ([START, DELTA], "content_block_delta"),
        ([DELTA, DELTA], "content_block_delta"),
        ([START, DELTA, STOP_BLOCK], "content_block_stop"),
        ([DELTA, PING], "ping"),
        ([PING, DELTA, PING, DELTA], "content_block_delta"),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
@WIRES
def test_the_last_event(wire, events, last, at_once):
    relay = new_relay(wire)
    feed(relay, [wire.body_of(events)] if at_once else [wire.body_of([event]) for event in events])
    assert relay.last_event == last
    assert relay.events == len(events)


def test_an_empty_body_is_truncated():
    relay = new_relay()
    assert relay.feed_eof(0.0) == b""
    assert relay.cause is Cause.TRUNCATED
    assert relay.evidence(0.0).events == 0
    assert relay.evidence(0.0).last_event == ""
