"""The rows U1 to U25 of the outcome matrix, each over real sockets, for Anthropic and for Bedrock where it can happen.

Every row asserts the client's bytes, the fate of the upstream's connection, and all five books.
"""

import json
import socket

import pytest

from aibridge.simulator.expected import expected_sse

ANTHROPIC, BEDROCK = "anthropic", "bedrock"
BOTH = (ANTHROPIC, BEDROCK)
KEPT, CLOSED, RESET, PEER = {"kept_alive"}, {"closed"}, {"reset"}, {"peer_closed", "peer_reset"}


def row(number, providers, fault, cause, ending, *, error_type="api_error", health="failure", words=None):
    return [
        pytest.param(provider, fault, cause, ending, error_type, health, words, id=f"{number}-{provider}-{fault}")
        for provider in ([providers] if isinstance(providers, str) else providers)
    ]


# A stream that does not come to its end: the client gets what came, then an error event of its API.
BROKEN_STREAMS = [
    *row("U3", BOTH, "truncate@3", "truncated", {"kept_alive", "peer_closed", "peer_reset"}),
    *row("U3", BOTH, "truncate@1", "truncated", {"kept_alive", "peer_closed", "peer_reset"}),
    *row("U4", BOTH, "cut@700", "incomplete_body", CLOSED),
    *row("U4", BOTH, "close_in_body@700", "incomplete_body", CLOSED),
    *row("U5", BEDROCK, "half_frame", "truncated_frame", {"kept_alive", "peer_closed", "peer_reset"}),
    *row("U5", BEDROCK, "half_frame@2", "truncated_frame", {"kept_alive", "peer_closed", "peer_reset"}),
    *row("U6", ANTHROPIC, "half_event", "truncated", {"kept_alive", "peer_closed", "peer_reset"}),
    *row("U6", ANTHROPIC, "no_blank_line", "truncated", {"kept_alive", "peer_closed", "peer_reset"}),
    *row("U7", BEDROCK, "bad_prelude_crc@3", "corrupt_frame", KEPT | PEER),
    *row("U8", BEDROCK, "bad_crc@3", "corrupt_frame", KEPT | PEER),
    *row("U9", BEDROCK, "frame_short@3", "corrupt_frame", KEPT | PEER),
    *row("U9", BEDROCK, "frame_huge@3", "corrupt_frame", KEPT | PEER),
    *row("U9", BEDROCK, "headers_overrun@3", "corrupt_frame", KEPT | PEER),
    *row("U9", BEDROCK, "headers_huge@3", "corrupt_frame", KEPT | PEER),
    *row("U9", BEDROCK, "unknown_header_type@3", "corrupt_frame", KEPT | PEER),
    *row("U9", BEDROCK, "header_overrun@3", "corrupt_frame", KEPT | PEER),
    *row("U10", BOTH, "bad_json@3", "corrupt_payload", KEPT | PEER),
    *row("U10", BEDROCK, "bad_base64@3", "corrupt_payload", KEPT | PEER),
    *row("U10", BEDROCK, "bad_inner_json@3", "corrupt_payload", KEPT | PEER),
    *row("U11", BEDROCK, "exception:throttlingException@3", "exception_frame", KEPT | PEER,
         error_type="rate_limit_error", words="throttlingException"),
    *row("U11", BEDROCK, "exception:modelStreamErrorException@3", "exception_frame", KEPT | PEER),
    *row("U11", BEDROCK, "exception:internalServerException@3", "exception_frame", KEPT | PEER),
    *row("U11", BEDROCK, "exception:modelTimeoutException@3", "exception_frame", KEPT | PEER,
         error_type="timeout_error"),
    *row("U11", BEDROCK, "exception:serviceUnavailableException@3", "exception_frame", KEPT | PEER,
         error_type="overloaded_error"),
    *row("U11", BEDROCK, "exception:validationException@3", "exception_frame", KEPT | PEER,
         error_type="invalid_request_error", health="neither"),
    *row("U11", BEDROCK, "exception:somethingNewException@3", "exception_frame", KEPT | PEER),
    *row("U12", BEDROCK, "error_frame@3", "error_frame", KEPT | PEER),
    *row("U14", BOTH, "rst@3", "connection_reset", RESET),
    *row("U15", BOTH, "stall@3", "idle_timeout", PEER, error_type="timeout_error"),
    *row("U15", BOTH, "head_only", "idle_timeout", PEER, error_type="timeout_error"),
    *row("U22", BOTH, "bad_chunk@3", "protocol_error", KEPT | PEER | CLOSED),
]  # fmt: skip


@pytest.mark.parametrize(("provider", "fault", "cause", "ending", "error_type", "health", "words"), BROKEN_STREAMS)
async def test_broken_stream(house, ask, request_body, provider, fault, cause, ending, error_type, health, words):
    answer = await ask(house, provider, fault)
    clean = expected_text(request_body(provider), provider)

    assert answer.status == 200
    assert answer.complete
    assert answer.events[-1] == "error"
    assert answer.events.count("error") == 1
    assert "message_stop" not in answer.events
    error = answer.last_event
    assert (error["type"], error["error"]["type"]) == ("error", error_type)
    came = answer.body[: answer.body.rindex(b"event: error")]
    assert clean.startswith(came), "what came before is relayed byte for byte, and whole events only"
    assert came == b"" or came.endswith(b"\n\n")

    books = await house.books()
    books.check("upstream_error", cause, health=health, error=words)
    assert error["request_id"] == books.interception.id
    assert not books.outcome.evidence.terminal_event_seen
    assert books.outcome.usage_source.value in {"provider_partial", "none"}
    (done,) = await house.simulator.ledger.wait_for(1)
    assert done.ending in ending


def expected_text(body, provider):
    return expected_sse(json.dumps(body).encode(), provider, model=body["model"])


CLEAN = [
    (provider, fault)
    for provider in BOTH
    for fault in ("clean", "one_write", "drip", "split_random:7", "rechunk:3", "close_delimited", "interim", "many:300")
]


@pytest.mark.parametrize(("provider", "fault"), CLEAN)
async def test_u1_clean(house, ask, request_body, provider, fault):
    """The case that started it all: a clean Bedrock stream ends COMPLETED in all five books."""
    answer = await ask(house, provider, fault)
    assert answer.complete
    assert answer.body == expected_sse(
        json.dumps(request_body(provider)).encode(), provider, model=request_body(provider)["model"], fault=fault
    )
    books = await house.books()
    books.check("completed", "clean", health="success")
    assert books.outcome.evidence.terminal_event_seen
    assert books.outcome.evidence.last_event == "message_stop"
    assert books.outcome.usage_source.value == "provider_final"
    assert books.outcome.evidence.bytes_out == len(answer.body)
    (done,) = await house.simulator.ledger.wait_for(1)
    assert done.ending == ("closed" if fault == "close_delimited" else "kept_alive")


async def test_its_twin(house, ask):
    """The same stream cut inside the last frame ends truncated_frame, and the client is told."""
    answer = await ask(house, BEDROCK, "half_frame")
    assert answer.events[-2:] == ["message_delta", "error"]
    (await house.books()).check("upstream_error", "truncated_frame", health="failure")


@pytest.mark.parametrize("provider", BOTH)
@pytest.mark.parametrize(("fault", "ending"), [("terminal_then_rst", RESET), ("terminal_then_close", CLOSED)])
async def test_u2_ends_badly_after_the_last_word(house, ask, request_body, provider, fault, ending):
    answer = await ask(house, provider, fault)
    assert answer.complete
    assert answer.body == expected_text(request_body(provider), provider)
    (await house.books()).check("completed", "clean", health="success")
    (done,) = await house.simulator.ledger.wait_for(1)
    assert done.ending in ending
    await ask(house, provider)
    assert house.simulator.accepted == 2, "the connection was not used again"


@pytest.mark.parametrize("provider", BOTH)
async def test_u13_error_event_is_passed_on(house, ask, provider):
    answer = await ask(house, provider, "error_event:overloaded_error@3")
    assert answer.complete
    assert answer.events[-1] == "error"
    assert answer.last_event["error"]["type"] == "overloaded_error"
    said = answer.last_event.get("request_id", "req_")
    assert said.startswith("req_"), "the upstream's own words, not ours"
    (await house.books()).check("upstream_error", "error_event", health="failure", error="overloaded_error")


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "blocking"])
@pytest.mark.parametrize("provider", BOTH)
async def test_u16_nobody_listens(build_house, ask, provider, stream):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused for as long as we hold it
        async with build_house(base_url=f"http://127.0.0.1:{taken.getsockname()[1]}") as house:
            answer = await ask(house, provider, stream=stream)
            assert answer.status == 502
            assert json.loads(answer.body)["error"]["type"] == "api_error"
            (await house.books()).check("upstream_error", "connect_failed", health="failure")


async def test_u16_no_such_host(build_house, ask):
    async with build_house(base_url="http://nowhere.invalid") as house:
        answer = await ask(house, ANTHROPIC)
        assert answer.status in {502, 504}
        (await house.books()).check("upstream_error", "connect_failed", health="failure")


async def test_u16_connect_timeout(build_house, ask):
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = []
        for _ in range(4):  # the backlog is full: further SYNs are not answered
            filler = socket.socket()
            filler.setblocking(False)  # noqa: FBT003 - the signature is the system's
            filler.connect_ex(full.getsockname())
            fillers.append(filler)
        async with build_house(base_url=f"http://127.0.0.1:{full.getsockname()[1]}") as house:
            answer = await ask(house, ANTHROPIC)
            assert answer.status == 504
            assert json.loads(answer.body)["error"]["type"] == "timeout_error"
            (await house.books()).check("upstream_error", "connect_failed", health="failure", error="no connection")
        for filler in fillers:
            filler.close()


@pytest.mark.parametrize("provider", BOTH)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "blocking"])
@pytest.mark.parametrize(
    ("fault", "cause", "status", "error_type"),
    [
        ("close_before_head", "connection_reset", 502, "api_error"),
        ("rst_before_head", "connection_reset", 502, "api_error"),
        ("no_head", "response_timeout", 504, "timeout_error"),
        ("html", "unexpected_response", 502, "api_error"),
        ("gzip", "unexpected_response", 502, "api_error"),
        ("bad_http", "protocol_error", 502, "api_error"),
        ("header_flood", "protocol_error", 502, "api_error"),
    ],
)
async def test_u16_u17_u20_u22_no_good_head(house, ask, provider, stream, fault, cause, status, error_type):
    answer = await ask(house, provider, fault, stream=stream)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/json"
    error = json.loads(answer.body)
    assert error["error"]["type"] == error_type
    books = await house.books()
    books.check("upstream_error", cause, health="failure")
    assert error["request_id"] == books.interception.id
    (done,) = await house.simulator.ledger.wait_for(1)
    assert done.ending != "kept_alive" or fault in {"html", "gzip", "bad_http"}


AS_ANTHROPIC_SAYS = {408: 504, 422: 400, 503: 529}
"""AWS's statuses of errors that it names, where Anthropic has another for them."""


@pytest.mark.parametrize("provider", BOTH)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "blocking"])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 413, 422, 429, 500, 503, 529])
async def test_u18_u19_error_status(house, ask, provider, stream, status):
    answer = await ask(house, provider, f"status:{status}:7", stream=stream)
    assert answer.status == (AS_ANTHROPIC_SAYS.get(status, status) if provider == BEDROCK else status)
    assert answer.headers["retry-after"] == "7"
    error = json.loads(answer.body)
    assert error["type"] == "error"
    assert error["error"]["message"]
    books = await house.books()
    unhealthy = status in {408, 429} or status >= 500
    books.check("upstream_error", "http_status", health="failure" if unhealthy else "neither")
    assert books.record["http_status"] == status
    assert error["error"]["message"] in books.record["error"]
    (done,) = await house.simulator.ledger.wait_for(1)
    assert done.ending == "kept_alive"
    if provider == ANTHROPIC:
        assert len(answer.body) == done.body_bytes, "the upstream's own words, byte for byte"


@pytest.mark.parametrize("provider", BOTH)
@pytest.mark.parametrize(
    ("fault", "cause", "status", "ending"),
    [
        ("short_json", "incomplete_body", 502, CLOSED),
        ("cut@50", "incomplete_body", 502, CLOSED),
        ("rst@1", "connection_reset", 502, RESET),
        ("stall@1", "idle_timeout", 504, PEER),
    ],
)
async def test_u21_body_cut_short(house, ask, provider, fault, cause, status, ending):
    answer = await ask(house, provider, fault, stream=False)
    assert answer.status == status
    assert json.loads(answer.body)["type"] == "error"
    (await house.books()).check("upstream_error", cause, health="failure")
    (done,) = await house.simulator.ledger.wait_for(1)
    assert done.ending in ending


@pytest.mark.parametrize("provider", BOTH)
@pytest.mark.parametrize("count", [1, 16, 5000])
async def test_u23_bytes_behind_the_last_word(house, ask, request_body, provider, count):
    answer = await ask(house, provider, f"trailing:{count}")
    assert answer.complete
    assert answer.body == expected_text(request_body(provider), provider)
    (await house.books()).check("completed", "clean", health="success")
    await house.simulator.ledger.wait_for(1)
    await ask(house, provider)
    assert house.metric("aibridge_trailing_bytes_total", provider=provider) == count


@pytest.mark.parametrize("provider", BOTH)
async def test_u25_body_is_not_json(house, ask, provider):
    answer = await ask(house, provider, "broken_json", stream=False)
    assert answer.status == 200
    (await house.books()).check("upstream_error", "corrupt_payload", health="failure")
    (done,) = await house.simulator.ledger.wait_for(1)
    assert len(answer.body) == done.body_bytes, "the body, byte for byte"


@pytest.mark.parametrize("provider", BOTH)
async def test_blocking_clean(house, ask, provider):
    answer = await ask(house, provider, stream=False)
    assert answer.status == 200
    assert answer.complete
    books = await house.books()
    books.check("completed", "clean", health="success")
    assert books.outcome.usage.output_tokens == json.loads(answer.body)["usage"]["output_tokens"]
    assert books.record["output_tokens"] == books.outcome.usage.output_tokens
    (done,) = await house.simulator.ledger.wait_for(1)
    assert len(answer.body) == done.body_bytes
