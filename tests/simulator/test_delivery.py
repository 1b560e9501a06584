"""What each fault does on the wire, read byte by byte on a real socket."""

import asyncio
import hashlib
import json
from functools import partial

import pytest

from aibridge.simulator.expected import expected_document, expected_sse
from aibridge.simulator.faults import SPECS, Scope, Word

ALL = ["anthropic", "bedrock", "chat", "responses"]
LAST = {"anthropic": "message_stop", "bedrock": "message_stop", "chat": "[DONE]", "responses": "response.completed"}


def types(answer, api, data_of):
    if api == "chat":
        return [json.loads(data)["object"] if data != b"[DONE]" else "[DONE]" for _, data in answer.events]
    if api != "bedrock":
        return [kind for kind, _ in answer.events]
    return [json.loads(data_of(frame))["type"] for frame in answer.frames]


def has_sent(count, answer):
    return len(answer.chunks) >= count


@pytest.mark.parametrize("api", ALL)
async def test_u1_clean(simulator, ask, new_request, parse_frame_data, api):
    answer = await ask(simulator, api)
    (row,) = await simulator.ledger.wait_for(1)
    _, _, body = new_request(simulator, api)
    expected = expected_sse(body, api, model="anthropic.claude-sim-v1:0" if api == "bedrock" else "")
    kinds = types(answer, api, parse_frame_data)
    assert (answer.status, answer.complete) == (200, True)
    if api != "bedrock":
        assert answer.body == expected
    else:
        texts = [b"event: %b\ndata: %b\n\n" % (kind.encode(), parse_frame_data(frame))
                 for kind, frame in zip(kinds, answer.frames, strict=True)]  # fmt: skip
        assert b"".join(texts) == expected
    assert len(answer.chunks) == len(kinds) == row.events, "one HTTP chunk for each event"
    assert kinds[-1] == LAST[api]
    assert row.terminal_sent
    assert (row.status, row.ending, row.fault, row.streaming) == (200, "kept_alive", "clean", True)
    assert row.body_sha256 == hashlib.sha256(answer.body).hexdigest()
    assert row.request_sha256 == hashlib.sha256(body).hexdigest()
    assert row.received_at <= row.first_byte_at <= row.ended_at


@pytest.mark.parametrize("api", ALL)
async def test_u1_without_stream(simulator, ask, new_request, api):
    answer = await ask(simulator, api, streaming=False)
    (row,) = await simulator.ledger.wait_for(1)
    _, _, body = new_request(simulator, api, streaming=False)
    model = "anthropic.claude-sim-v1:0" if api == "bedrock" else ""
    assert answer.document == expected_document(body, api, model=model)
    assert (answer.complete, row.terminal_sent, row.events) == (True, True, 0)


SHAPES = [
    *("split_random:1", "split_random:2", "one_write", "drip", "rechunk:1", "rechunk:2", "interim", "gzip"),
    *(
        "close_delimited",
        "slow:1",
        "padded",
        "pings",
        "unicode",
        "huge:9000",
        "size:40",
        "tools:2",
        "many:50",
        "tool:x",
    ),
    *("stop:refusal", "trailing:0", "tool_loop", "stale"),
]


@pytest.mark.parametrize("api", ALL)
@pytest.mark.parametrize("fault", SHAPES)
async def test_shapes_lose_nothing(simulator, ask, new_request, parse_frame_data, api, fault):
    answer = await ask(simulator, api, fault)
    (row,) = await simulator.ledger.wait_for(1)
    _, _, body = new_request(simulator, api, fault)
    model = "anthropic.claude-sim-v1:0" if api == "bedrock" else ""
    expected = expected_sse(body, api, model=model, fault=fault)
    assert answer.complete or (fault == "close_delimited" and answer.closed)
    assert row.fault == fault
    assert row.terminal_sent
    assert row.events == expected.count(b"data: ")
    if api != "bedrock":
        assert answer.body == expected
    else:
        assert len(answer.frames) == row.events
        assert json.loads(parse_frame_data(answer.frames[-1]))["type"] == "message_stop"


@pytest.mark.parametrize("api", ["anthropic", "chat", "responses"])
@pytest.mark.parametrize("fault", ["crlf", "cr", "bom", "comments", "no_space", "crlf+bom+comments+padded"])
async def test_shapes_of_text(simulator, ask, new_request, api, fault):
    answer = await ask(simulator, api, fault)
    _, _, body = new_request(simulator, api, fault)
    assert answer.body == expected_sse(body, api, fault=fault)
    assert types(answer, api, None)[-1] == LAST[api]
    bom = b"\xef\xbb\xbf" + (b"data" if api == "chat" else b"event")
    signs = {"crlf": b"}\r\n\r\n", "cr": b"}\r\r", "bom": bom, "comments": b": a comment", "no_space": b"\ndata:{"}
    assert signs[fault.partition("+")[0]] in answer.body


@pytest.mark.parametrize("api", ALL)
async def test_interim_answers_come_first(simulator, ask, api):
    answer = await ask(simulator, api, "interim")
    assert answer.raw.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n")


async def test_one_chunk_is_not_one_event_when_cut_again(simulator, ask):
    answer = await ask(simulator, "bedrock", "rechunk:3")
    (row,) = await simulator.ledger.wait_for(1)
    assert len(answer.chunks) != row.events == len(answer.frames)


@pytest.mark.parametrize("api", ALL)
@pytest.mark.parametrize(("fault", "reset"), [("terminal_then_rst", True), ("terminal_then_close", False)])
async def test_u2_everything_but_the_last_chunk(simulator, ask, parse_frame_data, api, fault, reset):
    answer = await ask(simulator, api, fault)
    (row,) = await simulator.ledger.wait_for(1)
    assert types(answer, api, parse_frame_data)[-1] == LAST[api]
    assert (answer.complete, answer.reset, answer.closed) == (False, reset, not reset)
    assert (row.terminal_sent, row.ending) == (True, "reset" if reset else "closed")


@pytest.mark.parametrize("api", ALL)
@pytest.mark.parametrize("count", [0, 1, 4])
async def test_u3_truncated(simulator, ask, api, parse_frame_data, count):
    answer = await ask(simulator, api, f"truncate@{count}")
    (row,) = await simulator.ledger.wait_for(1)
    assert answer.complete
    assert len(types(answer, api, parse_frame_data)) == row.events == count
    assert (row.terminal_sent, row.ending) == (False, "kept_alive")


@pytest.mark.parametrize("api", ALL)
@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize(
    "fault", ["cut@0", "cut@1", "cut@120", "cut", "cut@99999", "close_in_body@70", "close_in_body"]
)
async def test_u4_closed_inside_the_body(simulator, ask, api, streaming, fault):
    whole = (await ask(simulator, api, streaming=streaming)).body
    answer = await ask(simulator, api, fault, streaming=streaming)
    row = (await simulator.ledger.wait_for(2))[1]
    place = fault.partition("@")[2]
    size = min(int(place), len(whole) - 1) if place else len(whole) // 2
    assert (answer.complete, answer.closed, answer.reset) == (False, True, False)
    assert len(answer.body) == row.body_bytes == size
    assert row.body_sha256 == hashlib.sha256(answer.body).hexdigest()
    assert (row.terminal_sent, row.ending) == (False, "closed")
    if not streaming or fault.startswith("close_in_body"):
        assert int(answer.headers["content-length"]) == len(whole)


@pytest.mark.parametrize("fault", ["half_frame", "half_frame@3"])
async def test_u5_half_a_frame(simulator, ask, fault):
    whole = await ask(simulator, "bedrock")
    answer = await ask(simulator, "bedrock", fault)
    row = (await simulator.ledger.wait_for(2))[1]
    kept = len(answer.frames)
    assert answer.complete
    assert kept == row.events == (3 if "@" in fault else len(whole.frames) - 1)
    ends = sum(len(chunk) for chunk in whole.chunks[:kept])
    assert ends < len(answer.body) < ends + len(whole.chunks[kept]), "it ends inside"
    assert not row.terminal_sent


@pytest.mark.parametrize(
    "fault", ["half_event", "half_event@3", "no_blank_line", "no_blank_line@4", "crlf+no_blank_line"]
)
@pytest.mark.parametrize("api", ["anthropic", "chat", "responses"])
async def test_u6_half_an_event(simulator, ask, api, fault):
    answer = await ask(simulator, api, fault)
    (row,) = await simulator.ledger.wait_for(1)
    assert answer.complete
    assert len(answer.events) == row.events
    assert LAST[api] not in types(answer, api, None)
    assert not row.terminal_sent
    if fault == "no_blank_line":
        assert answer.body.endswith({"chat": b"data: [DONE]\n"}.get(api, b"}\n"))
    if fault == "half_event":
        assert not answer.body.endswith(b"\n")
    if (fault, api) == ("half_event", "anthropic"):
        assert answer.body.endswith(b'event: message_stop\ndata: {"type":')


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("bad_prelude_crc", "Checksum mismatch"),
        ("bad_crc", "Checksum mismatch"),
        ("headers_huge", "Header length of"),
        ("frame_huge", "exceeded the maximum"),
    ],
)
@pytest.mark.parametrize("place", [0, 3])
async def test_u7_u8_u9_frames_that_aws_refuses(simulator, ask, fault, complaint, place):
    answer = await ask(simulator, "bedrock", f"{fault}@{place}")
    (row,) = await simulator.ledger.wait_for(1)
    assert answer.complete
    assert not row.terminal_sent
    with pytest.raises(Exception, match=complaint):
        _ = answer.frames


@pytest.mark.parametrize("fault", ["frame_short", "headers_overrun", "unknown_header_type", "header_overrun"])
async def test_u9_lies_with_right_checksums(simulator, ask, fault):
    good = await ask(simulator, "bedrock")
    answer = await ask(simulator, "bedrock", f"{fault}@3")
    row = (await simulator.ledger.wait_for(2))[1]
    assert (answer.complete, row.terminal_sent) == (True, False)
    assert answer.chunks[:3] == good.chunks[:3]
    assert answer.chunks[4:] == good.chunks[4:], "the rest comes as if nothing had happened"
    lie = answer.chunks[3]
    total, headers = int.from_bytes(lie[:4], "big"), int.from_bytes(lie[4:8], "big")
    assert {
        "frame_short": total == 15,
        "headers_overrun": total == len(lie) and headers + 16 == total + 1,
        "unknown_header_type": total == len(lie) and b"\x03odd\x2a" in lie,
        "header_overrun": total == len(lie) and b"\x03odd\x07\xff\xff" in lie,
    }[fault]


@pytest.mark.parametrize("api", ["anthropic", "chat", "responses"])
async def test_u10_a_good_event_with_bad_data(simulator, ask, api):
    answer = await ask(simulator, api, "bad_json@3")
    (row,) = await simulator.ledger.wait_for(1)
    assert (answer.complete, row.terminal_sent) == (True, False)
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.events[3][1])
    assert json.loads(answer.events[4][1])


@pytest.mark.parametrize("fault", ["bad_json", "bad_base64", "bad_inner_json"])
async def test_u10_good_frames_with_bad_payloads(simulator, ask, parse_frame_data, fault):
    answer = await ask(simulator, "bedrock", f"{fault}@3")
    (row,) = await simulator.ledger.wait_for(1)
    assert (answer.complete, row.terminal_sent) == (True, False)
    with pytest.raises(ValueError, match=r".") as caught:
        json.loads(parse_frame_data(answer.frames[3]))
    assert (fault == "bad_base64") != isinstance(caught.value, json.JSONDecodeError)
    assert json.loads(parse_frame_data(answer.frames[4]))


EXCEPTIONS = [
    *("throttlingException", "modelStreamErrorException", "internalServerException", "modelTimeoutException"),
    *("serviceUnavailableException", "validationException", "unheardOfException"),
]


@pytest.mark.parametrize("name", EXCEPTIONS)
async def test_u11_exception_frames(simulator, ask, name):
    answer = await ask(simulator, "bedrock", f"exception:{name}@2")
    (row,) = await simulator.ledger.wait_for(1)
    assert (answer.complete, row.terminal_sent, row.events) == (True, False, 3)
    last = answer.frames[-1]
    assert last.headers == {
        ":exception-type": name,
        ":content-type": "application/json",
        ":message-type": "exception",
    }
    assert json.loads(last.payload)["message"]


async def test_u12_error_frame(simulator, ask):
    answer = await ask(simulator, "bedrock", "error_frame@0")
    (last,) = answer.frames
    assert last.headers[":message-type"] == "error"
    assert last.headers[":error-code"]
    assert last.payload == b""


@pytest.mark.parametrize("api", ["anthropic", "bedrock"])
@pytest.mark.parametrize(
    ("fault", "kind"), [("error_event@2", "overloaded_error"), ("error_event:api_error@2", "api_error")]
)
async def test_u13_errors_in_band(simulator, ask, parse_frame_data, api, fault, kind):
    answer = await ask(simulator, api, fault)
    (row,) = await simulator.ledger.wait_for(1)
    data = answer.events[-1][1] if api == "anthropic" else parse_frame_data(answer.frames[-1])
    assert (answer.complete, row.terminal_sent, row.events) == (True, False, 3)
    assert json.loads(data)["type"] == "error"
    assert json.loads(data)["error"]["type"] == kind
    if api == "anthropic":
        assert answer.events[-1][0] == "error"
        assert json.loads(data)["request_id"] == row.request_id


@pytest.mark.parametrize("api", ALL)
@pytest.mark.parametrize("count", [0, 1, 5])
async def test_u14_reset(simulator, ask, parse_frame_data, api, count):
    answer = await ask(simulator, api, f"rst@{count}")
    (row,) = await simulator.ledger.wait_for(1)
    assert (answer.status, answer.reset, answer.complete) == (200, True, False)
    assert len(types(answer, api, parse_frame_data)) == row.events == count
    assert row.ending == "reset"


async def test_u14_nothing_is_lost_before_the_reset(simulator, ask):
    answer = await ask(simulator, "anthropic", "huge:2000000+rst@4")
    (row,) = await simulator.ledger.wait_for(1)
    assert answer.reset
    # The kernel may drop what it has not delivered when the reset goes out; all of ours had left the process.
    assert row.body_bytes > 2_000_000


async def test_u14_reset_without_a_stream(simulator, ask):
    answer = await ask(simulator, "anthropic", "rst@2", streaming=False)
    assert answer.reset
    assert len(answer.body) == 128, "pieces of 64 bytes"


@pytest.mark.parametrize("api", ALL)
@pytest.mark.parametrize("fault", ["stall@3", "head_only", "no_head"])
async def test_u15_u17_silence_until_the_peer_goes(simulator, connect, new_request, api, fault):
    async with connect(simulator) as client:
        target, headers, body = new_request(simulator, api, fault)
        await client.send("POST", target, headers, body)
        if fault == "no_head":
            await simulator.ledger.wait_for_arrivals(1)
        else:
            wanted = 3 if fault == "stall@3" else 0
            answer = await client.answer(lambda answer: answer.status and len(answer.chunks) == wanted)
            assert not answer.complete
        assert simulator.ledger.total == 0
        left_at = asyncio.get_running_loop().time()
    (row,) = await simulator.ledger.wait_for(1)
    assert row.ending == "peer_closed"
    assert row.status == (0 if fault == "no_head" else 200)
    assert 0 <= row.ended_at - left_at < 5


@pytest.mark.parametrize("api", ALL)
@pytest.mark.parametrize(("fault", "reset"), [("close_before_head", False), ("rst_before_head", True)])
async def test_u16_gone_before_the_head(simulator, ask, api, fault, reset):
    answer = await ask(simulator, api, fault)
    (row,) = await simulator.ledger.wait_for(1)
    assert (answer.raw, answer.reset, answer.closed) == (b"", reset, not reset)
    assert (row.status, row.body_bytes, row.ending) == (0, 0, "reset" if reset else "closed")


ANTHROPIC_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}
AWS_KINDS = {
    400: "ValidationException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    429: "ThrottlingException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
}


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize(("status", "kind"), ANTHROPIC_KINDS.items())
async def test_u18_u19_statuses_of_anthropic(simulator, ask, status, kind, streaming):
    answer = await ask(simulator, "anthropic", f"status:{status}:7", streaming=streaming)
    (row,) = await simulator.ledger.wait_for(1)
    assert answer.status == row.status == status
    assert answer.headers["retry-after"] == "7"
    assert answer.headers["x-should-retry"] == ("true" if status >= 429 else "false")
    assert answer.document["error"]["type"] == kind
    assert answer.document["request_id"] == answer.headers["request-id"] == row.request_id
    assert not row.terminal_sent


@pytest.mark.parametrize(("status", "kind"), AWS_KINDS.items())
async def test_u18_u19_statuses_of_aws(simulator, ask, status, kind):
    answer = await ask(simulator, "bedrock", f"status:{status}")
    assert answer.status == status
    assert answer.headers["x-amzn-errortype"].partition(":")[0] == kind
    assert list(answer.document) == ["message"]
    assert "retry-after" not in answer.headers


@pytest.mark.parametrize("api", ALL)
@pytest.mark.parametrize(("fault", "status"), [("status_html:502:3", 502), ("html", 200)])
async def test_u19_u20_html(simulator, ask, api, fault, status):
    answer = await ask(simulator, api, fault)
    assert answer.status == status
    assert answer.headers["content-type"] == "text/html"
    assert b"<html>" in answer.body
    assert answer.headers.get("retry-after") == ("3" if status == 502 else None)


@pytest.mark.parametrize("api", ALL)
async def test_u21_short_json(simulator, ask, api):
    answer = await ask(simulator, api, "short_json", streaming=False)
    assert (answer.complete, answer.closed) == (False, True)
    assert len(answer.body) == int(answer.headers["content-length"]) // 2


@pytest.mark.parametrize("api", ALL)
async def test_u22_malformed_http(simulator, ask, api):
    answer = await ask(simulator, api, "bad_http")
    assert answer.malformed
    assert answer.closed
    answer = await ask(simulator, api, "bad_chunk@3")
    assert answer.malformed
    assert (answer.closed, len(answer.chunks)) == (True, 3)


@pytest.mark.parametrize("api", ALL)
async def test_u22_a_head_without_end(simulator, ask, api):
    answer = await ask(simulator, api, "header_flood", enough=lambda answer: len(answer.raw) > 1_000_000)
    assert answer.status == 0
    (row,) = await simulator.ledger.wait_for(1)
    assert row.ending in ("peer_closed", "peer_reset")
    assert (row.status, row.body_bytes) == (0, 0)


@pytest.mark.parametrize("api", ALL)
async def test_events_without_end(simulator, ask, api):
    answer = await ask(simulator, api, "endless", enough=partial(has_sent, 500))
    assert answer.status == 200
    (row,) = await simulator.ledger.wait_for(1)
    assert row.ending in ("peer_closed", "peer_reset")
    assert row.events >= 500


@pytest.mark.parametrize("api", ALL)
@pytest.mark.parametrize("count", [1, 16, 5000])
async def test_u23_trailing_bytes(simulator, ask, api, count):
    clean = await ask(simulator, api)
    answer = await ask(simulator, api, f"trailing:{count}" if count != 16 else "trailing")
    row = (await simulator.ledger.wait_for(2))[1]
    assert (answer.complete, row.terminal_sent) == (True, True)
    assert len(answer.chunks[-1]) == count
    if api == "bedrock":
        assert answer.body == clean.body + b"x" * count


@pytest.mark.parametrize("api", ALL)
async def test_u25_complete_but_no_json(simulator, ask, api):
    answer = await ask(simulator, api, "broken_json", streaming=False)
    (row,) = await simulator.ledger.wait_for(1)
    assert (answer.status, answer.complete, row.terminal_sent) == (200, True, False)
    with pytest.raises(json.JSONDecodeError):
        _ = answer.document


@pytest.mark.parametrize("api", ALL)
async def test_stale_connections(simulator, connect, new_request, api):
    async with connect(simulator) as client:
        await client.send("POST", *new_request(simulator, api, "stale"))
        assert (await client.answer()).complete
        await client.send("POST", *new_request(simulator, api))
        answer = await client.answer()
    first, second = await simulator.ledger.wait_for(2)
    assert (answer.raw, answer.closed or answer.reset) == (b"", True)
    assert (first.fault, first.ending, first.terminal_sent) == ("stale", "kept_alive", True)
    assert (second.fault, second.ending, second.status, second.api) == ("stale", "closed", 0, api)
    assert first.connection == second.connection
    assert second.exchange == 2


SCOPES = {
    "anthropic": {Scope.EVENTS},
    "bedrock": {Scope.FRAMES, Scope.AWS},
    "chat": {Scope.EVENTS, Scope.CHAT, Scope.OPENAI},
    "responses": {Scope.EVENTS, Scope.OPENAI},
}


def misfits():
    """Words without arguments, where they cannot be played."""
    for api in ALL:
        of_api = SCOPES[api]
        whole = {Scope.ANY, Scope.BODY} | of_api - {Scope.FRAMES, Scope.EVENTS, Scope.CHAT}
        for streaming, fits in ((True, {Scope.ANY, Scope.STREAM} | of_api), (False, whole)):
            for word, spec in SPECS.items():
                if spec.scope not in fits and spec.argument is None:
                    yield api, streaming, str(word)


@pytest.mark.parametrize(("api", "streaming", "word"), list(misfits()))
async def test_where_a_word_does_not_fit_it_is_refused(simulator, ask, api, streaming, word):
    answer = await ask(simulator, api, word, streaming=streaming)
    (row,) = await simulator.ledger.wait_for(1)
    assert answer.status == 400
    assert "does not fit" in str(answer.document)
    assert (row.fault, row.status, row.streaming) == ("refused", 400, streaming)


@pytest.mark.parametrize("api", ALL)
async def test_unknown_words_are_answered_with_the_list(simulator, ask, api):
    answer = await ask(simulator, api, "explode")
    assert answer.status == 400
    text = answer.document["message"] if api == "bedrock" else answer.document["error"]["message"]
    assert text.startswith("unknown fault 'explode'")
    assert all(word in text for word in Word)
