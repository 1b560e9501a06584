"""The whole of Bedrock over real sockets: names, bodies, betas, what is learned of refusals, errors, usage, counts."""

import asyncio
import hashlib
import json

import pytest

from aibridge.simulator.aws_errors import STATUSES

TEAM = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/team-a"
VERSION = ("anthropic-version", "2023-06-01")


def sent(body):
    """Return the fingerprint of a body, as the simulator's ledger has it."""
    return hashlib.sha256(body).hexdigest()


@pytest.fixture
def call(new_client):
    """Return a function that asks a house's Bedrock anything, and reads the answer."""

    async def call_once(house, path, body=b"", *, method="POST", headers=()):
        async with new_client(house.port) as client:
            await client.ask(f"/bedrock{path}", body, method=method, headers=[VERSION, *headers])
            return await client.answer(method)

    return call_once


# names


@pytest.mark.parametrize(
    ("model", "upstream"),
    [
        ("claude-opus-5-5", "us.anthropic.claude-opus-5-5"),
        ("claude-sonnet-4-5", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("team", TEAM),
        (TEAM, TEAM),
        ("eu.anthropic.claude-opus-5", "eu.anthropic.claude-opus-5"),
    ],
)
async def test_a_name_reaches_aws_as_its_id_and_both_are_recorded(build_house, ask, model, upstream):
    async with build_house(provider={"bedrock": {"model_map": {"team": TEAM}}}) as house:
        assert (await ask(house, "bedrock", model=model)).status == 200
        (done,) = await house.simulator.ledger.wait_for(1)
        books = await house.books()
        books.check("completed", "clean", health="success")
        assert done.model == upstream
        assert (books.record["model"], books.record["upstream_model"]) == (model, upstream)
        for name in ("aibridge_interceptions_started_total", "aibridge_interceptions_total"):
            assert house.metric(name, model=model) == 1, "labels have the name that the client used"


async def test_the_profile_that_the_configuration_wants(build_house, ask):
    async with build_house(provider={"bedrock": {"inference_profile": "global"}}) as house:
        assert (await ask(house, "bedrock", model="claude-opus-5-5")).status == 200
        assert (await house.simulator.ledger.wait_for(1))[0].model == "global.anthropic.claude-opus-5-5"


async def test_models_are_told_without_asking_anyone(build_house, call):
    async with build_house(provider={"bedrock": {"model_map": {"claude-team": TEAM}}}) as house:
        answer = await call(house, "/v1/models?limit=1000", method="GET")
        listing = json.loads(answer.body)
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        assert listing["has_more"] is False
        assert (listing["first_id"], listing["last_id"]) == ("claude-team", listing["data"][-1]["id"])
        one = await call(house, "/v1/models/claude-sonnet-4-5-20250929", method="GET")
        assert json.loads(one.body) == next(entry for entry in listing["data"] if entry["id"] == "claude-sonnet-4-5")
        none = await call(house, "/v1/models/claude-nobody", method="GET")
        assert none.status == 404
        assert json.loads(none.body)["error"] == {"type": "not_found_error", "message": "model: claude-nobody"}
        assert house.simulator.accepted == 0
        assert house.metric("aibridge_passthrough_total", provider="bedrock", route="/v1/models") == 1


# bodies


CLAUDE_4_5 = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
FIXTURE = (
    b'{"model":"%b","max_tokens":32000,"messages":[{"role":"user","content":[{"type":"text","text":"H\\u00e9llo."}]}],'
    b'"thinking":{"type":"adaptive"},"metadata":{"user_id":"session_abc123"},"service_tier":"auto",'
    b'"container":{"type":"ephemeral"},"inference_geo":{"allow":["us"]},"output_config":{"effort":"medium"},'
    b'"context_management":{"edits":[{"type":"clear_thinking_20251015","keep":"all"}]},"stream":true,"top_k" : 5}'
)
"""The recorded request of the predecessor's users: every field that Bedrock lacks, and thinking of the newer kind."""


@pytest.mark.parametrize(
    ("model", "betas", "kept"),
    [
        (
            CLAUDE_4_5,
            b"",
            b'"thinking":{"type":"enabled","budget_tokens":16000},"top_k" : 5,"anthropic_version":"bedrock-2023-05-31"',
        ),
        (
            "us.anthropic.claude-opus-4-8",
            b"context-management-2025-06-27,request-tags-2026-08-21",
            (
                b'"thinking":{"type":"adaptive"},"output_config":{"effort":"medium"},'
                b'"context_management":{"edits":[{"type":"clear_thinking_20251015","keep":"all"}]},"top_k" : 5,'
                b'"anthropic_version":"bedrock-2023-05-31","anthropic_beta":["context-management-2025-06-27"]'
            ),
        ),
    ],
)
async def test_what_bedrock_lacks_is_left_out_and_every_other_byte_stays(house, new_client, model, betas, kept):
    async with new_client(house.port) as client:
        headers = [VERSION, ("anthropic-beta", betas.decode())]
        await client.ask("/bedrock/v1/messages", FIXTURE % model.encode(), headers=headers)
        assert (await client.answer()).events[-1] == "message_stop"
    messages = b'"messages":[{"role":"user","content":[{"type":"text","text":"H\\u00e9llo."}]}]'
    (done,) = await house.simulator.ledger.wait_for(1)
    assert done.request_sha256 == sent(b'{"max_tokens":32000,%b,%b}' % (messages, kept))
    assert house.metric("aibridge_stripped_fields_total", provider="bedrock", field="metadata") == 1
    (await house.books()).check("completed", "clean", health="success")


async def test_the_configuration_stands_above_the_table(build_house, ask):
    features = {"*opus-4-8": {"fields": {"metadata": True, "x": False}, "betas": {"b-1": False}, "thinking": "any"}}
    async with build_house(provider={"bedrock": {"features": features}}) as house:
        more = {"metadata": {}, "x": 1, "thinking": {"type": "enabled", "budget_tokens": 1024}}
        model = "anthropic.claude-opus-4-8"
        answer = await ask(house, "bedrock", headers=[("anthropic-beta", "b-1,b-2")], model=model, **more)
        assert answer.status == 200
        body = {
            "max_tokens": 200,
            "messages": [{"role": "user", "content": "hello"}],
            "metadata": {},
            "thinking": {"type": "enabled", "budget_tokens": 1024},
        }
        text = json.dumps(body).replace("}], ", "}],").replace("200, ", "200,").replace("{}, ", "{},")[:-1].encode()
        added = b',"anthropic_version":"bedrock-2023-05-31","anthropic_beta":["b-2"]}'
        (done,) = await house.simulator.ledger.wait_for(1)
        assert done.request_sha256 == sent(text + added)


# what is learned of refusals


NESTED = {
    "tools": [{"name": "get", "eager": True, "input_schema": {"type": "object"}}, {"name": "b", "input_schema": {}}]
}


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "blocking"])
@pytest.mark.parametrize(
    ("fault", "more", "field"),
    [
        ("extra:novelty", {"novelty": 1}, "novelty"),
        ("extra:tools.0.custom.eager", NESTED, "tools.*.custom.eager"),
        ("extra:thinking.display", {"thinking": {"type": "adaptive", "display": "omitted"}}, "thinking.display"),
        ("bad_beta:b-1", {"anthropic_beta": ["b-1"]}, "anthropic_beta.b-1"),
        ("bad_beta", {"anthropic_beta": ["b-1"]}, "anthropic_beta.b-1"),
    ],
)
async def test_what_aws_refuses_is_left_out_and_remembered(house, ask, stream, fault, more, field):
    for round_number in (1, 2):
        answer = await ask(house, "bedrock", fault, stream=stream, **more)
        assert answer.status == 200
        books = await house.books(ended=round_number)
        books.check("completed", "clean", health="success") if round_number == 1 else None
    attempts = [(attempt.number, attempt.cause.value) for attempt in house.outcomes.attempts]
    assert attempts == [(1, "http_status"), (2, "clean"), (1, "clean")], "the second request knew it"
    assert "xtra inputs" in house.outcomes.attempts[0].error or "beta" in house.outcomes.attempts[0].error
    assert house.metric("aibridge_stripped_fields_total", provider="bedrock", field=field) == 2
    assert house.simulator.accepted == 1, "on the same connection"


async def test_what_one_model_refuses_is_not_left_out_for_another(house, ask):
    for model in ("us.anthropic.claude-opus-5", "us.anthropic.claude-opus-5-5"):
        assert (await ask(house, "bedrock", "extra:novelty", model=model, novelty=1)).status == 200
    await house.books(ended=2)
    assert [attempt.number for attempt in house.outcomes.attempts] == [1, 2, 1, 2]


async def test_what_one_client_gets_wrong_takes_nothing_from_another(house, ask):
    """AWS does not say which of two betas is wrong: both are left out of this request, and one alone goes on."""
    assert (await ask(house, "bedrock", "bad_beta:b-1", anthropic_beta=["b-1", "good-2"])).status == 200
    assert (await ask(house, "bedrock", "bad_beta:b-1", anthropic_beta=["good-2"])).status == 200
    rows = await house.simulator.ledger.wait_for(3)
    ends = [b"", b',"anthropic_beta":["good-2"]']
    start = b'{"max_tokens": 200,"messages": [{"role": "user", "content": "hello"}],'
    start += b'"anthropic_version":"bedrock-2023-05-31"'
    assert [row.request_sha256 for row in rows[1:]] == [sent(start + end + b"}") for end in ends]


async def test_it_is_asked_again_once(house, ask):
    house.simulator.play("extra:a")
    house.simulator.play("extra:b")
    answer = await ask(house, "bedrock", a=1, b=2)
    assert answer.status == 400
    assert json.loads(answer.body)["error"]["message"] == "b: Extra inputs are not permitted"
    books = await house.books()
    books.check("upstream_error", "http_status", health="neither", error="b: Extra inputs")
    assert [attempt.number for attempt in house.outcomes.attempts] == [1, 2]


@pytest.mark.parametrize(
    ("fault", "more", "words"),
    [
        ("extra:system", {"system": "s"}, "system: Extra inputs are not permitted"),
        ("extra:messages.0.role", {}, "messages.0.role: Extra inputs are not permitted"),
        ("status:400", {}, "The provided request is not valid."),
    ],
)
async def test_a_refusal_that_cannot_be_mended_stands(house, ask, fault, more, words):
    answer = await ask(house, "bedrock", fault, **more)
    assert (answer.status, json.loads(answer.body)["error"]["message"]) == (400, words)
    (await house.books()).check("upstream_error", "http_status", health="neither")
    assert len(house.outcomes.attempts) == 1


async def test_a_client_that_leaves_during_the_second_attempt(house, new_client, request_body):
    house.simulator.play("extra:a")
    house.simulator.play("no_head")
    async with new_client(house.port) as client:
        await client.ask("/bedrock/v1/messages", request_body("bedrock", a=1), headers=[VERSION])
        await house.simulator.ledger.wait_for_arrivals(2)
    (await house.books()).check("client_gone", "disconnected", health="neither")
    assert [attempt.number for attempt in house.outcomes.attempts] == [1, 2]
    assert (await house.simulator.ledger.wait_for(2))[1].ending in {"peer_closed", "peer_reset"}


async def test_the_second_attempt_may_end_as_any_other(house, ask):
    house.simulator.play("extra:a")
    house.simulator.play("truncate@3")
    answer = await ask(house, "bedrock", a=1)
    assert (answer.status, answer.events[-1]) == (200, "error")
    (await house.books()).check("upstream_error", "truncated", health="failure")


async def test_a_refusal_that_ends_with_its_connection_is_mended_on_another(house, ask):
    answer = await ask(house, "bedrock", "extra:a+close_delimited", a=1)
    assert (answer.status, answer.events[-1]) == (200, "message_stop")
    assert house.simulator.accepted == 2


async def test_drain_ends_the_second_attempt_too(house, new_client, request_body):
    house.simulator.play("extra:a")
    house.simulator.play("no_head")
    async with new_client(house.port) as client:
        await client.ask("/bedrock/v1/messages", request_body("bedrock", a=1), headers=[VERSION])
        await house.simulator.ledger.wait_for_arrivals(2)
        await house.app.gateway.drain(0.1)
        assert (await client.answer()).status == 503
    (await house.books()).check("gateway_error", "draining", health="neither")
    assert [attempt.number for attempt in house.outcomes.attempts] == [1, 2]


async def test_anthropics_refusals_stand(house, ask):
    answer = await ask(house, "anthropic", "status:400", novelty=1)
    assert answer.status == 400
    assert len(house.outcomes.attempts) == 1


# errors


KINDS = {
    "AccessDeniedException": (403, "permission_error"),
    "ExpiredTokenException": (401, "authentication_error"),
    "InternalServerException": (500, "api_error"),
    "InvalidSignatureException": (401, "authentication_error"),
    "ModelErrorException": (500, "api_error"),
    "ModelNotReadyException": (529, "overloaded_error"),
    "ModelStreamErrorException": (500, "api_error"),
    "ModelTimeoutException": (504, "timeout_error"),
    "ResourceNotFoundException": (404, "not_found_error"),
    "ServiceQuotaExceededException": (429, "rate_limit_error"),
    "ServiceUnavailableException": (529, "overloaded_error"),
    "ThrottlingException": (429, "rate_limit_error"),
    "UnrecognizedClientException": (401, "authentication_error"),
    "ValidationException": (400, "invalid_request_error"),
}
FORMS = ["", ":bare", ":body", ":capital", ":empty"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", STATUSES)
async def test_each_error_of_aws_in_each_form(house, ask, name, form):
    answer = await ask(house, "bedrock", f"aws_error:{name}{form}", stream=form != ":bare")
    status, kind = KINDS[name]
    error = json.loads(answer.body)
    words = f"AWS has its own words for {name}."
    empty = f"the upstream answered with status {STATUSES[name]}"
    assert answer.status == status
    assert error["type"] == "error"
    assert error["error"] == {"type": kind, "message": empty if form == ":empty" else words}
    (done,) = await house.simulator.ledger.wait_for(1)
    assert error["request_id"] == answer.headers["request-id"] == answer.headers["x-amzn-requestid"] == done.request_id
    # Known by the head, the client is told that trying again is of no use.
    final = kind in {"authentication_error", "permission_error"}
    assert answer.headers.get("x-should-retry") == ("false" if final else None)
    books = await house.books()
    assert (books.outcome.cause.value, books.record["http_status"]) == ("http_status", STATUSES[name])
    assert books.record["upstream_request_id"] == done.request_id


async def test_an_error_that_is_told_in_anthropics_shape_goes_on_as_it_came(house, ask):
    answer = await ask(house, "bedrock", "aws_error:ValidationException:wrapped")
    (done,) = await house.simulator.ledger.wait_for(1)
    assert answer.status == 400
    assert hashlib.sha256(answer.body).hexdigest() == done.body_sha256


@pytest.mark.parametrize(
    ("fault", "status", "kind"),
    [
        ("status_html:503:9", 503, "overloaded_error"),
        ("status_html:502:9", 502, "api_error"),
        ("status_html:403:9", 403, "permission_error"),
        ("status_html:429:9+gzip", 429, "rate_limit_error"),
    ],
)
async def test_a_page_of_a_proxy(house, ask, fault, status, kind):
    answer = await ask(house, "bedrock", fault)
    error = json.loads(answer.body)["error"]
    assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
    assert error == {"type": kind, "message": f"the upstream answered with status {status}"}
    assert answer.headers["retry-after"] == "9"
    assert "content-encoding" not in answer.headers


async def test_a_compressed_error_is_read(house, ask):
    answer = await ask(house, "bedrock", "status:429:3+gzip")
    assert answer.status == 429
    assert json.loads(answer.body)["error"] == {
        "type": "rate_limit_error",
        "message": "Too many requests, please wait before trying again.",
    }
    assert (answer.headers["retry-after"], "content-encoding" in answer.headers) == ("3", False)
    assert "Too many requests" in (await house.books()).record["error"]


EXCEPTIONS = {
    "accessDeniedException": "permission_error",
    "internalServerException": "api_error",
    "modelErrorException": "api_error",
    "modelNotReadyException": "overloaded_error",
    "modelStreamErrorException": "api_error",
    "modelTimeoutException": "timeout_error",
    "resourceNotFoundException": "not_found_error",
    "serviceQuotaExceededException": "rate_limit_error",
    "serviceUnavailableException": "overloaded_error",
    "throttlingException": "rate_limit_error",
    "validationException": "invalid_request_error",
    "neverSeenException": "api_error",
}


@pytest.mark.parametrize(("name", "kind"), EXCEPTIONS.items())
async def test_each_exception_frame_word_for_word(house, ask, name, kind):
    answer = await ask(house, "bedrock", f"exception:{name}@3")
    error = answer.last_event["error"]
    assert error["type"] == kind
    assert name not in error["message"], "AWS's words are the whole message"
    assert error["message"]
    assert (await house.books()).record["error"] == f"{name}: {error['message']}"


# usage


CACHED = {"system": [{"type": "text", "text": "s" * 400, "cache_control": {"type": "ephemeral"}}]}


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "blocking"])
async def test_all_four_counts(house, ask, stream):
    answer = await ask(house, "bedrock", stream=stream, **CACHED)
    assert answer.status == 200
    books = await house.books()
    usage = books.outcome.usage
    assert min(usage.input_tokens, usage.output_tokens, usage.cache_read_input_tokens) > 0
    assert usage.cache_creation_input_tokens > 0
    assert not [name for name, _ in usage.extras if name.startswith("message_")]
    assert books.outcome.usage_source.value == "provider_final"


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "blocking"])
async def test_what_aws_meters_wins_and_the_difference_is_recorded(house, ask, stream):
    await ask(house, "bedrock", stream=stream, **CACHED)
    agreed = (await house.books()).outcome.usage
    await ask(house, "bedrock", "miscount:5", stream=stream, **CACHED)
    books = await house.books(ended=2)
    usage, extras = books.outcome.usage, dict(books.outcome.usage.extras)
    for name in ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"):
        assert getattr(usage, name) == getattr(agreed, name) + 5
        assert extras[f"message_{name}"] == getattr(agreed, name)
    assert books.record["input_tokens"] == usage.input_tokens


async def test_a_stream_that_is_cut_keeps_what_the_message_said(house, ask):
    await ask(house, "bedrock", "truncate@3", **CACHED)
    books = await house.books()
    assert books.outcome.usage_source.value == "provider_partial"
    assert books.outcome.usage.input_tokens > 0


# time


BEYOND = "aibridge_overhead_beyond_provider_seconds"


async def test_our_own_share_of_the_time_is_a_metric(house, ask):
    assert (await ask(house, "bedrock", "latency:40+slow:15")).status == 200
    (attempt,) = (await house.books()).house.outcomes.attempts
    assert (attempt.evidence.invocation_latency, attempt.evidence.first_byte_latency) == (0.04, 0.02)
    for until in ("end", "first_event"):
        assert house.metric(f"{BEYOND}_count", provider="bedrock", until=until) == 1
    assert house.metric(f"{BEYOND}_sum", until="end") == pytest.approx(attempt.duration - 0.04, abs=1e-6)
    assert house.metric(f"{BEYOND}_sum", until="first_event") < attempt.duration


async def test_an_answer_that_is_not_streamed_tells_its_time_too(house, ask):
    assert (await ask(house, "bedrock", "latency:0", stream=False)).status == 200
    (attempt,) = (await house.books()).house.outcomes.attempts
    assert house.metric(f"{BEYOND}_sum", until="end") == pytest.approx(attempt.duration, abs=1e-6)
    assert house.metric(f"{BEYOND}_count", until="first_event") == 0


async def test_a_provider_that_says_more_than_it_took_leaves_nothing(house, ask):
    assert (await ask(house, "bedrock", "latency:60000")).status == 200
    await house.books()
    assert house.metric(f"{BEYOND}_count", until="end") == 1
    assert house.metric(f"{BEYOND}_sum") == 0


async def test_anthropic_does_not_tell(house, ask):
    assert (await ask(house, "anthropic")).status == 200
    await house.books()
    assert house.metric(f"{BEYOND}_count") == 0


# counts


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"max_tokens": 5},
        {"thinking": {"type": "enabled", "budget_tokens": 2000}},
        {"tools": [{"name": "x", "input_schema": {"type": "object"}}], "metadata": {}},
    ],
)
async def test_tokens_are_counted_by_aws(house, call, ask, more):
    body = {"model": "claude-sonnet-4-5", "messages": [{"role": "user", "content": "How many are we?"}], **more}
    answer = await call(house, "/v1/messages/count_tokens?beta=true", body)
    (done,) = await house.simulator.ledger.wait_for(1)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert (done.path, done.status) == ("/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/count-tokens", 200)
    assert answer.headers["request-id"] == done.request_id
    assert json.loads(answer.body).keys() == {"input_tokens"}
    await ask(house, "bedrock", **{"max_tokens": 9000, **body})
    usage = (await house.books()).outcome.usage
    assert usage.input_tokens == json.loads(answer.body)["input_tokens"]


async def test_where_aws_does_not_count_clients_are_told_to_estimate(house, call):
    body = {"model": "claude-opus-5", "messages": []}
    answer = await call(house, "/v1/messages/count_tokens", body, headers=[("x-sim-fault", "uncounted")])
    assert (answer.status, answer.headers["x-should-retry"]) == (501, "false")
    assert json.loads(answer.body)["error"]["type"] == "not_supported"
    assert house.metric("aibridge_rejections_total", reason="not_supported") == 1


async def test_other_errors_of_a_count_are_told_as_anthropic_tells_them(house, call):
    body = {"model": "claude-opus-5", "messages": []}
    headers = [("x-sim-fault", "aws_error:ThrottlingException")]
    answer = await call(house, "/v1/messages/count_tokens", body, headers=headers)
    assert (answer.status, json.loads(answer.body)["error"]["type"]) == (429, "rate_limit_error")
    answer = await call(house, "/v1/messages/count_tokens", body, headers=[("x-sim-fault", "broken_json")])
    assert (answer.status, json.loads(answer.body)["error"]["type"]) == (502, "api_error")


@pytest.mark.parametrize("body", [b"{", {"messages": []}])
async def test_a_count_of_nothing_is_refused_and_not_asked(house, call, body):
    answer = await call(house, "/v1/messages/count_tokens", body)
    assert (answer.status, json.loads(answer.body)["error"]["type"]) == (400, "invalid_request_error")
    assert house.simulator.accepted == 0
    assert house.metric("aibridge_passthrough_total") == 0


async def test_many_counts_at_once(house, call):
    """As `/context` asks: 25 within a moment."""
    body = {"model": "claude-opus-5", "messages": [{"role": "user", "content": "x"}]}
    answers = await asyncio.gather(*[call(house, "/v1/messages/count_tokens", body) for _ in range(25)])
    assert {answer.status for answer in answers} == {200}
