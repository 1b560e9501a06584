"""The gateway's own work: what is timed, and that timing changes nothing."""

import time

import pytest
from record_kit import ATTEMPT, INTERCEPTION, OUTCOME

from aibridge.content import NOTHING, ContentPolicy, Keep
from aibridge.dialects import DIALECTS
from aibridge.lifecycle import Signal, State
from aibridge.overhead import EVERY, Relays, Stopwatch, TimedBooks, TimedRelay
from aibridge.relay import Relay
from aibridge.values import Evidence, ToolUse, UserPrompt
from aibridge.wire import SSEScanner

DIALECT = DIALECTS["messages"]
EVENT = b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{}}\n\n'
TOOL = (
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":'
    b'{"type":"tool_use","id":"toolu_1","name":"Read","input":{}}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":'
    b'{"type":"input_json_delta","partial_json":"{\\"a\\":1}"}}\n\n'
    b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
)
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


class Slow:
    def __init__(self):
        self.heard = []

    def _take(self, *told):
        end = time.perf_counter() + 0.002
        while time.perf_counter() < end:
            pass
        self.heard.append(told)

    opened = learned = attempted = closed = _take


def test_the_books_are_told_and_timed():
    books, spent = Slow(), []
    timed = TimedBooks(books, lambda *told: spent.append(told))
    attempt, fact = ATTEMPT, UserPrompt("hi")
    timed.opened(INTERCEPTION)
    timed.learned(INTERCEPTION, fact, "msg")
    timed.attempted(INTERCEPTION, attempt)
    timed.closed(INTERCEPTION, OUTCOME)
    told = [(), (fact, "msg"), (attempt,), (OUTCOME,)]
    assert books.heard == [(INTERCEPTION, *one) for one in told]
    assert [(step, provider) for step, provider, _ in spent] == [("record", INTERCEPTION.provider)] * 3
    assert all(0.002 <= seconds < 10 for *_, seconds in spent)


def test_once_in_sixteen_times_is_timed():
    spent = []
    watch = Stopwatch("read", lambda *told: spent.append(told))
    for _ in range(2 * EVERY + 1):
        watch.stop("p", watch.start())
    assert [(step, provider) for step, provider, _ in spent] == [("read", "p")] * 3
    assert all(0 < seconds < 10 for *_, seconds in spent)


def test_what_the_books_refuse_is_refused():
    class Refusing(Slow):
        def opened(self, _):
            raise RuntimeError("full")

    with pytest.raises(RuntimeError, match="full"):
        TimedBooks(Refusing(), lambda *_: None).opened(INTERCEPTION)


def stream_through(relay):
    relay.begin_stream(SSEScanner(quiet=DIALECT.quiet(NOTHING), max_event_bytes=1 << 20))
    text = relay.feed_data(EVENT * 3, 1.0) + relay.feed_data(EVENT + STOP, 2.0)
    relay.on(Signal.DELIVERED)
    return text, relay.last_words, relay.outcome(ended_at=3.0, duration=2.0, evidence=Evidence())


def test_every_sixteenth_relay_is_timed():
    spent = []
    relays = Relays("p", lambda *told: spent.append(told))
    made = [relays.make(DIALECT, "id", NOTHING) for _ in range(EVERY * 2 + 1)]
    assert [number for number, relay in enumerate(made) if isinstance(relay, TimedRelay)] == [0, EVERY, EVERY * 2]
    for relay in made:
        stream_through(relay)
    assert [(step, provider) for step, provider, _ in spent] == [("relay", "p")] * 3
    assert all(0 < seconds < 10 for *_, seconds in spent)


@pytest.mark.parametrize("number", [0, 1])
def test_a_relay_timed_or_not_learns_what_the_policy_keeps(number):
    policy = ContentPolicy(arguments=Keep.FULL)
    relays = Relays("p", lambda *_: None)
    relay = [relays.make(DIALECT, "id", policy) for _ in range(2)][number]
    assert isinstance(relay, TimedRelay) is (number == 0)
    relay.begin_stream(SSEScanner(quiet=DIALECT.quiet(policy), max_event_bytes=1 << 20))
    relay.feed_data(TOOL, 1.0)
    assert [fact for fact, _ in relay.take_facts()] == [ToolUse("toolu_1", "Read", '{"a":1}')]


def test_a_timed_relay_answers_as_the_other():
    timed, plain = TimedRelay(DIALECT, "id", NOTHING, lambda _: None), Relay(DIALECT, "id")
    assert stream_through(timed) == stream_through(plain)
    assert timed.state is plain.state is State.ENDED
    assert timed.evidence(0.0) == plain.evidence(0.0)


def test_an_answer_that_was_no_stream_is_not_told():
    spent = []
    relay = TimedRelay(DIALECT, "id", NOTHING, spent.append)
    relay.fail(Signal.UNREACHABLE)
    relay.outcome(ended_at=3.0, duration=2.0, evidence=Evidence())
    assert spent == []
