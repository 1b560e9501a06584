"""Who asks, and who is told of it: the sections `auth` and `actor_headers`."""

from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from aibridge.config.headers import HeaderName
from aibridge.config.keys import GatewayKey, check_keys
from aibridge.config.urls import check_url, is_loopback
from aibridge.config.values import Seconds, Section, Text, check_distinct, lower, mistake


def _read_network(value: object) -> object:
    try:
        return ip_network(value) if isinstance(value, str) else None
    except ValueError:
        raise mistake("should be a network, like 10.0.0.0/8 or fd00::/8, or one address") from None


_Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_read_network, json_schema_input_type=str)]


class _ActorInHeaders(Section):
    id: HeaderName
    name: HeaderName | None = None
    teams: HeaderName | None = None
    """Holds names that are separated by commas."""

    @model_validator(mode="after")
    def _are_distinct(self) -> Self:
        names = [name for name in (self.id, self.name, self.teams) if name is not None]
        check_distinct(names, "two of the headers are the same")
        return self


class FrontProxy(_ActorInHeaders):
    """The proxy that knows who asks, and says so in headers; `networks` are the addresses that it calls from."""

    networks: Annotated[tuple[_Network, ...], Field(min_length=1)]


class KeyStore(Section):
    """Where gateway keys are kept that `aibridge keys` makes, and that are looked at again each second."""

    path: Path
    """A SQLite file. A relative path starts at the working directory."""
    max_age: Seconds = 3600.0
    """How long the last known keys go on while it cannot be read."""


def _check_issuer_url(text: str) -> str:
    check_url(text)
    if urlsplit(text).scheme == "http" and not is_loopback(urlsplit(text).hostname or ""):
        raise mistake("should be https://, or at a loopback address")
    return text


_IssuerURL = Annotated[str, AfterValidator(_check_issuer_url)]


class JWT(Section):
    """Tokens of an identity provider as gateway keys."""

    issuer: _IssuerURL
    """As the claim `iss` has it, to the letter."""
    audience: Annotated[tuple[Text, ...], Field(min_length=1)]
    """Of which the claim `aud` has one."""
    jwks_url: _IssuerURL | None = None
    """Of the issuer's keys; none: its metadata tells it."""
    algorithms: Annotated[
        tuple[Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"], ...],
        Field(min_length=1),
    ] = ("RS256", "ES256")
    leeway: Annotated[float, Field(ge=0, le=300)] = 60.0
    """By which clocks may differ."""
    id_claim: Text = "sub"
    name_claim: Text = "name"
    teams_claim: Text = "groups"
    """Holds a list of names, or names that are separated by commas."""
    max_age: Seconds = 86_400.0
    """How long the last known keys go on while none can be fetched."""


class AuthMode(StrEnum):
    """How the gateway learns who asks."""

    OPEN = "open"
    """Not at all."""
    KEYS = "keys"
    """By gateway keys."""
    HEADER = "header"
    """By what a front proxy says."""


class Auth(Section):
    """Who may ask. Where no `mode` is said, keys ask for keys, and without any the gateway is open."""

    mode: Annotated[AuthMode, BeforeValidator(lower)] | None = None
    keys: Annotated[tuple[GatewayKey, ...], AfterValidator(check_keys)] = ()
    key_headers: Annotated[tuple[Literal["x-api-key", "authorization"], ...], Field(min_length=1)] = (
        "x-api-key",
        "authorization",
    )
    """Where a gateway key may stand, besides `x-aibridge-key`."""
    key_store: KeyStore | None = None
    jwt: JWT | None = None
    header: FrontProxy | None = None

    @property
    def asks_for_keys(self) -> bool:
        """Whether there is anything that a client could be asked for."""
        return bool(self.keys) or self.key_store is not None or self.jwt is not None

    @property
    def effective_mode(self) -> AuthMode:
        """The mode that was said, or else that follows."""
        return self.mode or (AuthMode.KEYS if self.asks_for_keys else AuthMode.OPEN)

    @model_validator(mode="after")
    def _fits_its_mode(self) -> Self:
        mode = self.effective_mode
        if mode is AuthMode.KEYS and not self.asks_for_keys:
            raise mistake("keys are needed in mode keys: keys, key_store or jwt")
        if mode is not AuthMode.KEYS and self.asks_for_keys:
            raise mistake(f"keys would not be asked for in mode {mode}: leave out the keys or the mode")
        if mode is AuthMode.HEADER and self.header is None:
            raise mistake("header is needed in mode header, with id and networks (a file alone can say it)")
        if mode is not AuthMode.HEADER and self.header is not None:
            raise mistake("header is only for `mode: header`")
        return self


class ActorHeaders(_ActorInHeaders):
    """In which headers a provider with `send_actor_headers` is told who asked. No client can send them."""

    id: HeaderName = "x-ai-bridge-actor-id"
