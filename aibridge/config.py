"""The configuration: what an operator writes, checked whole before anything starts.

Two ways in. `load` reads a YAML file, with `${NAME}` and `${NAME:-default}` in its values; the file is the whole
truth, and `AIBRIDGE_*` variables count only where the file names them. `from_environment` needs no file at all.
Both tell every mistake at once, one a line, and no text of theirs holds a secret.

The door to pydantic and yaml. This file knows no provider, no socket and no clock.

Variables that are read where there is no file:

| variable | sets |
|---|---|
| `ANTHROPIC_API_KEY` | provider `anthropic`; without it `AIBRIDGE_ANTHROPIC_BASE_URL` alone makes one without a key |
| `OPENAI_API_KEY` | provider `openai`; without it `AIBRIDGE_OPENAI_BASE_URL` alone makes one without a key |
| the AWS chain's signs (`AWS_SIGNS`), and `AWS_REGION` or `AWS_DEFAULT_REGION` | provider `bedrock` |
| `AIBRIDGE_ANTHROPIC_BASE_URL`, `AIBRIDGE_BEDROCK_BASE_URL`, `AIBRIDGE_OPENAI_BASE_URL` | their `base_url` |
| `AIBRIDGE_HOST`, `AIBRIDGE_PORT`, `AIBRIDGE_ADMIN_HOST`, `AIBRIDGE_ADMIN_PORT` | `listen`, `admin` |
| `AIBRIDGE_ADMIN_KEYS` | `admin.keys`: `name:key` or `key`, separated by commas |
| `AIBRIDGE_RECORDS` | `records.path`, or `off` |
| `AIBRIDGE_AUTH_MODE` | `auth.mode` |
| `AIBRIDGE_GATEWAY_KEYS` | `auth.keys`: `name:key` or `key`, separated by commas |
| `AIBRIDGE_KEY_STORE` | `auth.key_store.path` |
| `AIBRIDGE_WORKERS`, `AIBRIDGE_DRAIN_DEADLINE` | `workers`, `drain_deadline` |
| `AIBRIDGE_LOG_LEVEL`, `AIBRIDGE_CA_FILE` | `log.level`, `tls.ca_file` |

`ANTHROPIC_BASE_URL` and `OPENAI_BASE_URL` are not read: on a machine whose clients use the gateway they point at the
gateway itself.
"""

import difflib
import hashlib
import math
import os
import re
from collections.abc import Collection, Iterator, Mapping
from datetime import date
from decimal import Decimal
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import Annotated, Any, Literal, Self, TypeVar, cast, get_args, get_origin
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    FilePath,
    SecretStr,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from aibridge.errors import ConfigError
from aibridge.secretsource import SecretReader, SecretUnavailable, read_regular

KIB = 1024
MIB = 1024 * KIB

ANTHROPIC_BASE_URL = "https://api.anthropic.com"
OPENAI_BASE_URL = "https://api.openai.com/v1"
COPILOT_BASE_URL = "https://api.individual.githubcopilot.com"

SIMULATOR_API_KEY = "sk-ant-simulator"
SIMULATOR_OPENAI_KEY = "sk-simulator"
SIMULATOR_REGION = "us-east-1"
SIMULATOR_ACCESS_KEY_ID = "AKIASIMULATOR0000000"
SIMULATOR_SECRET_ACCESS_KEY = "simulator/secret/key/that/guards/nothing"  # noqa: S105 - published on purpose

AWS_SIGNS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_BEARER_TOKEN_BEDROCK",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
"""Variables of which any one says that the AWS credential chain will find something."""

Secret = SecretStr
"""A string that shows itself as `**********` in `repr`, `str`, dumps and errors. `get_secret_value()` tells it."""


def _error(text: str) -> PydanticCustomError:
    # Unlike ValueError, its text stays as it is written.
    return PydanticCustomError("aibridge", text)


def _read_source(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, dict):
        return value
    try:
        return cast(SecretReader, info.context).read(value)
    except SecretUnavailable as why:
        raise _error(str(why)) from None


def _clean_secret(secret: SecretStr) -> SecretStr:
    # Goes into a header: a stray newline of `$(cat key)` is cut off, whatever else cannot stand there is refused.
    text = secret.get_secret_value().strip()
    if not text:
        raise _error("should not be empty")
    if not (text.isascii() and text.isprintable() and " " not in text):
        raise _error("should be printable ASCII without blanks")
    return SecretStr(text)


def _clean_value(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value().strip()
    if not text:
        raise _error("should not be empty")
    if not (text.isascii() and text.isprintable()):
        raise _error("should be printable ASCII")
    return SecretStr(text)


def _undated(value: object) -> object:
    return value.isoformat() if isinstance(value, date) else value  # YAML reads a bare 2024-10-21 as a date


def _check_url(text: str) -> str:
    try:
        url = urlsplit(text)
        _ = url.port
    except ValueError:
        raise _error("should be a URL") from None
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise _error("should be an http:// or https:// URL with a host")
    if url.query or url.fragment:
        raise _error("should have no query and no fragment")
    return text.rstrip("/")


def _clean_base_url(text: str) -> str:
    url = _check_url(text)
    if not url.isascii():
        raise _error("should be ASCII: other characters percent-encoded, a host in its punycode")
    if "@" in urlsplit(url).netloc:
        raise _error("should hold no credentials")
    return url


def _clean_proxy_url(secret: SecretStr) -> SecretStr:
    url = _check_url(secret.get_secret_value())
    if not url.startswith("http://"):
        raise _error("should be an http:// URL: TLS to the proxy itself is not spoken")
    return SecretStr(url)


def _off(value: object) -> object:
    return "off" if value is False else value  # YAML reads a bare off as false


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _clean_server_url(text: str) -> str:
    _clean_base_url(text)
    return text  # a slash at its end may count


def _check_regex(text: str) -> str:
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise _error(f"should be a regular expression: {error}") from None
    return text


_FIELD_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_TAKEN_NAMES = re.compile(
    "host|cookie|expect|te|trailer|upgrade|user-agent|authorization|(x-)?api-key|x-aibridge-(key|id)"
    "|traceparent|tracestate"
    "|connection|keep-alive|transfer-encoding|forwarded|x-forwarded-(for|host|port|proto)|x-real-ip"
    "|(proxy|content|accept|anthropic|x-amz|x-amzn)-.*|accept"
)
"""Headers that mean something else already, to HTTP, to the APIs or to us."""


def _free_name(text: str, taken: re.Pattern[str], why: str) -> str:
    """Return the name of a header, in lower case, that is not taken."""
    name = text.lower()
    if not _FIELD_NAME.fullmatch(name):
        raise _error("should be the name of a header")
    if taken.fullmatch(name):
        raise _error(f"should be another header: {name} {why}")
    return name


def _clean_header_name(text: str) -> str:
    return _free_name(text, _TAKEN_NAMES, "has a meaning of its own")


_OF_THE_TRANSPORT = re.compile(
    "host|accept|expect|te|trailer|upgrade|connection|keep-alive|transfer-encoding|last-event-id"
    "|(accept|content|mcp|proxy)-.*"
)
"""Headers that HTTP and MCP set themselves."""


def _clean_server_header(text: str) -> str:
    return _free_name(text, _OF_THE_TRANSPORT, "is set by HTTP or MCP itself")


_KEY_HEADERS = frozenset({"authorization", "x-api-key", "api-key"})


def _clean_key_header(text: str) -> str:
    return text.lower() if text.lower() in _KEY_HEADERS else _clean_header_name(text)


def _check_distinct(*names: str | None) -> None:
    said = [name for name in names if name is not None]
    if len(set(said)) < len(said):
        raise _error("two of the headers are the same")


def _read_network(value: object) -> object:
    try:
        return ip_network(value) if isinstance(value, str) else None
    except ValueError:
        raise _error("should be a network, like 10.0.0.0/8 or fd00::/8, or one address") from None


def _check_issuer_url(text: str) -> str:
    _check_url(text)
    if urlsplit(text).scheme == "http" and not _is_loopback(urlsplit(text).hostname or ""):
        raise _error("should be https://, or at a loopback address")
    return text


class _FromFile(BaseModel):
    """The secret is a file's text."""

    model_config = ConfigDict(extra="forbid")
    file: str


class _FromCommand(BaseModel):
    """The secret is what a program prints."""

    model_config = ConfigDict(extra="forbid")
    command: Annotated[list[str], Field(min_length=1)]


_Written = str | _FromFile | _FromCommand
# What is said of an input is for the JSON Schema alone (`configschema`); the function beside it decides.
_FromSource = BeforeValidator(_read_source, json_schema_input_type=_Written)
"""Of every secret: in the place of its text may stand where it is, `{file: …}` or `{command: […]}`."""
_Secret = Annotated[SecretStr, _FromSource, AfterValidator(_clean_secret)]
_BaseURL = Annotated[str, AfterValidator(_clean_base_url)]
_IssuerURL = Annotated[str, AfterValidator(_check_issuer_url)]
_Port = Annotated[int, Field(ge=0, le=65535)]
_Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Size = Annotated[ByteSize, Field(gt=0)]
_Count = Annotated[int, Field(gt=0)]
_MAX_WORKERS = 256
_Workers = Annotated[int, Field(gt=0, le=_MAX_WORKERS)]
_Text = Annotated[str, Field(min_length=1)]
_TagKey = Annotated[str, Field(min_length=1, max_length=128)]
_TagValue = Annotated[str, Field(max_length=256)]
_HeaderName = Annotated[str, AfterValidator(_clean_header_name)]
_KeyHeader = Annotated[str, AfterValidator(_clean_key_header)]
_Value = Annotated[
    SecretStr, _FromSource, BeforeValidator(_undated, json_schema_input_type=_Written), AfterValidator(_clean_value)
]
"""Goes out beside a key, in a header or in the query, and may be one."""
_ServerURL = Annotated[str, AfterValidator(_clean_server_url)]
_ServerHeader = Annotated[str, AfterValidator(_clean_server_header)]
_Regex = Annotated[str, AfterValidator(_check_regex)]
_Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_read_network, json_schema_input_type=str)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Listen(_Section):
    """The data port. With a file all addresses are served, as a container needs it; without one, loopback only."""

    host: _Text = "0.0.0.0"  # noqa: S104 - what a container needs
    port: _Port = 8080


class Timeouts(_Section):
    """Deadlines, in seconds, all above zero."""

    connect: _Seconds = 10.0
    """To have a connection to the upstream, TLS included."""
    response: _Seconds = 600.0
    """From the request's last byte to the upstream's response head."""
    idle: _Seconds = 300.0
    """Between two chunks of the upstream."""
    client_stall: _Seconds = 60.0
    """How long a client's full buffer may stay full."""
    ping: _Seconds = 10.0
    """Silence after which a streaming client gets a ping."""
    commit_after: _Seconds = 15.0
    """Silence before the first byte, after which a streaming client gets its head, and pings from then on."""
    keep_alive_upstream: _Seconds = 15.0
    """How long an idle upstream connection is kept."""
    request_body: _Seconds = 60.0
    """For a client to send its request body."""


class TimeoutOverrides(_Section):
    """What one provider does otherwise than `timeouts`; in seconds."""

    connect: _Seconds | None = None
    response: _Seconds | None = None
    idle: _Seconds | None = None
    keep_alive_upstream: _Seconds | None = None


class CircuitBreaker(_Section):
    """When an upstream that keeps failing is left alone: for each route and model, all clients together."""

    enabled: bool = False
    failures: _Count = 5
    """In a row, that open the circuit."""
    interval: _Seconds = 10.0
    """In which they happen."""
    timeout: _Seconds = 30.0
    """How long the circuit stays open."""
    probes: _Count = 3
    """Requests that pass while it is half-open; as many successes in a row close it."""


_Keep = Annotated[
    Literal["full", "hashed", "off"],
    BeforeValidator(_off, json_schema_input_type=Literal["full", "hashed", "off", False]),
]


class ContentOverrides(_Section):
    """What is kept of the content of one provider's or one actor's requests, where it is not `records.content`."""

    prompts: _Keep | None = None
    arguments: _Keep | None = None
    thoughts: _Keep | None = None


class Content(_Section):
    """What is kept of the content: nothing, unless it is asked for. Names and ids of tools are kept always."""

    prompts: _Keep = "off"
    """What users ask: the last text of a request whose last message is theirs."""
    arguments: _Keep = "off"
    """What the model gives the tools that it calls."""
    thoughts: _Keep = "off"
    """What the model thinks aloud."""
    hash_key: _Secret | None = None
    """Of `hashed`: whoever does not have it cannot try out what a short text may have been."""


class OnDisconnect(StrEnum):
    """What becomes of an answer whose client has left."""

    CANCEL = "cancel"
    """The upstream's connection is closed at once. What it told of usage until then is recorded, as partial."""
    DRAIN = "drain"
    """It is read to its end, so that its usage is known. The provider goes on working, and bills it."""
    DRAIN_BOUNDED = "drain_bounded"
    """It is read on for `drain_seconds`, then closed."""


_RetriedCause = Literal["connect_failed", "connection_reset", "protocol_error", "unexpected_response"]


class Retries(_Section):
    """When a request is sent again that has failed before its client got anything."""

    max: Annotated[int, Field(ge=0, le=10)] = 0
    """For one request. None by default: most clients retry by themselves."""
    causes: tuple[_RetriedCause, ...] = ("connect_failed", "connection_reset")
    """Ends without an answer. No response in time is none of them: the upstream may still work on it."""
    statuses: tuple[Annotated[int, Field(ge=400, le=599)], ...] = (408, 429, 500, 502, 503, 504, 529)
    """Of answers. The upstream's own `x-should-retry` stands above them."""
    backoff: _Seconds = 0.5
    """Before the first retry; doubled with each."""
    max_backoff: _Seconds = 8.0
    """A `retry-after` up to here is waited for; a longer one goes to the client."""
    budget: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Retries for each request of the provider, in the long run: an outage is not to be made worse."""


_FailoverCause = Literal[
    "connect_failed",
    "connection_reset",
    "response_timeout",
    "protocol_error",
    "unexpected_response",
    "circuit_open",
    "keys_exhausted",
]
_NO_FAILOVER = frozenset({400, 404, 413, 422})


def _check_failover_status(status: int) -> int:
    if status in _NO_FAILOVER:
        raise _error(f"{status} says what is wrong with the request, and so would the next provider")
    return status


class Failover(_Section):
    """When a request goes on to the next of the provider's `fallbacks`."""

    causes: tuple[_FailoverCause, ...] = get_args(_FailoverCause)
    """Ends without an answer."""
    statuses: tuple[Annotated[int, Field(ge=400, le=599), AfterValidator(_check_failover_status)], ...] | None = None
    """Of answers; none: those that count against an upstream's health, 408, 429 and from 500."""


class Fallback(_Section):
    """Where a request goes on: another provider of the same API, or the same one for another model."""

    provider: _Text
    model: _Text | None = None
    """Its name there; none: as the client wrote it."""


class _Provider(_Section):
    retries: Retries = Retries()
    fallbacks: tuple[Fallback, ...] = ()
    """In this order, each once. Those of a fallback itself are not followed: two may name each other."""
    failover: Failover = Failover()
    on_disconnect: OnDisconnect = OnDisconnect.CANCEL
    drain_seconds: _Seconds = 30.0
    """Of `drain_bounded`."""
    send_actor_headers: bool = False
    """Tell the upstream who asked, in headers."""
    content: ContentOverrides = ContentOverrides()
    timeouts: TimeoutOverrides = TimeoutOverrides()
    circuit_breaker: CircuitBreaker = CircuitBreaker()

    @property
    def read_on(self) -> float:
        """Seconds for which an answer is read on once its client has left."""
        bounded = self.drain_seconds if self.on_disconnect is OnDisconnect.DRAIN_BOUNDED else math.inf
        return 0.0 if self.on_disconnect is OnDisconnect.CANCEL else bounded


class APIKey(_Section):
    """One of a provider's several keys; `name` is what metrics call it."""

    key: _Secret
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$")] | None = None
    """None: the ends of the key."""
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Its part of the sessions, compared with that of the others."""


class _KeyedProvider(_Provider):
    """One that has a key, or several."""

    api_key: _Secret | None = None
    api_keys: Annotated[tuple[APIKey, ...], Field(max_length=64)] = ()
    """Several, of which each request goes out with one that is valid."""
    key_choice: Literal["primary", "spread"] = "primary"
    """The first valid one; or by the session, which keeps to its key."""

    @property
    def has_key(self) -> bool:
        """Whether it has any."""
        return self.api_key is not None or bool(self.api_keys)

    @model_validator(mode="after")
    def _keys_fit(self) -> Self:
        if self.api_key is not None and self.api_keys:
            raise _error("give one of api_key and api_keys")
        if not self.api_keys and self.key_choice != "primary":
            raise _error("key_choice is of no use without api_keys")
        if self.key_choice == "primary" and any(key.weight != 1 for key in self.api_keys):
            raise _error("weight is of no use without `key_choice: spread`")
        names = [key.name for key in self.api_keys if key.name is not None]
        if len(set(names)) < len(names):
            raise _error("two of api_keys have the same name")
        if len({key.key.get_secret_value() for key in self.api_keys}) < len(self.api_keys):
            raise _error("two of api_keys are the same")
        return self


class AnthropicProvider(_KeyedProvider):
    """The Messages API, direct. Where a client sends a credential of its own and `byok` is on, that one goes out."""

    kind: Literal["anthropic"] = "anthropic"
    base_url: _BaseURL = ANTHROPIC_BASE_URL
    byok: bool = True

    @model_validator(mode="after")
    def _has_credential(self) -> Self:
        if not (self.has_key or self.byok):
            raise _error("api_key is needed where byok is off")
        return self


class ModelFeatures(_Section):
    """What some models take otherwise than the built-in table says: true is taken, false is left out."""

    thinking: Literal["any", "budget", "adaptive"] | None = None
    betas: dict[str, bool] = {}
    fields: dict[str, bool] = {}
    """Names in the body, or paths of names: `output_config.format`."""


class BedrockProvider(_Provider):
    """Claude on AWS Bedrock. Without keys, profile or token here, the AWS chain of the process is asked.

    A `base_url` for which neither the file nor the environment tells a region is signed for us-east-1.
    """

    kind: Literal["bedrock"] = "bedrock"
    base_url: _BaseURL | None = None
    region: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")] = ""
    access_key_id: Annotated[_Text, _FromSource] | None = None
    secret_access_key: _Secret | None = None
    session_token: _Secret | None = None
    profile: _Text | None = None
    role_arn: Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:iam::\d{12}:role/\S+$")] | None = None
    """Assumed with whichever credentials are found; the next three go along."""
    external_id: _Secret | None = None
    session_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_+=,.@-]{2,64}$")] = "aibridge"
    session_tags: Annotated[dict[_TagKey, _TagValue], Field(max_length=50)] = {}
    bearer_token: _Secret | None = None
    byok: bool = False
    model_map: dict[str, _Text] = {}
    default_model: _Text | None = None
    inference_profile: Literal["auto", "geo", "global"] = "auto"
    """Which profile Anthropic's names get: the geography's, else the global one; the geography's alone; the global."""
    features: dict[_Text, ModelFeatures] = {}
    """By globs over Bedrock's ids."""

    @model_validator(mode="before")
    @classmethod
    def _default_region(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and raw.get("base_url") and "region" not in raw:
            return {**raw, "region": "us-east-1"}
        return raw

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if not self.region:
            raise _error("region is needed (or AWS_REGION in the environment, or base_url)")
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise _error("access_key_id and secret_access_key are given together or not at all")
        if self.session_token is not None and self.access_key_id is None:
            raise _error("session_token is of no use without access_key_id")
        ways = [self.access_key_id, self.profile, self.bearer_token]
        if sum(way is not None for way in ways) > 1:
            raise _error("give one of access_key_id, profile and bearer_token")
        if self.role_arn is None and {"external_id", "session_name", "session_tags"} & self.model_fields_set:
            raise _error("external_id, session_name and session_tags are of no use without role_arn")
        if self.role_arn is not None and self.bearer_token is not None:
            raise _error("role_arn is of no use with bearer_token")
        return self


class OpenAIProvider(_KeyedProvider):
    """OpenAI's APIs, at OpenAI or at any server compatible with it."""

    kind: Literal["openai"] = "openai"
    base_url: _BaseURL = OPENAI_BASE_URL
    """With its `/v1`, where it has one."""
    api_key_header: _KeyHeader = "authorization"
    """In which the key goes: there as a bearer token, in any other alone."""
    byok: bool = True
    headers: dict[_HeaderName, _Value] = {}
    query: dict[_Text, _Value] = {}
    usage: Literal["ask", "leave"] = "ask"
    """Of streams of Chat Completions: ask for it where the client does not, or leave the request as it is."""
    repair_done: bool = False
    """Give a client the `[DONE]` that a server of Chat Completions left out behind a whole answer."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.base_url == OPENAI_BASE_URL and not (self.has_key or self.byok):
            raise _error("api_key is needed where byok is off; a server that asks for none has another base_url")
        if self.api_key_header in self.headers:
            raise _error(f"headers: {self.api_key_header} is the place of api_key")
        return self


class CopilotProvider(_Provider):
    """GitHub Copilot, with each client's own token."""

    kind: Literal["copilot"] = "copilot"
    base_url: _BaseURL = COPILOT_BASE_URL
    usage: Literal["ask", "leave"] = "ask"
    repair_done: bool = False


_AnyProvider = AnthropicProvider | BedrockProvider | OpenAIProvider | CopilotProvider
Provider = Annotated[_AnyProvider, Field(discriminator="kind")]

_KINDS: dict[str, type[_AnyProvider]] = {
    "anthropic": AnthropicProvider,
    "bedrock": BedrockProvider,
    "openai": OpenAIProvider,
    "copilot": CopilotProvider,
}
_API_OF = {"anthropic": "messages", "bedrock": "messages", "openai": "openai"}
"""By kind; those of one API can stand in for each other."""
_PROVIDER_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def _check_provider_name(name: str) -> str:
    if not _PROVIDER_NAME.fullmatch(name):
        raise _error("a provider's name holds only lower-case letters, digits and single hyphens")
    return name


_ProviderName = Annotated[str, AfterValidator(_check_provider_name)]


def _check_providers(providers: dict[str, Provider]) -> dict[str, Provider]:
    if not providers:
        raise _error("at least one is needed")
    return providers


class RouterTarget(_Section):
    """Where a router sends a model's requests: a provider, or a mapping of it and the model's name there."""

    provider: _Text
    model: _Text | None = None


class RouterPrefix(RouterTarget):
    """The same for all models whose names begin so."""

    strip_prefix: bool = False

    @model_validator(mode="after")
    def _has_one_name(self) -> Self:
        if self.strip_prefix and self.model is not None:
            raise _error("strip_prefix is of no use with model")
        return self


def _as_target(value: object) -> object:
    return {"provider": value} if isinstance(value, str) else value


_Target = Annotated[RouterTarget, BeforeValidator(_as_target, json_schema_input_type=str | RouterTarget)]
_Prefix = Annotated[RouterPrefix, BeforeValidator(_as_target, json_schema_input_type=str | RouterPrefix)]


class Router(_Section):
    """A name in paths that stands for several providers: the request's model says which. The longest prefix wins."""

    models: dict[_Text, _Target] = {}
    prefixes: dict[_Text, _Prefix] = {}
    default: _Target | None = None
    """For all other models, and for requests that name none."""
    byok: bool = False
    """Let a client's own credential go on to the provider that is chosen."""

    @model_validator(mode="after")
    def _leads_somewhere(self) -> Self:
        if not (self.models or self.prefixes or self.default):
            raise _error("one of models, prefixes and default is needed")
        return self

    def targets(self) -> Iterator[tuple[str, RouterTarget]]:
        """Yield all targets, each with its key."""
        for section, targets in (("models", self.models), ("prefixes", self.prefixes)):
            for name, target in targets.items():
                yield f"{section}.{name}", target
        if self.default is not None:
            yield "default", self.default


HASHED = "sha256:"
"""What a gateway key begins with that is written down as its hash: 64 hexadecimal digits follow."""


def _check_hash(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if text.startswith(HASHED) and not re.fullmatch("[0-9A-Fa-f]{64}", text.removeprefix(HASHED)):
        raise _error(f"should have 64 hexadecimal digits behind {HASHED}")
    return secret


class _Key(_Section):
    """A key with a name. `key` is the key itself, or `sha256:` and its hash."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}$")]
    key: Annotated[_Secret, AfterValidator(_check_hash)]

    @property
    def clear(self) -> str | None:
        """The key itself; None where only its hash is known."""
        text = self.key.get_secret_value()
        return None if text.startswith(HASHED) else text

    @property
    def digest(self) -> bytes:
        """SHA-256 of the key."""
        text = self.key.get_secret_value()
        if text.startswith(HASHED):
            return bytes.fromhex(text.removeprefix(HASHED))
        return hashlib.sha256(text.encode()).digest()


_AnyKey = TypeVar("_AnyKey", bound=_Key)


def _check_keys(keys: tuple[_AnyKey, ...]) -> tuple[_AnyKey, ...]:
    if len({key.name for key in keys}) < len(keys):
        raise _error("two keys have the same name")
    if len({key.digest for key in keys}) < len(keys):
        raise _error("two names have the same key")
    return keys


class GatewayKey(_Key):
    """A key that opens the gateway; `name` is who it stands for."""

    content: ContentOverrides = ContentOverrides()


MIN_ADMIN_KEY = 16
"""Characters of an admin key: whoever reaches the port may guess as often as he likes."""


def _check_length(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value()) < MIN_ADMIN_KEY:
        raise _error(f"should have {MIN_ADMIN_KEY} characters or more")
    return secret


class AdminKey(_Key):
    """A key that opens the admin API and the dashboard; `name` is whose it is."""

    key: Annotated[_Secret, AfterValidator(_check_hash), AfterValidator(_check_length)]


class Admin(_Section):
    """The second listener: metrics and health, which ask for no key; admin API and dashboard, which do.

    Without keys these two are off.
    """

    host: _Text = "127.0.0.1"
    port: _Port = 8081
    keys: Annotated[tuple[AdminKey, ...], AfterValidator(_check_keys)] = ()


class FrontProxy(_Section):
    """The proxy that knows who asks, and says so in headers; `networks` are the addresses that it calls from."""

    id: _HeaderName
    name: _HeaderName | None = None
    teams: _HeaderName | None = None
    """Holds names that are separated by commas."""
    networks: Annotated[tuple[_Network, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _are_distinct(self) -> Self:
        _check_distinct(self.id, self.name, self.teams)
        return self


class KeyStore(_Section):
    """Where gateway keys are kept that `aibridge keys` makes, and that are looked at again each second."""

    path: Path
    """A SQLite file. A relative path starts at the working directory."""
    max_age: _Seconds = 3600.0
    """How long the last known keys go on while it cannot be read."""


class JWT(_Section):
    """Tokens of an identity provider as gateway keys."""

    issuer: _IssuerURL
    """As the claim `iss` has it, to the letter."""
    audience: Annotated[tuple[_Text, ...], Field(min_length=1)]
    """Of which the claim `aud` has one."""
    jwks_url: _IssuerURL | None = None
    """Of the issuer's keys; none: its metadata tells it."""
    algorithms: Annotated[
        tuple[Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"], ...],
        Field(min_length=1),
    ] = ("RS256", "ES256")
    leeway: Annotated[float, Field(ge=0, le=300)] = 60.0
    """By which clocks may differ."""
    id_claim: _Text = "sub"
    name_claim: _Text = "name"
    teams_claim: _Text = "groups"
    """Holds a list of names, or names that are separated by commas."""
    max_age: _Seconds = 86_400.0
    """How long the last known keys go on while none can be fetched."""


class AuthMode(StrEnum):
    """How the gateway learns who asks."""

    OPEN = "open"
    """Not at all."""
    KEYS = "keys"
    """By gateway keys."""
    HEADER = "header"
    """By what a front proxy says."""


class Auth(_Section):
    """Who may ask. Where no `mode` is said, keys ask for keys, and without any the gateway is open."""

    mode: Annotated[AuthMode, BeforeValidator(_lower)] | None = None
    keys: Annotated[tuple[GatewayKey, ...], AfterValidator(_check_keys)] = ()
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
            raise _error("keys are needed in mode keys: keys, key_store or jwt")
        if mode is not AuthMode.KEYS and self.asks_for_keys:
            raise _error(f"keys would not be asked for in mode {mode}: leave out the keys or the mode")
        if mode is AuthMode.HEADER and self.header is None:
            raise _error("header is needed in mode header, with id and networks (a file alone can say it)")
        if mode is not AuthMode.HEADER and self.header is not None:
            raise _error("header is only for `mode: header`")
        return self


class ActorHeaders(_Section):
    """In which headers a provider with `send_actor_headers` is told who asked. No client can send them."""

    id: _HeaderName = "x-ai-bridge-actor-id"
    name: _HeaderName | None = None
    teams: _HeaderName | None = None

    @model_validator(mode="after")
    def _are_distinct(self) -> Self:
        _check_distinct(self.id, self.name, self.teams)
        return self


class Limits(_Section):
    """Bounds of memory; sizes in bytes, or text like `32MiB`."""

    max_request_bytes: _Size = ByteSize(32 * MIB)
    max_response_bytes: _Size = ByteSize(64 * MIB)
    """Of an answer that is not streamed."""
    max_frame_bytes: Annotated[ByteSize, Field(gt=0, le=24 * MIB)] = ByteSize(16 * MIB)
    """Of one AWS event-stream message."""
    max_event_bytes: _Size = ByteSize(32 * MIB)
    """Of one server-sent event."""
    client_buffer_bytes: _Size = ByteSize(64 * KIB)
    """The high-water mark of a client's send buffer; above it the upstream is not read."""
    max_connections: Annotated[int, Field(ge=0)] = 0
    """To one upstream; 0 is no limit."""


class TLS(_Section):
    """How upstreams prove themselves: the system's certificate authorities, or those of `ca_file`."""

    ca_file: FilePath | None = None
    verify: bool = True


class Proxy(_Section):
    """The way out: `url` for everything, else `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` of the environment."""

    from_environment: bool = True
    url: Annotated[SecretStr, _FromSource, AfterValidator(_clean_proxy_url)] | None = None
    """A secret, since it may hold a password."""


class Records(_Section):
    """Where interceptions are recorded. A relative path starts at the working directory."""

    enabled: bool = True
    path: Path = Path("aibridge.db")
    on_failure: Literal["fail_open", "fail_closed"] = "fail_open"
    """Whether a request whose beginning cannot be recorded goes on, or is refused."""
    fsync: Literal["always", "interval", "never"] = "interval"
    """When the journal is brought to the disk: before anybody is told, each second, or when the system sees fit."""
    journal_max_bytes: Annotated[ByteSize, Field(ge=64 * 1024)] = ByteSize(1024**3)
    """Of records that wait in the journal for the store; beyond it `on_failure` says what happens."""
    content: Content = Content()
    retention_days: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """After which an interception is deleted, with all that belongs to it. None: never."""


class DumpSettings(_Section):
    """Where requests and answers are written down as they pass, for an operator who looks for a fault."""

    path: Path | None = None
    """A folder; none: nothing is dumped. The files hold prompts and answers."""
    max_body_bytes: _Size = ByteSize(16 * MIB)
    """Of the body in one file."""
    max_total_bytes: _Size = ByteSize(1024 * MIB)
    """Of all files together; beyond it the oldest are deleted."""

    @model_validator(mode="after")
    def _has_room_for_one(self) -> Self:
        if self.max_total_bytes < self.max_body_bytes:
            raise _error("max_total_bytes should not be below max_body_bytes")
        return self


class LogSettings(_Section):
    """The log on standard error."""

    level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = "info"


class MetricsSettings(_Section):
    """Bounds of the metrics."""

    max_models: Annotated[int, Field(ge=0)] = 200
    """Model names that the configuration does not know and that get a label of their own; then `other`."""
    actor_label: bool = False
    """Tell interceptions, prompts and tokens apart by actor: multiplies their series."""


class TracingSettings(_Section):
    """Which names are told; whether and where to, the standard `OTEL_*` variables say, and only they."""

    semconv: Literal["stable-now", "next", "both", "off"] = "stable-now"
    """OpenTelemetry's conventions for generative AI: those released last, those to come, both, or none of them."""


class ToolServer(_Section):
    """A server of MCP, over streamable HTTP."""

    url: _ServerURL
    headers: dict[_ServerHeader, _Value] = {}
    """That go with every request, for all actors."""
    actor_header: _ServerHeader | None = None
    """In which it gets the actor's own credential, which a client sends as `x-aibridge-mcp-<name>`."""
    allow: _Regex | None = None
    """Searched for in a tool's name, as the server writes it. None: all tools."""
    deny: _Regex | None = None
    """The same; stands above `allow`."""
    connect_timeout: _Seconds = 10.0
    """To set a session up, and again to list the tools."""
    call_timeout: _Seconds = 60.0
    """Of one call, the wait for `max_concurrent_calls` included."""
    max_concurrent_calls: _Count = 16
    """Under way at once; others wait."""
    max_result_bytes: _Size = ByteSize(256 * KIB)
    """Of a result's text; what is longer is cut, with a note."""

    @model_validator(mode="after")
    def _has_one_value(self) -> Self:
        if self.actor_header is not None and self.actor_header in self.headers:
            raise _error(f"headers: {self.actor_header} is the place of the actor's own credential")
        return self


_ServerName = Annotated[str, Field(max_length=32), AfterValidator(_check_provider_name)]


class ToolServers(_Section):
    """Tools that the gateway offers to models, and runs itself; and which requests get them."""

    models: tuple[_Text, ...] = ()
    """Globs over the names that clients write; empty: all."""
    actors: tuple[_Text, ...] = ()
    """Ids; empty: all."""
    max_tool_turns: _Count = 10
    """Requests to the model in one interception, at most."""
    max_actor_sessions: _Count = 64
    """With servers that have an `actor_header`, all together."""
    servers: dict[_ServerName, ToolServer] = {}


class Prices(_Section):
    """What tokens cost: list prices come with the program."""

    path: FilePath | None = None
    """A file of prices that win over those, as docs/prices.md describes it."""


_LimitOwner = Literal["key", "actor", "team", "model", "all"]
_NANO = 10**9
_Dollars = Annotated[Decimal, Field(gt=0, le=10**9, decimal_places=9)]


class RateLimit(_Section):
    """How fast the gateway may be used, by each of those whom it is for."""

    for_: Annotated[_LimitOwner, Field(alias="for")]
    """What the limit is of each of; `all` is all requests together."""
    match: _Text = "*"
    """A glob over their names: of keys the ids, of models as clients write them."""
    requests_per_minute: _Count | None = None
    tokens_per_minute: _Count | None = None
    concurrent: _Count | None = None
    """Under way at once."""

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.requests_per_minute is self.tokens_per_minute is self.concurrent is None:
            raise _error("one of requests_per_minute, tokens_per_minute and concurrent is needed")
        _check_has_names(self.for_, self.match)
        return self


class Budget(_Section):
    """How many dollars may be spent in a day or a month of UTC, by each of those whom it is for."""

    per: _LimitOwner
    match: _Text = "*"
    dollars: _Dollars
    period: Literal["day", "month"]
    mode: Literal["hard", "soft"] = "hard"
    """Whether more is refused, or told only."""
    stop_streams: bool = False
    """End what is under way when it is spent."""

    @property
    def nanodollars(self) -> int:
        """The same as a whole number."""
        return int(self.dollars * _NANO)

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.stop_streams and self.mode == "soft":
            raise _error("stop_streams is of no use with mode soft")
        _check_has_names(self.per, self.match)
        return self


def _check_has_names(owner: str, match: str) -> None:
    if owner == "all" and match != "*":
        raise _error("match is of no use with all")


def _clean_store_url(secret: SecretStr) -> SecretStr:
    try:
        url = urlsplit(secret.get_secret_value())
        _ = url.port
    except ValueError:
        raise _error("should be a URL") from None
    kinds = {"redis": "redis", "valkey": "redis", "rediss": "rediss", "valkeys": "rediss"}
    if url.scheme not in kinds or not url.hostname:
        raise _error("should be a valkey:// or redis:// URL with a host, or valkeys:// or rediss:// for TLS")
    return SecretStr(url._replace(scheme=kinds[url.scheme]).geturl())


class LimitStore(_Section):
    """Who counts for limits and budgets: this process, a file for the processes of one host, or a server for many."""

    kind: Literal["memory", "sqlite", "valkey"] | None = None
    """None: memory with one worker; with several a file beside the gateway keys, else it has to be said."""
    path: Path | None = None
    """Of kind sqlite."""
    url: Annotated[SecretStr, AfterValidator(_clean_store_url)] | None = None
    """Of kind valkey; a secret, since it may hold a password."""
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = "aibridge"
    """Of kind valkey: begins all keys. Gateways that share limits share it."""
    when_away: Literal["allow", "deny"] = "allow"
    """What becomes of requests that have limits while it cannot be asked."""
    timeout: _Seconds = 1.0
    """After which it cannot."""
    lease: Annotated[float, Field(ge=1, le=3600)] = 60.0
    """How long what is under way counts when its process was killed."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.kind == "sqlite") != (self.path is not None):
            raise _error("path and kind: sqlite belong together")
        if (self.kind == "valkey") != (self.url is not None):
            raise _error("url and kind: valkey belong together")
        return self


class Settings(_Section):
    """What the file may say."""

    listen: Listen = Listen()
    admin: Admin = Admin()
    providers: Annotated[dict[_ProviderName, Provider], AfterValidator(_check_providers)]
    routers: dict[_ProviderName, Router] = {}
    auth: Auth = Auth()
    actor_headers: ActorHeaders = ActorHeaders()
    limits: Limits = Limits()
    rate_limits: tuple[RateLimit, ...] = ()
    budgets: tuple[Budget, ...] = ()
    limit_store: LimitStore = LimitStore()
    timeouts: Timeouts = Timeouts()
    workers: _Workers = 1
    """Processes that serve the data port."""
    drain_deadline: _Seconds = 30.0
    """For running interceptions to end after the signal to stop; in seconds."""
    tls: TLS = TLS()
    proxy: Proxy = Proxy()
    records: Records = Records()
    prices: Prices = Prices()
    dump: DumpSettings = DumpSettings()
    mcp: ToolServers = ToolServers()
    log: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()
    tracing: TracingSettings = TracingSettings()

    @model_validator(mode="after")
    def _has_hash_key(self) -> Self:
        places: list[Content | ContentOverrides] = [self.records.content, *(key.content for key in self.auth.keys)]
        places += [provider.content for provider in self.providers.values()]
        hashed = any("hashed" in (place.prompts, place.arguments, place.thoughts) for place in places)
        if hashed and self.records.content.hash_key is None:
            raise _error("records.content.hash_key is needed where something is hashed")
        return self

    @model_validator(mode="after")
    def _can_count(self) -> Self:
        if self.workers > 1 and self.limit_store.kind is None and (self.rate_limits or self.budgets):
            raise _error(_NOBODY_COUNTS)
        return self

    @model_validator(mode="after")
    def _routers_lead_to_providers(self) -> Self:
        wrong = [
            f"routers.{name}.{key}: {text}"
            for name, router in self.routers.items()
            for key, target in router.targets()
            if (text := self._mistake_in(target.provider))
        ]
        wrong += [f"routers.{name}: a provider has that name" for name in self.routers if name in self.providers]
        if wrong:
            raise _error("\n".join(wrong))
        return self

    @model_validator(mode="after")
    def _fallbacks_can_answer(self) -> Self:
        wrong = [
            f"providers.{name}.fallbacks: {text}"
            for name, provider in self.providers.items()
            for place, fallback in enumerate(provider.fallbacks)
            if (text := self._mistake_in_fallback(name, fallback, provider.fallbacks[:place]))
        ]
        if wrong:
            raise _error("\n".join(wrong))
        return self

    def _mistake_in_fallback(self, name: str, fallback: Fallback, before: tuple[Fallback, ...]) -> str:
        kind, other = self.providers[name].kind, self.providers.get(fallback.provider)
        if other is None:
            return f"no provider is named {fallback.provider!r}"
        if "copilot" in {kind, other.kind}:
            return "what is of kind copilot takes no other credential than its client's, which nobody else gets"
        if _API_OF[kind] != _API_OF[other.kind]:
            return f"{fallback.provider} is of kind {other.kind}, which speaks another API than {kind}"
        if fallback.provider == name and fallback.model is None:
            return f"{name} is the provider itself, and needs the name of another model"
        return f"{fallback.provider} is there twice" if fallback in before else ""

    def _mistake_in(self, target: str) -> str:
        provider = self.providers.get(target)
        if provider is None:
            return f"no provider is named {target!r}"
        if isinstance(provider, CopilotProvider):
            return f"{target} is of kind copilot, which has paths of its own"
        return ""

    @model_validator(mode="after")
    def _files_differ(self) -> Self:
        if self.auth.key_store is not None and self.auth.key_store.path == self.records.path:
            raise _error("auth.key_store.path and records.path should differ")
        return self

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        if self.listen.port == self.admin.port != 0:
            raise _error("listen.port and admin.port should differ")
        return self

    @model_validator(mode="after")
    def _open_is_meant(self) -> Self:
        if self.auth.mode is None and not self.auth.asks_for_keys and not _is_loopback(self.listen.host):
            raise _error(
                f"auth: listen.host is {self.listen.host}, and whoever reaches it would be let in. "
                "Give gateway keys (auth.keys or auth.key_store; without a file AIBRIDGE_GATEWAY_KEYS=name:key), "
                "or say that this is meant (auth: {mode: open}; without a file AIBRIDGE_AUTH_MODE=open), "
                "or listen on 127.0.0.1 (listen.host; without a file AIBRIDGE_HOST)"
            )
        return self


_NOBODY_COUNTS = (
    "limit_store.kind is needed where several workers share limits: sqlite for those of one host, valkey for many, "
    "or memory, where each worker counts for itself"
)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Config(Settings):
    """The configuration, valid and frozen. Built by `load` and `from_environment`, not by hand."""

    simulated: bool = False
    """No credential was found: the providers wait for the simulator's address (`with_simulator`)."""
    notes: tuple[str, ...] = ()
    """What an operator should be told at the start; one sentence each."""
    digests: Mapping[str, str] = {}
    """Of the contents of files that are read later, by the key that names one: a change of theirs is one of the key."""

    def timeouts_for(self, provider: str) -> Timeouts:
        """Return the deadlines of a provider: its own where it has them, else the common ones."""
        overrides = self.providers[provider].timeouts.model_dump(exclude_none=True)
        return self.timeouts.model_copy(update=overrides)

    def with_simulator(self, base_url: str) -> Self:
        """Return the same configuration, its providers at the simulator's address."""
        url = base_url.rstrip("/")
        providers = {
            name: provider.model_copy(update={"base_url": url + ("/v1" if provider.kind == "openai" else "")})
            for name, provider in self.providers.items()
        }
        return self.model_copy(update={"providers": providers})

    def where(self, running: Self) -> Self:
        """Return the same configuration at the addresses, and with the workers, of one that runs."""
        return self.model_copy(update={name: getattr(running, name) for name in ("listen", "admin", "workers")})

    def with_workers(self, workers: int) -> Self:
        """Return the same configuration with so many workers. Raises `ConfigError`."""
        if not 1 <= workers <= _MAX_WORKERS:
            raise ConfigError(f"--workers {workers}: should be from 1 to {_MAX_WORKERS}")
        if workers > 1 and self.limit_store.kind is None and (self.rate_limits or self.budgets):
            raise ConfigError(_NOBODY_COUNTS)
        return self.model_copy(update={"workers": workers})

    def known_models(self) -> frozenset[str]:
        """Return the model names that the configuration spells out, of both sides."""
        return frozenset(self._known_models())

    def _known_models(self) -> Iterator[str]:
        for provider in self.providers.values():
            if isinstance(provider, BedrockProvider):
                yield from provider.model_map
                yield from provider.model_map.values()
                if provider.default_model:
                    yield provider.default_model
        for router in self.routers.values():
            yield from router.models
            yield from (target.model for _, target in router.targets() if target.model)
        for provider in self.providers.values():
            yield from (fallback.model for fallback in provider.fallbacks if fallback.model)


def describe(config: Config) -> dict[str, Any]:
    """Return the configuration as plain values for the start log; secrets show that they are set, no more."""
    return config.model_dump(mode="json", exclude_none=True, exclude={"notes", "digests"})


def changed_keys(before: Config, after: Config) -> list[str]:
    """Return the keys that differ, by name alone. A provider that one of the two has not is one key."""
    keys: dict[str, None] = {}
    for name in Settings.model_fields:
        keys |= dict.fromkeys(_differing(name, getattr(before, name), getattr(after, name)))
    files = {**before.digests, **after.digests}
    return [*keys | dict.fromkeys(key for key in files if before.digests.get(key) != after.digests.get(key))]


def _differing(key: str, before: object, after: object) -> Iterator[str]:
    if before == after:
        return
    one, other = _members(before), _members(after)
    if type(before) is not type(after) or one is None or other is None:
        yield key
        return
    for name in {**one, **other}:
        inner = f"{key}.{name}"
        if name in one and name in other:
            yield from _differing(inner, one[name], other[name])
        else:
            yield inner


def _members(value: object) -> dict[str, Any] | None:
    """Return the keys of a section, or the sections of a mapping of them; None where there is nothing to go into."""
    if isinstance(value, BaseModel):
        return dict(iter(value))  # not dict(value): a section may have a key `keys`
    if isinstance(value, dict) and all(isinstance(item, BaseModel) for item in value.values()):
        return value
    return None


# --- a file ---------------------------------------------------------------------------------------------------------


def load(path: str | Path, environ: Mapping[str, str] | None = None, files: set[Path] | None = None) -> Config:
    """Read and check a YAML file.

    A file that names no providers takes them from the environment, as without a file.

    Args:
        path: the file.
        environ: variables for `${NAME}` and for the AWS region; the process's own by default.
        files: gets every file that the answer depends on, also where the answer is an error.

    Raises:
        ConfigError: the file cannot be read or used; one line for each mistake, each with its key.
    """
    environ = os.environ if environ is None else environ
    files = set() if files is None else files
    files.add(Path(path))
    try:
        raw, mistakes = _interpolate(_read(Path(path)), environ)
    except RecursionError:  # an alias inside of what it stands for
        raise ConfigError(f"{path}: is nested too deep") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: should be a mapping of keys to values")
    if "providers" in raw:
        notes = [*_ignored_variables(environ, _ENVIRONMENT_KEYS)]
    else:
        notes = [*_ignored_variables(environ, _ENVIRONMENT_KEYS.keys() - _PROVIDER_VARIABLES)]
        providers, found = _environment_providers(environ)
        if not providers:
            mistakes["providers"] = "none is configured, and the environment holds no credential for one"
        raw = {**raw, "providers": providers}
        notes += found
    digests = {key: _digest(file, files) for key in _FILE_KEYS if (file := _text_at(raw, key))}
    settings = _validate(_complete(raw, environ), mistakes, files=files)
    return _config(settings, notes, digests=digests)


_FILE_KEYS = ("prices.path", "tls.ca_file")
"""Keys of files that others read."""


def _text_at(raw: object, key: str) -> str:
    for step in key.split("."):
        raw = raw.get(step) if isinstance(raw, dict) else None
    return raw if isinstance(raw, str) else ""


def _digest(file: str, files: set[Path]) -> str:
    files.add(Path(file))
    try:
        return hashlib.sha256(read_regular(Path(file))).hexdigest()
    except (OSError, ValueError):
        return ""  # whoever reads it says why


class _Loader(yaml.SafeLoader):
    """Refuses a key that is written twice: of two, plain YAML silently takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - yaml's signature
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = key_node.value
            if not isinstance(key, str):  # {{ name }} of a template that nobody filled in, mostly
                raise yaml.constructor.ConstructorError(None, None, "a key should be text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, "a key is written twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _read(path: Path) -> object:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None
    try:
        value: object = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {_yaml_problem(error)}") from None
    except (ValueError, LookupError, AttributeError):  # yaml's own, of a value that is not what it says; it is quoted
        raise ConfigError(f"{path}: a value looks like a date or a number, and is none: put it in quotes") from None
    return {} if value is None else value


def _yaml_problem(error: yaml.YAMLError) -> str:
    # An unquoted secret may start like an alias or a tag: its text, which yaml quotes, is cut off.
    problem = re.sub(r"(alias|tag|handle)\b.*", r"\1", str(getattr(error, "problem", "is not YAML")))
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else problem


_REFERENCE = re.compile(r"(\$?)\$\{([^}]*)\}")
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


class _Missing(Exception):
    pass


def _interpolate(raw: object, environ: Mapping[str, str]) -> tuple[Any, dict[str, str]]:
    """Fill in the variables. Returns the value and, by key, what is wrong with it.

    A value whose variable is missing keeps its text, so that the checks which follow see a key that is there.
    """
    mistakes: dict[str, str] = {}

    def walk(value: object, key: str) -> object:
        if isinstance(value, dict):
            pairs = ((str(name), walk(item, f"{key}.{name}" if key else str(name))) for name, item in value.items())
            # An empty value is a key that is not there: `limits:` with all its lines commented out.
            return {name: item for name, item in pairs if item is not None or key == "providers"}
        if isinstance(value, list):
            return [walk(item, f"{key}.{index}") for index, item in enumerate(value)]
        if not isinstance(value, str) or "${" not in value:
            return value
        try:
            return _REFERENCE.sub(lambda match: _expand(match, environ), value) or None
        except _Missing as missing:
            mistakes[key] = str(missing)
            return value

    return walk(raw, ""), mistakes


def _expand(match: re.Match[str], environ: Mapping[str, str]) -> str:
    escaped, inside = match.groups()
    if escaped:  # $${NAME} stands for ${NAME} itself
        return match.group()[1:]
    variable = _VARIABLE.fullmatch(inside)
    if variable is None:
        raise _Missing("should be ${NAME} or ${NAME:-default}")
    name, default = variable.groups()
    value = environ.get(name) or default
    if value is None:
        state = "is empty" if name in environ else "is not set"
        raise _Missing(f"the environment variable {name} {state}")
    return value


def _complete(raw: dict[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """Add what a provider need not say: the kind that its name tells, and the region of the environment."""
    providers = raw["providers"]
    if not isinstance(providers, dict):
        return raw
    return {**raw, "providers": {name: _complete_provider(name, item, environ) for name, item in providers.items()}}


def _complete_provider(name: str, raw: object, environ: Mapping[str, str]) -> object:
    raw = {} if raw is None else raw
    if not isinstance(raw, dict):
        return raw
    known: dict[str, object] = {"kind": name} if name in _KINDS else {}
    region = _region(environ)
    if {**known, **raw}.get("kind") == "bedrock" and region:
        known["region"] = region
    return {**known, **raw}


def _region(environ: Mapping[str, str]) -> str:
    return environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or ""


# --- no file --------------------------------------------------------------------------------------------------------

_ENVIRONMENT_KEYS = {
    "AIBRIDGE_HOST": "listen.host",
    "AIBRIDGE_PORT": "listen.port",
    "AIBRIDGE_ADMIN_HOST": "admin.host",
    "AIBRIDGE_ADMIN_PORT": "admin.port",
    "AIBRIDGE_ADMIN_KEYS": "admin.keys",
    "AIBRIDGE_RECORDS": "records.path",
    "AIBRIDGE_AUTH_MODE": "auth.mode",
    "AIBRIDGE_GATEWAY_KEYS": "auth.keys",
    "AIBRIDGE_KEY_STORE": "auth.key_store.path",
    "AIBRIDGE_LOG_LEVEL": "log.level",
    "AIBRIDGE_WORKERS": "workers",
    "AIBRIDGE_DRAIN_DEADLINE": "drain_deadline",
    "AIBRIDGE_CA_FILE": "tls.ca_file",
    "AIBRIDGE_ANTHROPIC_BASE_URL": "providers.anthropic.base_url",
    "AIBRIDGE_BEDROCK_BASE_URL": "providers.bedrock.base_url",
    "AIBRIDGE_OPENAI_BASE_URL": "providers.openai.base_url",
}
_VARIABLE_OF = {key: variable for variable, key in _ENVIRONMENT_KEYS.items()} | {
    "providers.anthropic.api_key": "ANTHROPIC_API_KEY",
    "providers.openai.api_key": "OPENAI_API_KEY",
    "providers.bedrock.bearer_token": "AWS_BEARER_TOKEN_BEDROCK",
    "providers.bedrock.region": "AWS_REGION",
}
_PROVIDER_VARIABLES = frozenset(name for name, key in _ENVIRONMENT_KEYS.items() if key.startswith("providers."))


def from_environment(environ: Mapping[str, str] | None = None) -> Config:
    """Build a configuration without a file. The module's docstring lists the variables.

    With no credential, and no base URL of Anthropic or OpenAI, the configuration is `simulated`. Records go to
    `aibridge/aibridge.db` under `XDG_STATE_HOME` (`~/.local/state`), or to the working directory where there is no
    home; simulated ones to a file of their own beside it, so that they never mix with true ones.

    Args:
        environ: the variables; the process's own by default.

    Raises:
        ConfigError: a variable cannot be used; one line for each.
    """
    environ = os.environ if environ is None else environ
    providers, notes = _environment_providers(environ)
    simulated = not providers
    raw: dict[str, Any] = {
        "listen": {"host": "127.0.0.1"},
        "records": {"path": _state_file(environ, "simulated.db" if simulated else "aibridge.db")},
        "providers": providers or _simulated_providers(),
    }
    for variable, key in _ENVIRONMENT_KEYS.items():
        value = environ.get(variable)
        if value and variable not in _PROVIDER_VARIABLES and not _is_service_link(variable, value):
            _put(raw, key, _environment_value(variable, value))
    settings = _validate(raw, {}, _VARIABLE_OF)
    return _config(settings, [*notes, *_misspelt_variables(environ)], simulated=simulated)


def _put(raw: dict[str, Any], key: str, value: object) -> None:
    if key == "records.path" and value in {"off", "false", "0"}:
        key, value = "records.enabled", False
    *sections, last = key.split(".")
    for section in sections:
        raw = raw.setdefault(section, {})
    raw[last] = value


def _environment_value(variable: str, value: str) -> object:
    if variable not in {"AIBRIDGE_GATEWAY_KEYS", "AIBRIDGE_ADMIN_KEYS"}:
        return value
    keys = [item.strip() for item in value.split(",") if item.strip()]
    return [_named_key(number, key) for number, key in enumerate(keys, 1)]


def _named_key(number: int, text: str) -> dict[str, str]:
    name, colon, key = text.partition(":")
    if not colon or text.startswith(HASHED):
        return {"name": f"key-{number}", "key": text}
    return {"name": name.strip(), "key": key.strip()}


def _is_service_link(variable: str, value: str) -> bool:
    # Kubernetes tells every container of a service named aibridge AIBRIDGE_PORT=tcp://10.0.0.1:8080.
    return variable == "AIBRIDGE_PORT" and value.startswith("tcp://")


def _environment_providers(environ: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    providers: dict[str, Any] = {}
    notes: list[str] = []
    for name in ("anthropic", "openai"):
        if key := environ.get(f"{name.upper()}_API_KEY"):
            providers[name] = {"kind": name, "api_key": key}
        elif environ.get(f"AIBRIDGE_{name.upper()}_BASE_URL"):  # clients bring their own keys
            providers[name] = {"kind": name}
    aws = next((sign for sign in AWS_SIGNS if environ.get(sign)), None)
    region = _region(environ)
    if aws and region:
        providers["bedrock"] = {"kind": "bedrock", "region": region}
        if token := environ.get("AWS_BEARER_TOKEN_BEDROCK"):
            providers["bedrock"]["bearer_token"] = token
    elif aws:
        notes.append(f"{aws} is set but no AWS_REGION: there is no provider bedrock")
    elif environ.get("AIBRIDGE_BEDROCK_BASE_URL"):
        notes.append("AIBRIDGE_BEDROCK_BASE_URL is not used: the environment holds no AWS credential to sign with")
    for name, provider in providers.items():
        if url := environ.get(f"AIBRIDGE_{name.upper()}_BASE_URL"):
            provider["base_url"] = url
    return providers, notes


def _simulated_providers() -> dict[str, Any]:
    nowhere = "http://127.0.0.1:0"
    return {
        "anthropic": {"kind": "anthropic", "base_url": nowhere, "api_key": SIMULATOR_API_KEY},
        "bedrock": {
            "kind": "bedrock",
            "base_url": nowhere,
            "region": SIMULATOR_REGION,
            "access_key_id": SIMULATOR_ACCESS_KEY_ID,
            "secret_access_key": SIMULATOR_SECRET_ACCESS_KEY,
        },
        "openai": {"kind": "openai", "base_url": nowhere, "api_key": SIMULATOR_OPENAI_KEY},
    }


def _state_file(environ: Mapping[str, str], name: str) -> Path:
    if state := environ.get("XDG_STATE_HOME"):
        return Path(state, "aibridge", name)
    if home := environ.get("HOME"):
        return Path(home, ".local", "state", "aibridge", name)
    return Path(name)


def _ignored_variables(environ: Mapping[str, str], ignored: Collection[str]) -> Iterator[str]:
    names = [name for name in _ENVIRONMENT_KEYS if name in ignored and environ.get(name)]
    if names:
        yield f"a file is in use, which alone counts unless it names them: {', '.join(names)}"


def _misspelt_variables(environ: Mapping[str, str]) -> Iterator[str]:
    for name in environ:
        if name.startswith("AIBRIDGE_") and name not in _ENVIRONMENT_KEYS:
            near = difflib.get_close_matches(name, _ENVIRONMENT_KEYS, n=1, cutoff=0.85)
            if near:
                yield f"{name} is not a setting; did you mean {near[0]}?"


# --- both -----------------------------------------------------------------------------------------------------------


def _config(
    settings: Settings, notes: list[str], *, simulated: bool = False, digests: Mapping[str, str] = MappingProxyType({})
) -> Config:
    is_open = settings.auth.effective_mode is AuthMode.OPEN
    if is_open and not simulated and not _is_loopback(settings.listen.host):
        notes.append(f"the gateway is open: whoever reaches {settings.listen.host} may use the credentials here")
    if settings.budgets and settings.limit_store.kind in {None, "memory"}:
        notes.append("budgets are counted in memory: a restart forgets what was spent")
    if settings.workers > 1 and settings.limit_store.kind == "memory":
        notes.append("limits are counted in memory: each worker counts for itself")
    if settings.dump.path is not None:
        notes.append(f"requests and answers are written down in {settings.dump.path}, prompts too")
    return Config.model_construct(**dict(settings), simulated=simulated, notes=tuple(notes), digests=digests)


def _validate(
    raw: object,
    mistakes: Mapping[str, str],
    names: Mapping[str, str] | None = None,
    files: set[Path] | None = None,
) -> Settings:
    """Check all of it.

    `mistakes` are known already, by key; `names` says what to call a key in a text; `files` gets those of secrets.
    """
    names = names or {}
    lines = dict(mistakes)
    try:
        settings = Settings.model_validate(raw, context=SecretReader(set() if files is None else files))
    except ValidationError as invalid:
        for details in invalid.errors(include_url=False, include_context=True, include_input=False):
            key, text = _explain(details)
            lines.setdefault(key, text)
        settings = None
    if settings is None or lines:
        texts = [f"{_called(key, names)}: {text}" if key else text for key, text in lines.items()]
        raise ConfigError("\n".join(texts))
    return settings


def _called(key: str, names: Mapping[str, str]) -> str:
    """Return what to call a key: the variable that set it, or that set the list it is in."""
    return next((name for prefix, name in names.items() if f"{key}.".startswith(f"{prefix}.")), key)


def _explain(details: ErrorDetails) -> tuple[str, str]:
    """Return the key, as the operator wrote it, and what is wrong."""
    location = [step for step in details["loc"] if step != "[key]"]
    kind = details["type"]
    if kind in {"union_tag_invalid", "union_tag_not_found"}:
        return _key(location) + ".kind", f"should be one of {', '.join(_KINDS)}"
    if kind == "extra_forbidden":
        return _key([*location[:-1], _shown(str(location[-1]))]), _unknown(location)
    if kind == "missing":
        return _key(location), "is needed"
    return _key(location), details["msg"].replace("Input should", "should")


def _key(location: list[str | int]) -> str:
    # Behind a provider's name pydantic puts its kind, which the operator wrote elsewhere.
    if location[:1] == ["providers"]:
        location = [*location[:2], *location[3:]]
    return ".".join(str(step) for step in location)


def _shown(unknown_key: str) -> str:
    """Return a key as it may be told: it may be a secret where a key belongs (`- sk-1a2b: alice`)."""
    return unknown_key if re.fullmatch("[A-Za-z_-]{1,40}", unknown_key) else f"{unknown_key[:4]}..."


def _unknown(location: list[str | int]) -> str:
    key = str(location[-1])
    owners = [kind for kind, model in _KINDS.items() if key in model.model_fields]
    if location[0] == "providers" and len(location) == 4 and owners:  # noqa: PLR2004 - providers.name.kind.key
        return f"unknown key here; it belongs to kind {owners[0]!r}"
    near = difflib.get_close_matches(key, _keys_beside(location), n=1)
    return f"unknown key; did you mean {near[0]!r}?" if near else "unknown key"


def _keys_beside(location: list[str | int]) -> list[str]:
    """Return the keys known at the place of the location's last step."""
    here: Any = Settings
    for step in location[:-1]:
        if isinstance(here, type) and issubclass(here, BaseModel):
            here = here.model_fields[str(step)].annotation
        elif here == _AnyProvider:
            here = _KINDS[str(step)]
        else:  # dict[str, X], tuple[X, ...]
            arguments = get_args(here)
            here = arguments[1] if get_origin(here) is dict else arguments[0]
        if NoneType in get_args(here):
            here = get_args(here)[0]
        if get_origin(here) is Annotated:
            here = get_args(here)[0]
    return [field.alias or name for name, field in here.model_fields.items()]
