"""What the gateway tells of itself: the sections `log`, `metrics` and `tracing`."""

from typing import Annotated, Literal

from pydantic import BeforeValidator

from aibridge.config.values import Natural, Section, lower


class LogSettings(Section):
    """The log on standard error."""

    level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(lower)] = "info"


class MetricsSettings(Section):
    """Bounds of the metrics."""

    max_models: Natural = 200
    """Model names that the configuration does not know and that get a label of their own; then `other`."""
    actor_label: bool = False
    """Tell interceptions, prompts and tokens apart by actor: multiplies their series."""


class TracingSettings(Section):
    """Which names are told; whether and where to, the standard `OTEL_*` variables say, and only they."""

    semconv: Literal["stable-now", "next", "both", "off"] = "stable-now"
    """OpenTelemetry's conventions for generative AI: those released last, those to come, both, or none of them."""
