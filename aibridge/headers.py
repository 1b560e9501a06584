"""Which headers pass, both ways, and what answer a head begins. Pure rules; names are in lower case.

Source: RFC 9110 section 7.6.1 (hop-by-hop), and what each side must not say for another.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from aibridge.lifecycle import Signal
from aibridge.values import Headers, ResponseHead

HOP_BY_HOP = frozenset({
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
    b"trailer", b"transfer-encoding", b"upgrade",
})  # fmt: skip

CREDENTIALS = frozenset({b"authorization", b"x-api-key", b"api-key"})
"""Where the APIs' clients put a key of theirs; the last is Azure's."""

_TRANSPORT = frozenset({b"host", b"accept-encoding", b"content-length", b"content-encoding", b"expect", b"cookie"})

_FORWARDED = frozenset({
    b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-proto", b"x-real-ip",
})  # fmt: skip

OURS = (b"x-aibridge-", b"x-ai-bridge-actor")
"""Prefixes of headers that only we may set, towards either side."""


class ActorHeaderNames(NamedTuple):
    """The headers in which somebody says who asks; an empty name is one that is not said."""

    id: bytes
    name: bytes = b""
    teams: bytes = b""


TOLD_ACTOR = ActorHeaderNames(b"x-ai-bridge-actor-id")
"""What an upstream is told of the actor, unless the configuration says otherwise."""

_OF_THEIR_HOST = frozenset({b"content-length", b"set-cookie", b"strict-transport-security", b"alt-svc"})
"""They speak of the upstream's host or connection, and the client would take them as ours."""

_NOT_FOR_UPSTREAMS = HOP_BY_HOP | _TRANSPORT | CREDENTIALS | _FORWARDED | {b"x-goog-api-key"}
"""The last is a key too, of an API that is not served here: what a client sends in it is for nobody."""
_NOT_FOR_CLIENTS = HOP_BY_HOP | _OF_THEIR_HOST
_USUAL_CONNECTION = frozenset({b"keep-alive", b"close"})
"""Values of `Connection` that name no header."""
_EMPTY = frozenset({204, 205})
"""Good statuses of answers that have no content, whatever follows (RFC 9110, sections 15.3.5 and 15.3.6)."""
_FIRST_ERROR_STATUS = 300
"""Redirects are no answers of these APIs: they are passed on, and not followed."""


JSON: Headers = ((b"content-type", b"application/json"),)
"""The media type of every answer of ours."""

EVENT_STREAM: Headers = ((b"content-type", b"text/event-stream; charset=utf-8"),)
"""The media type of a stream whose head the upstream has not sent yet."""


def retry_after(seconds: int) -> Headers:
    """Return the header that asks a client to come again after a time, not before."""
    return ((b"retry-after", b"%d" % seconds),)


RETRY_SOON: Headers = retry_after(1)
"""Said by a gateway that is shutting down: another one is there, or will be in a moment."""


def to_upstream(headers: Headers) -> Headers:
    """Return what of a client's headers goes on: all but hop-by-hop, transport, credentials and ours.

    The request's body goes on as it is, decompressed: its length and encoding are said anew.
    """
    return _less(headers, _NOT_FOR_UPSTREAMS)


def to_client(headers: Headers) -> Headers:
    """Return what of an upstream's headers goes on: all but hop-by-hop, framing and what speaks of its host."""
    return _less(headers, _NOT_FOR_CLIENTS)


def without(headers: Headers, names: frozenset[bytes]) -> Headers:
    """Return the headers less those of these names."""
    return tuple([pair for pair in headers if pair[0] not in names])


def less_upgrade(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """Yield headers in whose `Connection` no parser can find `upgrade`; the others stay."""
    for name, value in headers:
        if name == b"connection":
            yield name, b",".join([option for option in value.split(b",") if b"upgrade" not in option.lower()])
        else:
            yield name, value


def _less(headers: Headers, dropped: frozenset[bytes]) -> Headers:
    for name, value in headers:
        if name == b"connection" and value.lower() not in _USUAL_CONNECTION:
            dropped = dropped.union([token.strip().lower() for token in value.split(b",")])
    return tuple([pair for pair in headers if pair[0] not in dropped and not pair[0].startswith(OURS)])


def answer_begun(head: ResponseHead, stream_type: bytes, *, streaming: bool) -> tuple[Signal, str]:
    """Return what answer an upstream's head begins, as a fact, and what is wrong with one that cannot be taken.

    Where no media type is told the bytes decide: the streams of ChatGPT's backend for Codex have none.
    """
    if head.status >= _FIRST_ERROR_STATUS:
        return Signal.ERROR_HEAD, ""
    if head.status in _EMPTY:
        return Signal.UNEXPECTED_HEAD, f"status {head.status}, which has no content"
    encoding = head.header(b"content-encoding")
    if encoding not in {b"", b"identity"}:
        text = f"content-encoding {encoding.decode('latin-1')[:100]}, though none was asked for"
        return Signal.UNEXPECTED_HEAD, text
    media_type = head.header(b"content-type").partition(b";")[0].strip().lower()
    wanted = stream_type if streaming else b"application/json"
    if media_type not in {b"", wanted}:
        text = f"content-type {media_type.decode('latin-1')[:100]} instead of {wanted.decode()}"
        return Signal.UNEXPECTED_HEAD, text
    return Signal.STREAM_HEAD if streaming else Signal.BODY_HEAD, ""
