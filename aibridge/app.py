"""How everything is put together: from a `Config` to two ports, and back down again."""

import asyncio
import functools
import logging
from collections.abc import Coroutine, Mapping, Sequence

from aibridge import __version__, jsontext
from aibridge.admission import Admission
from aibridge.assembly import build_provider, build_routers, own_dialects, told
from aibridge.breaker import Limits
from aibridge.carrier import Carrier
from aibridge.circuits import Circuits
from aibridge.clientstream import ClientStream
from aibridge.compiled import MODULES
from aibridge.config import Config
from aibridge.content import ContentPolicy, ContentRules, Keep
from aibridge.deadlines import Wheel
from aibridge.dump import Dump, subfolders_for
from aibridge.dumpfiles import DumpFiles
from aibridge.errors import ConfigError, CredentialsError, RequestRejected
from aibridge.gateway import Bounds, Gateway
from aibridge.headers import JSON
from aibridge.journal import Fsync, Journal, journal_folder
from aibridge.lifecycle import Cause
from aibridge.listeners import Listeners
from aibridge.overhead import Relays, TimedBooks
from aibridge.providers.base import Provider
from aibridge.providers.bedrock import BedrockProvider
from aibridge.recorder import OnFailure, Recorder
from aibridge.retention import keep_for
from aibridge.retries import RetryBudget, RetryPolicy
from aibridge.routing import RouteTable
from aibridge.server import Server
from aibridge.stores.sqlite import SQLiteStore, prune
from aibridge.surroundings import Deadlines, Retrying, Surroundings
from aibridge.telemetry.genai import GenAIMetrics
from aibridge.telemetry.lag import LoopLag
from aibridge.telemetry.log import Log
from aibridge.telemetry.metrics import Metrics
from aibridge.telemetry.tracing import Tracing
from aibridge.upstream import Pool, PoolSettings
from aibridge.values import Interception, Listener, Outcome
from aibridge.wire import IMPLEMENTATION

logger = logging.getLogger(__name__)


class App:
    """The gateway with all that belongs to it. Built on a running event loop.

    Args:
        config: valid; a simulated one has its simulator's address.
        tracing: makes spans, or None.
        genai: measures by OpenTelemetry's conventions, or None.
        extra: listeners besides our own.
    """

    def __init__(
        self,
        config: Config,
        *,
        tracing: Tracing | None = None,
        genai: GenAIMetrics | None = None,
        extra: tuple[Listener, ...] = (),
    ) -> None:
        self._config = config
        self._tracing = tracing
        self._genai = genai
        limits = config.limits
        self.metrics = Metrics(
            models=config.known_models(),
            max_models=config.metrics.max_models,
            actor_label=config.metrics.actor_label,
            version=__version__,
            wire=IMPLEMENTATION,
            modules=MODULES,
        )
        self.dump_files = self._build_dump_files()
        limits_of = _circuit_limits(config)
        self.circuits = Circuits(limits_of, self.metrics) if limits_of else None
        self._dump = None if self.dump_files is None else Dump(self.dump_files)
        self.log = Log(asyncio.get_running_loop())
        others: list[Listener | None] = [self.metrics, self.log, tracing, genai, self.circuits, self._dump, *extra]
        books = [book for book in others if book is not None]
        self.recorder = self._build_recorder(Listeners(books))
        listener = TimedBooks(
            Listeners(books if self.recorder is None else [self.recorder, *books]), self.metrics.spent
        )
        providers = [build_provider(name, config, self.metrics) for name in config.providers]
        self._admission = Admission(config, self.metrics, _pool_settings(config, None))
        self._lag = LoopLag(self.metrics.lagged)
        self._signing = [one for one in providers if isinstance(one, BedrockProvider) and one.bearer_token is None]
        self._pools = {provider.name: Pool(_pool_settings(config, provider.name)) for provider in providers}
        self.gateway = Gateway(
            RouteTable(
                providers,
                build_routers(config, {provider.name: provider for provider in providers}),
                own_dialects(config),
            ),
            self._admission.authenticator,
            self._surroundings(providers, listener),
            self.metrics,
            Bounds(max_request_bytes=limits.max_request_bytes, request_body=config.timeouts.request_body),
        )
        self._data = Server(
            self._serve_data,
            self._refuse,
            buffer_bytes=limits.client_buffer_bytes,
            stall=config.timeouts.client_stall,
        )
        self._admin = Server(self._serve_admin)
        self.port = 0
        self.admin_port = 0
        self._retention: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Find the upstreams' credentials, then listen.

        Raises:
            CredentialsError: a provider's credentials cannot be found.
            StoreUnavailable: the gateway keys cannot be read.
            StoreRefused: what should hold them holds something else.
            OSError: an address cannot be had.
        """
        await self._admission.start()
        await _find_credentials(self._signing)
        self.port = await self._data.listen(self._config.listen.host, self._config.listen.port)
        self.admin_port = await self._admin.listen(self._config.admin.host, self._config.admin.port)
        self._lag.start()
        self._retention = self._start_retention()

    @property
    def credential_sources(self) -> dict[str, str]:
        """Where the keys were found, of each provider that signs."""
        return {provider.name: provider.credentials.source for provider in self._signing}

    async def stop(self) -> None:
        """Refuse new requests, let those under way end within the drain deadline, then end them and close all."""
        self._data.draining = True
        await self.gateway.drain(self._config.drain_deadline)
        self.log.flush()
        await self._data.close()
        await self._admin.close()
        self._lag.stop()
        await self._admission.stop()
        for pool in self._pools.values():
            pool.close()
        if self._retention is not None:
            self._retention.cancel()
            await asyncio.wait([self._retention])
        if self.dump_files is not None:
            await asyncio.to_thread(self.dump_files.close)
        if self.recorder is not None:
            await asyncio.to_thread(self.recorder.close)
        senders = [sender.shutdown for sender in (self._tracing, self._genai) if sender is not None]
        await asyncio.gather(*(asyncio.to_thread(shutdown) for shutdown in senders))

    def _build_recorder(self, others: Listener) -> Recorder | None:
        records = self._config.records
        if not records.enabled:
            return None
        store = SQLiteStore(records.path)
        folder = journal_folder(records.path)
        journal = Journal(folder, max_bytes=records.journal_max_bytes, fsync=Fsync(records.fsync))
        loop = asyncio.get_running_loop()

        def tell(interception: Interception, outcome: Outcome) -> None:
            others.opened(interception)
            others.closed(interception, outcome)

        def on_crashed(interception: Interception, outcome: Outcome) -> None:
            loop.call_soon_threadsafe(tell, interception, outcome)

        recorder = Recorder(
            store,
            journal,
            on_failure=OnFailure(records.on_failure),
            on_dropped=self.metrics.dropped,
            on_crashed=on_crashed,
            carrier=Carrier(records.path),
        )
        self.metrics.watch_journal(lambda: recorder.writer.backlog, lambda: recorder.writer.age)
        return recorder

    def _build_dump_files(self) -> DumpFiles | None:
        settings = self._config.dump
        if settings.path is None:
            return None
        try:
            return DumpFiles(
                settings.path,
                subfolders_for(tuple(self._config.providers)),
                max_body_bytes=settings.max_body_bytes,
                max_total_bytes=settings.max_total_bytes,
                on_lost=self.metrics.dump_lost,
            )
        except OSError as error:
            raise ConfigError(f"dump.path: {settings.path}: {error.strerror or error}") from error

    def _start_retention(self) -> "asyncio.Task[None] | None":
        records = self._config.records
        if not records.enabled or records.retention_days is None:
            return None
        return asyncio.create_task(keep_for(records.retention_days, functools.partial(prune, records.path)))

    def _surroundings(self, providers: list[Provider], listener: Listener) -> Mapping[str, Surroundings]:
        loop = asyncio.get_running_loop()
        wheel = Wheel(loop.call_later, loop.time)
        return {
            provider.name: Surroundings(
                loop=loop,
                wheel=wheel,
                pool=self._pools[provider.name],
                listener=listener,
                deadlines=_deadlines(self._config, provider.name),
                content=_content_rules(self._config, provider.name),
                max_response_bytes=self._config.limits.max_response_bytes,
                on_trailing=self.metrics.trailing,
                refused_for=self.circuits.ask if self.circuits is not None and self._breaks(provider.name) else None,
                tee=None if self._dump is None else self._dump.tee,
                new_dump=None if self._dump is None else functools.partial(self._dump.relayed, provider.name),
                on_spent=self.metrics.spent,
                on_progress=None if self.recorder is None else self.recorder.progressed,
                relays=Relays(provider.name, self.metrics.spent),
                read_on=self._config.providers[provider.name].read_on,
                retrying=_retrying(self._config, provider.name),
                tracing=self._tracing,
            )
            for provider in providers
        }

    def _breaks(self, provider: str) -> bool:
        return self._config.providers[provider].circuit_breaker.enabled

    def _serve_data(self, client: ClientStream) -> Coroutine[None, None, None] | None:
        if client.path in _HEALTH_PATHS and client.method in {"GET", "HEAD"}:
            self._tell_health(client)
        elif client.path == "/" and client.method == "HEAD":
            client.respond(200, JSON, b"")  # agents probe their base URL so, with any path
        else:
            return self.gateway.handle(client)
        return None

    def _refuse(self, status: int) -> bytes:
        if status >= _SERVER_ERROR:
            return self.gateway.refuse(RequestRejected("failed", status, "the gateway failed"))
        return self.gateway.refuse(RequestRejected("malformed", status, "the request is not HTTP that can be read"))

    def _serve_admin(self, client: ClientStream) -> None:
        if client.method not in {"GET", "HEAD"}:
            client.reusable = False
            client.respond(405, (*JSON, (b"allow", b"GET, HEAD")), b"{}")
        elif client.path in _HEALTH_PATHS:
            self._tell_health(client)
        elif client.path == "/metrics":
            body, content_type = self.metrics.render()
            client.respond(200, ((b"content-type", content_type.encode()),), body)
        else:
            client.respond(404, JSON, b'{"error":"not found"}')

    def _tell_health(self, client: ClientStream) -> None:
        ready = not self.gateway.draining
        status = 200 if ready or client.path == "/healthz" else 503
        health = {
            "status": "ok" if ready else "draining",
            "version": __version__,
            "wire": IMPLEMENTATION,
            "modules": MODULES,
            "live": self.gateway.live,
        }
        client.respond(status, JSON, jsontext.dumps(health))


_SERVER_ERROR = 500
_HEALTH_PATHS = frozenset({"/healthz", "/readyz"})


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


def _deadlines(config: Config, provider: str) -> Deadlines:
    timeouts = config.timeouts_for(provider)
    return Deadlines(
        connect=timeouts.connect,
        response=timeouts.response,
        idle=timeouts.idle,
        client_stall=timeouts.client_stall,
        ping=timeouts.ping,
        commit=timeouts.commit_after,
    )


def _retrying(config: Config, provider: str) -> Retrying | None:
    retries = config.providers[provider].retries
    if not retries.max:
        return None
    policy = RetryPolicy(
        retries=retries.max,
        causes=frozenset(map(Cause, retries.causes)),
        statuses=frozenset(retries.statuses),
        backoff=retries.backoff,
        max_backoff=retries.max_backoff,
    )
    return Retrying(policy=policy, budget=RetryBudget(retries.budget))


def _circuit_limits(config: Config) -> dict[str, Limits]:
    """Return the limits of the providers that have a circuit breaker."""
    breakers = {name: provider.circuit_breaker for name, provider in config.providers.items()}
    return {
        name: Limits(breaker.failures, breaker.interval, breaker.timeout, breaker.probes)
        for name, breaker in breakers.items()
        if breaker.enabled
    }


def _content_rules(config: Config, provider: str) -> ContentRules:
    """Return what is kept of a provider's content: its own word first, then the common."""
    if not config.records.enabled:
        return ContentRules()
    content, own = config.records.content, config.providers[provider].content
    policy = ContentPolicy(
        prompts=Keep(own.prompts or content.prompts),
        arguments=Keep(own.arguments or content.arguments),
        thoughts=Keep(own.thoughts or content.thoughts),
        hash_key=(told(content.hash_key) or "").encode(),
    )
    return ContentRules(policy, choices=True)


def _pool_settings(config: Config, provider: str | None) -> PoolSettings:
    return PoolSettings(
        keep_alive=(config.timeouts_for(provider) if provider else config.timeouts).keep_alive_upstream,
        max_connections=config.limits.max_connections,
        ca_file=str(config.tls.ca_file) if config.tls.ca_file else None,
        verify=config.tls.verify,
        proxy=told(config.proxy.url),
        proxy_from_environment=config.proxy.from_environment,
    )
