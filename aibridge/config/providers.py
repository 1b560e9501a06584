"""The section `providers`: one model for each kind."""

import math
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from aibridge.config.bounds import TimeoutOverrides
from aibridge.config.content import ContentOverrides
from aibridge.config.headers import HeaderName, clean_header_name
from aibridge.config.recourse import CircuitBreaker, Failover, Fallback, Retries
from aibridge.config.secret import SecretText, SecretWord, Sourced
from aibridge.config.urls import BaseURL
from aibridge.config.values import Seconds, Section, Text, check_distinct, mistake

ANTHROPIC_BASE_URL = "https://api.anthropic.com"
OPENAI_BASE_URL = "https://api.openai.com/v1"
COPILOT_BASE_URL = "https://api.individual.githubcopilot.com"


class OnDisconnect(StrEnum):
    """What becomes of an answer whose client has left."""

    CANCEL = "cancel"
    """The upstream's connection is closed at once. What it told of usage until then is recorded, as partial."""
    DRAIN = "drain"
    """It is read to its end, so that its usage is known. The provider goes on working, and bills it."""
    DRAIN_BOUNDED = "drain_bounded"
    """It is read on for `drain_seconds`, then closed."""


class _Provider(Section):
    retries: Retries = Retries()
    fallbacks: tuple[Fallback, ...] = ()
    """In this order, each once. Those of a fallback itself are not followed: two may name each other."""
    failover: Failover = Failover()
    on_disconnect: OnDisconnect = OnDisconnect.CANCEL
    drain_seconds: Seconds = 30.0
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


class APIKey(Section):
    """One of a provider's several keys; `name` is what metrics call it."""

    key: SecretWord
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$")] | None = None
    """None: the ends of the key."""
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Its part of the sessions, compared with that of the others."""


class _KeyedProvider(_Provider):
    """One that has a key, or several."""

    api_key: SecretWord | None = None
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
            raise mistake("give one of api_key and api_keys")
        if not self.api_keys and self.key_choice != "primary":
            raise mistake("key_choice is of no use without api_keys")
        if self.key_choice == "primary" and any(key.weight != 1 for key in self.api_keys):
            raise mistake("weight is of no use without `key_choice: spread`")
        names = [key.name for key in self.api_keys if key.name is not None]
        check_distinct(names, "two of api_keys have the same name")
        check_distinct([key.key.get_secret_value() for key in self.api_keys], "two of api_keys are the same")
        return self


class AnthropicProvider(_KeyedProvider):
    """The Messages API, direct. Where a client sends a credential of its own and `byok` is on, that one goes out."""

    kind: Literal["anthropic"] = "anthropic"
    base_url: BaseURL = ANTHROPIC_BASE_URL
    byok: bool = True

    @model_validator(mode="after")
    def _has_credential(self) -> Self:
        if not (self.has_key or self.byok):
            raise mistake("api_key is needed where byok is off")
        return self


class ModelFeatures(Section):
    """What some models take otherwise than the built-in table says: true is taken, false is left out."""

    thinking: Literal["any", "budget", "adaptive"] | None = None
    betas: dict[str, bool] = {}
    fields: dict[str, bool] = {}
    """Names in the body, or paths of names: `output_config.format`."""


_TagKey = Annotated[str, Field(min_length=1, max_length=128)]
_TagValue = Annotated[str, Field(max_length=256)]


class BedrockProvider(_Provider):
    """Claude on AWS Bedrock. Without keys, profile or token here, the AWS chain of the process is asked.

    A `base_url` for which neither the file nor the environment tells a region is signed for us-east-1.
    """

    kind: Literal["bedrock"] = "bedrock"
    base_url: BaseURL | None = None
    region: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")] = ""
    access_key_id: Annotated[Text, Sourced] | None = None
    secret_access_key: SecretWord | None = None
    session_token: SecretWord | None = None
    profile: Text | None = None
    role_arn: Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:iam::\d{12}:role/\S+$")] | None = None
    """Assumed with whichever credentials are found; the next three go along."""
    external_id: SecretWord | None = None
    session_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_+=,.@-]{2,64}$")] = "aibridge"
    session_tags: Annotated[dict[_TagKey, _TagValue], Field(max_length=50)] = {}
    bearer_token: SecretWord | None = None
    byok: bool = False
    model_map: dict[str, Text] = {}
    default_model: Text | None = None
    inference_profile: Literal["auto", "geo", "global"] = "auto"
    """Which profile Anthropic's names get: the geography's, else the global one; the geography's alone; the global."""
    features: dict[Text, ModelFeatures] = {}
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
            raise mistake("region is needed (or AWS_REGION in the environment, or base_url)")
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise mistake("access_key_id and secret_access_key are given together or not at all")
        if self.session_token is not None and self.access_key_id is None:
            raise mistake("session_token is of no use without access_key_id")
        ways = [self.access_key_id, self.profile, self.bearer_token]
        if sum(way is not None for way in ways) > 1:
            raise mistake("give one of access_key_id, profile and bearer_token")
        if self.role_arn is None and {"external_id", "session_name", "session_tags"} & self.model_fields_set:
            raise mistake("external_id, session_name and session_tags are of no use without role_arn")
        if self.role_arn is not None and self.bearer_token is not None:
            raise mistake("role_arn is of no use with bearer_token")
        return self


_KEY_HEADERS = frozenset({"authorization", "x-api-key", "api-key"})


def _clean_key_header(text: str) -> str:
    return text.lower() if text.lower() in _KEY_HEADERS else clean_header_name(text)


_KeyHeader = Annotated[str, AfterValidator(_clean_key_header)]


class OpenAIProvider(_KeyedProvider):
    """OpenAI's APIs, at OpenAI or at any server compatible with it."""

    kind: Literal["openai"] = "openai"
    base_url: BaseURL = OPENAI_BASE_URL
    """With its `/v1`, where it has one."""
    api_key_header: _KeyHeader = "authorization"
    """In which the key goes: there as a bearer token, in any other alone."""
    byok: bool = True
    headers: dict[HeaderName, SecretText] = {}
    query: dict[Text, SecretText] = {}
    usage: Literal["ask", "leave"] = "ask"
    """Of streams of Chat Completions: ask for it where the client does not, or leave the request as it is."""
    repair_done: bool = False
    """Give a client the `[DONE]` that a server of Chat Completions left out behind a whole answer."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.base_url == OPENAI_BASE_URL and not (self.has_key or self.byok):
            raise mistake("api_key is needed where byok is off; a server that asks for none has another base_url")
        if self.api_key_header in self.headers:
            raise mistake(f"headers: {self.api_key_header} is the place of api_key")
        return self


class CopilotProvider(_Provider):
    """GitHub Copilot, with each client's own token."""

    kind: Literal["copilot"] = "copilot"
    base_url: BaseURL = COPILOT_BASE_URL
    usage: Literal["ask", "leave"] = "ask"
    repair_done: bool = False


AnyProvider = AnthropicProvider | BedrockProvider | OpenAIProvider | CopilotProvider
Provider = Annotated[AnyProvider, Field(discriminator="kind")]

KINDS: dict[str, type[AnyProvider]] = {
    "anthropic": AnthropicProvider,
    "bedrock": BedrockProvider,
    "openai": OpenAIProvider,
    "copilot": CopilotProvider,
}
