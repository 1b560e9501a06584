"""Spans: their tree, times, attributes and ends, and the context that goes in and out."""

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from aibridge.errors import RequestRejected
from aibridge.lifecycle import TERMINATION_OF, Cause, Termination
from aibridge.telemetry.conventions import Semconv
from aibridge.telemetry.tracing import Tracing
from aibridge.values import (
    ClientRequest,
    Credential,
    CredentialKind,
    Evidence,
    ToolRun,
    ToolUse,
    UpstreamRequest,
    Usage,
    UsageSource,
)

ROOT, PROCESS, UPSTREAM = "Intercept", "Intercept.ProcessRequest", "Intercept.ProcessRequest.Upstream"


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def tracing(exporter):
    tracing = Tracing(exporter, version="1.2.3")
    yield tracing
    tracing.shutdown()


@pytest.fixture
def spans(tracing, exporter):
    """The finished spans by name; several of a name as they came."""

    def spans():
        assert tracing.flush()
        found = {}
        for span in exporter.get_finished_spans():
            found.setdefault(span.name, []).append(span)
        return found

    return spans


def tell(tracing, interception, attempts, outcome):
    tracing.opened(interception)
    for attempt in attempts:
        tracing.attempted(interception, attempt)
    tracing.closed(interception, outcome)


def test_the_tree(tracing, spans, make_interception, make_attempt, make_outcome):
    attempts = [make_attempt(Cause.RESPONSE_TIMEOUT), make_attempt(number=2, started_at=1_700_000_001.0)]
    tell(tracing, make_interception(), attempts, make_outcome())
    found = spans()
    [root], [process], upstreams = found[ROOT], found[PROCESS], found[UPSTREAM]
    assert root.parent is None
    assert process.parent.span_id == root.context.span_id
    assert [span.parent.span_id for span in upstreams] == [process.context.span_id] * 2
    assert {span.context.trace_id for spans in found.values() for span in spans} == {root.context.trace_id}
    assert [span.attributes["attempt"] for span in upstreams] == [1, 2]
    assert (root.kind, upstreams[0].kind) == (SpanKind.SERVER, SpanKind.CLIENT)


def test_times_are_those_of_the_values(tracing, spans, make_interception, make_attempt, make_outcome):
    tell(tracing, make_interception(), [make_attempt()], make_outcome())
    found = spans()
    times = {name: (found[name][0].start_time, found[name][0].end_time) for name in found}
    assert times == {
        ROOT: (1_700_000_000_250_000_000, 1_700_000_002_250_000_000),
        PROCESS: (1_700_000_000_250_000_000, 1_700_000_002_250_000_000),
        UPSTREAM: (1_700_000_000_500_000_000, 1_700_000_002_000_000_000),
    }


def test_a_clock_set_back_makes_no_span_that_ends_before_it_began(tracing, spans, make_interception, make_outcome):
    tell(tracing, make_interception(), [], make_outcome(ended_at=1.0))
    [root] = spans()[ROOT]
    assert root.end_time == root.start_time


def test_attributes(tracing, spans, make_interception, make_attempt, make_outcome):
    tell(tracing, make_interception(), [make_attempt()], make_outcome())
    expected = {
        "request_path": "/anthropic/v1/messages",
        "interception_id": "0198c0de-0000-7000-8000-000000000001",
        "user_id": "alice",
        "provider": "anthropic",
        "model": "claude-sonnet-4-5",
        "streaming": True,
        "aws_bedrock": False,
        "aibridge.termination": "completed",
        "aibridge.cause": "clean",
    }
    found = spans()
    assert found[ROOT][0].attributes == expected
    assert found[PROCESS][0].attributes == expected
    assert found[UPSTREAM][0].attributes == expected | {
        "attempt": 1,
        "server.address": "api.anthropic.com",
        "server.port": 443,
        "http.response.status_code": 200,
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "claude-sonnet-4-5",
        "gen_ai.request.stream": True,
        "gen_ai.response.id": "msg_1",
        "gen_ai.response.model": "claude-sonnet-4-5-20250929",
        "gen_ai.response.finish_reasons": ("end_turn",),
        "gen_ai.usage.input_tokens": 80,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 30,
        "gen_ai.usage.cache_creation.input_tokens": 40,
        "aibridge.usage_source": "provider_final",
    }


def test_bedrock_is_told(tracing, spans, make_interception, make_outcome):
    tell(tracing, make_interception(provider_kind="bedrock"), [], make_outcome())
    assert spans()[ROOT][0].attributes["aws_bedrock"] is True


@pytest.mark.parametrize("cause", Cause)
def test_status(tracing, spans, make_interception, make_attempt, make_outcome, cause):
    tell(tracing, make_interception(), [make_attempt(cause)], make_outcome(cause))
    failed = TERMINATION_OF[cause] in {Termination.UPSTREAM_ERROR, Termination.GATEWAY_ERROR}
    for [span] in spans().values():
        assert span.attributes["aibridge.cause"] == cause.value
        assert span.attributes["aibridge.termination"] == TERMINATION_OF[cause].value
        assert span.status.status_code is (StatusCode.ERROR if failed else StatusCode.UNSET)
        assert span.status.description == (f"{cause.value}: its words" if failed else None)


def test_an_error_without_words_is_described_by_its_cause(tracing, spans, make_interception, make_outcome):
    tell(tracing, make_interception(), [], make_outcome(Cause.TRUNCATED, error=""))
    assert spans()[ROOT][0].status.description == "truncated"


def test_an_attempt_may_end_otherwise_than_its_interception(
    tracing, spans, make_interception, make_attempt, make_outcome
):
    tell(tracing, make_interception(), [make_attempt(Cause.CONNECT_FAILED)], make_outcome(Cause.DISCONNECTED))
    found = spans()
    assert found[UPSTREAM][0].status.description == "connect_failed: its words"
    assert found[ROOT][0].status.status_code is StatusCode.UNSET


def test_the_clients_span_is_the_parent(tracing, spans, make_interception, make_outcome):
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    tell(tracing, make_interception(traceparent=traceparent), [], make_outcome())
    found = spans()
    [root], [process] = found[ROOT], found[PROCESS]
    assert f"{root.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert f"{root.parent.span_id:016x}" == "b7ad6b7169203331"
    assert process.parent.span_id == root.context.span_id


def test_a_client_that_does_not_sample_is_followed(tracing, spans, make_interception, make_attempt, make_outcome):
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
    tell(tracing, make_interception(traceparent=traceparent), [make_attempt()], make_outcome())
    assert spans() == {}


@pytest.mark.parametrize("traceparent", ["nonsense", "00-0-0-00", "ff-" + "0" * 32 + "-" + "0" * 16 + "-01"])
def test_a_bad_traceparent_is_no_parent(tracing, spans, make_interception, make_outcome, traceparent):
    tell(tracing, make_interception(traceparent=traceparent), [], make_outcome())
    assert spans()[ROOT][0].parent is None


def test_interceptions_at_once_do_not_mix(tracing, spans, make_interception, make_attempt, make_outcome):
    one, other = make_interception(id="1"), make_interception(id="2")
    tracing.opened(one)
    tracing.opened(other)
    tracing.attempted(one, make_attempt())
    tracing.closed(other, make_outcome(Cause.TRUNCATED))
    tracing.closed(one, make_outcome())
    roots = {span.attributes["interception_id"]: span for span in spans()[ROOT]}
    assert roots["1"].status.status_code is StatusCode.UNSET
    assert roots["2"].status.status_code is StatusCode.ERROR
    assert spans()[UPSTREAM][0].context.trace_id == roots["1"].context.trace_id
    assert tracing._open == {}


def test_what_was_never_opened_is_no_span(tracing, spans, make_interception, make_attempt, make_outcome):
    tracing.attempted(make_interception(), make_attempt())
    tracing.closed(make_interception(), make_outcome())
    assert spans() == {}


# --- the conventions ------------------------------------------------------------------------------------------------


CACHE_WRITES = {"gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_write.input_tokens"}


@pytest.mark.parametrize(
    ("semconv", "told"),
    [
        (Semconv.STABLE_NOW, {"gen_ai.usage.cache_creation.input_tokens"}),
        (Semconv.NEXT, {"gen_ai.usage.cache_write.input_tokens"}),
        (Semconv.BOTH, CACHE_WRITES),
        (Semconv.OFF, set()),
    ],
)
def test_the_setting_says_which_names(exporter, make_interception, make_attempt, make_outcome, semconv, told):
    tracing = Tracing(exporter, semconv=semconv)
    tell(tracing, make_interception(), [make_attempt()], make_outcome())
    tracing.shutdown()
    [upstream] = [span for span in exporter.get_finished_spans() if span.name == UPSTREAM]
    names = {name for name in upstream.attributes if name.startswith("gen_ai.")}
    assert names & CACHE_WRITES == told
    assert bool(names) == (semconv is not Semconv.OFF)
    assert upstream.attributes["server.address"] == "api.anthropic.com"


def test_each_attempt_tells_its_own_tokens_and_the_last_what_the_answer_said(
    tracing, spans, make_interception, make_attempt, make_outcome
):
    attempts = [
        make_attempt(Cause.CONNECTION_RESET, usage=Usage(), usage_source=UsageSource.NONE, message_id=""),
        make_attempt(number=2, usage=Usage(5), message_id="msg_a"),
        make_attempt(number=3, usage=Usage(7, 2), message_id="msg_b"),
    ]
    tell(tracing, make_interception(session_id="s-1"), attempts, make_outcome(usage=Usage(12, 2)))
    first, second, last = [span.attributes for span in spans()[UPSTREAM]]
    assert "gen_ai.usage.input_tokens" not in first
    assert "gen_ai.response.id" not in first
    assert (first["aibridge.usage_source"], second["aibridge.usage_source"]) == ("none", "provider_final")
    assert [one["gen_ai.usage.input_tokens"] for one in (second, last)] == [5, 7]
    assert [one["gen_ai.response.id"] for one in (second, last)] == ["msg_a", "msg_b"]
    assert "gen_ai.usage.output_tokens" not in second
    assert "gen_ai.response.finish_reasons" not in second
    assert last["gen_ai.response.finish_reasons"] == ("end_turn",)
    assert {one["gen_ai.conversation.id"] for one in (first, second, last)} == {"s-1"}


def test_a_tool_that_was_run_is_a_span(tracing, spans, make_interception, make_outcome):
    interception = make_interception()
    tracing.opened(interception)
    good = ToolRun(ToolUse("toolu_1", "bmcp_files_read", '{"secret":1}'), "files", 0.5, "ok", "", 12, 34)
    for run in (good, good._replace(outcome="unavailable", error="it is away" * 200)):
        tracing.learned(interception, run, "msg_1")
    tracing.closed(interception, make_outcome())
    found = spans()
    well, ill = found["Intercept.ProcessRequest.ToolCall"]
    assert {span.parent.span_id for span in (well, ill)} == {found[PROCESS][0].context.span_id}
    told = {name: well.attributes[name] for name in well.attributes if name.startswith(("gen_ai", "mcp"))}
    assert told == {
        "mcp_tool_name": "bmcp_files_read",
        "mcp_server_name": "files",
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "bmcp_files_read",
        "gen_ai.tool.call.id": "toolu_1",
        "gen_ai.tool.type": "function",
        "mcp.method.name": "tools/call",
    }
    assert (well.end_time - well.start_time) == pytest.approx(500_000_000, abs=2_000)
    assert (well.status.status_code, ill.status.status_code) == (StatusCode.UNSET, StatusCode.ERROR)
    assert ill.attributes["error.type"] == "unavailable"
    assert len(ill.status.description) <= 1024
    assert b"secret" not in repr(well.to_json()).encode()


def test_the_first_chunk_is_counted_from_the_attempt(tracing, spans, make_interception, make_attempt, make_outcome):
    attempt = make_attempt(evidence=Evidence(http_status=200, time_to_first_event=0.75))
    tell(tracing, make_interception(), [attempt], make_outcome())
    assert spans()[UPSTREAM][0].attributes["gen_ai.response.time_to_first_chunk"] == 0.5


@pytest.mark.parametrize(
    ("cause", "kind"),
    [(Cause.TRUNCATED, "truncated"), (Cause.HTTP_STATUS, "429"), (Cause.DRAINING, "draining"), (Cause.CLEAN, None),
     (Cause.DISCONNECTED, None)],
)  # fmt: skip
def test_the_type_of_an_error(tracing, spans, make_interception, make_attempt, make_outcome, cause, kind):
    evidence = Evidence(http_status=429 if cause is Cause.HTTP_STATUS else 200)
    tell(
        tracing,
        make_interception(),
        [make_attempt(cause, evidence=evidence)],
        make_outcome(cause, evidence=evidence),
    )
    found = spans()
    assert {found[name][0].attributes.get("error.type") for name in (ROOT, PROCESS, UPSTREAM)} == {kind}


def test_text_from_outside_is_bounded(tracing, spans, make_interception, make_attempt, make_outcome):
    interception = make_interception(model="m" * 10_000, upstream_model="\ud800" + "u" * 10_000)
    tell(tracing, interception, [make_attempt()], make_outcome(message_id="i" * 10_000, stop_reason="r" * 10_000))
    for span in (one for each in spans().values() for one in each):
        assert all(len(value) <= 256 for value in span.attributes.values() if isinstance(value, str))


# --- context, out ---------------------------------------------------------------------------------------------------


TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
OUTGOING = UpstreamRequest(
    method="POST",
    origin="https://api.anthropic.com",
    target="/v1/messages?key=s3cret",
    headers=(
        (b"host", b"api"),
        (b"traceparent", b"old"),
        (b"x", b"y"),
        (b"tracestate", b"old=1"),
        (b"traceparent", b"2"),
    ),
    body=b"{}",
    credential=Credential(CredentialKind.CENTRALIZED, ""),
)


def carried(request):
    headers = dict(request.headers)
    assert len(headers) == len(request.headers)
    return headers[b"traceparent"].decode().split("-"), headers.get(b"tracestate")


def test_the_upstream_continues_the_attempts_own_span(tracing, spans, make_interception, make_attempt, make_outcome):
    interception = make_interception(
        traceparent=f"00-{TRACE}-{PARENT}-01", tracestate="congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"
    )
    tracing.opened(interception)
    first, state = carried(tracing.carry(interception, OUTGOING))
    tracing.attempted(interception, make_attempt(Cause.CONNECTION_RESET))
    tracing.attempted(interception, make_attempt(Cause.CONNECT_FAILED, number=2))
    third, _ = carried(tracing.carry(interception, OUTGOING))
    tracing.attempted(interception, make_attempt(number=3))
    tracing.closed(interception, make_outcome())
    ids = [f"{span.context.span_id:016x}" for span in spans()[UPSTREAM]]
    assert (first[0], first[1], first[2]) == ("00", TRACE, ids[0])
    assert int(first[3], 16) & 1
    assert third[2] == ids[2]
    assert len({*ids, PARENT}) == 4
    assert state == b"congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"
    assert spans()[UPSTREAM][0].context.trace_state.to_header() == state.decode()


def test_the_rest_of_a_request_goes_as_it_is(tracing, make_interception):
    tracing.opened(make_interception())
    request = tracing.carry(make_interception(), OUTGOING)
    assert request.headers[:2] == ((b"host", b"api"), (b"x", b"y"))
    assert (request.method, request.origin, request.target, request.body) == (
        "POST", OUTGOING.origin, OUTGOING.target, b"{}",
    )  # fmt: skip
    assert carried(request)[1] is None, "a list of the client's means nothing without its parent"


def test_an_unsampled_trace_stays_so_at_the_upstream(tracing, spans, make_interception, make_attempt, make_outcome):
    interception = make_interception(traceparent=f"00-{TRACE}-{PARENT}-00")
    tracing.opened(interception)
    parts, _ = carried(tracing.carry(interception, OUTGOING))
    tracing.attempted(interception, make_attempt())
    tracing.closed(interception, make_outcome())
    assert parts[1] == TRACE
    assert not int(parts[3], 16) & 1
    assert spans() == {}


def test_what_was_never_opened_carries_nothing_of_ours(tracing, make_interception):
    assert tracing.carry(make_interception(), OUTGOING) is OUTGOING


# --- what is relayed only -------------------------------------------------------------------------------------------


def asked(*headers):
    return ClientRequest(method="GET", path="/anthropic/v1/models", query="key=s3cret", headers=headers, body=b"")


def test_a_passthrough_is_a_span(tracing, spans):
    request = asked((b"traceparent", f"00-{TRACE}-{PARENT}-01".encode()), (b"tracestate", b"a=1"))
    with tracing.passthrough(request, "/v1/models", OUTGOING) as span:
        span.status = 200
    [found] = spans()["Passthrough"]
    assert found.attributes == {
        "passthrough_url": "/v1/models",
        "passthrough_method": "GET",
        "passthrough_upstream_url": "https://api.anthropic.com/v1/messages",
        "http.response.status_code": 200,
    }
    assert found.status.status_code is StatusCode.UNSET
    assert f"{found.parent.span_id:016x}" == PARENT
    assert carried(span.request) == (
        ["00", TRACE, f"{found.context.span_id:016x}", carried(span.request)[0][3]],
        b"a=1",
    )
    assert "s3cret" not in found.to_json()


def test_a_passthrough_that_was_refused_is_an_error(tracing, spans):
    with tracing.passthrough(asked(), "/v1/models", OUTGOING) as span:
        span.status = 404
    [found] = spans()["Passthrough"]
    assert (found.status.status_code, found.status.description) == (StatusCode.ERROR, "status 404")
    assert found.attributes["error.type"] == "404"


def test_a_passthrough_whose_upstream_failed_is_an_error(tracing, spans):
    def fail():
        raise RequestRejected("upstream_timeout", 504, "the upstream did not answer in time")

    with pytest.raises(RequestRejected), tracing.passthrough(asked(), "/v1/models", OUTGOING):
        fail()
    [found] = spans()["Passthrough"]
    assert (found.status.status_code, found.status.description) == (
        StatusCode.ERROR, "the upstream did not answer in time",
    )  # fmt: skip
    assert found.attributes["error.type"] == "upstream_timeout"
    assert found.events == (), "the rejection is told by the status"


def test_a_passthrough_that_we_failed_tells_the_kind_of_our_mistake_alone(tracing, spans):
    def fail():
        raise ValueError("s3cret")

    with pytest.raises(ValueError, match="s3cret"), tracing.passthrough(asked(), "/v1/models", OUTGOING):
        fail()
    [found] = spans()["Passthrough"]
    assert (found.status.description, found.attributes["error.type"]) == ("ValueError", "internal")


def test_a_passthrough_whose_client_left_is_none(tracing, spans):
    with tracing.passthrough(asked(), "/v1/models", OUTGOING):
        pass
    assert spans()["Passthrough"][0].status.status_code is StatusCode.UNSET


def test_a_context_that_is_no_good_does_not_fill_the_log(tracing, caplog, make_interception, make_outcome):
    good = f"00-{TRACE}-{PARENT}-01"
    hostile = ["\xff=\xfe", "a=" + "b" * 7000, ",".join(f"k{number}=v" for number in range(400))]
    for context in [("x" * 8000, ""), *((good, state) for state in hostile)]:
        interception = make_interception(traceparent=context[0], tracestate=context[1])
        tell(tracing, interception, [], make_outcome())
    assert caplog.records == []
