"""Metrics of the gateway itself: what its work costs, how its books stand, which program it is.

Above each metric stands its worst case, in the bounds of `counting`.
"""

from collections.abc import Callable

from aibridge.telemetry.counting import Counting
from aibridge.telemetry.series import AskedGauge, CounterFamily, GaugeFamily, HistogramFamily, Names

STEPS = ("auth", "read", "rewrite", "connect", "relay", "record")
"""The gateway's own work, by the label `step`: see `GatewayMetrics.spent`."""

# From what an addition costs to what a stuck disk does.
_OVERHEAD_BUCKETS = (1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 0.01, 0.05, 0.25, 1, 5)
_LAG_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)


class GatewayMetrics(Counting):
    """Counts what the gateway does for itself."""

    def __init__(self, models: Names, actors: Names | None) -> None:
        super().__init__(models, actors)
        # P x 6 steps x (13 buckets + 3) = 3 x 6 x 16 = 288.
        self.overhead = HistogramFamily(
            "aibridge_overhead_seconds",
            "The gateway's own work for one request, by step.",
            ("provider", "step"),
            _OVERHEAD_BUCKETS,
        )
        # 11 buckets + 3 = 14.
        self.loop_lag = HistogramFamily(
            "aibridge_event_loop_lag_seconds",
            "How late a timer of the event loop is: what every stream waits for the others.",
            (),
            _LAG_BUCKETS,
        )
        # 1.
        self.build_info = GaugeFamily(
            "aibridge_build_info",
            "Which program runs, with which wire and modules; always 1.",
            ("version", "wire", "modules"),
        )
        self._define_books()

    def _define_books(self) -> None:
        # 1.
        self.dumps_lost = CounterFamily(
            "aibridge_dumps_lost", "Files of the API dump that could not be written, or not whole.", ()
        )
        # 1.
        self.records_dropped = CounterFamily(
            "aibridge_records_dropped",
            "Entries lost because the journal could not be written, or the store refused them.",
            (),
        )
        # 1.
        self.journal_bytes = AskedGauge(
            "aibridge_journal_bytes", "Bytes of this process's journal that are not in the store."
        )
        # 1.
        self.journal_age = AskedGauge(
            "aibridge_journal_age_seconds",
            "Age of the oldest entry of the journal that is not in the store; 0 where all is there.",
        )

    def spent(self, step: str, provider: str, seconds: float) -> None:
        """Count the gateway's own work.

        Args:
            step: `auth` is the check of a gateway key; `read` learning from the request; `rewrite` rewriting and
                signing; `connect` a new connection, TLS included; `relay` all chunks of one streamed answer, decoded,
                observed and decided upon, of every sixteenth stream; `record` telling all books once.
            provider: for whom.
            seconds: of one request.
        """
        self.overhead.child(provider, step).observe(seconds)

    def lagged(self, seconds: float) -> None:
        """Count how late the event loop was."""
        self.loop_lag.child().observe(seconds)

    def dump_lost(self) -> None:
        """Count a file of the dump that is not whole. May be called on any thread."""
        with self._lock:
            self.dumps_lost.child().value += 1

    def dropped(self, count: int) -> None:
        """Count lost records. May be called on any thread."""
        with self._lock:
            self.records_dropped.child().value += count

    def watch_journal(self, size: Callable[[], float], age: Callable[[], float]) -> None:
        """Ask for the journal's bytes, and for the age of its oldest entry not in the store, at each scrape."""
        self.journal_bytes.ask = size
        self.journal_age.ask = age
