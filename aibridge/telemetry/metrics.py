"""Prometheus metrics: all groups of them together, as they are scraped. A door to prometheus_client."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    GCCollector,
    Metric,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from aibridge.telemetry.admission_metrics import AdmissionMetrics
from aibridge.telemetry.content_metrics import ContentMetrics
from aibridge.telemetry.gateway_metrics import GatewayMetrics
from aibridge.telemetry.interception_metrics import InterceptionMetrics
from aibridge.telemetry.series import AskedGauge, AskedGauges, Names, Sample, samples
from aibridge.telemetry.tally import SharedFamily, Tally
from aibridge.telemetry.upstream_metrics import UpstreamMetrics

MAX_ACTORS = 1000
"""Ids that become labels, where actors are told apart; then `other`."""
_NOT_SUMMED = {
    "aibridge_build_info": "highest",
    "aibridge_circuit_breaker_state": "highest",
    "aibridge_gateway_keys": "highest",
    "aibridge_issuer_keys_age_seconds": "highest",
    "aibridge_journal_age_seconds": "highest",
    "aibridge_key_ratelimit_remaining": "lowest",
    "aibridge_key_store_age_seconds": "highest",
    "aibridge_mcp_server_up": "lowest",
}
"""Gauges that are not summed up over workers, and which worker's tells."""


class Metrics(InterceptionMetrics, ContentMetrics, UpstreamMetrics, AdmissionMetrics, GatewayMetrics):
    """A `Listener` that counts.

    Args:
        models: names that always are labels of their own.
        max_models: other names that become labels, first come, first served; then `other`.
        actor_label: whether interceptions, prompts and tokens are told apart by actor.
        version: of the program, for `aibridge_build_info`.
        wire: which implementation decodes, `compiled` or `pure`.
        modules: which typed modules run, the same two words.
        tally: where a worker counts, for its supervisor; it renders nothing itself.
    """

    def __init__(
        self,
        *,
        models: Iterable[str] = (),
        max_models: int = 200,
        actor_label: bool = False,
        version: str = "",
        wire: str = "",
        modules: str = "",
        tally: Tally | None = None,
    ) -> None:
        super().__init__(Names(max_models, known=frozenset(models)), Names(MAX_ACTORS) if actor_label else None)
        self.registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._asked: list[tuple[AskedGauge | AskedGauges, SharedFamily]] = []
        if tally is not None:
            self._share(tally)
        for family in self.families().values():
            self.registry.register(family)
        for never_labelled in (self.dumps_lost, self.records_dropped):  # there from the start: 0 is a number too
            never_labelled.child()
        self.build_info.child(version, wire, modules).value = 1

    def _share(self, tally: Tally) -> None:
        """Count in memory that others see. What is in flight they know without being told: started less ended."""
        for name, family in self.families().items():
            if family is self.inflight:
                continue
            shared = SharedFamily(family, tally, kind=_NOT_SUMMED.get(family.name, ""))
            if isinstance(family, AskedGauge | AskedGauges):
                self._asked.append((family, shared))
            else:
                setattr(self, name, shared)

    def publish(self) -> None:
        """Write down what is asked for at a scrape where others are asked."""
        for asked, shared in self._asked:
            told = {(): asked.ask()} if isinstance(asked, AskedGauge) else asked.ask()
            for labels, value in told.items():
                shared.child(*labels).value = value
            shared.forget_others(told.keys())

    def know(self, models: Iterable[str]) -> None:
        """Let names of models be labels of their own."""
        self._models.know(models)

    def render(self) -> tuple[bytes, str]:
        """Return the text for a scrape and its content type. May be called on any thread.

        The numbers are taken at one moment, so that they add up; writing them down happens outside of the lock.
        """
        with self._lock:
            families = list(self.registry.collect())
        return generate_latest(_Taken(families)), CONTENT_TYPE_LATEST

    def snapshot(self, wanted: Callable[[str], bool]) -> list[Sample]:
        """Return the samples of the families whose names are wanted, taken at one moment. For any thread."""
        with self._lock:
            return samples(self.families().values(), wanted)


class _Taken:
    """Numbers taken at one moment, in the shape of a registry."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)
