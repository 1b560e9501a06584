"""How everything is put together: from a `Config` to two listeners, and back down again."""

import asyncio
import functools
import logging
from collections.abc import Coroutine, Mapping, Sequence

from aibridge import __version__, jsontext
from aibridge.auth import Authenticator, HeaderAuthenticator, KeyAuthenticator, OpenAuthenticator
from aibridge.clientstream import ClientStream
from aibridge.config import ActorHeaders, AuthMode, Config, ContentOverrides, FrontProxy, Secret
from aibridge.config import AnthropicProvider as AnthropicSettings
from aibridge.config import BedrockProvider as BedrockSettings
from aibridge.content import ContentPolicy, ContentRules, Keep
from aibridge.credentials import hint
from aibridge.deadlines import Wheel
from aibridge.errors import CredentialsError, RequestRejected
from aibridge.gateway import Bounds, Gateway
from aibridge.headers import JSON, OURS, ActorHeaderNames
from aibridge.listeners import Listeners
from aibridge.providers.anthropic import AnthropicProvider
from aibridge.providers.aws import Finder, Role
from aibridge.providers.base import Provider
from aibridge.providers.bedrock import BedrockProvider
from aibridge.providers.renewal import CredentialSource
from aibridge.providers.sigv4 import Keys
from aibridge.recorder import Recorder
from aibridge.retention import keep_for
from aibridge.routing import RouteTable
from aibridge.server import Server
from aibridge.stores.sqlite import SQLiteStore, prune
from aibridge.surroundings import Deadlines, Surroundings
from aibridge.telemetry.log import Log
from aibridge.telemetry.metrics import Metrics
from aibridge.telemetry.tracing import Tracing
from aibridge.upstream import Origin, Pool, PoolSettings
from aibridge.values import Listener
from aibridge.wire import IMPLEMENTATION

logger = logging.getLogger(__name__)


class App:
    """The gateway with all that belongs to it. Built on a running event loop.

    Args:
        config: valid; a simulated one has its simulator's address.
        tracing: makes spans, or None.
        extra: listeners besides our own.
    """

    def __init__(self, config: Config, *, tracing: Tracing | None = None, extra: tuple[Listener, ...] = ()) -> None:
        self._config = config
        self._tracing = tracing
        limits = config.limits
        self.metrics = Metrics(
            models=config.known_models(),
            max_models=config.metrics.max_models,
            version=__version__,
            wire=IMPLEMENTATION,
        )
        self.recorder = self._build_recorder()
        self.log = Log(asyncio.get_running_loop())
        books: list[Listener | None] = [self.recorder, self.metrics, self.log, tracing, *extra]
        listener = Listeners([book for book in books if book is not None])
        providers = [_build_provider(name, config) for name in config.providers]
        self._signing = [one for one in providers if isinstance(one, BedrockProvider) and one.bearer_token is None]
        self._pools = {provider.name: Pool(_pool_settings(config, provider.name)) for provider in providers}
        self.gateway = Gateway(
            RouteTable(providers),
            _build_authenticator(config),
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
            OSError: an address cannot be had.
        """
        await _find_credentials(self._signing)
        self.port = await self._data.listen(self._config.listen.host, self._config.listen.port)
        self.admin_port = await self._admin.listen(self._config.admin.host, self._config.admin.port)
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
        for pool in self._pools.values():
            pool.close()
        if self._retention is not None:
            self._retention.cancel()
            await asyncio.wait([self._retention])
        if self.recorder is not None:
            await asyncio.to_thread(self.recorder.close)
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.shutdown)

    def _build_recorder(self) -> Recorder | None:
        records = self._config.records
        if not records.enabled:
            return None
        store = SQLiteStore(records.path)
        return Recorder(store, max_queued=records.max_queued, on_dropped=self.metrics.dropped)

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
            )
            for provider in providers
        }

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


def _build_authenticator(config: Config) -> Authenticator:
    auth = config.auth
    ours = _names_only_ours(config)
    if auth.effective_mode is AuthMode.KEYS:
        key_headers = [name.encode() for name in auth.key_headers]
        return KeyAuthenticator([(key.name, key.digest) for key in auth.keys], key_headers, ours)
    if auth.header is not None:
        return HeaderAuthenticator(_header_names(auth.header), auth.header.networks, ours)
    return OpenAuthenticator(ours)


def _names_only_ours(config: Config) -> frozenset[bytes]:
    """Return the headers of actors that `headers.OURS` does not hold back already."""
    return frozenset(name for name in _header_names(config.actor_headers) if name and not name.startswith(OURS))


def _deadlines(config: Config, provider: str) -> Deadlines:
    timeouts = config.timeouts_for(provider)
    return Deadlines(
        connect=timeouts.connect,
        response=timeouts.response,
        idle=timeouts.idle,
        client_stall=timeouts.client_stall,
        ping=timeouts.ping,
    )


def _content_rules(config: Config, provider: str) -> ContentRules:
    """Return what is kept of a provider's content: the actor's own word first, then the provider's, then the common."""
    if not config.records.enabled:
        return ContentRules()
    own = config.providers[provider].content
    by_actor = {key.name: _content_policy(config, key.content, own) for key in config.auth.keys}
    return ContentRules(_content_policy(config, own), by_actor)


def _content_policy(config: Config, *overrides: ContentOverrides) -> ContentPolicy:
    content = config.records.content

    def keep(kind: str) -> Keep:
        said = (getattr(override, kind) for override in overrides)
        return Keep(next((word for word in said if word is not None), getattr(content, kind)))

    return ContentPolicy(
        prompts=keep("prompts"),
        arguments=keep("arguments"),
        thoughts=keep("thoughts"),
        hash_key=(_told(content.hash_key) or "").encode(),
    )


def _pool_settings(config: Config, provider: str) -> PoolSettings:
    return PoolSettings(
        keep_alive=config.timeouts_for(provider).keep_alive_upstream,
        max_connections=config.limits.max_connections,
        ca_file=str(config.tls.ca_file) if config.tls.ca_file else None,
        verify=config.tls.verify,
        proxy=_told(config.proxy.url),
        proxy_from_environment=config.proxy.from_environment,
    )


def _build_provider(name: str, config: Config) -> Provider:
    settings = config.providers[name]
    if isinstance(settings, BedrockSettings):
        return _build_bedrock(name, settings, config)
    return _build_anthropic(name, settings, config)


def _build_anthropic(name: str, settings: AnthropicSettings, config: Config) -> Provider:
    return AnthropicProvider(
        name=name,
        base_url=settings.base_url,
        authority=Origin.of(settings.base_url).authority,
        api_key=_told(settings.api_key),
        byok=settings.byok,
        send_actor_headers=settings.send_actor_headers,
        max_event_bytes=config.limits.max_event_bytes,
        actor_header_names=_header_names(config.actor_headers),
    )


def _build_bedrock(name: str, settings: BedrockSettings, config: Config) -> Provider:
    base_url = settings.base_url or f"https://bedrock-runtime.{settings.region}.amazonaws.com"
    token = _told(settings.bearer_token)
    return BedrockProvider(
        name=name,
        base_url=base_url,
        authority=Origin.of(base_url).authority,
        region=settings.region,
        credentials=CredentialSource(name, _finder(settings, config).find),
        credential_hint=hint(settings.access_key_id or token or "") or "<aws chain>",
        bearer_token=token,
        byok=settings.byok,
        model_map=settings.model_map,
        default_model=settings.default_model,
        send_actor_headers=settings.send_actor_headers,
        max_frame_bytes=config.limits.max_frame_bytes,
        actor_header_names=_header_names(config.actor_headers),
    )


def _finder(settings: BedrockSettings, config: Config) -> Finder:
    secret = _told(settings.secret_access_key)
    static = None
    if settings.access_key_id is not None and secret is not None:
        static = Keys(settings.access_key_id, secret, _told(settings.session_token))
    role = None
    if settings.role_arn is not None:
        role = Role(
            arn=settings.role_arn,
            session_name=settings.session_name,
            external_id=_told(settings.external_id),
            session_tags=settings.session_tags,
        )
    return Finder(
        region=settings.region,
        static=static,
        profile=settings.profile,
        role=role,
        proxies=_proxies(config),
        ca_file=str(config.tls.ca_file) if config.tls.ca_file else None,
    )


def _proxies(config: Config) -> Mapping[str, str] | None:
    url = _told(config.proxy.url)
    if url is not None:
        return {"http": url, "https": url}
    return None if config.proxy.from_environment else {}


def _header_names(said: ActorHeaders | FrontProxy) -> ActorHeaderNames:
    return ActorHeaderNames(*((name or "").encode("ascii") for name in (said.id, said.name, said.teams)))


def _told(secret: Secret | None) -> str | None:
    return None if secret is None else secret.get_secret_value()
