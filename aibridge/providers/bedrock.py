"""The Messages API inside AWS Bedrock: InvokeModel and InvokeModelWithResponseStream, signed with SigV4.

Source: the Bedrock runtime's API reference. `model` and `stream` leave the body for the path; the API's version and
the betas leave the headers for the body; all else goes on as the client wrote it.
"""

import re
import time
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from aibridge import jsontext
from aibridge.credentials import client_credential, hint
from aibridge.dialects import DIALECTS, Dialect, Telling, words_of
from aibridge.errors import CredentialsError, RequestRejected
from aibridge.faults import ErrorKind, kind_of_status
from aibridge.headers import TOLD_ACTOR, ActorHeaderNames, to_client, to_upstream
from aibridge.providers.base import Reading, actor_headers
from aibridge.providers.reading import Body, learn, read_body, splice
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

_MODEL_VERSION = re.compile(r"claude-[a-z]+-(\d+)(?:-(\d{1,2}))?(?!\d)")
_UNKNOWN_TO_AWS = ("request-tags-2026-08-21",)
"""Betas that Bedrock refuses; their body field `tags` goes with them."""
_MOVED = frozenset({"model", "stream", "tags", "anthropic_version", "anthropic_beta"})
_HEADERS_IN_BODY = frozenset({b"anthropic-version", b"anthropic-beta", b"content-type", b"accept"})


@dataclass(frozen=True, kw_only=True)
class BedrockProvider:
    """One configured Bedrock upstream. `bearer_token` stands in for SigV4 where it is set."""

    name: str
    base_url: str
    authority: str
    region: str
    credentials: CredentialSource
    credential_hint: str
    bearer_token: str | None = field(repr=False)
    byok: bool
    model_map: Mapping[str, str]
    default_model: str | None
    send_actor_headers: bool
    max_frame_bytes: int
    actor_header_names: ActorHeaderNames = TOLD_ACTOR

    kind = "bedrock"
    dialect: Dialect = DIALECTS["messages"]
    stream_type = b"application/vnd.amazon.eventstream"

    def read(self, request: ClientRequest) -> Reading:
        """Learn from a request; see `Provider`."""
        body = read_body(request.body)
        model = self._map_model(body.model)
        if not model.strip("."):  # a dot segment would lead to another path
            raise RequestRejected("invalid_request", 400, "model: a model is needed")
        return Reading(body.model, model, body.streaming, self._credential(request), *learn(body, request.headers))

    def missing(self, request: ClientRequest) -> Awaitable[object] | None:
        """Return what fetches the AWS credentials, where good ones are not at hand; see `Provider`."""
        if self._token(request) is not None or self.credentials.ready() is not None:
            return None
        return self.credentials.current()

    def prepare(self, request: ClientRequest, interception: Interception) -> UpstreamRequest:
        """Move model, version and betas where Bedrock wants them, and sign; see `Provider`."""
        body = _bedrock_body(read_body(request.body), request, interception.upstream_model)
        action = "invoke-with-response-stream" if interception.streaming else "invoke"
        target = f"{urlsplit(self.base_url).path}/model/{quote(interception.upstream_model, safe='')}/{action}"
        accept = self.stream_type if interception.streaming else b"application/json"
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
                *self._authorize(request, target, signed, body),
                *_unsigned(request.headers),
                *(actor_headers(interception.actor, self.actor_header_names) if self.send_actor_headers else ()),
                (b"content-length", b"%d" % len(body)),
            ),
            body=body,
            credential=interception.credential,
        )

    async def prepare_passthrough(self, request: ClientRequest, path: str) -> UpstreamRequest:  # noqa: ARG002
        """Refuse: Bedrock's runtime has neither model lists nor token counts in the shape of the Messages API."""
        raise RequestRejected("not_supported", 501, f"{path} is not to be had from a Bedrock provider")

    def decoder(self, quiet: tuple[bytes, ...]) -> StreamDecoder:
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
            *(pair for pair in to_client(head.headers) if pair[0] not in {b"content-type", b"request-id"}),
        )

    def error_body(self, head: ResponseHead, body: bytes) -> bytes:
        """Return AWS's error in the client's API, its message word for word."""
        message = words_of(body) or f"the upstream answered with status {head.status}"
        return self.dialect.error_body(Telling(_kind_of(head), message, self.upstream_request_id(head)))

    def upstream_request_id(self, head: ResponseHead) -> str:
        """Return AWS's request id."""
        return head.header(b"x-amzn-requestid").decode("latin-1")

    def _map_model(self, model: str) -> str:
        """Return the Bedrock id: mapped; else as it is where it looks like one; else the default; else as it is."""
        if model in self.model_map:
            return self.model_map[model]
        if "anthropic." in model or model.startswith("arn:"):
            return model
        return self.default_model or model

    def _credential(self, request: ClientRequest) -> Credential:
        own = client_credential(request.headers) if self.byok else None
        if own is not None:
            return Credential(CredentialKind.BYOK, hint(own[1]))
        return Credential(CredentialKind.CENTRALIZED, self.credential_hint)

    def _token(self, request: ClientRequest) -> str | None:
        own = client_credential(request.headers) if self.byok else None
        return own[1] if own is not None else self.bearer_token

    def _authorize(self, request: ClientRequest, target: str, headers: Headers, body: bytes) -> Headers:
        token = self._token(request)
        if token is not None:
            return (*headers, (b"authorization", f"Bearer {token}".encode("latin-1")))
        keys = self.credentials.held()
        if keys is None:
            raise CredentialsError("the AWS credentials ran out")
        return sign(target, headers, body, keys=keys, region=self.region, now=time.time())


def takes_new_version(model: str) -> bool:
    """Say whether a model takes the API version of 2026-10-21, by the Claude version in its name."""
    found = _MODEL_VERSION.search(model)
    return found is not None and (int(found[1]), int(found[2] or 0)) >= NEW_VERSION_SINCE


def _bedrock_body(body: Body, request: ClientRequest, model: str) -> bytes:
    add = {"anthropic_version": jsontext.dumps(_version(body, request, model))}
    betas = _betas(body, request.headers)
    if betas:
        add["anthropic_beta"] = jsontext.dumps(betas)
    return splice(body, drop=_MOVED, add=add)


def _version(body: Body, request: ClientRequest, model: str) -> Any:
    said = body.value("anthropic_version")
    if said is not None:
        return jsontext.loads(said)
    asked = (first_header(request.headers, b"anthropic-version") or b"").decode("latin-1").strip()
    return NEW_VERSION if asked == NEW_VERSION and takes_new_version(model) else DEFAULT_VERSION


def _betas(body: Body, headers: Headers) -> list[Any]:
    """List the betas of the body and of the headers, each once, less those that AWS does not know."""
    said = jsontext.loads(body.value("anthropic_beta") or b"[]")
    betas = said if isinstance(said, list) else [said]
    for name, value in headers:
        if name == b"anthropic-beta":
            betas += [beta.strip() for beta in value.decode("latin-1").split(",")]
    # Told apart by their text: what a client wrote there need not be strings, and AWS shall be the one to say so.
    each: dict[bytes, Any] = {}
    for beta in betas:
        if beta and beta not in _UNKNOWN_TO_AWS:
            each.setdefault(jsontext.dumps(beta), beta)
    return list(each.values())


def _unsigned(headers: Headers) -> Headers:
    """Return the client's headers that go along unsigned. Every `x-amz-` header would have to be signed: none goes."""
    return tuple(
        pair for pair in to_upstream(headers) if pair[0] not in _HEADERS_IN_BODY and not pair[0].startswith(b"x-amz-")
    )


def _kind_of(head: ResponseHead) -> ErrorKind:
    name = head.header(b"x-amzn-errortype").decode("latin-1").partition(":")[0]
    return _KINDS.get(name.lower(), kind_of_status(head.status))


_KINDS = {
    "throttlingexception": ErrorKind.RATE_LIMIT,
    "servicequotaexceededexception": ErrorKind.RATE_LIMIT,
    "modelnotreadyexception": ErrorKind.OVERLOADED,
    "serviceunavailableexception": ErrorKind.OVERLOADED,
    "modeltimeoutexception": ErrorKind.TIMEOUT,
    "modelerrorexception": ErrorKind.API,
    "internalserverexception": ErrorKind.API,
    "validationexception": ErrorKind.INVALID_REQUEST,
    "accessdeniedexception": ErrorKind.PERMISSION,
    "resourcenotfoundexception": ErrorKind.NOT_FOUND,
    "unrecognizedclientexception": ErrorKind.AUTHENTICATION,
    "invalidsignatureexception": ErrorKind.AUTHENTICATION,
    "expiredtokenexception": ErrorKind.AUTHENTICATION,
}
"""AWS's names of errors, in lower case; source: the error tables of InvokeModel and of the common errors."""
