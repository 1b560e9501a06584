"""Checks that reach over several sections. Each raises the mistake that it finds."""

from collections.abc import Iterable, Mapping

from aibridge.config.auth import Auth
from aibridge.config.content import Content, ContentOverrides
from aibridge.config.ports import Admin, Listen
from aibridge.config.providers import CopilotProvider, Provider
from aibridge.config.rate_limits import LimitStore
from aibridge.config.records import Records
from aibridge.config.recourse import Fallback
from aibridge.config.routers import Router
from aibridge.config.urls import is_loopback
from aibridge.config.values import mistake

Providers = Mapping[str, Provider]

_API_OF = {"anthropic": "messages", "bedrock": "messages", "openai": "openai"}
"""By kind; those of one API can stand in for each other."""


def check_hash_key(records: Records, auth: Auth, providers: Providers) -> None:
    """What is hashed needs a key for it."""
    places: list[Content | ContentOverrides] = [records.content, *(key.content for key in auth.keys)]
    places += [provider.content for provider in providers.values()]
    hashed = any("hashed" in (place.prompts, place.arguments, place.thoughts) for place in places)
    if hashed and records.content.hash_key is None:
        raise mistake("records.content.hash_key is needed where something is hashed")


def check_counting(workers: int, limit_store: LimitStore, *, limited: bool) -> None:
    """Where several count for limits, it has to be said how they do it together."""
    if workers > 1 and limit_store.kind is None and limited:
        raise mistake(
            "limit_store.kind is needed where several workers share limits: sqlite for those of one host, valkey for "
            "many, or memory, where each worker counts for itself"
        )


def check_routers(routers: Mapping[str, Router], providers: Providers) -> None:
    """Routers lead to providers, and have names of their own."""
    wrong = [
        f"routers.{name}.{key}: {text}"
        for name, router in routers.items()
        for key, target in router.targets()
        if (text := _mistake_in_target(target.provider, providers))
    ]
    _raise_all(wrong + [f"routers.{name}: a provider has that name" for name in routers if name in providers])


def _mistake_in_target(target: str, providers: Providers) -> str:
    provider = providers.get(target)
    if provider is None:
        return f"no provider is named {target!r}"
    if isinstance(provider, CopilotProvider):
        return f"{target} is of kind copilot, which has paths of its own"
    return ""


def check_fallbacks(providers: Providers) -> None:
    """What a provider falls over to can answer in its place."""
    _raise_all(
        f"providers.{name}.fallbacks: {text}"
        for name, provider in providers.items()
        for place, fallback in enumerate(provider.fallbacks)
        if (text := _mistake_in_fallback(name, fallback, provider.fallbacks[:place], providers))
    )


def _mistake_in_fallback(name: str, fallback: Fallback, before: tuple[Fallback, ...], providers: Providers) -> str:
    kind, other = providers[name].kind, providers.get(fallback.provider)
    if other is None:
        return f"no provider is named {fallback.provider!r}"
    if "copilot" in {kind, other.kind}:
        return "what is of kind copilot takes no other credential than its client's, which nobody else gets"
    if _API_OF[kind] != _API_OF[other.kind]:
        return f"{fallback.provider} is of kind {other.kind}, which speaks another API than {kind}"
    if fallback.provider == name and fallback.model is None:
        return f"{name} is the provider itself, and needs the name of another model"
    return f"{fallback.provider} is there twice" if fallback in before else ""


def _raise_all(mistakes: Iterable[str]) -> None:
    if text := "\n".join(mistakes):
        raise mistake(text)


def check_places(listen: Listen, admin: Admin, auth: Auth, records: Records) -> None:
    """Two ports are not one, and two files are not one."""
    if auth.key_store is not None and auth.key_store.path == records.path:
        raise mistake("auth.key_store.path and records.path should differ")
    if listen.port == admin.port != 0:
        raise mistake("listen.port and admin.port should differ")


def check_openness(listen: Listen, auth: Auth) -> None:
    """That the gateway is open to other machines has to be said."""
    if auth.mode is None and not auth.asks_for_keys and not is_loopback(listen.host):
        raise mistake(
            f"auth: listen.host is {listen.host}, and whoever reaches it would be let in. "
            "Give gateway keys (auth.keys or auth.key_store; without a file AIBRIDGE_GATEWAY_KEYS=name:key), "
            "or say that this is meant (auth: {mode: open}; without a file AIBRIDGE_AUTH_MODE=open), "
            "or listen on 127.0.0.1 (listen.host; without a file AIBRIDGE_HOST)"
        )
