"""What a real collector gets over real sockets: one interception of each termination, of both kinds of providers.

The simulator's ledger says which trace context the upstream was told.
"""

import asyncio

import pytest

from aibridge import config
from aibridge.telemetry import genai, tracing

BOTH = ("anthropic", "bedrock")
ROOT, PROCESS, UPSTREAM = "Intercept", "Intercept.ProcessRequest", "Intercept.ProcessRequest.Upstream"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
HEADERS = [("anthropic-version", "2023-06-01"), ("traceparent", TRACEPARENT), ("tracestate", "a=1")]
UNSET, ERROR = 0, 2
SERVER, INTERNAL, CLIENT = 2, 1, 3


@pytest.fixture
def traced_house(build_house, collector, monkeypatch):
    """Return what builds a house that sends spans and metrics to the collector."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "OTEL_SERVICE_NAME"):
        monkeypatch.delenv(name, raising=False)
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}

    def build(semconv="stable-now", **more):
        spans = tracing.build(environ, version="1.2.3", semconv=semconv)
        measures = genai.build(environ, version="1.2.3", semconv=semconv)
        return build_house(tracing=spans, genai=measures, **more)

    return build


async def run_completed(_house, client, ask):
    await ask(client, "slow:30")
    assert (await client.answer()).status == 200


async def run_upstream_error(_house, client, ask):
    await ask(client, "truncate@3+slow:30")
    assert (await client.answer()).events[-1] == "error"


async def run_client_gone(_house, client, ask):
    await ask(client, "endless+slow:30")
    await client.read_until(b"event: content_block_delta")
    client.reset()


async def run_gateway_error(house, client, ask):
    await ask(client, "stall@5+slow:30")
    await client.read_until(b"event: content_block_delta")
    await house.app.gateway.drain(0.05)
    assert (await client.answer()).events[-1] == "error"


TERMINATIONS = [
    (run_completed, "completed", "clean", UNSET),
    (run_upstream_error, "upstream_error", "truncated", ERROR),
    (run_client_gone, "client_gone", "disconnected", UNSET),
    (run_gateway_error, "gateway_error", "draining", ERROR),
]


@pytest.mark.parametrize("provider", BOTH)
@pytest.mark.parametrize(
    ("play", "termination", "cause", "status"), TERMINATIONS, ids=[termination for _, termination, *_ in TERMINATIONS]
)
async def test_one_of_each_termination(
    traced_house, collector, new_client, request_body, provider, play, termination, cause, status
):
    async def ask(client, fault):
        headers = [*HEADERS, ("x-sim-fault", fault)] if fault else HEADERS
        await client.ask(f"/{provider}/v1/messages", request_body(provider), headers=headers)

    async with traced_house() as house:
        async with new_client(house.port) as client:
            await play(house, client, ask)
        outcome = (await house.books()).outcome
        assert (outcome.termination, outcome.cause) == (termination, cause)
        [row] = await house.simulator.ledger.wait_for(1)
        [(interception, _)] = house.outcomes.ended
    assert sorted(span.name for span in collector.spans) == [ROOT, PROCESS, UPSTREAM]
    spans = {span.name: span for span in collector.spans}

    # the tree, and the trace in and out
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
    assert spans[ROOT].parent_span_id.hex() == PARENT
    assert spans[PROCESS].parent_span_id == spans[ROOT].span_id
    assert spans[UPSTREAM].parent_span_id == spans[PROCESS].span_id
    assert {name: spans[name].kind for name in spans} == {ROOT: SERVER, PROCESS: INTERNAL, UPSTREAM: CLIENT}
    sent = [value for name, value in row.headers if name == "traceparent"]
    assert sent[0].split("-")[:3] == ["00", TRACE, spans[UPSTREAM].span_id.hex()]
    assert (len(sent), [value for name, value in row.headers if name == "tracestate"]) == (1, ["a=1"])

    # how it ended, on each of them
    for span in collector.spans:
        told = attributes(span)
        assert span.status.code == status
        assert (told["aibridge.termination"], told["aibridge.cause"]) == (termination, cause)
        assert told.get("error.type") == (cause if status == ERROR else None)
        assert span.status.message.startswith(cause if status == ERROR else "")
        assert told["interception_id"] == interception.id
        assert told["request_path"] == f"/{provider}/v1/messages"
        assert told["aws_bedrock"] == (provider == "bedrock")
        assert span.start_time_unix_nano <= span.end_time_unix_nano
    # The upstream's span covers the whole stream, not its head alone: two pauses between three events, at least.
    whole = (spans[UPSTREAM].end_time_unix_nano - spans[UPSTREAM].start_time_unix_nano) / 1e9
    assert whole >= 2 * 0.03 - 0.005
    check_conventions(attributes(spans[UPSTREAM]), provider, termination)
    check_measures(collector, provider, termination, cause)


def attributes(span):
    return {one.key: value(one.value) for one in span.attributes}


def value(any_value):
    kind = any_value.WhichOneof("value")
    return [value(one) for one in any_value.array_value.values] if kind == "array_value" else getattr(any_value, kind)


def check_conventions(told, provider, termination):
    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.provider.name"] == {"anthropic": "anthropic", "bedrock": "aws.bedrock"}[provider]
    assert told["gen_ai.request.stream"] is True
    assert told["gen_ai.request.model"].endswith("claude-sonnet-5" if provider == "anthropic" else "sonnet-5-v1:0")
    assert told["gen_ai.response.time_to_first_chunk"] >= 0
    assert told["server.address"] == "127.0.0.1"
    assert told["gen_ai.response.id"].startswith("msg_")
    assert told["gen_ai.usage.input_tokens"] > 0
    assert told["aibridge.usage_source"] == ("provider_final" if termination == "completed" else "provider_partial")
    assert ("gen_ai.response.finish_reasons" in told) == (termination == "completed")


def check_measures(collector, provider, termination, cause):
    shared = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": {"anthropic": "anthropic", "bedrock": "aws.bedrock"}[provider],
    }
    for name in ("gen_ai.client.operation.duration", "gen_ai.server.request.duration"):
        [point] = collector.points(name)
        assert shared.items() <= point.attributes.items()
        assert point.count == 1
        assert point.attributes["aibridge.termination"] == termination
        failed = termination in {"upstream_error", "gateway_error"}
        assert point.attributes.get("error.type") == (cause if failed else None)
    tokens = {one.attributes["gen_ai.token.type"]: one for one in collector.points("gen_ai.client.token.usage")}
    assert tokens["input"].sum > 0
    assert ("gen_ai.server.time_to_first_token" in collector.metrics) == (termination == "completed")


@pytest.mark.parametrize("provider", BOTH)
async def test_a_refusal_is_told_by_its_status(traced_house, collector, ask, provider):
    async with traced_house() as house:
        answer = await ask(house, provider, "status:429", stream=False)
        assert answer.status == 429
        await house.books()
    for span in collector.spans:
        assert span.status.code == ERROR
        assert span.status.message.startswith("http_status: ")
        assert attributes(span)["error.type"] == "429"
    assert attributes(collector.spans[0])["http.response.status_code"] == 429


async def test_the_names_to_come(traced_house, collector, ask):
    async with traced_house(semconv="both") as house:
        await ask(house, "anthropic")
        await house.books()
        usage = house.outcomes.ended[0][1].usage
    [tokens] = collector.points("gen_ai.client.inference.usage.output_tokens")
    assert (tokens.value, tokens.attributes["gen_ai.token.modality"]) == (usage.output_tokens, "unknown")
    assert "gen_ai.client.token.usage" in collector.metrics
    assert collector.unit("gen_ai.client.token.usage") == "{token}"


async def test_without_conventions_the_spans_are_the_old_ones(traced_house, collector, ask):
    async with traced_house(semconv="off") as house:
        await ask(house, "anthropic")
        await house.books()
    assert len(collector.spans) == 3
    assert collector.metrics == set()
    assert not any(name.startswith("gen_ai.") for span in collector.spans for name in attributes(span))


# what is relayed only


async def relay(house, new_client, path, headers=HEADERS):
    async with new_client(house.port) as client:
        await client.ask(path, b"", method="GET", headers=headers)
        return await client.answer()


async def test_a_passthrough_is_a_span_and_its_upstream_continues_it(traced_house, collector, new_client):
    async with traced_house() as house:
        answer = await relay(house, new_client, "/anthropic/v1/models?key=s3cret-canary")
        assert answer.status == 200
        [row] = await house.simulator.ledger.wait_for(1)
        await asyncio.to_thread(house.tracing.flush)
    [span] = collector.spans
    assert (span.name, span.parent_span_id.hex(), span.status.code) == ("Passthrough", PARENT, UNSET)
    sent = dict(row.headers)
    assert sent["traceparent"].split("-")[:3] == ["00", TRACE, span.span_id.hex()]
    assert sent["tracestate"] == "a=1"
    assert attributes(span) == {
        "passthrough_url": "/v1/models",
        "passthrough_method": "GET",
        "passthrough_upstream_url": f"{house.simulator.url}/v1/models",
        "http.response.status_code": 200,
    }
    assert not any(b"s3cret" in body for body in collector.raw)


async def test_a_passthrough_that_fails_is_an_error(traced_house, collector, new_client, unused_tcp_port):
    async with traced_house(base_url=f"http://127.0.0.1:{unused_tcp_port}") as house:
        answer = await relay(house, new_client, "/anthropic/v1/models")
        assert answer.status == 502
    [span] = collector.spans
    assert (span.status.code, span.status.message) == (ERROR, "the upstream cannot be reached")
    assert attributes(span)["error.type"] == "upstream_failed"


# with no exporter


@pytest.mark.parametrize("provider", BOTH)
async def test_without_tracing_the_clients_context_passes_as_any_header(build_house, new_client, ask, provider):
    async with build_house(tracing=None) as house:
        assert (await ask(house, provider, headers=HEADERS[1:])).status == 200
        await house.outcomes.wait(ended=1)
        await house.simulator.ledger.wait_for(1)
        if provider == "anthropic":
            await relay(house, new_client, "/anthropic/v1/models")
            await house.simulator.ledger.wait_for(2)
        for row in house.simulator.ledger.rows:
            sent = dict(row.headers)
            assert (sent["traceparent"], sent["tracestate"]) == (TRACEPARENT, "a=1")


async def test_each_attempt_has_a_span_of_its_own_and_tells_the_upstream_its_own_id(traced_house, collector, ask):
    async with traced_house() as house:
        assert (await ask(house, "anthropic", "stale")).status == 200
        assert (await ask(house, "anthropic", headers=HEADERS[1:])).status == 200
        await house.books(ended=2)
        rows = house.simulator.ledger.rows
    first, second, third = [span for span in collector.spans if span.name == UPSTREAM]
    assert attributes(first)["aibridge.cause"] == "clean"
    assert (second.status.code, attributes(second)["aibridge.cause"]) == (ERROR, "connection_reset")
    assert (third.status.code, attributes(third)["aibridge.cause"]) == (UNSET, "clean")
    assert (attributes(second)["attempt"], attributes(third)["attempt"]) == (1, 2)
    assert second.parent_span_id == third.parent_span_id
    told = [dict(row.headers)["traceparent"].split("-")[2] for row in rows]
    assert told[0] == first.span_id.hex()
    assert told[-1] == third.span_id.hex()
    assert second.span_id not in {first.span_id, third.span_id}
    assert "gen_ai.usage.input_tokens" in attributes(third)
    assert "gen_ai.usage.input_tokens" not in attributes(second)


@pytest.mark.parametrize("provider", BOTH)
async def test_no_secret_and_no_content_leaves_with_them(traced_house, collector, ask, provider):
    canaries = ["canary-of-a-client-key", "canary-of-a-prompt"]
    headers = [("x-aibridge-key", canaries[0]), *HEADERS]
    keys = {"keys": [{"name": "alice", "key": canaries[0]}]}
    async with traced_house(semconv="both", auth=keys) as house:
        for fault in ("", "status:529", "truncate@3"):
            messages = [{"role": "user", "content": canaries[1]}]
            await ask(house, provider, fault, headers=headers, messages=messages)
        await house.books(ended=3)
    assert len(collector.spans) == 9
    assert collector.metrics
    sent = b"".join(collector.raw)
    ours = [config.SIMULATOR_API_KEY, config.SIMULATOR_SECRET_ACCESS_KEY]
    assert [secret for secret in canaries + ours if secret.encode() in sent] == []
    assert b"alice" in sent
