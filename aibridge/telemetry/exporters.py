"""Where spans and metrics of OpenTelemetry are sent, as the standard `OTEL_*` variables say. A door to opentelemetry.

What is decided here: whether (`OTEL_SDK_DISABLED`, `OTEL_TRACES_EXPORTER` and `OTEL_METRICS_EXPORTER`: `otlp`,
`console`, `none`), and where to (`OTEL_EXPORTER_OTLP_ENDPOINT`, or its own for each). Headers, timeouts, certificates,
sampler, batches, intervals and resource the SDK reads itself. Nothing of opentelemetry is imported where nothing is
asked for: it takes a tenth of a second and some megabytes.
"""

import importlib
import logging
import sys
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from aibridge.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace.export import SpanExporter


_logger = logging.getLogger(__name__)

FAREWELL_S = 5.0
"""For the last spans or metrics of a gateway that stops. A collector that hangs would hold it up for half a minute."""


class _Kind(NamedTuple):
    """One of the two things that are sent."""

    name: str
    path: str
    otlp: tuple[str, str]
    """Module and class."""
    console: tuple[str, str]


_TRACES = _Kind(
    "TRACES",
    "/v1/traces",
    ("opentelemetry.exporter.otlp.proto.http.trace_exporter", "OTLPSpanExporter"),
    ("opentelemetry.sdk.trace.export", "ConsoleSpanExporter"),
)
_METRICS = _Kind(
    "METRICS",
    "/v1/metrics",
    ("opentelemetry.exporter.otlp.proto.http.metric_exporter", "OTLPMetricExporter"),
    ("opentelemetry.sdk.metrics.export", "ConsoleMetricExporter"),
)


def span_exporter(environ: Mapping[str, str]) -> "SpanExporter | None":
    """Return what sends spans; None where nothing asks for it.

    Args:
        environ: should be the process's own, since the SDK reads that for the rest.

    Raises:
        ConfigError: an exporter is asked for that there is not, or whose package is not installed.
    """
    exporter: SpanExporter | None = _exporter(_TRACES, environ)
    return exporter


def metric_exporter(environ: Mapping[str, str]) -> "MetricExporter | None":
    """Return what sends metrics; else as `span_exporter`."""
    exporter: MetricExporter | None = _exporter(_METRICS, environ)
    return exporter


def shut_down(shutdown: Callable[[], None]) -> None:
    """Let a sender send what is left, and stop. Blocks, `FAREWELL_S` at most; what is not sent by then is lost."""
    thread = threading.Thread(target=shutdown, name="farewell", daemon=True)
    thread.start()
    thread.join(FAREWELL_S)
    if thread.is_alive():
        _logger.warning("the last spans or metrics were not sent in time")


def resource(version: str) -> "Resource":
    """Return who sends: `aibridge`, unless the operator's variables name it otherwise."""
    resources = importlib.import_module("opentelemetry.sdk.resources")
    named = resources.Resource({"service.name": "aibridge", "service.version": version})
    told = resources.OTELResourceDetector().detect()
    whole: Resource = resources.Resource.create(named.merge(told).attributes)
    return whole


def _exporter(kind: _Kind, environ: Mapping[str, str]) -> Any:
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    chosen = environ.get(f"OTEL_{kind.name}_EXPORTER") or ("otlp" if _endpoint(kind, environ) else "none")
    if chosen == "none":
        return None
    if chosen == "otlp":
        return _otlp(kind, environ)
    if chosen == "console":
        return _class(kind.console)(out=sys.stdout)
    raise ConfigError(f"OTEL_{kind.name}_EXPORTER: {chosen!r} is not known; use otlp, console or none")


def _otlp(kind: _Kind, environ: Mapping[str, str]) -> Any:
    for name in (f"OTEL_EXPORTER_OTLP_{kind.name}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if environ.get(name, "http/protobuf") not in {"", "http/protobuf"}:
            raise ConfigError(f"{name}: only http/protobuf is spoken here")
    try:
        exporter = _class(kind.otlp)
    except ImportError as error:
        raise ConfigError(
            "OTEL_* variables ask for an OTLP exporter, whose package is missing: install aibridge[otlp]"
        ) from error
    return exporter(endpoint=_endpoint(kind, environ))


def _class(where: tuple[str, str]) -> Any:
    module, name = where
    return getattr(importlib.import_module(module), name)


def _endpoint(kind: _Kind, environ: Mapping[str, str]) -> str | None:
    if endpoint := environ.get(f"OTEL_EXPORTER_OTLP_{kind.name}_ENDPOINT"):
        return endpoint
    if endpoint := environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return endpoint.rstrip("/") + kind.path
    return None
