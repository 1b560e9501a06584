"""One upstream: its credentials, the way there, its clock; whether it takes the key, and has the models.

Each step needs the one before. What is asked costs nothing: lists of models, counts of tokens. Only `send` makes a
model answer.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from email.utils import parsedate_to_datetime

from aibridge import jsontext
from aibridge.assembly import build_provider, own_dialects, pool_settings
from aibridge.config import BedrockProvider, Config, CopilotProvider, OpenAIProvider
from aibridge.content import NOTHING
from aibridge.dialects import DIALECTS, words_of
from aibridge.doctor import advice
from aibridge.doctor.asking import PATIENCE_S, Heard, ask
from aibridge.doctor.connection import Way
from aibridge.doctor.values import Finding, State
from aibridge.errors import AibridgeError, CredentialsError, PayloadError, RequestRejected
from aibridge.lifecycle import Cause
from aibridge.providers.base import Provider, Reading
from aibridge.providers.bedrock import BedrockProvider as Bedrock
from aibridge.replay import Answer, play
from aibridge.telemetry.metrics import Metrics
from aibridge.text import bounded
from aibridge.upstream import Origin, Pool
from aibridge.values import Actor, ClientRequest, Credential, CredentialKind, Interception, UpstreamRequest

_GOOD = range(200, 300)
_TOO_MANY = 429
_NOT_FOUND = 404
_MOST_TOLD = 500
_CHEAP = ("haiku", "nano", "mini", "flash", "small")
"""In the names of models that cost little, the cheapest first."""
_SEND_PATIENCE_S = 60.0
_HEADERS = ((b"content-type", b"application/json"), (b"anthropic-version", b"2023-06-01"))
_SAME_TIME_S = 2.0
_MOST_TRIED = 10
"""Models that are tried one by one."""
_QUESTION = [{"role": "user", "content": "Say OK."}]


class Upstream:
    """What one provider's upstream is asked.

    Args:
        name: the provider's.
        config: the configuration.
        model: the one to try; empty: one that costs little.
        send: whether a model is made to answer, which costs some tokens.
    """

    def __init__(self, name: str, config: Config, *, model: str, send: bool) -> None:
        self._name = name
        self._config = config
        self._settings = config.providers[name]
        self._provider: Provider = build_provider(name, config, Metrics())
        self._model = model
        self._send = send
        self._pool = Pool(pool_settings(config, name))
        self._models: list[str] = []
        self._has_credential = True

    async def look(self) -> AsyncIterator[Finding]:
        """Yield what is found; what needs a thing that failed is not looked at."""
        try:
            async for finding in self._look():
                yield finding
        finally:
            self._pool.close()

    async def _look(self) -> AsyncIterator[Finding]:
        yield await self._credential()
        way = Way(self._name, self._url, self._pool, self._config.tls.ca_file, region=self._region)
        async for finding in way.look():
            yield finding
            if finding.state is State.FAILED:
                yield self._finding("request", State.SKIPPED, "there is no connection to ask on")
                return
        async for finding in self._access():
            yield finding
        if self._send:
            yield await self._sent()

    def _finding(self, check: str, state: State, detail: str, what_to_do: str = "") -> Finding:
        return Finding(self._name, check, state, detail, what_to_do)

    # credentials

    async def _credential(self) -> Finding:
        settings = self._settings
        if isinstance(settings, BedrockProvider) and settings.bearer_token is None:
            return await self._aws_credential(settings.region)
        if isinstance(settings, BedrockProvider):
            return self._finding("credentials", State.OK, "a bearer token of the configuration")
        if not isinstance(settings, CopilotProvider) and settings.api_key is not None:
            return self._finding("credentials", State.OK, "a key of the configuration")
        if isinstance(settings, OpenAIProvider) and not settings.byok:
            return self._finding("credentials", State.OK, "none is configured, and none is sent")
        self._has_credential = False
        return self._finding("credentials", State.SKIPPED, "clients bring their own: no key can be tried here")

    async def _aws_credential(self, region: str) -> Finding:
        missing = self._provider.missing(self._reading())
        try:
            if missing is not None:
                async with asyncio.timeout(4 * PATIENCE_S):
                    await missing
        except (CredentialsError, TimeoutError) as error:
            self._has_credential = False
            told = str(error) or "no AWS credentials came in time"
            text = 'give the process one of these; docs/configuration.md, "AWS credentials", says how each is found'
            return self._finding("credentials", State.FAILED, told, text)
        source = self._provider.credentials.source if isinstance(self._provider, Bedrock) else ""
        return self._finding("credentials", State.OK, f"AWS keys of {source}; they sign for {region}")

    @property
    def _region(self) -> str:
        """The region that the host's name is made of; empty where it is not."""
        settings = self._settings
        return settings.region if isinstance(settings, BedrockProvider) and settings.base_url is None else ""

    @property
    def _url(self) -> str:
        settings = self._settings
        if isinstance(settings, BedrockProvider):
            return settings.base_url or f"https://bedrock-runtime.{settings.region}.amazonaws.com"
        return settings.base_url

    # what it gives

    async def _access(self) -> AsyncIterator[Finding]:
        """Ask what costs nothing, and what only a good credential gets an answer to."""
        try:
            if not self._has_credential:
                yield self._clock(await ask(self._pool, self._plain_request()))
                yield self._finding("access", State.SKIPPED, "there is no credential to try")
            elif isinstance(self._settings, BedrockProvider):
                for number, model in enumerate(self._to_try()):
                    heard = await ask(self._pool, await self._count_tokens(model))
                    if number == 0:
                        yield self._clock(heard)
                    yield self._taken(heard, model)
            else:
                request = ClientRequest("GET", f"/{self._name}/v1/models", "", _HEADERS, b"")
                heard = await ask(self._pool, await self._provider.prepare_passthrough(request, "/v1/models"))
                yield self._clock(heard)
                yield self._listed(heard)
                for finding in self._configured_models():
                    yield finding
        except AibridgeError as error:
            yield self._finding("request", State.FAILED, str(error), advice.about_connection(str(error)))

    async def _count_tokens(self, model: str) -> UpstreamRequest:
        path = "/v1/messages/count_tokens"
        return await self._provider.prepare_passthrough(self._request(path, model, {"messages": _QUESTION}), path)

    def _plain_request(self) -> UpstreamRequest:
        headers = ((b"host", Origin.of(self._url).authority.encode()), (b"connection", b"close"))
        return UpstreamRequest("GET", self._url, "/", headers, b"", Credential(CredentialKind.CENTRALIZED, ""))

    def _clock(self, heard: Heard) -> Finding:
        try:
            said = parsedate_to_datetime(heard.head.header(b"date").decode("latin-1")).timestamp()
        except ValueError:
            return self._finding("clock", State.SKIPPED, "the upstream tells no time")
        skew = heard.at - said - 0.5  # the header has whole seconds
        what_to_do = advice.about_clock(skew)
        state = State.OK if not what_to_do else State.FAILED if self._signs else State.NOTE
        way = "ahead of" if skew > 0 else "behind"
        told = f"{abs(skew):.0f} s {way} the upstream's" if abs(skew) > _SAME_TIME_S else "agrees with the upstream's"
        return self._finding("clock", state, told, what_to_do)

    @property
    def _signs(self) -> bool:
        return isinstance(self._settings, BedrockProvider) and self._settings.bearer_token is None

    def _taken(self, heard: Heard, model: str) -> Finding:
        """Return what AWS's answer says of a model."""
        if heard.head.status in _GOOD:
            return self._finding("model", State.OK, f"{model} may be used")
        try:
            self._provider.passthrough_answer(heard.head, heard.body)
        except RequestRejected as rejected:
            told = f"{model}: {words_of(heard.body)}: {rejected.message}"
            return self._finding("model", State.NOTE, told, "try it with --send")
        return self._refused("model", heard, f"{model}: ")

    def _listed(self, heard: Heard) -> Finding:
        """Return what the answer to the question for a list of models says."""
        if heard.head.status in _GOOD:
            models = _ids_in(heard.body)
            if models is None:
                told = f"status {heard.head.status}, and no list of models"
                return self._finding("access", State.FAILED, told, advice.ANOTHER_ANSWERS)
            self._models = models
            return self._finding("access", State.OK, f"the credential is taken; it opens {len(models)} models")
        if heard.head.status == _NOT_FOUND and isinstance(self._settings, OpenAIProvider):
            return self._finding("access", State.NOTE, "the server lists no models", "try it with --send --model NAME")
        return self._refused("access", heard)

    def _refused(self, check: str, heard: Heard, about: str = "") -> Finding:
        status, words = heard.head.status, words_of(heard.body)
        told = bounded(f"{about}status {status}{f': {words}' if words else ''}", _MOST_TOLD)
        state = State.NOTE if status == _TOO_MANY else State.FAILED
        return self._finding(check, state, told, advice.about_refusal(self._settings.kind, status, words))

    def _configured_models(self) -> Iterator[Finding]:
        """Look for the models that the configuration names in the upstream's own list, where it has one."""
        if not self._models:
            return
        routers = self._config.routers.values()
        named = {target.model for router in routers for _, target in router.targets() if target.provider == self._name}
        for model in sorted({name for name in (*named, self._model) if name} - set(self._models)):
            text = "correct the name in routers, or ask for access to it"
            yield self._finding("model", State.NOTE, f"{model} is not among the models that the upstream lists", text)

    def _to_try(self) -> list[str]:
        """Return the models to try on Bedrock: the one asked for, or those of the configuration, or a cheap one."""
        settings = self._settings
        if self._model or not isinstance(settings, BedrockProvider):
            return [self._tried]
        configured = [*filter(None, [settings.default_model]), *settings.model_map]
        return configured[:_MOST_TRIED] or [_cheapest(self._listing())]

    @property
    def _tried(self) -> str:
        """The model that is to answer."""
        if self._model:
            return self._model
        return self._to_try()[0] if isinstance(self._settings, BedrockProvider) else _cheapest(self._models)

    def _listing(self) -> list[str]:
        answer = self._provider.answer(ClientRequest("GET", "", "", (), b""), "/v1/models")
        return [] if answer is None else _ids_in(answer.body) or []

    # a real request

    async def _sent(self) -> Finding:
        if not self._has_credential:
            return self._finding("send", State.SKIPPED, "there is no credential to send")
        if not self._tried:
            return self._finding("send", State.SKIPPED, "no model is known", "name one with --model")
        chat = isinstance(self._settings, OpenAIProvider)
        route, bound = ("/v1/chat/completions", "max_completion_tokens") if chat else ("/v1/messages", "max_tokens")
        request = self._request(route, self._tried, {"messages": _QUESTION, bound: 16, "stream": True})
        name = "chat" if chat else "messages"
        dialect = own_dialects(self._config).get(self._name, {}).get(name) or DIALECTS[name]
        try:
            reading = self._provider.read(request, dialect)
            asked = self._provider.prepare(
                request, reading, _interception(self._name, name, route, reading.upstream_model)
            )
            heard = await ask(self._pool, asked, _SEND_PATIENCE_S)
        except AibridgeError as error:
            return self._finding("send", State.FAILED, str(error), advice.about_connection(str(error)))
        answer = Answer(heard.head, heard.body, streaming=True, adds_usage=asked.adds_usage)
        attempt = play(answer, self._provider, dialect, NOTHING, "").attempt
        if attempt.cause is Cause.CLEAN:
            usage = attempt.usage
            counts = f"{usage.input_tokens or 0} tokens in, {usage.output_tokens or 0} out"
            return self._finding(
                "send", State.OK, f"{self._tried} answered after {heard.first_byte:.1f} s, {counts}: {attempt.cause}"
            )
        what_to_do = advice.about_refusal(self._settings.kind, heard.head.status, attempt.error)
        return self._finding("send", State.FAILED, f"{self._tried}: {attempt.cause}: {attempt.error}", what_to_do)

    def _request(self, path: str, model: str, fields: dict[str, object]) -> ClientRequest:
        body = jsontext.dumps({"model": model, **fields})
        return ClientRequest("POST", f"/{self._name}{path}", "", _HEADERS, body)

    def _reading(self) -> Reading:
        request = self._request("/v1/messages", "any", {"messages": _QUESTION})
        return self._provider.read(request, DIALECTS["messages"])


def _interception(provider: str, dialect: str, route: str, model: str) -> Interception:
    """Return what a request is rewritten by; nobody records it."""
    return Interception(
        id="", started_at=time.time(), actor=Actor("doctor"), credential=Credential(CredentialKind.CENTRALIZED, ""),
        provider=provider, provider_kind="", dialect=dialect, route=route, request_path="", method="POST", model=model,
        upstream_model=model, streaming=True, client="", user_agent="", request_bytes=0,
    )  # fmt: skip


def _ids_in(body: bytes) -> list[str] | None:
    """Return the ids of a list of models, which may be empty (of Ollama it is then null); None where it is none."""
    try:
        told = jsontext.loads(body)
    except PayloadError:
        return None
    if not isinstance(told, dict) or not isinstance(told.get("data", ""), list | None):
        return None
    return [str(one["id"]) for one in told["data"] or () if isinstance(one, dict) and "id" in one]


def _cheapest(models: list[str]) -> str:
    found = (model for word in _CHEAP for model in models if word in model)
    return next(found, models[0] if models else "")
