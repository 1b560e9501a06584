"""One interception's wires: upstream connection, relay and client, joined so that a chunk passes in one call.

The exchange acts; it decides nothing. What happened on the three sides goes to the `Relay` as bytes and signals, and
what the relay says is done: written to the client, told to the listeners, the connection kept or cut. Nobody waits for
it: everything happens in the calls of the two connections and of the clock.

An interception is closed in one place, `_conclude`: attempt and outcome are told before the client's socket gets the
last word.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from email.utils import formatdate

from aibridge.attempts import Attempts
from aibridge.clientstream import ClientStream
from aibridge.credentials import redact_bytes, redact_headers
from aibridge.dialects import words_of
from aibridge.errors import AibridgeError, CorruptPayload, CredentialsError, RecordingFailed
from aibridge.failover import Asked, Next, Recourse, Why
from aibridge.faults import KEYS_REFUSED
from aibridge.headers import EVENT_STREAM, JSON, RETRY_SOON, answer_begun, retry_after
from aibridge.keypool import Exhausted
from aibridge.lifecycle import NOT_ASKED, NOT_THEIRS, Cause, Signal, State
from aibridge.patience import Due, Since, Standing, next_deadline
from aibridge.turns import Turns
from aibridge.upstream import CLOSINGS
from aibridge.values import (
    Headers,
    ResponseHead,
    StreamDecoder,
    Thought,
    ToolRun,
    ToolUse,
    UpstreamRequest,
)

logger = logging.getLogger(__name__)

_HELD_BACK = 1
"""Bytes of a non-streaming answer that wait until the client's socket has taken the rest."""
_WRITTEN_AT_ONCE = 65_536
"""Non-streaming answers up to this size go to the socket whole, with their head."""
PROGRESS_EVERY_S = 5.0
"""Between two notes of what an answer has seen, at least. They are made as the clock looks at it anyway, which with the
default timeouts is every 10 s: 10,000 streams cost some 1 % of a core."""


class Exchange(Attempts):
    """One interception, from the request to its one outcome.

    Args:
        asked: who is to answer, and what is known at the interception's acceptance.
        client: who asked.
        started: monotonic seconds (`time.perf_counter`) at the interception's acceptance.
        recourse: asked what else may be done where an attempt has failed; None: nothing.
        on_end: called once, when all is told and said.
    """

    __slots__ = (
        "_first_words", "_gone_at", "_heard_at", "_mended", "_noted_at", "_noted_bytes", "_on_end", "_over",
        "_paused_at", "_recourse", "_retry_after", "_said_at", "_shortest", "_told", "_turns", "_unsent",
    )  # fmt: skip

    def __init__(
        self,
        asked: Asked,
        client: ClientStream,
        started: float,
        recourse: Recourse | None,
        on_end: Callable[["Exchange"], None],
    ) -> None:
        super().__init__(asked, client, started)
        self._recourse = recourse
        self._on_end = on_end
        self._turns: Turns | None = None
        self._mended = False
        self._first_words: tuple[int, Headers, bytes] | None = None
        """What the client would have got of whom it asked, where the request has gone on to a fallback."""
        self._told = False
        self._over = False
        self._shortest = asked.around.shortest if recourse is None else recourse.shortest
        self._retry_after: Headers = RETRY_SOON
        now = self._sent_at
        self._heard_at = self._said_at = self._noted_at = now
        self._noted_bytes = 0
        self._gone_at = now
        # The connection may still be full of the answer before.
        self._paused_at: float | None = now if client.paused else None
        self._unsent = client.unsent_bytes
        client.listener = self
        asked.around.wheel.add(self, now + self._shortest)

    # what the gateway says

    def begin(self, request: UpstreamRequest, turns: Turns | None) -> None:
        """Send the first request. `turns` are there where it has tools that the gateway runs."""
        if turns is not None:
            self._take_turns(turns)
        if self._recourse is not None:
            self._recourse.begin()
        self.send(request)

    def _take_turns(self, turns: Turns) -> None:
        self._turns = turns
        turns.tell = self._tell_run

    def refuse(self, seconds: int) -> None:
        """End: the circuit is open; the upstream is not contacted, and the client is asked to wait."""
        self._retry_after = retry_after(seconds)
        self._end(Signal.CIRCUIT_OPEN, "")

    def refuse_keyless(self, exhausted: Exhausted) -> None:
        """End: of the provider's keys none can be asked with."""
        relay, seconds = self._relay, exhausted.seconds
        relay.barred = seconds is None
        self._retry_after = () if seconds is None else retry_after(seconds)
        self._end(Signal.KEYS_EXHAUSTED, KEYS_REFUSED.message if relay.barred else "")

    def refuse_unrecorded(self, reason: RecordingFailed) -> None:
        """End before the upstream is contacted: what cannot be recorded must not happen."""
        self._end(Signal.UNRECORDED, str(reason))

    def drain(self) -> None:
        """End: the drain deadline is reached."""
        self._end(Signal.DRAINED, "the drain deadline was reached")

    def stop_spending(self) -> None:
        """End: a budget that it belongs to is spent."""
        self._end(Signal.BUDGET_SPENT, "")

    def fail(self, error: BaseException) -> None:
        """End: an exception of ours. The client learns nothing of it but the id to ask for."""
        logger.error("interception %s failed", self._interception.id, exc_info=error)
        words = _words(error)
        self._end(Signal.BUG, words)
        if not self._over:
            self._give_up(words)

    # what the client does

    def client_lost(self) -> None:
        """The client closed or reset its connection: so is the upstream's, or it is read on for the answer's tokens."""
        if self._around.read_on <= 0 or self._relay.state not in _ANSWERED:
            self._end(Signal.CLIENT_LOST, "the client closed the connection")
            return
        self._relay.lose_client()
        self._gone_at = self._around.loop.time()
        self._paused_at = None
        if self._connection is not None:
            self._connection.resume_reading()

    def client_paused(self) -> None:
        """The client's buffer is full: take no more from the upstream."""
        try:
            self._pause()
            if self._connection is not None and self._relay.state is State.STREAMING:
                self._connection.pause_reading()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is ours, and is told as ours
            self.fail(error)

    def client_resumed(self) -> None:
        """The client's buffer has drained: go on, or hand over the last words that waited for it."""
        self._paused_at = None
        connection = self._connection
        try:
            if self._relay.state is State.FINISHED:
                self._deliver()
            elif connection is not None and self._relay.state is State.STREAMING:
                self._heard_at = self._around.loop.time()
                connection.resume_reading()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is ours, and is told as ours
            self.fail(error)

    # what the upstream does

    def head_received(self, head: ResponseHead) -> None:
        """The response head: it says which of three kinds of answer comes."""
        try:
            self._take_head(head)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is ours, and is told as ours
            self.fail(error)

    def data_received(self, data: bytes) -> None:
        """Bytes of the body: through the relay to the client's transport, in this one call."""
        try:
            relay = self._relay
            now = self._around.loop.time()
            self._heard_at = now
            state = relay.state
            if state is not State.STREAMING:
                self._gather(data)
                return
            text = relay.feed_data(data, now)
            if relay.observer.facts:
                self._tell_facts()
            if relay.state is not State.STREAMING:
                self._finish(text)
            elif text and not self._client.lost:
                relay.bytes_out += len(text)
                self._said_at = now
                self._client.write(text)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is ours, and is told as ours
            self.fail(error)

    def body_ended(self) -> None:
        """The body is complete, by the framing of HTTP."""
        self._body_ended = True
        try:
            if self._relay.state is State.STREAMING:
                self._finish(self._relay.feed_eof(self._around.loop.time()))
            elif self._relay.state is State.COLLECTING:
                self._take_body()
            elif self._relay.state is State.REFUSED:
                self._refuse()
            if self._connection is not None and self._relay.state is State.FINISHED:
                # All came; only the client is late. The connection need not wait for it.
                connection, self._connection = self._connection, None
                connection.release()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is ours, and is told as ours
            self.fail(error)

    def upstream_failed(self, signal: Signal, error: str) -> None:
        """The answer ended before its time."""
        connection, self._connection = self._connection, None
        try:
            if connection is not None and signal in CLOSINGS and self._was_stale(connection):
                self._relay.on(signal, error)
                self._await_further_attempt()
                self._relay.on(Signal.SENT)
                self._connect()
            else:
                self._end(signal, error)
        except Exception as failure:  # noqa: BLE001 - whatever it is, it is ours, and is told as ours
            self.fail(failure)

    # what the clock does

    def check(self, now: float) -> float | None:
        """Act on what is due; see `Timed`."""
        latest = now + self._shortest
        try:
            if now - self._noted_at >= PROGRESS_EVERY_S:
                self._note_progress(now)
            deadline = next_deadline(self._standing(), self._since(), self._around.deadlines, self._around.read_on)
            if now < deadline.at:
                return min(deadline.at, latest)
            self._act(deadline.due)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is ours, and is told as ours
            self.fail(error)
        return None if self._over else latest

    def _note_progress(self, now: float) -> None:
        """Note what the answer has seen, where that is more than the last time: a crash would leave nothing else."""
        relay, around = self._relay, self._around
        if around.on_progress is not None and relay.bytes_in != self._noted_bytes:
            self._noted_at, self._noted_bytes = now, relay.bytes_in
            around.on_progress(self._interception, relay.evidence(self._started))

    def _standing(self) -> Standing:
        relay = self._relay
        return Standing(
            relay.state,
            self._interception.streaming,
            relay.committed,
            connected=self._connection is not None,
            client_left=self._client.lost,
        )

    def _since(self) -> Since:
        return Since(self._sent_at, self._heard_at, self._said_at, self._gone_at, self._paused_at)

    def _act(self, due: Due) -> None:
        deadlines = self._around.deadlines
        if due is Due.PING:
            self._ping()
        elif due is Due.COMMIT:
            self._commit()
        elif due is Due.CLIENT_STALLED:
            self._stalled()
        elif due is Due.READ_ENOUGH:
            self._end(Signal.CLIENT_LOST, "")
        elif due is Due.NO_CONNECTION:
            self._relay.late = True
            self._end(Signal.UNREACHABLE, f"no connection within {deadlines.connect:g} s")
        elif due is Due.NO_HEAD:
            self._end(Signal.NO_HEAD_IN_TIME, f"no response head within {deadlines.response:g} s")
        elif due is Due.SILENT:
            self._end(Signal.SILENT, f"no byte for {deadlines.idle:g} s")

    def _commit(self) -> None:
        """The upstream is silent for long: the client gets its head, and pings from now on."""
        self._start(200, EVENT_STREAM + self._id_header)
        self._ping()

    def _ping(self) -> None:
        self._said_at = self._around.loop.time()
        self._client.write(self._dialect.ping)

    def _pause(self) -> None:
        self._paused_at = self._around.loop.time()
        self._unsent = self._client.unsent_bytes

    def _stalled(self) -> None:
        if self._client.unsent_bytes < self._unsent:
            self._pause()  # slow, but it reads
            return
        self._end(Signal.CLIENT_STALLED, "the client stopped reading")

    # the head, and an answer that is not a stream

    def _take_head(self, head: ResponseHead) -> None:
        relay = self._relay
        # Before anything of it is cut short or told: of a secret cut in two no half would be known again.
        head = ResponseHead(head.status, redact_headers(head.headers, relay.secrets))
        signal, wrong = answer_begun(head, self._provider.stream_type, streaming=self._interception.streaming)
        if signal is Signal.ERROR_HEAD:
            head = _dated(head)
        self._head = head
        relay.http_status = head.status
        relay.upstream_request_id = self._provider.upstream_request_id(head)
        if self._rotation is not None:
            self._rotation.hear(head, time.monotonic())
        if signal is Signal.ERROR_HEAD:
            relay.on(signal)
            return
        if signal is Signal.UNEXPECTED_HEAD:
            self._end(signal, wrong)
            return
        request, self._request = self._sent_request(), None  # nobody will need its bytes again
        if self._recourse is not None:
            self._recourse.answered()
        if signal is Signal.STREAM_HEAD:
            relay.begin_stream(self._decoder(request))
            self._begin_answer(head)
        else:
            relay.on(signal)

    def _decoder(self, request: UpstreamRequest) -> StreamDecoder:
        if self._turns is not None:
            return self._turns.decoder(request)
        return self._provider.decoder(self._dialect.quiet(self._policy), request)

    def _begin_answer(self, head: ResponseHead) -> None:
        """A stream begins: the client gets its head, unless it has one; a client that is late is waited for."""
        if not self._relay.committed:
            self._start(head.status, self._headers(head))
        if self._paused_at is not None and self._connection is not None:
            self._connection.pause_reading()

    def _start(self, status: int, headers: Headers) -> None:
        self._relay.committed = True
        self._said_at = self._around.loop.time()
        self._client.start(status, headers + _STREAM_HEADERS)

    def _gather(self, data: bytes) -> None:
        relay = self._relay
        if relay.state not in _GATHERING:
            relay.trailing_bytes += len(data)
            return
        relay.bytes_in += len(data)
        self._body.append(data)
        if relay.bytes_in > self._around.max_response_bytes:
            self._end(Signal.BAD_HTTP, f"an answer over {self._around.max_response_bytes} bytes")

    def _take_body(self) -> None:
        """A non-streaming answer came whole. Its last byte waits until the client's socket has taken the rest."""
        relay = self._relay
        body = b"".join(self._body)
        head = self._good_head()
        signal, body, wrong = self._observe_body(body)
        metrics = self._provider.metrics_in(head)
        if metrics:
            relay.observer.observe_metrics(metrics)
        relay.take_body(signal, wrong)
        if relay.state is State.FINISHED and len(body) > _WRITTEN_AT_ONCE:
            self._client.begin_sized(head.status, self._headers(head), len(body))
            relay.last_words = body[-_HELD_BACK:]
            self._finish(body[:-_HELD_BACK])
        else:
            if signal is not Signal.LAST_WORD:
                body = redact_bytes(body, relay.secrets)
            self._whole = (head.status, self._headers(head), body)
            self._finish(b"")

    def _observe_body(self, body: bytes) -> tuple[Signal, bytes, str]:
        """Return what a whole answer is, as the client gets it, and what is wrong with it in our words."""
        signal = self._relay.observer.observe_body(body)
        if self._turns is not None and signal is Signal.LAST_WORD:
            try:
                body = self._turns.take_body(body)
            except CorruptPayload as error:
                return Signal.BAD_PAYLOAD, body, str(error)
        return signal, body, ""

    def _refuse(self) -> None:
        """An error status and its body came whole: passed on in the client's API."""
        head = self._good_head()
        body = b"".join(self._body)
        if self._send_mended(head, body):
            return
        status, shown = self._provider.error_answer(head, body)
        shown = redact_bytes(shown, self._relay.secrets)
        headers = self._headers(head)
        if shown != body:
            headers = tuple(pair for pair in headers if pair[0] not in _OF_THEIR_BODY) + JSON
        self._whole = (status, headers, shown)
        self._end(Signal.BODY_END, words_of(body) or words_of(shown) or f"status {head.status}")

    def _send_mended(self, head: ResponseHead, body: bytes) -> bool:
        """Ask once more, where the provider knows what the refusal is about. Returns whether it did."""
        request, connection = self._request, self._connection
        if request is None or connection is None or self._mended:
            return False
        request = self._provider.mend(head, body, request, self._asked)
        if request is None:
            return False
        self._mended = True
        self._relay.on(Signal.BODY_END, words_of(body) or f"status {head.status}")
        self._await_further_attempt()
        self._connection = None
        connection.release()
        self.send(request)
        return True

    def _good_head(self) -> ResponseHead:
        if self._head is None:
            raise RuntimeError("a body without a head")
        return self._head

    def _headers(self, head: ResponseHead) -> Headers:
        return self._provider.response_headers(head) + self._id_header

    @property
    def _id_header(self) -> Headers:
        return ((b"x-aibridge-id", self._interception.id.encode()),)

    # the end

    def _end(self, signal: Signal, error: str) -> None:
        """Take a fact that may end the interception."""
        relay = self._relay
        before = relay.cause
        if before is not None:
            return
        try:
            relay.fail(signal, error)
            if relay.cause is not None:
                self._conclude_or_go_on(signal, relay.cause)
        except Exception as failure:
            logger.exception("the end of interception %s failed", self._interception.id)
            self._give_up(_words(failure))

    def _conclude_or_go_on(self, signal: Signal, cause: Cause) -> None:
        """The attempt has failed: that is the end, unless another may do well.

        The cases, in their order: nothing is tried behind this fact; the key was turned away, and another is there;
        the client has nothing yet, and there is recourse; the key was turned away, and so were all others.
        """
        recourse = self._recourse
        answered = self._request is None and cause not in NOT_ASKED
        rotation = self._rotation if cause is Cause.HTTP_STATUS else None
        if answered or signal in NOT_THEIRS:
            self._conclude()
        elif rotation is not None and rotation.goes_on:
            self._begin_anew()
            self.send(self._sent_request())
        elif recourse is not None and (following := self._following(recourse, cause)) is not None:
            self._begin_anew(following)
            self._await_request(self._next_request(recourse, following, cause))
        elif rotation is not None and rotation.turned_away:
            self._begin_anew()
            self.refuse_keyless(rotation.pool.exhausted(time.monotonic()))
        else:
            self._conclude()

    def _following(self, recourse: Recourse, cause: Cause) -> Next | None:
        """Return what comes next; behind a last fallback that is of no use here the client hears of whom it asked."""
        if self._client.started:
            return None
        following = recourse.after(cause, self._head)
        if following is None:
            if recourse.is_astray:
                self._whole = self._first_words
        elif following.why is Why.FALLBACK and self._first_words is None:
            self._first_words = self._whole or self._fault()
        return following

    def _begin_anew(self, following: Next | None = None) -> None:
        self._settle()
        self._await_further_attempt(following=following)

    async def _next_request(self, recourse: Recourse, following: Next, cause: Cause) -> UpstreamRequest:
        """Wait as long as it is to be waited, and return the next request. `cause` is of the last attempt's end."""
        if following.to is None:
            await _wait_until(time.monotonic() + following.pause)
            return self._sent_request()
        self._mended, self._retry_after = False, RETRY_SOON
        request, turns = await self._prepared(recourse, following.to, cause)
        self._turns = None
        if turns is not None:
            self._take_turns(turns)
        return request

    async def _prepared(self, recourse: Recourse, to: Asked, cause: Cause) -> tuple[UpstreamRequest, Turns | None]:
        """Return a fallback's request. One whose credentials cannot be had is passed over, unless it is the last."""
        while True:
            try:
                return await recourse.prepare(to.draft)
            except CredentialsError:
                instead = recourse.instead(cause)
                if instead is None or instead.to is None:
                    raise
                to = instead.to
                self._await_further_attempt(following=instead)

    def _finish(self, before: bytes) -> None:
        """The relay has its last words: hand them over, at once or when the client has taken what was before them."""
        relay, client = self._relay, self._client
        if relay.state is State.FINISHED and not client.lost and self._turns is not None and self._turns.go_on:
            self._turn(before, self._turns)
            return
        if len(before) <= _WRITTEN_AT_ONCE and not client.unsent_bytes:
            relay.last_words = before + relay.last_words
        elif not client.lost:
            relay.bytes_out += len(before)
            if before:
                client.write(before)
            if relay.state is State.FINISHED and client.unsent_bytes:
                client.await_drain()
                self._pause()
        if relay.state is State.ENDED:
            self._conclude()
        elif self._paused_at is None:
            self._deliver()

    def _turn(self, before: bytes, turns: Turns) -> None:
        """The answer ends with calls of tools of ours: run them, and ask again with what they gave."""
        relay = self._relay
        if before:
            relay.bytes_out += len(before)
            self._client.write(before)
        relay.on(Signal.DELIVERED)
        self._tell_facts()
        self._settle()
        self._await_further_attempt(self._outcome(relay.evidence(self._started)))
        if turns.exhausted:
            self._end(Signal.TOOL_LOOP_LIMIT, "")
            return
        self._await_request(turns.next())

    def _deliver(self) -> None:
        self._relay.on(Signal.DELIVERED)
        self._conclude()

    def _conclude(self) -> None:
        """Tell the one outcome, then say the last words: what the client sees finished is in the books before."""
        relay = self._relay
        say = self._last_words()
        evidence = relay.evidence(self._started)
        self._tell_facts()
        if self._turns is not None:
            self._end_turns(self._turns)
        self._tell_attempt(evidence)
        outcome = self._outcome(evidence)
        self._told = True
        self._around.listener.closed(self._interception, outcome)
        say()
        if relay.trailing_bytes:
            self._around.on_trailing(self._asked.provider, relay.trailing_bytes)
        self._client.restore_limits()
        self._settle()
        self._leave()

    def _end_turns(self, turns: Turns) -> None:
        """Tell what the turns leave: tools that are stopped, and calls that nobody will run."""
        for run in turns.cancelled():
            self._tell_run(run)
        for fact, message_id in turns.undone():
            self._tell_fact(fact, message_id)

    def _leave(self) -> None:
        self._over = True
        self._around.wheel.remove(self)
        self._client.listener = None
        self._on_end(self)

    def _give_up(self, error: str) -> None:
        """End where even the telling of an end has failed: tell the plainest outcome, if none is told, and cut."""
        if not self._told:
            self._told = True
            duration = time.perf_counter() - self._started
            outcome = self._relay.give_up(error, ended_at=self._interception.started_at + duration, duration=duration)
            self._around.listener.closed(self._interception, self._addressed(outcome))
        self._leave()
        if not self._client.ended:
            self._client.abort()
        self._settle()

    def _last_words(self) -> Callable[[], None]:
        """Return what says the end to the client, and count its bytes.

        The cases: the client is not there; it stopped reading; a stream is open, and ends with the terminal event or
        an error event; an answer of known length is under way, and ends or is cut; a whole answer of the upstream is
        passed on; nothing was said yet, and our own error is.
        """
        relay, client = self._relay, self._client
        if client.lost:
            return _say_nothing
        if relay.cause is Cause.STALLED:
            return client.abort
        if client.started and not self._interception.streaming and relay.cause is not Cause.CLEAN:
            return client.abort
        if client.started:
            relay.bytes_out += len(relay.last_words)
            return lambda: client.end(relay.last_words)
        status, headers, body = self._whole or self._fault()
        relay.bytes_out += len(body)
        return lambda: client.respond(status, headers, body)

    def _fault(self) -> tuple[int, Headers, bytes]:
        """Return our own error as an answer."""
        relay = self._relay
        status, telling = relay.refusal()
        headers = JSON + self._id_header
        if relay.cause in _FOR_A_WHILE:
            headers += self._retry_after
        return status, headers, self._dialect.error_body(telling)

    def _tell_facts(self) -> None:
        """Tell what the answer has given of tool uses and thoughts since the last time."""
        for fact, message_id in self._relay.take_facts():
            if self._turns is None or not self._turns.hold(fact, message_id):
                self._tell_fact(fact, message_id)

    def _tell_run(self, run: ToolRun) -> None:
        self._tell_fact(run, self._relay.message_id)

    def _tell_fact(self, fact: ToolUse | ToolRun | Thought, message_id: str) -> None:
        kept = self._policy.keep(fact)
        if kept is not None:
            self._around.listener.learned(self._interception, kept, message_id)


def _words(error: BaseException) -> str:
    """Return what of an error goes on the record: of one that is not ours its kind alone, its text may hold secrets."""
    return str(error) if isinstance(error, AibridgeError) else type(error).__name__


def _dated(head: ResponseHead) -> ResponseHead:
    """Return a head with a `date`: of one that has none, when it came (RFC 9110, section 6.6.1)."""
    if head.header(b"date"):
        return head
    return ResponseHead(head.status, (*head.headers, (b"date", formatdate(usegmt=True).encode())))


async def _wait_until(moment: float) -> None:
    """Wait by the clock that keys cool by: a timer of the loop may fire early, as it counts from where that stood."""
    while (left := moment - time.monotonic()) > 0:  # noqa: ASYNC110 - nobody tells of a time
        await asyncio.sleep(left)


def _say_nothing() -> None:
    """The client is not there."""


_ANSWERED = frozenset({State.STREAMING, State.COLLECTING})
_GATHERING = frozenset({State.COLLECTING, State.REFUSED})
_FOR_A_WHILE = frozenset({Cause.DRAINING, Cause.CIRCUIT_OPEN, Cause.KEYS_EXHAUSTED})
"""Ends after which the same request may do well a little later."""
_OF_THEIR_BODY = frozenset({b"content-type", b"content-encoding"})
_STREAM_HEADERS: Headers = ((b"x-accel-buffering", b"no"),)
"""Asks proxies between us and the client not to collect the stream."""
