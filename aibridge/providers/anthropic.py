"""Anthropic's Messages API, direct: the body goes on untouched, the stream comes back untouched."""

import time
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from aibridge.body import read_body
from aibridge.credentials import client_credential, hint
from aibridge.dialects import Dialect
from aibridge.errors import RequestRejected
from aibridge.headers import TOLD_ACTOR, ActorHeaderNames, to_client, to_upstream
from aibridge.keypool import Exhausted, KeyPool
from aibridge.poolkey import PoolKey
from aibridge.providers.base import Answer, Reading, actor_headers
from aibridge.providers.reading import credential_of, draw, learn
from aibridge.values import (
    ClientRequest,
    Credential,
    CredentialKind,
    Headers,
    Interception,
    ResponseHead,
    StreamDecoder,
    UpstreamRequest,
)
from aibridge.wire import SSEScanner


@dataclass(frozen=True, kw_only=True)
class AnthropicProvider:
    """One configured Anthropic upstream.

    `base_url` has no slash at its end. `byok`: a credential that the client sends as its own goes upstream. `key_pool`
    stands in for `api_key`.
    """

    name: str
    base_url: str
    authority: str
    api_key: str | None = field(repr=False)
    byok: bool
    send_actor_headers: bool
    max_event_bytes: int
    actor_header_names: ActorHeaderNames = TOLD_ACTOR
    key_pool: KeyPool | None = None

    kind = "anthropic"
    stream_type = b"text/event-stream"

    @cached_property
    def _base_path(self) -> str:
        return urlsplit(self.base_url).path

    def read(self, request: ClientRequest, dialect: Dialect) -> Reading:
        """Learn from a request; see `Provider`."""
        body = read_body(request.body)
        learned = learn(dialect, body, request.headers)
        auth, credential, chosen = self._credential(request.headers, learned[2])
        model = body.model
        return Reading(body, model, model, body.streaming, credential, auth, *learned, chosen)

    def missing(self, reading: Reading) -> Awaitable[object] | None:  # noqa: ARG002 - the contract's
        """Nothing: keys are at hand; see `Provider`."""
        return None

    def prepare(self, request: ClientRequest, reading: Reading, interception: Interception) -> UpstreamRequest:
        """Send the body on as it came; see `Provider`."""
        extra = actor_headers(interception.actor, self.actor_header_names) if self.send_actor_headers else ()
        sent = self._request(request, "/v1/messages", reading.auth + extra, reading.credential)
        return sent if reading.key is None else sent._replace(key=reading.key)

    def mend(self, head: ResponseHead, body: bytes, request: UpstreamRequest, interception: Interception) -> None:
        """Let every refusal stand: clients act on them."""

    def answer(self, request: ClientRequest, path: str) -> None:
        """Answer nothing: all is relayed."""

    async def prepare_passthrough(self, request: ClientRequest, path: str) -> UpstreamRequest:
        """Send the request on as it came; see `Provider`."""
        auth, credential, _ = self._credential(request.headers, None)
        return self._request(request, path, auth, credential)

    def passthrough_answer(self, head: ResponseHead, body: bytes) -> Answer:
        """Return the upstream's answer as it came."""
        return Answer(head.status, to_client(head.headers), body)

    def decoder(self, quiet: tuple[bytes, ...], request: UpstreamRequest) -> StreamDecoder:  # noqa: ARG002 - the contract's
        """Return a scanner that relays whole events, byte for byte."""
        return SSEScanner(quiet=quiet, max_event_bytes=self.max_event_bytes)

    def response_headers(self, head: ResponseHead) -> Headers:
        """Return the upstream's own headers; see `Provider`."""
        return to_client(head.headers)

    def error_answer(self, head: ResponseHead, body: bytes) -> tuple[int, bytes]:
        """Return the upstream's own words: clients match on them."""
        return head.status, body

    def metrics_in(self, head: ResponseHead) -> Mapping[str, Any]:  # noqa: ARG002 - the contract's
        """Return nothing: the body tells all."""
        return {}

    def upstream_request_id(self, head: ResponseHead) -> str:
        """Return Anthropic's request id."""
        return head.header(b"request-id").decode("latin-1")

    def _request(self, request: ClientRequest, path: str, extra: Headers, credential: Credential) -> UpstreamRequest:
        query = f"?{request.query}" if request.query else ""
        length = ((b"content-length", b"%d" % len(request.body)),) if request.body or request.method == "POST" else ()
        return UpstreamRequest(
            method=request.method,
            origin=self.base_url,
            target=self._base_path + path + query,
            headers=(
                (b"host", self.authority.encode()),
                *to_upstream(request.headers),
                (b"accept-encoding", b"identity"),  # we read what we relay
                *extra,
                *length,
            ),
            body=request.body,
            credential=credential,
            secrets=() if self.key_pool is None else self.key_pool.secrets,
        )

    def _credential(
        self, headers: Headers, session_id: str | None
    ) -> tuple[Headers, Credential, PoolKey | Exhausted | None]:
        """Return the headers that carry the key, what is recorded of it, and what the pool gave.

        `session_id` is None where the request is relayed only.
        """
        own = client_credential(headers) if self.byok else None
        if own is not None:
            name, secret = own
            value = f"Bearer {secret}" if name == b"authorization" else secret
            return ((name, value.encode("latin-1")),), Credential(CredentialKind.BYOK, hint(secret)), None
        if self.key_pool is not None:
            chosen = draw(self.key_pool, session_id, time.monotonic())
            auth = ((b"x-api-key", chosen.secret.encode()),) if isinstance(chosen, PoolKey) else ()
            return auth, credential_of(chosen), chosen
        key = self.api_key
        if key is None:
            raise RequestRejected("no_credential", 401, f"provider {self.name} has no key, and the client sent none")
        return ((b"x-api-key", key.encode()),), Credential(CredentialKind.CENTRALIZED, hint(key)), None
