"""The Messages API inside AWS Bedrock: InvokeModel and InvokeModelWithResponseStream, signed with SigV4.

Source: the Bedrock runtime's API reference. `model` and `stream` leave the body for the path; the API's version and
the betas leave the headers for the body; what the model does not take is left out (`bedrock_features`); all else goes
on as the client wrote it. Token counts are CountTokens'; model lists are answered here.
"""

import base64
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from aibridge import jsontext
from aibridge.body import Body, read_body, splice
from aibridge.credentials import client_credential, hint
from aibridge.dialects import DIALECTS, Dialect, Telling, words_of
from aibridge.errors import CredentialsError, PayloadError, RequestRejected
from aibridge.faults import ErrorKind
from aibridge.headers import JSON, TOLD_ACTOR, ActorHeaderNames, to_client, to_upstream
from aibridge.providers.base import Answer, Reading, actor_headers
from aibridge.providers.bedrock_errors import is_final, refusal_of, unpacked
from aibridge.providers.bedrock_features import FeatureTable, less_of, list_of, version_of
from aibridge.providers.bedrock_lessons import Lessons
from aibridge.providers.bedrock_models import ModelNames
from aibridge.providers.reading import learn
from aibridge.providers.renewal import CredentialSource
from aibridge.providers.sigv4 import sign
from aibridge.values import (
    ClientRequest,
    Credential,
    CredentialKind,
    Headers,
    Interception,
    ResponseHead,
    StreamDecoder,
    UpstreamRequest,
    first_header,
)
from aibridge.wire import ChunkTranscoder

DEFAULT_VERSION = "bedrock-2023-05-31"
NEW_VERSION = "2026-10-21"
NEW_VERSION_SINCE = (4, 7)
"""The Claude version from which models take `NEW_VERSION`; older ones answer it with 400."""

_MESSAGES = DIALECTS["messages"]
_MOVED = frozenset({"model", "stream", "anthropic_version", "anthropic_beta"})
_HEADERS_IN_BODY = frozenset({b"anthropic-version", b"anthropic-beta", b"content-type", b"accept"})
_BAD_REQUEST = 400
_GOOD = range(200, 300)
_NEVER_COUNTED = ("support counting tokens", "model identifier is invalid", "on-demand throughput isn")
"""AWS's words for a model of which it does not count tokens, under the id that serves it."""


@dataclass(frozen=True, kw_only=True)
class BedrockProvider:
    """One configured Bedrock upstream. `bearer_token` stands in for SigV4 where it is set.

    `on_stripped` counts what is left out of a request: the provider's name, and the field's.
    """

    name: str
    base_url: str
    authority: str
    region: str
    credentials: CredentialSource
    credential_hint: str
    bearer_token: str | None = field(repr=False)
    byok: bool
    names: ModelNames
    features: FeatureTable
    on_stripped: Callable[[str, str], None]
    send_actor_headers: bool
    max_frame_bytes: int
    actor_header_names: ActorHeaderNames = TOLD_ACTOR
    lessons: Lessons = field(default_factory=Lessons)

    kind = "bedrock"
    key_pool = None
    stream_type = b"application/vnd.amazon.eventstream"

    def read(self, request: ClientRequest, dialect: Dialect) -> Reading:
        """Learn from a request; see `Provider`."""
        body = read_body(request.body)
        model = self.names.resolve(body.model)
        if not model.strip("."):  # a dot segment would lead to another path
            raise RequestRejected("invalid_request", 400, "model: a model is needed")
        token, credential = self._credential(request)
        auth = () if token is None else ((b"authorization", f"Bearer {token}".encode("latin-1")),)
        learned = learn(dialect, body, request.headers)
        return Reading(body, body.model, model, body.streaming, credential, auth, *learned)

    def missing(self, reading: Reading) -> Awaitable[object] | None:
        """Return what fetches the AWS credentials, where good ones are not at hand; see `Provider`."""
        if reading.auth or self.credentials.ready() is not None:
            return None
        return self.credentials.current()

    def prepare(self, request: ClientRequest, reading: Reading, interception: Interception) -> UpstreamRequest:
        """Move model, version and betas where Bedrock wants them, and sign; see `Provider`."""
        body = self._bedrock_body(reading.body, request, reading)
        action = "invoke-with-response-stream" if reading.streaming else "invoke"
        accept = self.stream_type if reading.streaming else b"application/json"
        return self._signed(
            request,
            self._target(reading.upstream_model, action),
            body,
            accept=accept,
            reading=reading,
            extra=actor_headers(interception.actor, self.actor_header_names) if self.send_actor_headers else (),
        )

    def mend(
        self, head: ResponseHead, body: bytes, request: UpstreamRequest, interception: Interception
    ) -> UpstreamRequest | None:
        """Leave out what AWS says this model does not take, and remember it; see `Provider`."""
        if head.status != _BAD_REQUEST:
            return None
        model = interception.upstream_model
        features = self.features.of(model, interception.model)
        less = less_of(read_body(request.body), words_of(unpacked(head, body)), features)
        if less is None:
            return None
        self.lessons.learn(model, less.refused, less.betas)
        self._count(less.stripped)
        return self._signed_again(request, less.body)

    def answer(self, request: ClientRequest, path: str) -> Answer | None:
        """Answer model lists from the names that there are, and probes; see `Provider`."""
        if path.startswith("/v1/models"):
            return self._tell_models(path.removeprefix("/v1/models").removeprefix("/"))
        return Answer(200, JSON, b"") if request.method == "HEAD" else None

    async def prepare_passthrough(self, request: ClientRequest, path: str) -> UpstreamRequest:  # noqa: ARG002 - one path
        """Ask CountTokens, which takes the body that InvokeModel would get; see `Provider`."""
        reading = self.read(request, _MESSAGES)
        missing = self.missing(reading)
        if missing is not None:
            await missing
        inner = self._bedrock_body(_countable(reading.body), request, reading)
        body = b'{"input":{"invokeModel":{"body":"%b"}}}' % base64.b64encode(inner)
        target = self._target(reading.upstream_model, "count-tokens")
        return self._signed(request, target, body, accept=b"application/json", reading=reading, extra=())

    def passthrough_answer(self, head: ResponseHead, body: bytes) -> Answer:
        """Return the count as Anthropic tells it; see `Provider`.

        Raises `RequestRejected` where AWS does not count this model's tokens: clients estimate then.
        """
        headers = (*JSON, *(pair for pair in self.response_headers(head) if pair[0] not in _OF_THEIR_BODY))
        if head.status in _GOOD:
            count = _count_in(body)
            if count is None:
                raise RequestRejected("upstream_failed", 502, "the upstream sent an answer of the wrong kind")
            return Answer(head.status, headers, b'{"input_tokens":%d}' % count)
        words = words_of(unpacked(head, body))
        if any(known in words for known in _NEVER_COUNTED):
            raise RequestRejected("not_supported", 501, "the upstream does not count this model's tokens")
        status, shown = self.error_answer(head, body)
        return Answer(status, headers, shown)

    def decoder(self, quiet: tuple[bytes, ...], request: UpstreamRequest) -> StreamDecoder:  # noqa: ARG002 - the contract's
        """Return a decoder from frames to the events that Anthropic would have sent, each event's JSON as AWS wrote it.

        So `message_stop` keeps AWS's own `amazon-bedrock-invocationMetrics`.
        """
        return ChunkTranscoder(quiet=quiet, max_frame_bytes=self.max_frame_bytes)

    def response_headers(self, head: ResponseHead) -> Headers:
        """Return the upstream's headers, with the media type and the request id as the client's API has them."""
        media_type = head.header(b"content-type")
        if media_type.startswith(self.stream_type):
            media_type = b"text/event-stream; charset=utf-8"
        request_id = head.header(b"x-amzn-requestid")
        return (
            (b"content-type", media_type or b"application/json"),
            *(((b"request-id", request_id),) if request_id else ()),
            *(((b"x-should-retry", b"false"),) if is_final(head) else ()),
            *(pair for pair in to_client(head.headers) if pair[0] not in {b"content-type", b"request-id"}),
        )

    def error_answer(self, head: ResponseHead, body: bytes) -> tuple[int, bytes]:
        """Return AWS's error in the client's API, its message word for word."""
        return refusal_of(head, body, _MESSAGES, self.upstream_request_id(head))

    def metrics_in(self, head: ResponseHead) -> Mapping[str, Any]:
        """Return what AWS tells in headers, under the names that it has for them in streams."""
        told = {name: head.header(header).decode("latin-1") for header, name in _METRICS.items()}
        return {name: int(text) for name, text in told.items() if _SHORT_NUMBER.fullmatch(text)}

    def upstream_request_id(self, head: ResponseHead) -> str:
        """Return AWS's request id."""
        return head.header(b"x-amzn-requestid").decode("latin-1")

    def _credential(self, request: ClientRequest) -> tuple[str | None, Credential]:
        """Return the bearer token that goes upstream, if any, and what is recorded of the credential."""
        own = client_credential(request.headers) if self.byok else None
        if own is not None:
            return own[1], Credential(CredentialKind.BYOK, hint(own[1]))
        return self.bearer_token, Credential(CredentialKind.CENTRALIZED, self.credential_hint)

    def _target(self, model: str, action: str) -> str:
        return f"{urlsplit(self.base_url).path}/model/{quote(model, safe='')}/{action}"

    def _signed(
        self,
        request: ClientRequest,
        target: str,
        body: bytes,
        *,
        accept: bytes,
        reading: Reading,
        extra: Headers,
    ) -> UpstreamRequest:
        signed: Headers = (
            (b"host", self.authority.encode()),
            (b"content-type", b"application/json"),
            (b"accept", accept),
        )
        return UpstreamRequest(
            method="POST",
            origin=self.base_url,
            target=target,
            headers=(
                *(signed + reading.auth if reading.auth else self._sign(target, signed, body)),
                *_unsigned(request.headers),
                *extra,
                (b"content-length", b"%d" % len(body)),
            ),
            body=body,
            credential=reading.credential,
        )

    def _sign(self, target: str, headers: Headers, body: bytes) -> Headers:
        keys = self.credentials.held()
        if keys is None:
            raise CredentialsError("the AWS credentials ran out")
        return sign(target, headers, body, keys=keys, region=self.region, now=time.time())

    def _signed_again(self, request: UpstreamRequest, body: bytes) -> UpstreamRequest:
        """Return a request with another body. Its credential is the same, unless that was renewed meanwhile."""
        headers = tuple(pair for pair in request.headers if pair[0] != b"content-length")
        length = (b"content-length", b"%d" % len(body))
        if (first_header(headers, b"authorization") or b"").startswith(b"Bearer "):
            return request._replace(headers=(*headers, length), body=body)
        plain = tuple(pair for pair in headers if pair[0] in _SIGNED)
        rest = tuple(
            pair
            for pair in headers
            if pair[0] not in {*_SIGNED, b"authorization"} and not pair[0].startswith(b"x-amz-")
        )
        signed = self._sign(request.target, plain, body)
        return request._replace(headers=(*signed, *rest, length), body=body)

    def _bedrock_body(self, body: Body, request: ClientRequest, reading: Reading) -> bytes:
        models = (reading.upstream_model, reading.model)
        fitted = self.features.fit(body, _betas(body, request.headers), models, self.lessons.of(models[0]))
        self._count(fitted.stripped)
        add = {"anthropic_version": jsontext.dumps(_version(body, request, models))}
        if fitted.betas:
            add["anthropic_beta"] = jsontext.dumps(fitted.betas)
        return splice(body, drop=_MOVED | fitted.drop, add=add, replace=fitted.replace)

    def _count(self, stripped: Iterable[str]) -> None:
        for name in stripped:
            self.on_stripped(self.name, name)

    def _tell_models(self, name: str) -> Answer:
        if not name:
            models = self.names.listing()
            ends = {"first_id": models[0]["id"], "last_id": models[-1]["id"]}
            return Answer(200, JSON, jsontext.dumps({"data": models, "has_more": False, **ends}))
        entry = self.names.entry(name)
        if entry is None:
            return Answer(404, JSON, _MESSAGES.error_body(Telling(ErrorKind.NOT_FOUND, f"model: {name}", "")))
        return Answer(200, JSON, jsontext.dumps(entry))


_METRICS = {
    b"x-amzn-bedrock-input-token-count": "inputTokenCount",
    b"x-amzn-bedrock-output-token-count": "outputTokenCount",
    b"x-amzn-bedrock-cache-read-input-token-count": "cacheReadInputTokenCount",
    b"x-amzn-bedrock-cache-write-input-token-count": "cacheWriteInputTokenCount",
    b"x-amzn-bedrock-invocation-latency": "invocationLatency",
}
_SHORT_NUMBER = re.compile(r"[0-9]{1,18}")
_SIGNED = frozenset({b"host", b"content-type", b"accept"})
_OF_THEIR_BODY = frozenset({b"content-type", b"content-encoding", b"content-length"})


def takes_new_version(*names: str) -> bool:
    """Say whether a model takes the API version of 2026-10-21, by the Claude version in its names."""
    version = version_of(*names)
    return version is not None and version[1] >= NEW_VERSION_SINCE


def _version(body: Body, request: ClientRequest, models: tuple[str, str]) -> Any:
    said = body.value("anthropic_version")
    if said is not None:
        return jsontext.loads(said)
    asked = (first_header(request.headers, b"anthropic-version") or b"").decode("latin-1").strip()
    return NEW_VERSION if asked == NEW_VERSION and takes_new_version(*models) else DEFAULT_VERSION


def _betas(body: Body, headers: Headers) -> list[Any]:
    """List the betas of the body and of the headers, each once."""
    betas = list_of(body.value("anthropic_beta"))
    for name, value in headers:
        if name == b"anthropic-beta":
            betas += [beta.strip() for beta in value.decode("latin-1").split(",")]
    # Told apart by their text: what a client wrote there need not be strings, and AWS shall be the one to say so.
    each: dict[bytes, Any] = {}
    for beta in betas:
        if beta:
            each.setdefault(jsontext.dumps(beta), beta)
    return list(each.values())


def _countable(body: Body) -> Body:
    """Return a request to count as one to answer: that needs `max_tokens`, above any budget to think."""
    if body.value("max_tokens") is not None:
        return body
    thinking = jsontext.loads(body.value("thinking") or b"{}")
    budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
    limit = budget + 1 if isinstance(budget, int) and 0 < budget < 1 << 32 else 1
    return read_body(splice(body, drop=frozenset(), add={"max_tokens": b"%d" % limit}))


def _count_in(body: bytes) -> int | None:
    try:
        count = jsontext.loads(body).get("inputTokens")
    except (PayloadError, AttributeError):
        return None
    return count if isinstance(count, int) and not isinstance(count, bool) and count >= 0 else None


def _unsigned(headers: Headers) -> Headers:
    """Return the client's headers that go along unsigned. Every `x-amz-` header would have to be signed: none goes."""
    return tuple(
        pair for pair in to_upstream(headers) if pair[0] not in _HEADERS_IN_BODY and not pair[0].startswith(b"x-amz-")
    )
