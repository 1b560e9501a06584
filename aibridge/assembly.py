"""Providers, tool servers, and what bounds them, made as the configuration says."""

import functools
import re
from collections.abc import Mapping
from urllib.parse import urlencode

from aibridge.adminapi.figures import Snapshot
from aibridge.adminapi.room import AdminAPI
from aibridge.adminapi.signin import AdminKey
from aibridge.breaker import Limits
from aibridge.config import ActorHeaders, Config, FrontProxy, RouterTarget, Secret
from aibridge.config import AnthropicProvider as AnthropicSettings
from aibridge.config import BedrockProvider as BedrockSettings
from aibridge.config import CopilotProvider as CopilotSettings
from aibridge.config import OpenAIProvider as OpenAISettings
from aibridge.config import Provider as ProviderSettings
from aibridge.config import RouterPrefix as PrefixSettings
from aibridge.config import ToolServer as ToolServerSettings
from aibridge.content import ContentPolicy, ContentRules, Keep
from aibridge.credentials import hint
from aibridge.dialects import DIALECTS, ChatDialect, Dialect
from aibridge.failover import Chain, Failover, FailoverCounters, Fallback
from aibridge.headers import ActorHeaderNames
from aibridge.keypool import KeyChoice, KeyPool
from aibridge.lifecycle import Cause, Health, health_of
from aibridge.mcp.policy import Rules
from aibridge.mcp.servers import ToolServers
from aibridge.mcp.sessions import load_connect
from aibridge.mcp.values import Endpoint, ServerSettings
from aibridge.poolkey import PoolKey
from aibridge.providers.anthropic import AnthropicProvider
from aibridge.providers.aws import Finder, Role
from aibridge.providers.base import Provider
from aibridge.providers.bedrock import BedrockProvider
from aibridge.providers.bedrock_features import FeatureTable, Override, Thinking
from aibridge.providers.bedrock_models import ModelNames, Routing
from aibridge.providers.openai import OpenAIProvider
from aibridge.providers.renewal import CredentialSource
from aibridge.providers.router import Router, Target
from aibridge.providers.sigv4 import Keys
from aibridge.retries import RetryBudget, RetryPolicy
from aibridge.stores.sqlite import querying
from aibridge.surroundings import Deadlines, Retrying, Surroundings
from aibridge.telemetry.metrics import Metrics
from aibridge.upstream import Origin, PoolSettings


def build_admin_api(config: Config, snapshot: Snapshot) -> AdminAPI:
    """Return the admin API over the records that the configuration names, and over the metrics."""
    opened = functools.partial(querying, config.records.path) if config.records.enabled else None
    return AdminAPI(admin_keys(config), opened, snapshot, https=config.admin.https)


def admin_keys(config: Config) -> list[AdminKey]:
    """Return the keys that open the admin API."""
    return [AdminKey(key.name, key.digest) for key in config.admin.keys]


def build_provider(name: str, config: Config, metrics: Metrics) -> Provider:
    """Return the provider that the configuration has under a name."""
    settings = config.providers[name]
    if isinstance(settings, BedrockSettings):
        return _build_bedrock(name, settings, config, metrics)
    if isinstance(settings, OpenAISettings):
        return _build_openai(name, settings, config)
    if isinstance(settings, CopilotSettings):
        return _build_copilot(name, settings, config)
    return _build_anthropic(name, settings, config)


def build_routers(config: Config, providers: Mapping[str, Provider]) -> list[Router]:
    """Return the routers that the configuration has, over the providers that were built."""

    def target(said: RouterTarget) -> Target:
        strip_prefix = isinstance(said, PrefixSettings) and said.strip_prefix
        return Target(providers[said.provider], said.model or "", strip_prefix)

    return [
        Router(
            name=name,
            models={model: target(said) for model, said in router.models.items()},
            prefixes={prefix: target(said) for prefix, said in router.prefixes.items()},
            default=None if router.default is None else target(router.default),
            byok=router.byok,
        )
        for name, router in config.routers.items()
    ]


def own_dialects(config: Config) -> dict[str, dict[str, Dialect]]:
    """Return, by provider, the dialects that it has otherwise than others."""
    return {
        name: {"chat": ChatDialect(repair_done=True)}
        for name, settings in config.providers.items()
        if isinstance(settings, OpenAISettings | CopilotSettings) and settings.repair_done
    }


def build_tool_servers(config: Config) -> ToolServers | None:
    """Return the tool servers that the configuration has; None, and nothing imported for them, where it has none.

    Raises:
        ConfigError: what speaks MCP is not installed.
    """
    if not config.mcp.servers:
        return None
    return ToolServers(
        {name: _tool_server(settings, config) for name, settings in config.mcp.servers.items()},
        load_connect(),
        max_actor_sessions=config.mcp.max_actor_sessions,
    )


def tool_rules(config: Config) -> Rules:
    """Return which requests get tools."""
    return Rules(config.mcp.models, config.mcp.actors)


def _tool_server(settings: ToolServerSettings, config: Config) -> ServerSettings:
    endpoint = Endpoint(
        url=settings.url,
        headers=tuple((name, value.get_secret_value()) for name, value in settings.headers.items()),
        connect=settings.connect_timeout,
        call=settings.call_timeout,
        ca_file=str(config.tls.ca_file) if config.tls.ca_file else None,
        verify=config.tls.verify,
        proxy=told(config.proxy.url),
        proxy_from_environment=config.proxy.from_environment,
    )
    return ServerSettings(
        endpoint,
        actor_header=settings.actor_header or "",
        allow=None if settings.allow is None else re.compile(settings.allow),
        deny=None if settings.deny is None else re.compile(settings.deny),
        max_concurrent_calls=settings.max_concurrent_calls,
        max_result_bytes=settings.max_result_bytes,
    )


def deadlines(config: Config, provider: str) -> Deadlines:
    """Return a provider's deadlines."""
    timeouts = config.timeouts_for(provider)
    return Deadlines(
        connect=timeouts.connect,
        response=timeouts.response,
        idle=timeouts.idle,
        client_stall=timeouts.client_stall,
        ping=timeouts.ping,
        commit=timeouts.commit_after,
    )


def is_fallback(config: Config, provider: str) -> bool:
    """Whether a provider is somebody's fallback, its own other models' too."""
    return any(provider == one.provider for of in config.providers.values() for one in of.fallbacks)


def retrying(config: Config, provider: str) -> Retrying | None:
    """Return how a provider's requests are tried again; None where they are not, and it is nobody's fallback either."""
    retries = config.providers[provider].retries
    if not retries.max and not is_fallback(config, provider):
        return None
    policy = RetryPolicy(
        retries=retries.max,
        causes=frozenset(map(Cause, retries.causes)),
        statuses=frozenset(retries.statuses),
        backoff=retries.backoff,
        max_backoff=retries.max_backoff,
    )
    return Retrying(policy=policy, budget=RetryBudget(retries.budget))


def build_failover(
    config: Config, providers: Mapping[str, Provider], around: Mapping[str, Surroundings], counters: FailoverCounters
) -> Failover | None:
    """Return who says what is left to do where an attempt has failed; None where nothing is, at any provider."""
    chains = {name: _chain(settings, providers) for name, settings in config.providers.items() if settings.fallbacks}
    if not chains and all(one.retrying is None for one in around.values()):
        return None
    return Failover(chains, around, {name: DIALECTS | own for name, own in own_dialects(config).items()}, counters)


def _chain(settings: ProviderSettings, providers: Mapping[str, Provider]) -> Chain:
    statuses = settings.failover.statuses
    if statuses is None:
        statuses = tuple(
            status for status in range(400, 600) if health_of(Cause.HTTP_STATUS, status, None) is Health.FAILURE
        )
    return Chain(
        causes=frozenset(map(Cause, settings.failover.causes)),
        statuses=frozenset(statuses),
        fallbacks=tuple(Fallback(providers[one.provider], one.model or "") for one in settings.fallbacks),
    )


def circuit_limits(config: Config) -> dict[str, Limits]:
    """Return the limits of the providers that have a circuit breaker."""
    breakers = {name: provider.circuit_breaker for name, provider in config.providers.items()}
    return {
        name: Limits(breaker.failures, breaker.interval, breaker.timeout, breaker.probes)
        for name, breaker in breakers.items()
        if breaker.enabled
    }


def content_rules(config: Config, provider: str) -> ContentRules:
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


def pool_settings(config: Config, provider: str | None) -> PoolSettings:
    """Return what connections are made with: a provider's, or where none is told those to anybody else."""
    return PoolSettings(
        keep_alive=(config.timeouts_for(provider) if provider else config.timeouts).keep_alive_upstream,
        max_connections=config.limits.max_connections,
        ca_file=str(config.tls.ca_file) if config.tls.ca_file else None,
        verify=config.tls.verify,
        proxy=told(config.proxy.url),
        proxy_from_environment=config.proxy.from_environment,
    )


def _build_anthropic(name: str, settings: AnthropicSettings, config: Config) -> Provider:
    return AnthropicProvider(
        name=name,
        base_url=settings.base_url,
        authority=Origin.of(settings.base_url).authority,
        api_key=told(settings.api_key),
        byok=settings.byok,
        send_actor_headers=settings.send_actor_headers,
        max_event_bytes=config.limits.max_event_bytes,
        actor_header_names=header_names(config.actor_headers),
        key_pool=_key_pool(settings),
    )


def _build_openai(name: str, settings: OpenAISettings, config: Config) -> Provider:
    return OpenAIProvider(
        name=name,
        base_url=settings.base_url,
        authority=Origin.of(settings.base_url).authority,
        api_key=told(settings.api_key),
        key_header=settings.api_key_header.encode(),
        byok=settings.byok,
        headers=tuple((key.encode(), value.get_secret_value().encode()) for key, value in settings.headers.items()),
        query=urlencode({key: value.get_secret_value() for key, value in settings.query.items()}),
        asks_usage=settings.usage == "ask",
        send_actor_headers=settings.send_actor_headers,
        max_event_bytes=config.limits.max_event_bytes,
        actor_header_names=header_names(config.actor_headers),
        key_pool=_key_pool(settings),
    )


def _key_pool(settings: AnthropicSettings | OpenAISettings) -> KeyPool | None:
    """Return a provider's pool of keys; None where it has one key, or none."""
    keys: dict[str, PoolKey] = {}
    for said in settings.api_keys:
        secret = said.key.get_secret_value()
        name = said.name or hint(secret)
        if name in keys:  # ends that are alike
            name = f"{name}#{len(keys) + 1}"
        keys[name] = PoolKey(secret, hint(secret), name, said.weight)
    return KeyPool(list(keys.values()), KeyChoice[settings.key_choice.upper()]) if keys else None


def _build_copilot(name: str, settings: CopilotSettings, config: Config) -> Provider:
    return OpenAIProvider(
        name=name,
        kind=settings.kind,
        base_url=settings.base_url,
        authority=Origin.of(settings.base_url).authority,
        mount="",
        api_key=None,
        byok=True,
        asks_usage=settings.usage == "ask",
        send_actor_headers=settings.send_actor_headers,
        max_event_bytes=config.limits.max_event_bytes,
        actor_header_names=header_names(config.actor_headers),
    )


def _build_bedrock(name: str, settings: BedrockSettings, config: Config, metrics: Metrics) -> Provider:
    base_url = settings.base_url or f"https://bedrock-runtime.{settings.region}.amazonaws.com"
    token = told(settings.bearer_token)
    return BedrockProvider(
        name=name,
        base_url=base_url,
        authority=Origin.of(base_url).authority,
        region=settings.region,
        credentials=CredentialSource(name, _finder(settings, config).find),
        credential_hint=hint(settings.access_key_id or token or "") or "<aws chain>",
        bearer_token=token,
        byok=settings.byok,
        names=ModelNames(
            region=settings.region,
            model_map=settings.model_map,
            default_model=settings.default_model,
            routing=Routing(settings.inference_profile),
        ),
        features=FeatureTable(
            Override(models, Thinking(said.thinking) if said.thinking else None, said.betas, said.fields)
            for models, said in settings.features.items()
        ),
        on_stripped=metrics.stripped,
        send_actor_headers=settings.send_actor_headers,
        max_frame_bytes=config.limits.max_frame_bytes,
        actor_header_names=header_names(config.actor_headers),
    )


def _finder(settings: BedrockSettings, config: Config) -> Finder:
    secret = told(settings.secret_access_key)
    static = None
    if settings.access_key_id is not None and secret is not None:
        static = Keys(settings.access_key_id, secret, told(settings.session_token))
    role = None
    if settings.role_arn is not None:
        role = Role(
            arn=settings.role_arn,
            session_name=settings.session_name,
            external_id=told(settings.external_id),
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
    url = told(config.proxy.url)
    if url is not None:
        return {"http": url, "https": url}
    return None if config.proxy.from_environment else {}


def header_names(said: ActorHeaders | FrontProxy) -> ActorHeaderNames:
    """Return the names as they stand in a head; empty where none is said."""
    return ActorHeaderNames(*((name or "").encode("ascii") for name in (said.id, said.name, said.teams)))


def told(secret: Secret | None) -> str | None:
    """Return the secret in clear, for whoever sends or compares it."""
    return None if secret is None else secret.get_secret_value()
