"""What the file may say: all sections together."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from aibridge.config.auth import ActorHeaders, Auth
from aibridge.config.bounds import Limits, Timeouts
from aibridge.config.checks import (
    check_counting,
    check_fallbacks,
    check_hash_key,
    check_openness,
    check_places,
    check_routers,
)
from aibridge.config.mcp import ToolServers
from aibridge.config.outbound import TLS, Proxy
from aibridge.config.ports import Admin, Listen
from aibridge.config.providers import Provider
from aibridge.config.rate_limits import Budget, LimitStore, RateLimit
from aibridge.config.records import DumpSettings, Prices, Records
from aibridge.config.routers import Router
from aibridge.config.telemetry import LogSettings, MetricsSettings, TracingSettings
from aibridge.config.values import Seconds, Section, Slug, mistake

MAX_WORKERS = 256
_Workers = Annotated[int, Field(gt=0, le=MAX_WORKERS)]


def _check_providers(providers: dict[str, Provider]) -> dict[str, Provider]:
    if not providers:
        raise mistake("at least one is needed")
    return providers


class Settings(Section):
    """What the file may say."""

    listen: Listen = Listen()
    admin: Admin = Admin()
    providers: Annotated[dict[Slug, Provider], AfterValidator(_check_providers)]
    routers: dict[Slug, Router] = {}
    auth: Auth = Auth()
    actor_headers: ActorHeaders = ActorHeaders()
    limits: Limits = Limits()
    rate_limits: tuple[RateLimit, ...] = ()
    budgets: tuple[Budget, ...] = ()
    limit_store: LimitStore = LimitStore()
    timeouts: Timeouts = Timeouts()
    workers: _Workers = 1
    """Processes that serve the data port."""
    drain_deadline: Seconds = 30.0
    """For running interceptions to end after the signal to stop; in seconds."""
    tls: TLS = TLS()
    proxy: Proxy = Proxy()
    records: Records = Records()
    prices: Prices = Prices()
    dump: DumpSettings = DumpSettings()
    mcp: ToolServers = ToolServers()
    log: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()
    tracing: TracingSettings = TracingSettings()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        check_hash_key(self.records, self.auth, self.providers)
        check_counting(self.workers, self.limit_store, limited=self.has_limits)
        check_routers(self.routers, self.providers)
        check_fallbacks(self.providers)
        check_places(self.listen, self.admin, self.auth, self.records)
        check_openness(self.listen, self.auth)
        return self

    @property
    def has_limits(self) -> bool:
        """Whether anybody has limits or a budget here; a gateway key may have its own all the same."""
        return bool(self.rate_limits or self.budgets)
