"""Whether spans and metrics are sent, and where to, as the `OTEL_*` variables say; and a real receiver on a socket."""

import socket
import subprocess
import sys
import threading
import time

import pytest

from aibridge.errors import ConfigError
from aibridge.lifecycle import Cause
from aibridge.telemetry import exporters as exporters_module
from aibridge.telemetry import genai, tracing

BOTH = pytest.mark.parametrize(("signal", "build"), [("TRACES", tracing.build), ("METRICS", genai.build)])


def tell(listener, interception, attempts, outcome):
    listener.opened(interception)
    for attempt in attempts:
        listener.attempted(interception, attempt)
    listener.closed(interception, outcome)


@BOTH
@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_{}_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
        {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
        {"OTEL_SERVICE_NAME": "x"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://127.0.0.1:1"},
    ],
)
def test_nothing_is_built_unless_asked_for(signal, build, environ):
    assert build({name.format(signal): value for name, value in environ.items()}) is None


def test_without_conventions_there_are_no_metrics_of_theirs():
    assert genai.build({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, semconv="off") is None


def test_nothing_of_opentelemetry_is_imported_unless_asked_for():
    code = (
        "import sys\nfrom aibridge.telemetry import genai, tracing\n"
        "assert tracing.build({}) is genai.build({}) is None\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@BOTH
def test_an_unknown_exporter_is_refused(signal, build):
    with pytest.raises(ConfigError, match=f"OTEL_{signal}_EXPORTER: 'zipkin' is not known"):
        build({f"OTEL_{signal}_EXPORTER": "zipkin"})


@BOTH
@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_{}_PROTOCOL"])
def test_an_unknown_protocol_is_refused(signal, build, name):
    name = name.format(signal)
    with pytest.raises(ConfigError, match=f"{name}: only http/protobuf"):
        build({f"OTEL_{signal}_EXPORTER": "otlp", name: "grpc"})


@BOTH
def test_a_missing_package_is_named(monkeypatch, signal, build):
    kind = {"TRACES": "trace", "METRICS": "metric"}[signal]
    monkeypatch.setitem(sys.modules, f"opentelemetry.exporter.otlp.proto.http.{kind}_exporter", None)
    with pytest.raises(ConfigError, match=r"install aibridge\[otlp\]"):
        build({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})


@pytest.mark.parametrize("signal", ["traces", "metrics"])
@pytest.mark.parametrize(
    ("environ", "endpoint"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/"}, "http://c:4318/v1/{}"),
        ({"OTEL_EXPORTER_OTLP_{}_ENDPOINT": "http://c/x", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://d"}, "http://c/x"),
    ],
)
def test_the_endpoint(signal, environ, endpoint):
    kind = {"traces": exporters_module._TRACES, "metrics": exporters_module._METRICS}[signal]
    environ = {name.format(signal.upper()): value for name, value in environ.items()}
    assert exporters_module._endpoint(kind, environ) == (endpoint and endpoint.format(signal))


def test_the_console(capsys, make_interception, make_outcome):
    for build, variable in ((tracing.build, "OTEL_TRACES_EXPORTER"), (genai.build, "OTEL_METRICS_EXPORTER")):
        listener = build({variable: "console"})
        tell(listener, make_interception(), [], make_outcome())
        listener.shutdown()
    out = capsys.readouterr().out
    assert '"name": "Intercept"' in out
    assert '"name": "gen_ai.client.token.usage"' in out


# a real receiver


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(name, raising=False)


def test_spans_arrive_at_a_collector(collector, make_interception, make_attempt, make_outcome):
    listener = tracing.build({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}, version="1.2.3")
    tell(listener, make_interception(), [make_attempt(Cause.TRUNCATED)], make_outcome(Cause.TRUNCATED))
    listener.shutdown()
    assert collector.posts == [("/v1/traces", "application/x-protobuf")]
    assert collector.resources[0]["service.name"] == "aibridge"
    assert collector.resources[0]["service.version"] == "1.2.3"
    spans = {span.name: span for span in collector.spans}
    assert set(spans) == {"Intercept", "Intercept.ProcessRequest", "Intercept.ProcessRequest.Upstream"}
    assert spans["Intercept.ProcessRequest.Upstream"].parent_span_id == spans["Intercept.ProcessRequest"].span_id
    assert spans["Intercept"].status.message == "truncated: its words"
    assert spans["Intercept"].end_time_unix_nano == 1_700_000_002_250_000_000


def test_a_collector_that_hangs_does_not_hold_up_a_stop(
    monkeypatch, caplog, make_interception, make_attempt, make_outcome
):
    monkeypatch.setattr(exporters_module, "FAREWELL_S", 0.2)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as hanging:  # the kernel connects, and nobody ever answers
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{hanging.getsockname()[1]}"}
        for build in (tracing.build, genai.build):
            sender = build(environ)
            tell(sender, make_interception(), [make_attempt()], make_outcome())
            began = time.monotonic()
            sender.shutdown()
            assert 0.2 <= time.monotonic() - began < 5
    late = [record for record in caplog.records if "not sent in time" in record.message]
    assert len(late) == 2
    # The library tries on, with random pauses, which other tests would take for their own.
    for thread in [one for one in threading.enumerate() if one.name == "farewell"]:
        thread.join(60)
        assert not thread.is_alive()


def test_the_operators_service_name_wins(collector, monkeypatch, make_interception, make_outcome):
    monkeypatch.setenv("OTEL_SERVICE_NAME", "my-gateway")
    listener = tracing.build({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{collector.url}/custom"})
    tell(listener, make_interception(), [], make_outcome())
    listener.shutdown()
    assert collector.posts == [("/custom", "application/x-protobuf")]
    assert collector.resources[0]["service.name"] == "my-gateway"


def test_metrics_arrive_at_a_collector(collector, make_interception, make_attempt, make_outcome):
    listener = genai.build({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{collector.url}/v1/metrics"})
    tell(listener, make_interception(), [make_attempt()], make_outcome())
    listener.shutdown()
    assert set(collector.posts) == {("/v1/metrics", "application/x-protobuf")}
    assert collector.resources[0]["service.name"] == "aibridge"
    points = collector.points("gen_ai.client.token.usage")
    found = {point.attributes["gen_ai.token.type"]: point.sum for point in points}
    assert found == {"input": 80, "output": 20}
