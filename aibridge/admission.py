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
from aibridge.config import Auth, AuthMode, Config, ContentOverrides
from aibridge.content import ContentChoice, Keep
from aibridge.headers import OURS
from aibridge.issuer import Issuer
from aibridge.keywatch import KeyWatch
from aibridge.telemetry.metrics import Metrics
from aibridge.tokens import TokenRules, Tokens
from aibridge.upstream import Pool, PoolSettings
from aibridge.values import Actor


class Admission:
    """The authenticator of a configuration. Built on a running event loop.

    Args:
        config: valid.
        metrics: ask how old the keys are.
        pool: how the issuer of tokens is reached.
    """

    def __init__(self, config: Config, metrics: Metrics, pool: PoolSettings) -> None:
        auth = config.auth
        self._supplies: list[KeyWatch | Issuer] = []
        ours = _names_only_ours(config)
        self.authenticator: Authenticator
        if auth.effective_mode is AuthMode.KEYS:
            names = [name.encode() for name in auth.key_headers]
            self.authenticator = KeyAuthenticator(self._build_sources(auth, metrics, pool), names, ours)
        elif auth.header is not None:
            self.authenticator = HeaderAuthenticator(header_names(auth.header), auth.header.networks, ours)
        else:
            self.authenticator = OpenAuthenticator(ours)

    async def start(self) -> None:
        """Read and fetch keys, now and from now on. Raises `StoreUnavailable` or `StoreRefused` of a store."""
        for supply in self._supplies:
            await supply.start()

    async def stop(self) -> None:
        """Read and fetch no more."""
        for supply in self._supplies:
            await supply.stop()

    def _build_sources(self, auth: Auth, metrics: Metrics, pool: PoolSettings) -> list[KeySource]:
        keys = [
            Key(key.digest, Identity(Actor(key.name), Access(content=_choice(key.content)), key.name))
            for key in auth.keys
        ]
        sources: list[KeySource] = [KeyRing(time.time, keys)]
        if auth.jwt is not None:
            rules = TokenRules(
                issuer=auth.jwt.issuer,
                audiences=auth.jwt.audience,
                algorithms=auth.jwt.algorithms,
                leeway=auth.jwt.leeway,
                id_claim=auth.jwt.id_claim,
                name_claim=auth.jwt.name_claim,
                teams_claim=auth.jwt.teams_claim,
            )
            tokens = Tokens(rules, time.time)
            issuer = Issuer(tokens, Pool(pool), auth.jwt.jwks_url or "", auth.jwt.issuer, auth.jwt.max_age)
            metrics.watch_issuer(lambda: issuer.age)
            sources.append(tokens)
            self._supplies.append(issuer)
        if auth.key_store is not None:  # last: where it is stale, what comes to it is neither good nor wrong
            watch = KeyWatch(auth.key_store.path, auth.key_store.max_age)
            metrics.watch_keys(watch.ring.states, lambda: watch.age)
            sources.append(watch.ring)
            self._supplies.append(watch)
        return sources


def _names_only_ours(config: Config) -> frozenset[bytes]:
    """Return the headers of actors that `headers.OURS` does not hold back already."""
    return frozenset(name for name in header_names(config.actor_headers) if name and not name.startswith(OURS))


def _choice(own: ContentOverrides) -> ContentChoice | None:
    """Return what a gateway key has otherwise than the providers; None where that is nothing."""
    words = (own.prompts, own.arguments, own.thoughts)
    return ContentChoice(*[None if word is None else Keep(word) for word in words]) if any(words) else None
