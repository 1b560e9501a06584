"""How everything is put together: from a `Config` to two ports, and back down again."""

import asyncio
import contextlib
import functools
import logging
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from aibridge import __version__, admin, pricefile
from aibridge.admission import Admission
from aibridge.assembly import (
    build_provider,
    build_routers,
    build_tool_servers,
    circuit_limits,
    content_rules,
    deadlines,
    own_dialects,
    pool_settings,
    retrying,
    tool_rules,
)
from aibridge.carrier import Carrier
from aibridge.circuits import Circuits
from aibridge.clientstream import ClientStream
from aibridge.compiled import MODULES
from aibridge.config import Config
from aibridge.deadlines import Wheel
from aibridge.dump import Dump, subfolders_for
from aibridge.dumpfiles import DumpFiles
from aibridge.errors import ConfigError, CredentialsError, RequestRejected
from aibridge.gateway import Bounds, Gateway
from aibridge.headers import JSON
from aibridge.journal import Fsync, Journal, is_of, journal_folder
from aibridge.limiting import build_limiter
from aibridge.listeners import Listeners
from aibridge.mcp.servers import ToolServers
from aibridge.overhead import Relays, TimedBooks
from aibridge.providers.base import Provider
from aibridge.providers.bedrock import BedrockProvider
from aibridge.recorder import OnFailure, Recorder
from aibridge.retention import keep_for
from aibridge.routing import RouteTable
from aibridge.server import Server
from aibridge.share import Share, adopted
from aibridge.stores.sqlite import SQLiteStore, prune
from aibridge.surroundings import Surroundings
from aibridge.telemetry.genai import GenAIMetrics
from aibridge.telemetry.lag import LoopLag
from aibridge.telemetry.log import Log
from aibridge.telemetry.metrics import Metrics
from aibridge.telemetry.tally import Tally
from aibridge.telemetry.tracing import Tracing
from aibridge.turns import Injection
from aibridge.upstream import Pool
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
        share: what a worker has of its supervisor, which has the admin port; None: this process is all there is.

    Raises:
        ConfigError: the file of prices, or the folder of the dump, cannot be used.
    """

    def __init__(
        self,
        config: Config,
        *,
        tracing: Tracing | None = None,
        genai: GenAIMetrics | None = None,
        extra: tuple[Listener, ...] = (),
        share: Share | None = None,
    ) -> None:
        catalogue = pricefile.load(config.prices.path)
        self._config = config
        self._share = share
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
            tally=None if share is None else Tally(share.tally),
        )
        self.dump_files = self._build_dump_files()
        limits_of = circuit_limits(config)
        self.circuits = Circuits(limits_of, self.metrics) if limits_of else None
        self._dump = None if self.dump_files is None else Dump(self.dump_files)
        self.log = Log(asyncio.get_running_loop())
        self.limiter = build_limiter(config, catalogue, self.metrics)
        others: list[Listener | None] = [
            self.metrics, self.log, tracing, genai, self.circuits, self.limiter, self._dump, *extra,
        ]  # fmt: skip
        books = [book for book in others if book is not None]
        self.recorder = self._build_recorder(books)
        every_book = books if self.recorder is None else [self.recorder, *books]
        listener = TimedBooks(Listeners(every_book, price=catalogue.priced), self.metrics.spent)
        providers = [build_provider(name, config, self.metrics) for name in config.providers]
        self._admission = Admission(config, self.metrics, pool_settings(config, None))
        self._lag = LoopLag(self._lagged)
        self._signing = [one for one in providers if isinstance(one, BedrockProvider) and one.bearer_token is None]
        self._pools = {provider.name: Pool(pool_settings(config, provider.name)) for provider in providers}
        self.tool_servers = build_tool_servers(config, self.metrics)
        self.gateway = self._build_gateway(providers, listener)
        self._data = Server(
            self._serve_data,
            self._refuse,
            buffer_bytes=limits.client_buffer_bytes,
            stall=config.timeouts.client_stall,
        )
        self._admin = Server(self._serve_admin)
        self._listening: dict[int, list[asyncio.Server]] = {}  # of a worker, by slot
        self.port = 0
        self.admin_port = 0
        self._retention: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Find the upstreams' credentials, then listen.

        Raises:
            CredentialsError: a provider's credentials cannot be found.
            StoreUnavailable: the gateway keys cannot be read.
            StoreRefused: what should hold them holds something else.
        LimitStoreUnavailable: limits cannot be counted, and nothing is to pass uncounted.
            OSError: an address cannot be had.
        """
        await self._admission.start()
        if self.limiter is not None:
            await self.limiter.start()
        await _find_credentials(self._signing)
        if self.tool_servers is not None:
            await _connect_tools(self.tool_servers)
        if self._share is None:
            self.port = await self._data.listen(self._config.listen.host, self._config.listen.port)
            self.admin_port = await self._admin.listen(self._config.admin.host, self._config.admin.port)
        else:
            await self.adopt(self._share.number)
        self._lag.start()
        self._retention = self._start_retention()

    async def adopt(self, slot: int) -> None:
        """Serve the sockets of a slot, which is ours or of a worker that is gone."""
        if self._share is not None and slot not in self._listening:
            self._listening[slot] = await self._data.take(adopted(self._share.slots[slot]))

    def release(self, slot: int) -> None:
        """Leave the sockets of a slot to its new worker."""
        self._data.leave(self._listening.pop(slot, ()))

    def stop_listening(self) -> None:
        """Take no new connections."""
        self._listening.clear()
        self._data.stop_listening()

    async def retire(self) -> None:
        """Take no new connections, and serve those that are there to their end."""
        self._listening.clear()
        await self._data.retire(self._config.drain_deadline)

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
        if self.tool_servers is not None:
            await self.tool_servers.close()
        self._lag.stop()
        await self._admission.stop()
        if self.limiter is not None:
            await self.limiter.stop()
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

    def _build_gateway(self, providers: list[Provider], listener: Listener) -> Gateway:
        config = self._config
        routers = build_routers(config, {provider.name: provider for provider in providers})
        return Gateway(
            RouteTable(providers, routers, own_dialects(config)),
            self._admission.authenticator,
            self._surroundings(providers, listener),
            self.metrics,
            Bounds(max_request_bytes=config.limits.max_request_bytes, request_body=config.timeouts.request_body),
            self._build_injection(),
            self.limiter,
        )

    def _build_injection(self) -> Injection | None:
        if self.tool_servers is None:
            return None
        rules, max_turns = tool_rules(self._config), self._config.mcp.max_tool_turns
        return Injection(servers=self.tool_servers, rules=rules, max_turns=max_turns)

    def _lagged(self, seconds: float) -> None:
        self.metrics.lagged(seconds)
        self.metrics.publish()

    def _build_recorder(self, books: list[Listener]) -> Recorder | None:
        records = self._config.records
        if not records.enabled:
            return None
        store = SQLiteStore(records.path)
        folder = journal_folder(records.path)
        family = "" if self._share is None else self._share.family
        journal = Journal(folder, max_bytes=records.journal_max_bytes, fsync=Fsync(records.fsync), family=family)
        loop = asyncio.get_running_loop()
        all_books = Listeners(books)
        # What a worker has counted outlives it, and so does what it left open: see `telemetry.totals`.
        of_siblings = Listeners([book for book in books if book is not self.metrics])

        def tell(others: Listeners, interception: Interception, outcome: Outcome) -> None:
            others.opened(interception)
            others.closed(interception, outcome)

        def on_crashed(interception: Interception, outcome: Outcome, of: str) -> None:
            others = of_siblings if is_of(of, family) else all_books
            loop.call_soon_threadsafe(tell, others, interception, outcome)

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
        if not records.enabled or records.retention_days is None or (self._share is not None and self._share.number):
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
                deadlines=deadlines(self._config, provider.name),
                content=content_rules(self._config, provider.name),
                max_response_bytes=self._config.limits.max_response_bytes,
                on_trailing=self.metrics.trailing,
                refused_for=self.circuits.ask if self.circuits is not None and self._breaks(provider.name) else None,
                tee=None if self._dump is None else self._dump.tee,
                new_dump=None if self._dump is None else functools.partial(self._dump.relayed, provider.name),
                on_spent=self.metrics.spent,
                on_progress=None if self.recorder is None else self.recorder.progressed,
                relays=Relays(provider.name, self.metrics.spent),
                read_on=self._config.providers[provider.name].read_on,
                retrying=retrying(self._config, provider.name),
                tracing=self._tracing,
            )
            for provider in providers
        }

    def _breaks(self, provider: str) -> bool:
        return self._config.providers[provider].circuit_breaker.enabled

    def _serve_data(self, client: ClientStream) -> Coroutine[None, None, None] | None:
        if client.path in admin.HEALTH_PATHS and client.method in {"GET", "HEAD"}:
            admin.tell(client, self._health())
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
        admin.answer(client, self._health, self.metrics.render)

    def _health(self) -> dict[str, Any]:
        return {
            "status": "draining" if self.gateway.draining else "ok",
            "version": __version__,
            "wire": IMPLEMENTATION,
            "modules": MODULES,
            "live": self.gateway.live,
        }


_SERVER_ERROR = 500


_TOOLS_WITHIN_S = 5.0
"""How long the start waits for tool servers: the first requests have tools then. One that is slower comes later."""


async def _connect_tools(servers: ToolServers) -> None:
    await servers.start()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_TOOLS_WITHIN_S):
            await servers.connected()


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
