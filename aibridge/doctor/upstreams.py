"""One upstream: its credentials, name, connection, certificate, clock; whether it takes the key, and has the models.

Each step needs the one before. What is asked costs nothing: lists of models, counts of tokens. Only `send` makes a
model answer.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from aibridge import jsontext
from aibridge.assembly import build_provider, own_dialects, pool_settings
from aibridge.config import BedrockProvider, Config, CopilotProvider, OpenAIProvider
from aibridge.content import NOTHING
from aibridge.dialects import DIALECTS, words_of
from aibridge.doctor import advice
from aibridge.doctor.asking import PATIENCE_S, Heard, ask
from aibridge.doctor.values import Finding, State
from aibridge.errors import AibridgeError, CredentialsError, PayloadError, RequestRejected, UpstreamFailure
from aibridge.lifecycle import Cause
from aibridge.providers.base import Provider, Reading
from aibridge.replay import Answer, play
from aibridge.telemetry.metrics import Metrics
from aibridge.upstream import Origin, Pool
from aibridge.values import Actor, ClientRequest, Credential, CredentialKind, Interception, UpstreamRequest

_ENDS_SOON_S = 14 * 86_400.0
_GOOD = range(200, 300)
_TOO_MANY = 429
_CHEAP = ("haiku", "nano", "mini", "flash", "small")
"""In the names of models that cost little, the cheapest first."""
_SEND_PATIENCE_S = 60.0
_HEADERS = ((b"content-type", b"application/json"), (b"anthropic-version", b"2023-06-01"))
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
        async for finding in self._connection():
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
        return self._finding("credentials", State.OK, f"AWS keys are found; they sign for {region}")

    # the connection

    async def _connection(self) -> AsyncIterator[Finding]:
        origin = Origin.of(self._url)
        try:
            hop = self._pool.first_hop(origin)
        except UpstreamFailure as error:
            yield self._finding("proxy", State.FAILED, str(error), "mend proxy.url, or HTTPS_PROXY")
            return
        if hop != origin:
            yield self._finding("proxy", State.NOTE, f"{hop.authority} is asked to lead to {origin.authority}")
        yield (addresses := await self._names(hop))
        if addresses.state is State.FAILED:
            return
        yield (reached := await self._reaches(hop))
        if reached.state is State.OK and origin.scheme == "https":
            yield await self._tls(origin)
        elif reached.state is State.OK and not _is_here(origin.host):
            yield self._finding(
                "tls", State.NOTE, f"{self._url} is plain http: keys and prompts can be read on the way"
            )

    @property
    def _url(self) -> str:
        settings = self._settings
        if isinstance(settings, BedrockProvider):
            return settings.base_url or f"https://bedrock-runtime.{settings.region}.amazonaws.com"
        return settings.base_url

    async def _names(self, hop: Origin) -> Finding:
        try:
            async with asyncio.timeout(PATIENCE_S):
                infos = await asyncio.get_running_loop().getaddrinfo(hop.host, hop.port)
        except (OSError, UnicodeError, TimeoutError) as error:
            text = "look at this machine's name server (`getent hosts NAME`), and at the spelling in base_url"
            if isinstance(self._settings, BedrockProvider) and self._settings.base_url is None:
                text += f"; is there a region {self._settings.region} that has Bedrock?"
            words = getattr(error, "strerror", None) or "no answer in time"
            return self._finding("dns", State.FAILED, f"{hop.host}: {words}", text)
        shown = ", ".join(dict.fromkeys(str(info[4][0]) for info in infos))
        return self._finding("dns", State.OK, f"{hop.host} is {shown}")

    async def _reaches(self, hop: Origin) -> Finding:
        began = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE_S):
                _, writer = await asyncio.open_connection(hop.host, hop.port)
        except (OSError, TimeoutError) as error:
            words = getattr(error, "strerror", None) or f"no connection within {PATIENCE_S:g} s"
            return self._finding("tcp", State.FAILED, f"{hop.authority}: {words}", advice.about_connection(words))
        writer.close()
        return self._finding("tcp", State.OK, f"{hop.host}:{hop.port} in {(time.monotonic() - began) * 1000:.0f} ms")

    async def _tls(self, origin: Origin) -> Finding:
        try:
            async with asyncio.timeout(PATIENCE_S):
                connection = await self._pool.connect(origin)
        except (UpstreamFailure, TimeoutError) as error:
            words = str(error) or f"no handshake within {PATIENCE_S:g} s"
            text = f"{advice.about_connection(words)}; authorities come from {self._authorities}"
            return self._finding("tls", State.FAILED, words, text)
        peer = connection.tls
        certificate = peer.getpeercert() if peer is not None else None
        version = peer.version() if peer is not None else None
        self._pool.put(connection)
        if not certificate:
            text = "set tls.verify to true: anybody between here and there can read and change what is said"
            return self._finding("tls", State.NOTE, f"{version}; certificates are not checked (tls.verify)", text)
        left = ssl.cert_time_to_seconds(str(certificate["notAfter"])) - time.time()
        detail = (
            f"{version}; certificate of {_issuer_in(certificate)}, good for {left / 86_400:.0f} days;"
            f" authorities from {self._authorities}"
        )
        if left < _ENDS_SOON_S:
            return self._finding("tls", State.NOTE, detail, "the server's operator should renew the certificate soon")
        return self._finding("tls", State.OK, detail)

    @property
    def _authorities(self) -> str:
        paths = ssl.get_default_verify_paths()
        return str(self._config.tls.ca_file or paths.cafile or paths.capath or "nowhere: this system has none")

    # what it gives

    async def _access(self) -> AsyncIterator[Finding]:
        try:
            asked = await self._question()
            heard = await ask(self._pool, asked)
        except RequestRejected:
            async for finding in self._unauthenticated():
                yield finding
            return
        except AibridgeError as error:
            yield self._finding("request", State.FAILED, str(error), advice.about_connection(str(error)))
            return
        yield self._clock(heard)
        yield self._taken(heard)
        for finding in self._configured_models():
            yield finding

    async def _question(self) -> UpstreamRequest:
        """Return a question that costs nothing, and that only a good credential gets an answer to."""
        if not self._has_credential:
            raise RequestRejected("no_credential", 401, "there is nothing to ask with")
        if isinstance(self._settings, BedrockProvider):
            path = "/v1/messages/count_tokens"
            return await self._provider.prepare_passthrough(self._request(path, {"messages": _QUESTION}), path)
        request = ClientRequest("GET", f"/{self._name}/v1/models", "", _HEADERS, b"")
        return await self._provider.prepare_passthrough(request, "/v1/models")

    async def _unauthenticated(self) -> AsyncIterator[Finding]:
        headers = ((b"host", Origin.of(self._url).authority.encode()), (b"connection", b"close"))
        request = UpstreamRequest("GET", self._url, "/", headers, b"", Credential(CredentialKind.CENTRALIZED, ""))
        try:
            yield self._clock(await ask(self._pool, request))
        except UpstreamFailure as error:
            yield self._finding("request", State.FAILED, str(error), advice.about_connection(str(error)))
            return
        yield self._finding("access", State.SKIPPED, "there is no credential to try")

    def _clock(self, heard: Heard) -> Finding:
        try:
            said = parsedate_to_datetime(heard.head.header(b"date").decode("latin-1")).timestamp()
        except ValueError:
            return self._finding("clock", State.SKIPPED, "the upstream tells no time")
        skew = heard.at - said - 0.5  # the header has whole seconds
        what_to_do = advice.about_clock(skew)
        state = State.OK if not what_to_do else State.FAILED if self._signs else State.NOTE
        way = "ahead of" if skew > 0 else "behind"
        return self._finding("clock", state, f"{abs(skew):.0f} s {way} the upstream's", what_to_do)

    @property
    def _signs(self) -> bool:
        return isinstance(self._settings, BedrockProvider) and self._settings.bearer_token is None

    def _taken(self, heard: Heard) -> Finding:
        status = heard.head.status
        if status in _GOOD and isinstance(self._settings, BedrockProvider):
            return self._finding("access", State.OK, f"{self._tried} may be used in {self._settings.region}")
        if status in _GOOD:
            self._models = _ids_in(heard.body)
            return self._finding("access", State.OK, f"the credential is taken; it opens {len(self._models)} models")
        words = words_of(heard.body) or f"status {status}"
        try:
            self._provider.passthrough_answer(heard.head, heard.body)
        except RequestRejected as rejected:
            return self._finding("access", State.NOTE, f"{words}: {rejected.message}", "try it with --send")
        detail = f"{status}: {words}"[:500]
        what_to_do = advice.about_refusal(self._settings.kind, status, words)
        if status == _TOO_MANY:
            return self._finding("access", State.NOTE, detail, what_to_do)
        if status == 404 and isinstance(self._settings, OpenAIProvider):  # noqa: PLR2004 - not found
            return self._finding("access", State.NOTE, "the server lists no models", "try it with --send --model NAME")
        return self._finding("access", State.FAILED, detail, what_to_do)

    def _configured_models(self) -> Iterator[Finding]:
        """Look for the models that the configuration names in the upstream's own list, where it has one."""
        if not self._models:
            return
        routers = self._config.routers.values()
        named = {target.model for router in routers for _, target in router.targets() if target.provider == self._name}
        for model in sorted({name for name in (*named, self._model) if name} - set(self._models)):
            text = "correct the name in routers, or ask for access to it"
            yield self._finding("model", State.NOTE, f"{model} is not among the models that the upstream lists", text)

    @property
    def _tried(self) -> str:
        """The model that is tried."""
        settings = self._settings
        if self._model:
            return self._model
        if isinstance(settings, BedrockProvider):
            listed = [*filter(None, [settings.default_model, *settings.model_map])]
            return listed[0] if listed else _cheapest(self._listing())
        return _cheapest(self._models)

    def _listing(self) -> list[str]:
        answer = self._provider.answer(ClientRequest("GET", "", "", (), b""), "/v1/models")
        return [] if answer is None else _ids_in(answer.body)

    # a real request

    async def _sent(self) -> Finding:
        if not self._has_credential:
            return self._finding("send", State.SKIPPED, "there is no credential to send")
        if not self._tried:
            return self._finding("send", State.SKIPPED, "no model is known", "name one with --model")
        chat = isinstance(self._settings, OpenAIProvider)
        route, bound = ("/v1/chat/completions", "max_completion_tokens") if chat else ("/v1/messages", "max_tokens")
        request = self._request(route, {"messages": _QUESTION, bound: 16, "stream": True})
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

    def _request(self, path: str, fields: dict[str, object]) -> ClientRequest:
        body = jsontext.dumps({"model": self._tried, **fields})
        return ClientRequest("POST", f"/{self._name}{path}", "", _HEADERS, body)

    def _reading(self) -> Reading:
        return self._provider.read(self._request("/v1/messages", {"messages": _QUESTION}), DIALECTS["messages"])


def _interception(provider: str, dialect: str, route: str, model: str) -> Interception:
    """Return what a request is rewritten by; nobody records it."""
    return Interception(
        id="", started_at=time.time(), actor=Actor("doctor"), credential=Credential(CredentialKind.CENTRALIZED, ""),
        provider=provider, provider_kind="", dialect=dialect, route=route, request_path="", method="POST", model=model,
        upstream_model=model, streaming=True, client="", user_agent="", request_bytes=0,
    )  # fmt: skip


def _ids_in(body: bytes) -> list[str]:
    """Return the ids of a list of models."""
    try:
        told = jsontext.loads(body)
    except PayloadError:
        return []
    data = told.get("data") if isinstance(told, dict) else None
    return [str(one["id"]) for one in data if isinstance(one, dict) and "id" in one] if isinstance(data, list) else []


def _cheapest(models: list[str]) -> str:
    found = (model for word in _CHEAP for model in models if word in model)
    return next(found, models[0] if models else "")


def _issuer_in(certificate: Mapping[str, Any]) -> str:
    """Return who signed a certificate, as `ssl.SSLObject.getpeercert` tells it."""
    parts = dict(pair for names in certificate.get("issuer", ()) for pair in names)
    return str(parts.get("organizationName") or parts.get("commonName") or "?")


def _is_here(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith("127.")
