"""The metrics of OpenTelemetry's conventions for generative AI, sent by OTLP. A door to opentelemetry.

They are apart from `metrics.py`, which is scraped: their names are not ours, and change with `tracing.semconv`. A
request to a provider is the client's view of the conventions (`gen_ai.client.*`), an interception the server's.
"""

import importlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from aibridge.telemetry import exporters
from aibridge.telemetry.conventions import Instrument, Measure, Semconv, identity, instruments, of_attempt, of_outcome
from aibridge.telemetry.series import Names
from aibridge.values import Attempt, Interception, Learned, Outcome, address_of

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricReader


def build(
    environ: Mapping[str, str],
    *,
    version: str = "",
    semconv: str = Semconv.STABLE_NOW,
    models: Iterable[str] = (),
    max_models: int = 200,
) -> "GenAIMetrics | None":
    """Return what sends metrics as the `OTEL_*` variables say; None where they, or `semconv`, ask for nothing.

    Raises:
        ConfigError: as `exporters.metric_exporter`.
    """
    exporter = exporters.metric_exporter(environ)
    chosen = Semconv(semconv)
    if exporter is None or chosen is Semconv.OFF:
        return None
    export = importlib.import_module("opentelemetry.sdk.metrics.export")
    reader = export.PeriodicExportingMetricReader(exporter)
    return GenAIMetrics(reader, version=version, semconv=chosen, models=models, max_models=max_models)


class GenAIMetrics:
    """A `Listener` that measures.

    Args:
        reader: sends the metrics, on a thread of its own.
        version: of the program.
        semconv: which names.
        models: names that always are attributes of their own.
        max_models: other names that become attributes; then `other`.
    """

    def __init__(
        self,
        reader: "MetricReader",
        *,
        version: str = "",
        semconv: Semconv = Semconv.STABLE_NOW,
        models: Iterable[str] = (),
        max_models: int = 200,
    ) -> None:
        sdk = importlib.import_module("opentelemetry.sdk.metrics")
        self._semconv = semconv
        self._models = Names(max_models, known=frozenset(models))
        # No exemplars: a measure is taken at an end, in no span of the library's, and looking for one costs a fifth.
        self._provider = sdk.MeterProvider(
            [reader],
            resource=exporters.resource(version),
            exemplar_filter=sdk.AlwaysOffExemplarFilter(),
            shutdown_on_exit=False,
        )
        meter = self._provider.get_meter("aibridge", version)
        self._record = {one: _recorder(meter, one) for one in instruments(semconv)}

    def know(self, models: Iterable[str]) -> None:
        """Let names of models be attributes."""
        self._models.know(models)

    def opened(self, interception: Interception) -> None:
        """Measure nothing: nothing has happened yet."""

    def learned(self, interception: Interception, fact: Learned, message_id: str) -> None:
        """Measure nothing: the conventions have no metric of content."""

    def attempted(self, interception: Interception, attempt: Attempt) -> None:
        """Measure a request to a provider."""
        asked = address_of(interception, attempt)
        self._take(asked, of_attempt(asked, attempt))

    def closed(self, interception: Interception, outcome: Outcome) -> None:
        """Measure an interception."""
        asked = address_of(interception, outcome)
        self._take(asked, of_outcome(asked, outcome, self._semconv))

    def shutdown(self) -> None:
        """Send what is left, and stop. Blocks: not for the event loop."""
        exporters.shut_down(self._provider.shutdown)

    def _take(self, interception: Interception, measures: Iterable[Measure]) -> None:
        # The client's name for the model, as on our own metrics: the same label for one model at all providers.
        shared = identity(interception) | {"gen_ai.request.model": self._models.label(interception.model)}
        for instrument, value, more in measures:
            self._record[instrument](value, shared | dict(more))


def _recorder(meter: Any, instrument: Instrument) -> Any:
    name, unit, text, buckets = instrument
    if not buckets:
        return meter.create_counter(name, unit, text).add
    return meter.create_histogram(name, unit, text, explicit_bucket_boundaries_advisory=buckets).record
