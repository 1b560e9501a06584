"""Spans: their tree, times, attributes and ends; and one real receiver that reads them off a socket."""

import gzip
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from aibridge.errors import ConfigError
from aibridge.lifecycle import TERMINATION_OF, Cause, Termination
from aibridge.telemetry import tracing as tracing_module
from aibridge.telemetry.tracing import Tracing, build

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
        "server.address": "https://api.anthropic.com",
        "http.response.status_code": 200,
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


# --- which exporter -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
        {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
        {"OTEL_SERVICE_NAME": "x"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
    ],
)
def test_nothing_is_built_unless_asked_for(environ):
    assert build(environ) is None


def test_nothing_of_opentelemetry_is_imported_unless_asked_for():
    code = (
        "import sys\nfrom aibridge.telemetry.tracing import build\nassert build({}) is None\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_unknown_exporter_is_refused():
    with pytest.raises(ConfigError, match="OTEL_TRACES_EXPORTER: 'zipkin' is not known"):
        build({"OTEL_TRACES_EXPORTER": "zipkin"})


@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"])
def test_an_unknown_protocol_is_refused(name):
    with pytest.raises(ConfigError, match=f"{name}: only http/protobuf"):
        build({"OTEL_TRACES_EXPORTER": "otlp", name: "grpc"})


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(ConfigError, match=r"install aibridge\[otlp\]"):
        build({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})


@pytest.mark.parametrize(
    ("environ", "endpoint"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/"}, "http://c:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/x", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://d"}, "http://c/x"),
    ],
)
def test_the_endpoint(environ, endpoint):
    assert tracing_module._endpoint(environ) == endpoint


def test_the_console(capsys, make_interception, make_outcome):
    tracing = build({"OTEL_TRACES_EXPORTER": "console"})
    tell(tracing, make_interception(), [], make_outcome())
    tracing.shutdown()
    assert '"name": "Intercept"' in capsys.readouterr().out


# --- a real receiver ------------------------------------------------------------------------------------------------


@pytest.fixture
def receiver():
    """An OTLP/HTTP collector on loopback; yields its address and what it got."""
    got = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            got.append((self.path, self.headers["content-type"], ExportTraceServiceRequest.FromString(body)))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", got
        server.shutdown()
        thread.join()


def test_spans_arrive_at_a_collector(receiver, monkeypatch, make_interception, make_attempt, make_outcome):
    address, got = receiver
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    tracing = build({"OTEL_EXPORTER_OTLP_ENDPOINT": address}, version="1.2.3")
    tell(tracing, make_interception(), [make_attempt(Cause.TRUNCATED)], make_outcome(Cause.TRUNCATED))
    tracing.shutdown()
    [(path, content_type, request)] = got
    assert (path, content_type) == ("/v1/traces", "application/x-protobuf")
    [resource_spans] = request.resource_spans
    resource = {item.key: item.value.string_value for item in resource_spans.resource.attributes}
    assert resource["service.name"] == "aibridge"
    assert resource["service.version"] == "1.2.3"
    spans = {span.name: span for scope in resource_spans.scope_spans for span in scope.spans}
    assert set(spans) == {ROOT, PROCESS, UPSTREAM}
    assert spans[UPSTREAM].parent_span_id == spans[PROCESS].span_id
    assert spans[ROOT].status.message == "truncated: its words"
    assert spans[ROOT].end_time_unix_nano == 1_700_000_002_250_000_000


def test_the_operators_service_name_wins(receiver, monkeypatch, make_interception, make_outcome):
    address, got = receiver
    monkeypatch.setenv("OTEL_SERVICE_NAME", "my-gateway")
    tracing = build({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{address}/custom"})
    tell(tracing, make_interception(), [], make_outcome())
    tracing.shutdown()
    [(path, _, request)] = got
    resource = {item.key: item.value.string_value for item in request.resource_spans[0].resource.attributes}
    assert (path, resource["service.name"]) == ("/custom", "my-gateway")
