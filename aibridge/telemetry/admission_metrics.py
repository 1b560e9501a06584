"""Metrics of who is let in: gateway keys, limits, refusals, and what passes without being intercepted.

Above each metric stands its worst case, in the bounds of `counting`.
"""

from collections.abc import Callable

from aibridge.telemetry.counting import METHODS, Counting
from aibridge.telemetry.series import OTHER, AskedGauge, AskedGauges, CounterFamily, Names


class AdmissionMetrics(Counting):
    """Counts what is decided of a request before it is one for an upstream."""

    def __init__(self, models: Names, actors: Names | None) -> None:
        super().__init__(models, actors)
        # The reasons of `RequestRejected`, a closed set: 31.
        self.rejections = CounterFamily(
            "aibridge_rejections", "Requests refused before they became an interception.", ("reason",)
        )
        # P, routers too, x 15 patterns with their methods at most = 3 x 15 = 45. Patterns, never concrete paths.
        self.passthrough = CounterFamily(
            "aibridge_passthrough", "Requests relayed and not intercepted.", ("provider", "route", "method")
        )
        self._define_keys()
        self._define_limits()

    def _define_keys(self) -> None:
        # 3 states.
        self.gateway_keys = AskedGauges(
            "aibridge_gateway_keys",
            "Secrets of gateway keys in the store, by state; a rotated key has several.",
            "state",
        )
        # 1.
        self.key_store_age = AskedGauge(
            "aibridge_key_store_age_seconds", "Since the gateway keys were last read from their store; 0 without one."
        )

        # 1.
        self.issuer_keys_age = AskedGauge(
            "aibridge_issuer_keys_age_seconds", "Since the keys of the tokens' issuer were fetched; 0 without one."
        )

    def _define_limits(self) -> None:
        # 5 scopes x 5 measures = 25.
        self.limit_refusals = CounterFamily(
            "aibridge_limit_refusals", "Requests that met a limit or a budget without room.", ("scope", "measure")
        )
        # 5 scopes x 2 measures x 2 marks = 20.
        self.budgets_reached = CounterFamily(
            "aibridge_budgets_reached",
            "Budgets that have spent so many per cent of themselves, or at 100 had no room for a request.",
            ("scope", "measure", "percent"),
        )
        # 4 operations.
        self.limit_store_failures = CounterFamily(
            "aibridge_limit_store_failures",
            "Questions to the store of limits that were not answered, or not asked while it was away.",
            ("operation",),
        )

    def rejected(self, reason: str) -> None:
        """Count a request refused before it became an interception."""
        self.rejections.child(reason).value += 1

    def passed_through(self, provider: str, route: str, method: str) -> None:
        """Count a request relayed only; `route` is the pattern, never the concrete path."""
        self.passthrough.child(provider, route, method if method in METHODS else OTHER).value += 1

    def limit_refused(self, scope: str, measure: str) -> None:
        """Count a request for which a limit had no room."""
        self.limit_refusals.child(scope, measure).value += 1

    def budget_reached(self, scope: str, measure: str, percent: int) -> None:
        """Count a budget that has reached a mark."""
        self.budgets_reached.child(scope, measure, str(percent)).value += 1

    def limit_store_failed(self, operation: str) -> None:
        """Count a question to the store of limits that was not answered."""
        self.limit_store_failures.child(operation).value += 1

    def watch_keys(self, states: Callable[[], dict[str, float]], age: Callable[[], float]) -> None:
        """Ask for the gateway keys by state, and for the seconds since they were read, at each scrape."""
        self.gateway_keys.ask = lambda: {(state,): count for state, count in states().items()}
        self.key_store_age.ask = age

    def watch_issuer(self, age: Callable[[], float]) -> None:
        """Ask for the seconds since the issuer's keys were fetched, at each scrape."""
        self.issuer_keys_age.ask = age
