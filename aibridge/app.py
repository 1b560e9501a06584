"""How everything is put together: from a `Config` to two ports, and back down again."""

import asyncio
import contextlib
import functools
import logging
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

from aibridge import __version__, admin, pricefile
from aibridge.assembly import admin_keys, build_admin_api
from aibridge.carrier import Carrier
from aibridge.clientstream import ClientStream
from aibridge.compiled import MODULES
from aibridge.config import Config
from aibridge.deadlines import Wheel
from aibridge.dump import Dump, subfolders_for
from aibridge.dumpfiles import DumpFiles
from aibridge.errors import ConfigError, RequestRejected
from aibridge.gateway import Gateway
from aibridge.generation import Generation, Lasting
from aibridge.headers import JSON
from aibridge.journal import Fsync, Journal, is_of, journal_folder
from aibridge.listeners import Listeners
from aibridge.mcp.sessions import load_connect
from aibridge.recorder import OnFailure, Recorder
from aibridge.retention import keep_for
from aibridge.server import Server
from aibridge.share import Share, adopted
from aibridge.stores.sqlite import SQLiteStore, prune
from aibridge.telemetry.genai import GenAIMetrics
from aibridge.telemetry.lag import LoopLag
from aibridge.telemetry.log import Log, set_level
from aibridge.telemetry.metrics import Metrics
from aibridge.telemetry.tally import Tally
from aibridge.telemetry.tracing import Tracing
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
        self._records = config.records
        self._share = share
        self._tracing = tracing
        self._genai = genai
        self.metrics = Metrics(
            max_models=config.metrics.max_models,
            actor_label=config.metrics.actor_label,
            version=__version__,
            wire=IMPLEMENTATION,
            modules=MODULES,
            tally=None if share is None else Tally(share.tally),
        )
        self.dump_files = self._build_dump_files(config)
        dump = None if self.dump_files is None else Dump(self.dump_files)
        loop = asyncio.get_running_loop()
        self.log = Log(loop)
        others: list[Listener | None] = [self.metrics, self.log, tracing, genai, dump, *extra]
        books = [book for book in others if book is not None]
        self.recorder = self._build_recorder(books)
        self._lasting = Lasting(
            loop=loop,
            wheel=Wheel(loop.call_later, loop.time),
            metrics=self.metrics,
            genai=genai,
            tracing=tracing,
            recorder=self.recorder,
            dump=dump,
            books=books,
        )
        self.generation = Generation(config, pricefile.load(config.prices.path), self._lasting)
        self._leaving: set[Generation] = set()
        """Those that serve what they began, and get nothing new."""
        self._farewells: set[asyncio.Task[None]] = set()
        self._reloading: asyncio.Task[object] | None = None
        self._lag = LoopLag(self._lagged)
        self._data = Server(
            self._serve_data,
            self._refuse,
            buffer_bytes=config.limits.client_buffer_bytes,
            stall=config.timeouts.client_stall,
        )
        self._admin = Server(self._serve_admin)
        self._admin_api = build_admin_api(config, self.metrics.snapshot)
        self._listening: dict[int, list[asyncio.Server]] = {}  # of a worker, by slot
        self.port = 0
        self.admin_port = 0
        self._retention: asyncio.Task[None] | None = None

    @property
    def config(self) -> Config:
        """What new requests are served by."""
        return self.generation.config

    @property
    def gateway(self) -> Gateway:
        """What new requests go to."""
        return self.generation.gateway

    @property
    def live(self) -> int:
        """How many interceptions are under way."""
        return sum(one.gateway.live for one in (self.generation, *self._leaving))

    async def start(self) -> None:
        """Find the upstreams' credentials, then listen.

        Raises:
            CredentialsError: a provider's credentials cannot be found.
            StoreUnavailable: the gateway keys cannot be read.
            StoreRefused: what should hold them holds something else.
            ConfigError: the certificate authorities cannot be read.
            OSError: an address cannot be had.
        """
        await self.generation.start()
        self.generation.take_over(None)
        if self._share is None:
            self.port = await self._data.listen(self.config.listen.host, self.config.listen.port)
            self.admin_port = await self._admin.listen(self.config.admin.host, self.config.admin.port)
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
        await self._data.retire(self.config.drain_deadline)

    async def reload(self, config: Config) -> None:
        """Serve by another configuration from now on. What is being served goes on with the one that it began with.

        Not to be called while it runs. It changes what `reload.LIVE` names, and nothing else.

        Raises:
            AibridgeError: as `start` does, or the file of prices cannot be used. Then nothing has changed.
        """
        if self._data.draining:
            raise ConfigError("the gateway is ending")
        self._reloading = asyncio.current_task()
        try:
            generation = await self._build_next(config)
            before, self.generation = self.generation, generation
            generation.take_over(before)
            self._admin_api.take_keys(admin_keys(config))
            self._data.buffer_bytes = config.limits.client_buffer_bytes
            self._data.stall = config.timeouts.client_stall
            set_level(config.log.level)
            self._leaving.add(before)
            farewell = asyncio.create_task(self._see_off(before))
            self._farewells.add(farewell)
            farewell.add_done_callback(self._farewells.discard)
        finally:
            self._reloading = None

    async def _build_next(self, config: Config) -> Generation:
        before = self.generation
        catalogue = before.catalogue
        if _prices(config) != _prices(before.config):
            catalogue = await asyncio.to_thread(pricefile.load, config.prices.path)
        if config.mcp.servers:
            await asyncio.to_thread(load_connect)  # its library takes long to load
        if self.dump_files is not None:
            with _telling_folder(config):
                self.dump_files.add(subfolders_for(tuple(config.providers)))
        generation = Generation(config, catalogue, self._lasting, before)
        try:
            await generation.start()
        except BaseException:
            await self._end(generation)
            raise
        return generation

    async def _see_off(self, former: Generation) -> None:
        """Wait for the last that a generation serves, and end what no other has."""
        await former.gateway.finish()
        self._leaving.remove(former)
        await self._end(former)

    async def _end(self, former: Generation) -> None:
        staying = [one.parts for one in (self.generation, *self._leaving) if one is not former]
        await former.parts.end(staying)

    async def drain(self, deadline: float) -> None:
        """Refuse new requests, let those under way end within so many seconds, then end them."""
        await asyncio.gather(*(one.gateway.drain(deadline) for one in (self.generation, *self._leaving)))

    async def stop(self) -> None:
        """Refuse new requests, let those under way end within the drain deadline, then end them and close all."""
        self._data.draining = True
        if self._reloading is not None:
            self._reloading.cancel()
            await asyncio.wait([self._reloading])
        await self.drain(self.config.drain_deadline)
        self.log.flush()
        await self._data.close()
        self._admin_api.close()
        await self._admin.close()
        self._lag.stop()
        for farewell in self._farewells:
            farewell.cancel()
        if self._farewells:
            await asyncio.wait(self._farewells)
        while self._leaving:
            await self._end(self._leaving.pop())
        await self.generation.parts.end()
        if self._retention is not None:
            self._retention.cancel()
            await asyncio.wait([self._retention])
        if self.dump_files is not None:
            await asyncio.to_thread(self.dump_files.close)
        if self.recorder is not None:
            await asyncio.to_thread(self.recorder.close)
        senders = [sender.shutdown for sender in (self._tracing, self._genai) if sender is not None]
        await asyncio.gather(*(asyncio.to_thread(shutdown) for shutdown in senders))

    def _lagged(self, seconds: float) -> None:
        self.metrics.lagged(seconds)
        self.metrics.publish()

    def _build_recorder(self, books: list[Listener]) -> Recorder | None:
        records = self._records
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

    def _build_dump_files(self, config: Config) -> DumpFiles | None:
        settings = config.dump
        if settings.path is None:
            return None
        with _telling_folder(config):
            return DumpFiles(
                settings.path,
                subfolders_for(tuple(config.providers)),
                max_body_bytes=settings.max_body_bytes,
                max_total_bytes=settings.max_total_bytes,
                on_lost=self.metrics.dump_lost,
            )

    def _start_retention(self) -> "asyncio.Task[None] | None":
        records = self._records
        if not records.enabled or records.retention_days is None or (self._share is not None and self._share.number):
            return None
        return asyncio.create_task(keep_for(records.retention_days, functools.partial(prune, records.path)))

    def _serve_data(self, client: ClientStream) -> Coroutine[None, None, None] | None:
        if client.path in admin.HEALTH_PATHS and client.method in {"GET", "HEAD"}:
            admin.tell(client, self._health())
        elif client.path == "/" and client.method == "HEAD":
            client.respond(200, JSON, b"")  # agents probe their base URL so, with any path
        else:
            return self.generation.gateway.handle(client)
        return None

    def _refuse(self, status: int) -> bytes:
        if status >= _SERVER_ERROR:
            return self.gateway.refuse(RequestRejected("failed", status, "the gateway failed"))
        return self.gateway.refuse(RequestRejected("malformed", status, "the request is not HTTP that can be read"))

    def _serve_admin(self, client: ClientStream) -> Coroutine[None, None, None] | None:
        if client.path not in admin.PATHS:
            return self._admin_api.handle(client)
        admin.answer(client, self._health, self.metrics.render)
        return None

    def _health(self) -> dict[str, Any]:
        return {
            "status": "draining" if self.gateway.draining else "ok",
            "version": __version__,
            "wire": IMPLEMENTATION,
            "modules": MODULES,
            "live": self.live,
        }


_SERVER_ERROR = 500


@contextlib.contextmanager
def _telling_folder(config: Config) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"dump.path: {config.dump.path}: {error.strerror or error}") from error


def _prices(config: Config) -> tuple[Path | None, str | None]:
    """Return what the catalogue depends on."""
    return config.prices.path, config.digests.get("prices.path")
