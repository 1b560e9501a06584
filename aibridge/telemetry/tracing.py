"""OpenTelemetry spans. The door to opentelemetry.

An interception is a root `Intercept` with a child `Intercept.ProcessRequest`, and in that an
`Intercept.ProcessRequest.Upstream` for each attempt, over the whole of its answer. Spans carry the times of our own
values, not of the moment at which they were made. Where no exporter is set nothing of opentelemetry is imported: it
takes a tenth of a second and some megabytes.

Which exporter, and how it sends, the standard `OTEL_*` variables say. `build` decides by `OTEL_SDK_DISABLED`,
`OTEL_TRACES_EXPORTER` (`otlp`, `console`, `none`), `OTEL_EXPORTER_OTLP_ENDPOINT` and
`OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`; headers, timeouts, sampler, batches and resource the SDK reads itself.
"""

import importlib
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from aibridge.errors import ConfigError
from aibridge.lifecycle import Cause, Termination
from aibridge.text import bounded
from aibridge.values import Attempt, Interception, Learned, Outcome

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

MAX_ERROR_BYTES = 1024

_ERRORS = frozenset({Termination.UPSTREAM_ERROR, Termination.GATEWAY_ERROR})
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


def build(environ: Mapping[str, str], *, version: str = "") -> "Tracing | None":
    """Return what sends spans as the `OTEL_*` variables say; None where they ask for nothing.

    Args:
        environ: decides whether and which; should be the process's own, since the SDK reads that for the rest.
        version: of the program, told with each span.

    Raises:
        ConfigError: an exporter is asked for that there is not, or whose package is not installed.
    """
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    has_endpoint = any(environ.get(name) for name in _ENDPOINTS)
    chosen = environ.get("OTEL_TRACES_EXPORTER") or ("otlp" if has_endpoint else "none")
    if chosen == "none":
        return None
    if chosen == "otlp":
        return Tracing(_otlp_exporter(environ), version=version)
    if chosen == "console":
        export = importlib.import_module("opentelemetry.sdk.trace.export")
        return Tracing(export.ConsoleSpanExporter(out=sys.stdout), version=version)
    raise ConfigError(f"OTEL_TRACES_EXPORTER: {chosen!r} is not known; use otlp, console or none")


def _otlp_exporter(environ: Mapping[str, str]) -> "SpanExporter":
    for name in _PROTOCOLS:
        if environ.get(name, "http/protobuf") not in {"", "http/protobuf"}:
            raise ConfigError(f"{name}: only http/protobuf is spoken here")
    try:
        module = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    except ImportError as error:
        raise ConfigError(
            "OTEL_* variables ask for an OTLP exporter, whose package is missing: install aibridge[otlp]"
        ) from error
    exporter: SpanExporter = module.OTLPSpanExporter(endpoint=_endpoint(environ))
    return exporter


def _endpoint(environ: Mapping[str, str]) -> str | None:
    if endpoint := environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        return endpoint
    if endpoint := environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return f"{endpoint.rstrip('/')}/v1/traces"
    return None


class _Spans(NamedTuple):
    root: "Span"
    process: "Span"
    context: Any
    """In which attempts are children of `process`."""


class Tracing:
    """A `Listener` that makes spans.

    A completed interception's spans, and those of a client that went, have their status unset; others are errors,
    described by the cause and the upstream's words.

    Args:
        exporter: gets the spans in batches, on a thread of its own.
        version: of the program.
    """

    def __init__(self, exporter: "SpanExporter", *, version: str = "") -> None:
        resources = importlib.import_module("opentelemetry.sdk.resources")
        sdk = importlib.import_module("opentelemetry.sdk.trace")
        export = importlib.import_module("opentelemetry.sdk.trace.export")
        propagation = importlib.import_module("opentelemetry.trace.propagation.tracecontext")
        self._api = importlib.import_module("opentelemetry.trace")
        # The variables win over the name that we give ourselves.
        named = resources.Resource({"service.name": "aibridge", "service.version": version})
        told = resources.OTELResourceDetector().detect()
        self._provider = sdk.TracerProvider(
            resource=resources.Resource.create(named.merge(told).attributes), shutdown_on_exit=False
        )
        self._provider.add_span_processor(export.BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("aibridge", version)
        self._propagator = propagation.TraceContextTextMapPropagator()
        self._no_parent = importlib.import_module("opentelemetry.context").Context()
        self._open: dict[str, _Spans] = {}

    def opened(self, interception: Interception) -> None:
        """Begin the root, below the client's own span where it told one."""
        parent = self._no_parent
        if interception.traceparent:
            parent = self._propagator.extract({"traceparent": interception.traceparent}, parent)
        attributes = _attributes(interception)
        start = _ns(interception.started_at)
        kinds = self._api.SpanKind
        root = self._tracer.start_span("Intercept", parent, kinds.SERVER, attributes, start_time=start)
        context = self._api.set_span_in_context(root, self._no_parent)
        process = self._tracer.start_span(
            "Intercept.ProcessRequest", context, kinds.INTERNAL, attributes, start_time=start
        )
        self._open[interception.id] = _Spans(root, process, self._api.set_span_in_context(process, self._no_parent))

    def learned(self, interception: Interception, fact: Learned, message_id: str) -> None:
        """Add nothing to the spans."""

    def attempted(self, interception: Interception, attempt: Attempt) -> None:
        """Make the attempt's span, from its start to its end."""
        spans = self._open.get(interception.id)
        if spans is None:
            return
        span = self._tracer.start_span(
            "Intercept.ProcessRequest.Upstream",
            spans.context,
            self._api.SpanKind.CLIENT,
            _attributes(interception) | {"attempt": attempt.number, "server.address": attempt.origin},
            start_time=_ns(attempt.started_at),
        )
        if attempt.evidence.http_status is not None:
            span.set_attribute("http.response.status_code", attempt.evidence.http_status)
        self._end(span, attempt.termination, attempt.cause, attempt.error, _ns(attempt.started_at + attempt.duration))

    def closed(self, interception: Interception, outcome: Outcome) -> None:
        """End the root and its child."""
        spans = self._open.pop(interception.id, None)
        if spans is None:
            return
        # The wall clock may have been set back meanwhile; a span must not end before it began.
        end = _ns(max(outcome.ended_at, interception.started_at))
        for span in (spans.process, spans.root):
            self._end(span, outcome.termination, outcome.cause, outcome.error, end)

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until all ended spans were exported, `timeout` seconds at most. Blocks. Returns whether they were."""
        flushed: bool = self._provider.force_flush(int(timeout * 1000))
        return flushed

    def shutdown(self) -> None:
        """Export what is left, and stop. Blocks: not for the event loop."""
        self._provider.shutdown()

    def _end(self, span: "Span", termination: Termination, cause: Cause, error: str, end: int) -> None:
        span.set_attribute("aibridge.termination", termination.value)
        span.set_attribute("aibridge.cause", cause.value)
        if termination in _ERRORS:
            text = bounded(error, MAX_ERROR_BYTES)
            span.set_status(self._api.StatusCode.ERROR, f"{cause.value}: {text}" if text else cause.value)
        span.end(end)


def _attributes(interception: Interception) -> dict[str, str | bool | int]:
    return {
        "request_path": interception.request_path,
        "interception_id": interception.id,
        "user_id": interception.actor.id,
        "provider": interception.provider,
        "model": interception.model,
        "streaming": interception.streaming,
        "aws_bedrock": interception.provider_kind == "bedrock",
    }


def _ns(seconds: float) -> int:
    # By way of microseconds: a float of today's time times a milliard has no exact nanoseconds left.
    return round(seconds * 1_000_000) * 1000
