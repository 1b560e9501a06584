"""Who is let in, put together from the configuration: the authenticator, and what keeps it supplied with keys."""

import time

from aibridge.access import Access, Identity
from aibridge.assembly import header_names
from aibridge.auth import (
    Authenticator,
    HeaderAuthenticator,
    Key,
    KeyAuthenticator,
    KeyRing,
    KeySource,
    OpenAuthenticator,
)
from aibridge.config import JWT, Auth, AuthMode, Config, ContentOverrides, KeyStore
from aibridge.content import ContentChoice, Keep
from aibridge.headers import OURS
from aibridge.issuer import Issuer
from aibridge.keywatch import KeyWatch
from aibridge.parts import Parts
from aibridge.telemetry.metrics import Metrics
from aibridge.tokens import TokenRules, Tokens
from aibridge.upstream import Pool, PoolSettings
from aibridge.values import Actor


class Admission:
    """The authenticator of a configuration. Built on a running event loop.

    Args:
        config: valid.
        parts: keep what supplies it with keys, from one configuration to the next.
        pool: how the issuer of tokens is reached.
    """

    def __init__(self, config: Config, parts: Parts, pool: PoolSettings) -> None:
        auth = config.auth
        self._issuer = None if auth.jwt is None else _take_issuer(auth.jwt, parts, pool)
        self._watch = None if auth.key_store is None else _take_watch(auth.key_store, parts)
        ours = _names_only_ours(config)
        self.authenticator: Authenticator
        if auth.effective_mode is AuthMode.KEYS:
            names = [name.encode() for name in auth.key_headers]
            self.authenticator = KeyAuthenticator(self._build_sources(auth), names, ours)
        elif auth.header is not None:
            self.authenticator = HeaderAuthenticator(header_names(auth.header), auth.header.networks, ours)
        else:
            self.authenticator = OpenAuthenticator(ours)

    def show(self, metrics: Metrics) -> None:
        """Let the metrics ask how old the keys are."""
        issuer, watch = self._issuer, self._watch
        metrics.watch_issuer(float if issuer is None else lambda: issuer.age)
        if watch is None:
            metrics.watch_keys(dict, float)
        else:
            metrics.watch_keys(watch.ring.states, lambda: watch.age)

    def _build_sources(self, auth: Auth) -> list[KeySource]:
        keys = [
            Key(key.digest, Identity(Actor(key.name), Access(content=_choice(key.content)), key.name))
            for key in auth.keys
        ]
        sources: list[KeySource] = [KeyRing(time.time, keys)]
        if self._issuer is not None:
            sources.append(self._issuer.tokens)
        if self._watch is not None:  # last: where it is stale, what comes to it is neither good nor wrong
            sources.append(self._watch.ring)
        return sources


def _take_issuer(jwt: JWT, parts: Parts, pool: PoolSettings) -> Issuer:
    def make() -> Issuer:
        rules = TokenRules(
            issuer=jwt.issuer,
            audiences=jwt.audience,
            algorithms=jwt.algorithms,
            leeway=jwt.leeway,
            id_claim=jwt.id_claim,
            name_claim=jwt.name_claim,
            teams_claim=jwt.teams_claim,
        )
        return Issuer(Tokens(rules, time.time), Pool(pool), jwt.jwks_url or "", jwt.issuer, jwt.max_age)

    return parts.take(("issuer", ""), (jwt, pool), make, start=Issuer.start, end=Issuer.stop)


def _take_watch(store: KeyStore, parts: Parts) -> KeyWatch:
    def make() -> KeyWatch:
        return KeyWatch(store.path, store.max_age)

    return parts.take(("key store", ""), store, make, start=KeyWatch.start, end=KeyWatch.stop)


def _names_only_ours(config: Config) -> frozenset[bytes]:
    """Return the headers of actors that `headers.OURS` does not hold back already."""
    return frozenset(name for name in header_names(config.actor_headers) if name and not name.startswith(OURS))


def _choice(own: ContentOverrides) -> ContentChoice | None:
    """Return what a gateway key has otherwise than the providers; None where that is nothing."""
    words = (own.prompts, own.arguments, own.thoughts)
    return ContentChoice(*[None if word is None else Keep(word) for word in words]) if any(words) else None
