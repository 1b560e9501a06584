"""An answer that was written down, played again through the decoder and the relay of this build. Sans I/O, no clock.

The bytes decide what they can decide. What they cannot show, that the client left, that nothing came in time, is given
(`end`), as it was recorded.
"""

from typing import NamedTuple

from aibridge.content import ContentPolicy
from aibridge.dialects import Dialect, words_of
from aibridge.errors import WireError
from aibridge.headers import answer_begun
from aibridge.lifecycle import NOT_THEIRS, OF_THE_NETWORK, Signal, State, ends_by
from aibridge.providers.base import Provider
from aibridge.relay import Relay
from aibridge.values import Attempt, Credential, CredentialKind, Event, ResponseHead, UpstreamRequest
from aibridge.wire import SSEScanner

END_OF = ends_by(*OF_THE_NETWORK, *NOT_THEIRS)
"""Causes that the bytes of an answer cannot show, and the fact behind each."""


class Answer(NamedTuple):
    """An answer as it was written down. `head` is None where none came.

    `end` is the fact that ended it where its bytes do not show that, with the words of the record. `heard_out` tells
    that its client had left before, `unfinished` that nothing ended it: the gateway was killed.
    """

    head: ResponseHead | None
    body: bytes
    streaming: bool
    adds_usage: bool = False
    end: Signal | None = None
    error: str = ""
    heard_out: bool = False
    unfinished: bool = False


class Played(NamedTuple):
    """What an answer comes to in this build. `text` is what the client gets of a stream, its last words included."""

    attempt: Attempt
    response_model: str
    stop_reason: str
    text: bytes
    relay: Relay


def play(
    answer: Answer,
    provider: Provider,
    dialect: Dialect,
    policy: ContentPolicy,
    request_id: str,
    before: Relay | None = None,
) -> Played:
    """Play an answer. The end of one that is unfinished means nothing.

    Args:
        answer: as it was written down.
        provider: whose decoder reads it.
        dialect: the client's API.
        policy: what is kept of the content: it says which events are looked into.
        request_id: the interception's id, as errors of ours tell it.
        before: the relay of the attempt before.
    """
    relay = Relay(dialect, request_id, policy)
    if before is not None:
        relay.follow(before, None)
        relay.on(Signal.SENT)
    text = b""
    if answer.head is not None:
        text = _take(answer, answer.head, provider, dialect.quiet(policy), relay)
    if answer.end is not None:
        relay.fail(answer.end, answer.error)
    if relay.state is State.FINISHED:
        relay.on(Signal.DELIVERED)
    text += relay.last_words
    relay.bytes_out = len(text)
    return Played(
        attempt=relay.attempt(number=0, origin="", started_at=0.0, duration=0.0, evidence=relay.evidence(0.0)),
        response_model=relay.observer.response_model,
        stop_reason=relay.observer.stop_reason,
        text=text,
        relay=relay,
    )


def _take(answer: Answer, head: ResponseHead, provider: Provider, quiet: tuple[bytes, ...], relay: Relay) -> bytes:
    """Take head and body as the exchange does. Returns what the client gets of a stream before the last words."""
    relay.http_status = head.status
    relay.upstream_request_id = provider.upstream_request_id(head)
    signal, wrong = answer_begun(head, provider.stream_type, streaming=answer.streaming)
    if signal is Signal.ERROR_HEAD:
        relay.on(signal)
        relay.bytes_in = len(answer.body)
        if answer.end is None and not answer.unfinished:
            shown = provider.error_answer(head, answer.body)[1]
            relay.fail(Signal.BODY_END, words_of(answer.body) or words_of(shown) or f"status {head.status}")
        return b""
    if signal is Signal.UNEXPECTED_HEAD:
        relay.fail(signal, wrong)
        return b""
    if signal is Signal.BODY_HEAD:
        relay.on(signal)
        _observe_body(answer, head, provider, relay)
        return b""
    relay.begin_stream(provider.decoder(quiet, _request(answer)))
    if answer.heard_out:
        relay.lose_client()
    text = relay.feed_data(answer.body, 0.0)
    if answer.end is None and not answer.unfinished:
        text += relay.feed_eof(0.0)
    return text


def _observe_body(answer: Answer, head: ResponseHead, provider: Provider, relay: Relay) -> None:
    relay.bytes_in = len(answer.body)
    if answer.heard_out:
        relay.lose_client()
    elif answer.unfinished or answer.end is not None:
        return
    observer = relay.observer
    signal = observer.observe_body(answer.body)
    if metrics := provider.metrics_in(head):
        observer.observe_metrics(metrics)
    relay.take_body(signal)


def _request(answer: Answer) -> UpstreamRequest:
    """Return what a decoder wants to know of the request."""
    return UpstreamRequest("POST", "", "", (), b"", Credential(CredentialKind.CENTRALIZED, ""), answer.adds_usage)


def events_in(text: bytes) -> list[str]:
    """Return the types of the events in a client's text, in order."""
    scanner = SSEScanner(check_json=False, max_event_bytes=max(1, len(text)))
    try:
        scan = scanner.feed_data(text)
    except WireError as error:
        scan = error.before
    return [event.type or "(untyped)" for event in scan.events if isinstance(event, Event)]
