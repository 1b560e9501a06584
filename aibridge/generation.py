"""One configuration at work: all that a reload puts another in the place of, at once.

What is being served keeps the generation that it began with. What two of them would make of the same is the same
object in both: connections, budgets of retries, keys that were found or fetched, sessions with tool servers.
"""

import asyncio
import contextlib
import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aibridge.admission import Admission
from aibridge.assembly import (
    build_failover,
    build_provider,
    build_routers,
    build_tool_servers,
    circuit_limits,
    content_rules,
    deadlines,
    is_fallback,
    own_dialects,
    pool_settings,
    retrying,
    tool_rules,
)
from aibridge.circuits import Circuits
from aibridge.config import Config
from aibridge.deadlines import Wheel
from aibridge.dump import Dump
from aibridge.errors import CredentialsError
from aibridge.gateway import Bounds, Gateway
from aibridge.limiting import build_limiter
from aibridge.limits.limiter import Limiter
from aibridge.listeners import Listeners
from aibridge.mcp.servers import ToolServers, tell_nobody
from aibridge.overhead import Relays, TimedBooks
from aibridge.parts import Parts
from aibridge.prices import Catalogue
from aibridge.providers.base import Provider
from aibridge.providers.bedrock import BedrockProvider
from aibridge.recorder import Recorder
from aibridge.routing import RouteTable
from aibridge.surroundings import Surroundings
from aibridge.telemetry.genai import GenAIMetrics
from aibridge.telemetry.metrics import Metrics
from aibridge.telemetry.tracing import Tracing
from aibridge.toolloop import new_loops
from aibridge.turns import Injection
from aibridge.upstream import Pool
from aibridge.values import Evidence, Interception, Listener

_TOOLS_WITHIN_S = 5.0
"""How long tool servers are waited for: the first requests have tools then. One that is slower comes later."""


@dataclass(frozen=True, kw_only=True)
class Lasting:
    """What a process has, whatever its configuration comes to be."""

    loop: asyncio.AbstractEventLoop
    wheel: Wheel
    metrics: Metrics
    genai: GenAIMetrics | None
    tracing: Tracing | None
    recorder: Recorder | None
    dump: Dump | None
    books: Sequence[Listener]
    """All who keep books but for the recorder, the circuits and the limiter."""


class Generation:
    """Built on a running event loop; nothing is asked and nothing is told before `start`, and `take_over`.

    Args:
        config: valid.
        catalogue: of its prices.
        lasting: what all generations share.
        before: the one that it shall follow, of which it takes what stays the same.
    """

    def __init__(
        self, config: Config, catalogue: Catalogue, lasting: Lasting, before: "Generation | None" = None
    ) -> None:
        self.config = config
        self.catalogue = catalogue
        self._lasting = lasting
        self.parts: Parts = Parts(None if before is None else before.parts)
        self._trust = config.tls, config.digests.get("tls.ca_file")
        limits = circuit_limits(config)
        circuits = None if before is None else before.circuits
        self.circuits: Circuits | None = None
        if limits:
            self.circuits = Circuits(limits, lasting.metrics) if circuits is None else circuits
        self.admission = Admission(config, self.parts, pool_settings(config, None))
        self._providers = [self._provider(name) for name in config.providers]
        self.signing = [one for one in self._providers if isinstance(one, BedrockProvider) and one.bearer_token is None]
        self.tool_servers = self._tool_servers()
        self.limiter = self._take_limiter()
        self.gateway = self._gateway()

    async def start(self) -> None:
        """Find and fetch what the parts need that are new.

        Raises:
            CredentialsError: a provider's credentials cannot be found.
            StoreUnavailable: the gateway keys cannot be read.
            StoreRefused: what should hold them holds something else.
            ConfigError: the certificate authorities cannot be read.
            LimitStoreUnavailable: limits cannot be counted, and nothing is to pass uncounted.
        """
        await self.parts.start()
        await _find_credentials([one for one in self.signing if not one.credentials.source])

    def take_over(self, before: "Generation | None") -> None:
        """Tell of this one from now on, and no more of the one before."""
        metrics = self._lasting.metrics
        models = self.config.known_models()
        metrics.know(models)
        if self._lasting.genai is not None:
            self._lasting.genai.know(models)
        self.admission.show(metrics)
        if self.limiter is not None:
            self.limiter.price_by(self.catalogue.of_tokens)
        self._show_key_pools()
        if before is not None and before.circuits is not None:
            same = [name for name, one in self.config.providers.items() if one == before.config.providers.get(name)]
            before.circuits.renew(circuit_limits(self.config), same)
        if before is not None and before.tool_servers is not None and before.tool_servers is not self.tool_servers:
            before.tool_servers.tell(tell_nobody)
            for name in before.config.mcp.servers.keys() - self.config.mcp.servers.keys():
                metrics.tool_server_gone(name)
        if self.tool_servers is not None:
            self.tool_servers.tell(metrics.tool_server_is)

    def _progressed(self, interception: Interception, evidence: Evidence) -> None:
        self._lasting.metrics.progressed(interception, evidence)
        if self._lasting.recorder is not None:
            self._lasting.recorder.progressed(interception, evidence)

    def _show_key_pools(self) -> None:
        pools = {provider.name: provider.key_pool for provider in self._providers if provider.key_pool is not None}

        def states() -> dict[tuple[str, ...], float]:
            now = time.monotonic()
            return {(name, *labels): n for name, pool in pools.items() for labels, n in pool.states(now).items()}

        def remaining() -> dict[tuple[str, ...], float]:
            now = time.monotonic()
            return {(name, *labels): n for name, pool in pools.items() for labels, n in pool.remaining(now).items()}

        self._lasting.metrics.watch_key_pools(states, remaining)

    @property
    def credential_sources(self) -> dict[str, str]:
        """Where the keys were found, of each provider that signs."""
        return {provider.name: provider.credentials.source for provider in self.signing}

    def _provider(self, name: str) -> Provider:
        config = self.config
        bounds = config.limits.max_event_bytes, config.limits.max_frame_bytes
        made_of = config.providers[name], bounds, config.actor_headers, config.proxy, self._trust
        return self.parts.take(("provider", name), made_of, lambda: build_provider(name, config, self._lasting.metrics))

    def _pool(self, name: str) -> Pool:
        settings = pool_settings(self.config, name)
        return self.parts.take(
            ("pool", name),
            (settings, self._trust),
            lambda: Pool(settings),
            start=None if settings.ca_file is None else _load_trust,
            end=_close_pool,
        )

    def _tool_servers(self) -> ToolServers | None:
        mcp = self.config.mcp
        return self.parts.take(
            ("tool servers", ""),
            (mcp.servers, mcp.max_actor_sessions, self.config.proxy, self._trust),
            lambda: build_tool_servers(self.config),
            start=_connect_tools,
            end=_close_tools,
        )

    def _take_limiter(self) -> Limiter | None:
        config = self.config
        return self.parts.take(
            ("limiter", ""),
            (config.rate_limits, config.budgets, config.limit_store, config.auth.key_store),
            lambda: build_limiter(config, self.catalogue, self._lasting.metrics),
            start=_start_limiter,
            end=_stop_limiter,
        )

    def _injection(self) -> Injection | None:
        if self.tool_servers is None:
            return None
        loops = self.parts.take(("tool loops", ""), None, new_loops)  # they know what clients may go on with
        max_turns = self.config.mcp.max_tool_turns
        return Injection(servers=self.tool_servers, rules=tool_rules(self.config), max_turns=max_turns, loops=loops)

    def _gateway(self) -> Gateway:
        config, metrics = self.config, self._lasting.metrics
        named = {provider.name: provider for provider in self._providers}
        around = self._surroundings(self._listener())
        return Gateway(
            RouteTable(self._providers, build_routers(config, named), own_dialects(config)),
            self.admission.authenticator,
            around,
            metrics,
            Bounds(max_request_bytes=config.limits.max_request_bytes, request_body=config.timeouts.request_body),
            self._injection(),
            build_failover(config, named, around, metrics),
            self.limiter,
        )

    def _listener(self) -> Listener:
        """Return all books: records first."""
        lasting = self._lasting
        books = [book for book in (lasting.recorder, self.circuits, self.limiter, *lasting.books) if book is not None]
        return TimedBooks(Listeners(books, price=self.catalogue.priced), lasting.metrics.spent)

    def _surroundings(self, listener: Listener) -> Mapping[str, Surroundings]:
        lasting, config = self._lasting, self.config
        dump, spent = lasting.dump, lasting.metrics.spent
        around = {}
        for provider in self._providers:
            name = provider.name
            settings = config.providers[name]
            retries = settings.retries
            circuits = self.circuits if settings.circuit_breaker.enabled else None
            around[name] = Surroundings(
                loop=lasting.loop,
                wheel=lasting.wheel,
                pool=self._pool(name),
                listener=listener,
                deadlines=deadlines(config, name),
                content=content_rules(config, name),
                max_response_bytes=config.limits.max_response_bytes,
                on_trailing=lasting.metrics.trailing,
                refused_for=None if circuits is None else circuits.ask,
                on_left=None if circuits is None else circuits.left,
                tee=None if dump is None else dump.tee,
                new_dump=None if dump is None else functools.partial(dump.relayed, name),
                on_spent=spent,
                on_progress=self._progressed,
                relays=Relays(name, spent),
                read_on=settings.read_on,
                retrying=self.parts.take(
                    ("retrying", name),
                    (retries, is_fallback(config, name)),
                    functools.partial(retrying, config, name),
                ),
                key_pool=provider.key_pool,
                on_rotated=lasting.metrics.rotated,
                tracing=lasting.tracing,
            )
        return around


async def _load_trust(pool: Pool) -> None:
    await asyncio.to_thread(pool.load_trust)


async def _close_pool(pool: Pool) -> None:
    pool.close()


async def _connect_tools(servers: ToolServers | None) -> None:
    if servers is not None:
        await servers.start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_TOOLS_WITHIN_S):
                await servers.connected()


async def _close_tools(servers: ToolServers | None) -> None:
    if servers is not None:
        await servers.close()


async def _start_limiter(limiter: Limiter | None) -> None:
    if limiter is not None:
        await limiter.start()


async def _stop_limiter(limiter: Limiter | None) -> None:
    if limiter is not None:
        await limiter.stop()


async def _find_credentials(providers: Sequence[BedrockProvider]) -> None:
    """Find keys before anyone asks for them, and tell of all that are missing at once."""
    results = await asyncio.gather(*(one.credentials.current() for one in providers), return_exceptions=True)
    missing = [
        f"providers.{provider.name}: {result}"
        for provider, result in zip(providers, results, strict=True)
        if isinstance(result, CredentialsError) and not provider.byok  # with keys of its clients it can do without
    ]
    if missing:
        raise CredentialsError("\n".join(missing))
