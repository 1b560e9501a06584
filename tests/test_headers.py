"""Which headers pass, both ways: what each side may not say for another stays out, all else goes on as it came."""

import pytest

from aibridge.headers import CREDENTIALS, HOP_BY_HOP, OURS, answer_begun, to_client, to_upstream
from aibridge.lifecycle import Signal
from aibridge.values import ResponseHead

BOTH_WAYS = pytest.mark.parametrize("passing", [to_upstream, to_client])
TOKEN = (b"anthropic-version", b"2023-06-01")


@BOTH_WAYS
@pytest.mark.parametrize("name", sorted(HOP_BY_HOP))
def test_hop_by_hop_headers_stay(passing, name):
    assert passing(((name, b"1"), TOKEN)) == (TOKEN,)


@BOTH_WAYS
@pytest.mark.parametrize(
    "values", [(b"x-hop, X-Other",), (b"close,x-hop ,\tx-other",), (b"X-HOP", b"x-other"), (b",,x-other,x-hop,",)]
)
def test_what_connection_names_stays(passing, values):
    headers = (*((b"connection", value) for value in values), (b"x-hop", b"1"), TOKEN, (b"x-other", b"2"))
    assert passing(headers) == (TOKEN,)


@BOTH_WAYS
@pytest.mark.parametrize("value", [b"close", b"keep-alive", b"", b","])
def test_connection_takes_nothing_else_with_it(passing, value):
    assert passing(((b"connection", value), TOKEN, (b"x-close", b"1"))) == (TOKEN, (b"x-close", b"1"))


@BOTH_WAYS
@pytest.mark.parametrize(
    "name", [*OURS, b"x-aibridge-id", b"x-aibridge-key", b"x-aibridge-anything", b"x-ai-bridge-actor-id"]
)
def test_ours_are_not_for_others_to_say(passing, name):
    assert passing(((name, b"forged"), TOKEN)) == (TOKEN,)


@BOTH_WAYS
def test_unknown_ones_pass_in_order_and_repeated(passing):
    headers = (
        (b"anthropic-beta", b"a,b"),
        (b"anthropic-new-thing", b"\xff\x80"),
        (b"x-custom", b""),
        (b"anthropic-beta", b"c"),
        (b"x-aibridgeish", b"not ours"),
        (b"anthropic-dangerous-direct-browser-access", b"true"),
        (b"content-type", b"application/json"),
    )
    assert passing(headers) == headers


@pytest.mark.parametrize(
    "name",
    [
        *sorted(CREDENTIALS),
        b"host",
        b"accept-encoding",
        b"content-length",
        b"content-encoding",
        b"expect",
        b"cookie",
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-proto",
        b"x-goog-api-key",
        b"x-real-ip",
    ],
)
def test_stays_on_the_way_to_the_upstream(name):
    assert to_upstream(((name, b"1"), TOKEN)) == (TOKEN,)


@pytest.mark.parametrize("name", [b"content-length", b"set-cookie", b"strict-transport-security", b"alt-svc"])
def test_stays_on_the_way_to_the_client(name):
    assert to_client(((name, b"1"), TOKEN)) == (TOKEN,)


@pytest.mark.parametrize("name", [b"retry-after", b"request-id", b"content-encoding", b"x-should-retry"])
def test_what_clients_act_on_comes_back(name):
    assert to_client(((name, b"1"),)) == ((name, b"1"),)


SSE = b"text/event-stream"


@pytest.mark.parametrize(
    ("status", "streaming", "headers", "begun"),
    [
        (200, True, {b"content-type": SSE}, (Signal.STREAM_HEAD, "")),
        (200, True, {b"content-type": b"Text/Event-Stream; charset=utf-8"}, (Signal.STREAM_HEAD, "")),
        (200, True, {}, (Signal.STREAM_HEAD, "")),
        (200, False, {b"content-type": b"application/json", b"content-encoding": b"identity"}, (Signal.BODY_HEAD, "")),
        (200, False, {}, (Signal.BODY_HEAD, "")),
        (
            200, True, {b"content-type": b"text/html"},
            (Signal.UNEXPECTED_HEAD, "content-type text/html instead of text/event-stream"),
        ),
        (
            200, False, {b"content-type": SSE},
            (Signal.UNEXPECTED_HEAD, "content-type text/event-stream instead of application/json"),
        ),
        (
            200, True, {b"content-type": SSE, b"content-encoding": b"gzip"},
            (Signal.UNEXPECTED_HEAD, "content-encoding gzip, though none was asked for"),
        ),
        (204, True, {}, (Signal.UNEXPECTED_HEAD, "status 204, which has no content")),
        (205, False, {}, (Signal.UNEXPECTED_HEAD, "status 205, which has no content")),
        (299, True, {}, (Signal.STREAM_HEAD, "")),
        (300, True, {b"content-encoding": b"gzip"}, (Signal.ERROR_HEAD, "")),
        (529, False, {b"content-type": b"text/html"}, (Signal.ERROR_HEAD, "")),
    ],
)  # fmt: skip
def test_what_answer_a_head_begins(status, streaming, headers, begun):
    assert answer_begun(ResponseHead(status, tuple(headers.items())), SSE, streaming=streaming) == begun
