"""The rows U1 to U25 of the outcome matrix, each over real sockets, for every API where it can happen.

Every row asserts the client's bytes, the fate of the upstream's connection, and all five books.
"""

import hashlib
import json
import socket

import pytest
from api_kit import ALL, APIS, COPILOT, SSE
from silence_kit import silence_of

ANTHROPIC, BEDROCK = "anthropic", "bedrock"
OPENAI = ("chat", "responses")
KEPT, CLOSED, RESET, PEER = {"kept_alive"}, {"closed"}, {"reset"}, {"peer_closed", "peer_reset"}


def row(number, names, fault, cause, ending, *, error_type="api_error", health="failure", words=None):
    return [
        pytest.param(APIS[name], fault, cause, ending, error_type, health, words, id=f"{number}-{name}-{fault}")
        for name in ([names] if isinstance(names, str) else names)
    ]


# A stream that does not come to its end: the client gets what came, then an error event of its API.
BROKEN_STREAMS = [
    *row("U3", (*ALL, *COPILOT), "truncate@3", "truncated", {"kept_alive", "peer_closed", "peer_reset"}),
    *row("U3", ALL, "truncate@1", "truncated", {"kept_alive", "peer_closed", "peer_reset"}),
    *row("U4", ALL, "cut@700", "incomplete_body", CLOSED),
    *row("U4", ALL, "close_in_body@700", "incomplete_body", CLOSED),
    *row("U5", BEDROCK, "half_frame", "truncated_frame", {"kept_alive", "peer_closed", "peer_reset"}),
    *row("U5", BEDROCK, "half_frame@2", "truncated_frame", {"kept_alive", "peer_closed", "peer_reset"}),
    *row("U6", (ANTHROPIC, "responses"), "half_event", "truncated", {"kept_alive", "peer_closed", "peer_reset"}),
    *row("U6", (ANTHROPIC, "responses"), "no_blank_line", "truncated", {"kept_alive", "peer_closed", "peer_reset"}),
    *row("U6", SSE, "half_event@4", "truncated", {"kept_alive", "peer_closed", "peer_reset"}),
    *row("U6", SSE, "no_blank_line@4", "truncated", {"kept_alive", "peer_closed", "peer_reset"}),
    *row("U7", BEDROCK, "bad_prelude_crc@3", "corrupt_frame", KEPT | PEER),
    *row("U8", BEDROCK, "bad_crc@3", "corrupt_frame", KEPT | PEER),
    *row("U9", BEDROCK, "frame_short@3", "corrupt_frame", KEPT | PEER),
    *row("U9", BEDROCK, "frame_huge@3", "corrupt_frame", KEPT | PEER),
    *row("U9", BEDROCK, "headers_overrun@3", "corrupt_frame", KEPT | PEER),
    *row("U9", BEDROCK, "headers_huge@3", "corrupt_frame", KEPT | PEER),
    *row("U9", BEDROCK, "unknown_header_type@3", "corrupt_frame", KEPT | PEER),
    *row("U9", BEDROCK, "header_overrun@3", "corrupt_frame", KEPT | PEER),
    *row("U10", ALL, "bad_json@3", "corrupt_payload", KEPT | PEER),
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
    *row("U14", ALL, "rst@3", "connection_reset", RESET),
    *row("U15", ALL, "stall@3", "idle_timeout", PEER, error_type="timeout_error"),
    *row("U15", ALL, "head_only", "idle_timeout", PEER, error_type="timeout_error"),
    *row("U22", ALL, "bad_chunk@3", "protocol_error", KEPT | PEER | CLOSED),
]  # fmt: skip


@pytest.mark.parametrize(("api", "fault", "cause", "ending", "error_type", "health", "words"), BROKEN_STREAMS)
async def test_broken_stream(build_house, ask, api, fault, cause, ending, error_type, health, words):
    async with build_house(timeouts=silence_of(fault)) as house:
        await check_broken_stream(house, ask, api, fault, cause, ending, error_type, health, words)


async def check_broken_stream(house, ask, api, fault, cause, ending, error_type, health, words):
    answer = await ask(house, api.name, fault)

    assert answer.status == 200
    assert answer.complete
    came, error = api.parted(answer.body)
    assert error.kind == api.kind(error_type, streaming=True)
    assert api.client_text(api.body()).startswith(came), "what came before: byte for byte, and whole events only"
    assert came == b"" or came.endswith(b"\n\n")

    books = await house.books()
    books.check("upstream_error", cause, health=health, error=words)
    assert error.request_id == books.interception.id
    assert not books.outcome.evidence.terminal_event_seen
    assert books.outcome.usage_source.value in {"provider_partial", "none"}
    (done,) = await house.simulator.ledger.wait_for(1)
    assert done.ending in ending


CLEAN = [
    (api, fault)
    for api in ALL
    for fault in ("clean", "one_write", "drip", "split_random:7", "rechunk:3", "close_delimited", "interim", "many:300")
]


@pytest.mark.parametrize(("api", "fault"), [*CLEAN, *((api, "clean") for api in COPILOT)])
async def test_u1_clean(house, ask, api, fault):
    """The case that started it all: a clean Bedrock stream ends COMPLETED in all five books."""
    answer = await ask(house, api, fault)
    api = APIS[api]
    assert answer.complete
    assert answer.body == api.client_text(api.body(), fault)
    books = await house.books()
    books.check("completed", "clean", health="success")
    assert books.outcome.evidence.terminal_event_seen
    assert books.outcome.evidence.last_event == api.last_event
    assert books.outcome.usage_source.value == "provider_final"
    assert books.outcome.evidence.bytes_out == len(answer.body)
    (done,) = await house.simulator.ledger.wait_for(1)
    assert done.ending == ("closed" if fault == "close_delimited" else "kept_alive")


async def test_its_twin(house, ask):
    """The same stream cut inside the last frame ends truncated_frame, and the client is told."""
    answer = await ask(house, BEDROCK, "half_frame")
    assert answer.events[-2:] == ["message_delta", "error"]
    (await house.books()).check("upstream_error", "truncated_frame", health="failure")


@pytest.mark.parametrize("api", ALL)
@pytest.mark.parametrize(("fault", "ending"), [("terminal_then_rst", RESET), ("terminal_then_close", CLOSED)])
async def test_u2_ends_badly_after_the_last_word(house, ask, api, fault, ending):
    answer = await ask(house, api, fault)
    assert answer.complete
    assert answer.body == APIS[api].client_text(APIS[api].body())
    (await house.books()).check("completed", "clean", health="success")
    (done,) = await house.simulator.ledger.wait_for(1)
    assert done.ending in ending
    await ask(house, api)
    assert house.simulator.accepted == 2, "the connection was not used again"


@pytest.mark.parametrize("api", [ANTHROPIC, BEDROCK])
async def test_u13_error_event_is_passed_on(house, ask, api):
    answer = await ask(house, api, "error_event:overloaded_error@3")
    assert answer.complete
    assert answer.events[-1] == "error"
    assert answer.last_event["error"]["type"] == "overloaded_error"
    said = answer.last_event.get("request_id", "req_")
    assert said.startswith("req_"), "the upstream's own words, not ours"
    (await house.books()).check("upstream_error", "error_event", health="failure", error="overloaded_error")


OF_SERVERS = [
    ("chat", "error_event:overloaded_error@3", "overloaded_error"),
    ("chat", "error_event@3+server:azure", "The server had an error"),
    ("chat", "error_event@3+server:ollama", "api_error"),
    ("chat", "error_event@3+server:openrouter", "The server had an error"),
    ("chat", "error_event@3+server:vllm", "InternalServerError"),
    ("copilot-chat", "error_event@3", "server_error"),
    ("responses", "error_event@3", "server_error"),
    ("responses", "error_event:rate_limit_exceeded@3", "rate_limit_exceeded"),
    ("responses", "error_event:flat@3", "server_error"),
    ("responses", "error_event:nested@3", "server_error"),
    ("copilot-responses", "error_event@3", "server_error"),
]


@pytest.mark.parametrize(("api", "fault", "words"), OF_SERVERS)
async def test_u13_errors_of_openai_and_its_like_byte_for_byte(house, ask, api, fault, words):
    """vLLM says that it is done behind an error: a client that is told so takes the half answer for a whole one."""
    answer = await ask(house, api, fault)
    assert answer.complete
    (done,) = await house.simulator.ledger.wait_for(1)
    behind = b"data: [DONE]\n\n" if "vllm" in fault else b""
    assert hashlib.sha256(answer.body + behind).hexdigest() == done.body_sha256
    books = await house.books()
    books.check("upstream_error", "error_event", health="failure", error=words)
    assert not books.outcome.evidence.terminal_event_seen
    assert house.metric("aibridge_trailing_bytes_total", provider=APIS[api].provider) == len(behind)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "blocking"])
@pytest.mark.parametrize("api", [*ALL, *COPILOT])
async def test_u16_nobody_listens(build_house, ask, api, stream):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused for as long as we hold it
        async with build_house(base_url=f"http://127.0.0.1:{taken.getsockname()[1]}") as house:
            answer = await ask(house, api, stream=stream)
            assert answer.status == 502
            books = await house.books()
            check_refusal(APIS[api], answer, "api_error", books)
            books.check("upstream_error", "connect_failed", health="failure")


def check_refusal(api, answer, kind, books):
    """Assert that an answer is an error of ours, in the API's shape."""
    error = api.said(answer.body)
    assert answer.headers["content-type"] == "application/json"
    assert (error.kind, error.request_id) == (api.kind(kind, streaming=False), books.interception.id)
    assert error.message


async def test_u16_no_such_host(build_house, ask):
    async with build_house(base_url="http://nowhere.invalid") as house:
        answer = await ask(house, ANTHROPIC)
        assert answer.status in {502, 504}
        (await house.books()).check("upstream_error", "connect_failed", health="failure")


@pytest.mark.parametrize("api", [ANTHROPIC, *OPENAI])
async def test_u16_connect_timeout(build_house, ask, api):
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = []
        for _ in range(4):  # the backlog is full: further SYNs are not answered
            filler = socket.socket()
            filler.setblocking(False)  # noqa: FBT003 - the signature is the system's
            filler.connect_ex(full.getsockname())
            fillers.append(filler)
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        async with build_house(base_url=url, timeouts={"connect": 0.5}) as house:
            answer = await ask(house, api)
            assert answer.status == 504
            books = await house.books()
            check_refusal(APIS[api], answer, "timeout_error", books)
            books.check("upstream_error", "connect_failed", health="failure", error="no connection")
        for filler in fillers:
            filler.close()


@pytest.mark.parametrize("api", ALL)
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
async def test_u16_u17_u20_u22_no_good_head(build_house, ask, api, stream, fault, cause, status, error_type):
    async with build_house(timeouts=silence_of(fault)) as house:
        answer = await ask(house, api, fault, stream=stream)
        assert answer.status == status
        books = await house.books()
        check_refusal(APIS[api], answer, error_type, books)
        books.check("upstream_error", cause, health="failure")
        (done,) = await house.simulator.ledger.wait_for(1)
        assert done.ending != "kept_alive" or fault in {"html", "gzip", "bad_http"}


AS_ANTHROPIC_SAYS = {408: 504, 422: 400, 503: 529}
"""AWS's statuses of errors that it names, where Anthropic has another for them."""


@pytest.mark.parametrize("api", ALL)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "blocking"])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 413, 422, 429, 500, 503, 529])
async def test_u18_u19_error_status(house, ask, api, stream, status):
    answer = await ask(house, api, f"status:{status}:7", stream=stream)
    assert answer.status == (AS_ANTHROPIC_SAYS.get(status, status) if api == BEDROCK else status)
    assert answer.headers["retry-after"] == "7"
    error = json.loads(answer.body)
    assert api in OPENAI or error["type"] == "error"
    assert error["error"]["message"]
    books = await house.books()
    unhealthy = status in {408, 429} or status >= 500
    books.check("upstream_error", "http_status", health="failure" if unhealthy else "neither")
    assert books.record["http_status"] == status
    assert error["error"]["message"] in books.record["error"]
    (done,) = await house.simulator.ledger.wait_for(1)
    assert done.ending == "kept_alive"
    if api != BEDROCK:
        assert hashlib.sha256(answer.body).hexdigest() == done.body_sha256, "the upstream's own words, byte for byte"


SAID_BY = [
    ("azure", "429", "Rate limit reached"),
    ("llamacpp", "503", "unavailable_error"),
    ("ollama", "500", "api_error"),
    ("openrouter", "402", "Invalid request."),
    ("vllm", "404", "NotFoundError"),
]


@pytest.mark.parametrize("api", OPENAI)
@pytest.mark.parametrize(("server", "status", "words"), SAID_BY)
async def test_u18_u19_errors_of_servers(house, ask, api, server, status, words):
    answer = await ask(house, api, f"status:{status}+server:{server}")
    (done,) = await house.simulator.ledger.wait_for(1)
    assert (answer.status, hashlib.sha256(answer.body).hexdigest()) == (int(status), done.body_sha256)
    health = "neither" if status in {"402", "404"} else "failure"
    (await house.books()).check("upstream_error", "http_status", health=health, error=words)


@pytest.mark.parametrize("api", ALL)
@pytest.mark.parametrize(
    ("fault", "cause", "status", "error_type", "ending"),
    [
        ("short_json", "incomplete_body", 502, "api_error", CLOSED),
        ("cut@50", "incomplete_body", 502, "api_error", CLOSED),
        ("rst@1", "connection_reset", 502, "api_error", RESET),
        ("stall@1", "idle_timeout", 504, "timeout_error", PEER),
    ],
)
async def test_u21_body_cut_short(build_house, ask, api, fault, cause, status, error_type, ending):
    async with build_house(timeouts=silence_of(fault)) as house:
        answer = await ask(house, api, fault, stream=False)
        assert answer.status == status
        books = await house.books()
        check_refusal(APIS[api], answer, error_type, books)
        books.check("upstream_error", cause, health="failure")
        (done,) = await house.simulator.ledger.wait_for(1)
        assert done.ending in ending


@pytest.mark.parametrize("api", ALL)
@pytest.mark.parametrize("count", [1, 16, 5000])
async def test_u23_bytes_behind_the_last_word(house, ask, api, count):
    answer = await ask(house, api, f"trailing:{count}")
    assert answer.complete
    assert answer.body == APIS[api].client_text(APIS[api].body())
    (await house.books()).check("completed", "clean", health="success")
    await house.simulator.ledger.wait_for(1)
    await ask(house, api)
    assert house.metric("aibridge_trailing_bytes_total", provider=APIS[api].provider) == count


WITHOUT_DONE = ["no_done", "no_done+one_write", "no_done+rechunk:3", "no_done+close_delimited", "no_done+no_usage"]
WITHOUT_DONE += ["no_done+usage_in_finish", "half_event", "no_blank_line"]


@pytest.mark.parametrize("repaired", [False, True])
@pytest.mark.parametrize("fault", WITHOUT_DONE)
@pytest.mark.parametrize("api", ["chat", "copilot-chat"])
async def test_u24_a_whole_answer_without_its_last_word(build_house, ask, api, fault, repaired):
    """Also where it breaks off inside `[DONE]`: the client gets all of the answer, and nothing of the half event."""
    api = APIS[api]
    async with build_house(provider={api.provider: {"repair_done": repaired}}) as house:
        answer = await ask(house, api.name, fault)
        assert answer.complete
        text = api.client_text(api.body(), fault.partition("+")[2])
        assert answer.body == (text if repaired else text.removesuffix(b"data: [DONE]\n\n"))
        books = await house.books()
        books.check("completed", "clean", health="success")
        assert books.record["note"] == "missing_done"
        assert not books.outcome.evidence.terminal_event_seen
        assert books.outcome.usage_source.value == ("none" if "no_usage" in fault else "provider_final")
        (done,) = await house.simulator.ledger.wait_for(1)
        assert done.ending == ("closed" if "close_delimited" in fault else "kept_alive")


@pytest.mark.parametrize("ends", ["reset", "close", "silence"])
async def test_u24_is_for_clean_ends_alone(build_house, new_client, ends):
    """All choices have finished, and then the connection breaks: what was still to come is not known."""
    api = APIS["chat"]
    body = api.body()
    whole = len(api.upstream_text(body).split(b"\n\n")) - 2  # events before [DONE]
    size = len(api.upstream_text(body).removesuffix(b"data: [DONE]\n\n"))
    fault, cause = {
        "reset": (f"rst@{whole}", "connection_reset"),
        "close": (f"cut@{size}", "incomplete_body"),
        "silence": (f"stall@{whole}", "idle_timeout"),
    }[ends]
    async with build_house(timeouts=silence_of(fault)) as house, new_client(house.port) as client:
        await client.ask(api.path, body, headers=[("x-sim-fault", fault)])
        came, error = api.parted((await client.answer()).body)
        assert came == api.client_text(body).removesuffix(b"data: [DONE]\n\n")
        books = await house.books()
        assert error.request_id == books.interception.id
        books.check("upstream_error", cause, health="failure")


@pytest.mark.parametrize("api", ALL)
async def test_u25_body_is_not_json(house, ask, api):
    answer = await ask(house, api, "broken_json", stream=False)
    assert answer.status == 200
    (await house.books()).check("upstream_error", "corrupt_payload", health="failure")
    (done,) = await house.simulator.ledger.wait_for(1)
    assert hashlib.sha256(answer.body).hexdigest() == done.body_sha256 or api == BEDROCK
    assert len(answer.body) == done.body_bytes, "the body, byte for byte"


@pytest.mark.parametrize("api", [*ALL, *COPILOT])
async def test_blocking_clean(house, ask, api):
    answer = await ask(house, api, stream=False)
    assert answer.status == 200
    assert answer.complete
    books = await house.books()
    books.check("completed", "clean", health="success")
    told = json.loads(answer.body)["usage"]
    assert books.outcome.usage.output_tokens == told.get("output_tokens", told.get("completion_tokens")) > 0
    assert books.record["output_tokens"] == books.outcome.usage.output_tokens
    (done,) = await house.simulator.ledger.wait_for(1)
    assert len(answer.body) == done.body_bytes
