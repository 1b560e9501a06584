"""OpenAI's APIs, and servers compatible with them: Azure, vLLM, Ollama, OpenRouter, GitHub Copilot and many more.

The body goes on untouched, but for the usage that is asked for where a stream would not tell it.
"""

import time
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import unquote, urlsplit

from aibridge.body import read_body
from aibridge.credentials import api_key_of, bearer_of, hint
from aibridge.dialects import Dialect, UsageWithheld, asking_usage
from aibridge.errors import RequestRejected
from aibridge.headers import CREDENTIALS, TOLD_ACTOR, ActorHeaderNames, to_client, to_upstream, without
from aibridge.keypool import Exhausted, KeyPool
from aibridge.poolkey import PoolKey
from aibridge.providers.base import Answer, Reading, actor_headers
from aibridge.providers.reading import credential_of, draw, learn
from aibridge.providers.usage_lessons import UsageLessons, names_stream_options, without_asking
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

BEARER = b"authorization"
"""The header in which a key goes as a bearer token; in any other it stands alone."""


@dataclass(frozen=True, kw_only=True)
class OpenAIProvider:
    """One configured upstream that speaks OpenAI's APIs.

    `base_url` has no slash at its end; what stands behind `mount` in a path goes behind it. `api_key` goes out in the
    header `key_header`. `byok`: a credential that the client sends as its own goes upstream. Without `api_key`, it is
    needed where `byok` is on, and none is sent where it is off. A `key_pool` stands in for it. `headers` and `query` go
    with every request, whatever the client says under the same names. `asks_usage`: of streams of Chat Completions,
    which tell it only then.
    """

    name: str
    kind: str = "openai"
    base_url: str
    authority: str
    mount: str = "/v1"
    api_key: str | None = field(repr=False)
    key_header: bytes = BEARER
    byok: bool
    headers: Headers = field(default=(), repr=False)
    query: str = field(default="", repr=False)
    asks_usage: bool = True
    send_actor_headers: bool
    max_event_bytes: int
    actor_header_names: ActorHeaderNames = TOLD_ACTOR
    key_pool: KeyPool | None = None
    lessons: UsageLessons = field(default_factory=UsageLessons)

    stream_type = b"text/event-stream"

    @cached_property
    def _base_path(self) -> str:
        return urlsplit(self.base_url).path

    @cached_property
    def _own_headers(self) -> frozenset[bytes]:
        return frozenset(name for name, _ in self.headers) | {self.key_header}

    @cached_property
    def _own_parameters(self) -> frozenset[str]:
        return frozenset(_names(self.query))

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
        """Send the body on, asking for usage where that has to be asked for; see `Provider`."""
        extra = actor_headers(interception.actor, self.actor_header_names) if self.send_actor_headers else ()
        asking = None
        if interception.dialect == "chat" and self.asks_usage and not self.lessons.refuses(reading.upstream_model):
            asking = asking_usage(reading.body)
        if asking is not None:
            request = request._replace(body=asking)
        sent = self._request(request, interception.route, reading.auth + extra, reading.credential)
        if reading.key is not None:
            sent = sent._replace(key=reading.key)
        return sent if asking is None else sent._replace(adds_usage=True)

    def mend(
        self, head: ResponseHead, body: bytes, request: UpstreamRequest, interception: Interception
    ) -> UpstreamRequest | None:
        """Ask without usage where the upstream may have refused for it; see `Provider`."""
        less = without_asking(request.body) if request.adds_usage and names_stream_options(head, body) else None
        if less is None:
            return None
        self.lessons.suspect(interception.upstream_model)
        kept = without(request.headers, frozenset({b"content-length"}))
        return request._replace(body=less, headers=(*kept, _length_of(less)), adds_usage=False)

    def answer(self, request: ClientRequest, path: str) -> Answer | None:
        """Answer nothing: all is relayed."""

    async def prepare_passthrough(self, request: ClientRequest, path: str) -> UpstreamRequest:
        """Send the request on as it came; see `Provider`."""
        auth, credential, _ = self._credential(request.headers, None)
        return self._request(request, path, auth, credential)

    def passthrough_answer(self, head: ResponseHead, body: bytes) -> Answer:
        """Return the upstream's answer as it came."""
        return Answer(head.status, to_client(head.headers), body)

    def decoder(self, quiet: tuple[bytes, ...], request: UpstreamRequest) -> StreamDecoder:
        """Return a scanner that relays whole events, byte for byte, less the usage that only we asked for."""
        scanner = SSEScanner(quiet=quiet, max_event_bytes=self.max_event_bytes, hear_first=True)
        if request.adds_usage:
            return UsageWithheld(scanner)
        self.lessons.learn_from(request)
        return scanner

    def response_headers(self, head: ResponseHead) -> Headers:
        """Return the upstream's own headers, those of its rate limits too; see `Provider`."""
        return to_client(head.headers)

    def error_answer(self, head: ResponseHead, body: bytes) -> tuple[int, bytes]:
        """Return the upstream's own words: clients match on them."""
        return head.status, body

    def metrics_in(self, head: ResponseHead) -> Mapping[str, Any]:
        """Return the milliseconds that OpenAI says it took; see `Provider`."""
        taken = head.header(b"openai-processing-ms")
        return {"invocationLatency": int(taken)} if taken.isdigit() and len(taken) <= _MOST_DIGITS else {}

    def upstream_request_id(self, head: ResponseHead) -> str:
        """Return OpenAI's request id; compatible servers mostly send one under the same name, or Anthropic's."""
        return (head.header(b"x-request-id") or head.header(b"request-id")).decode("latin-1")

    def _request(self, request: ClientRequest, path: str, extra: Headers, credential: Credential) -> UpstreamRequest:
        has_length = request.body or request.method == "POST"
        return UpstreamRequest(
            method=request.method,
            origin=self.base_url,
            target=self._base_path + path.removeprefix(self.mount) + self._query_of(request),
            headers=(
                (b"host", self.authority.encode()),
                *without(to_upstream(request.headers), self._own_headers),
                *self.headers,
                (b"accept-encoding", b"identity"),  # we read what we relay
                *extra,
                *((_length_of(request.body),) if has_length else ()),
            ),
            body=request.body,
            credential=credential,
            secrets=() if self.key_pool is None else self.key_pool.secrets,
        )

    def _query_of(self, request: ClientRequest) -> str:
        said = request.query
        if self.query:
            others = [part for part in said.split("&") if part and not self._own_parameters.intersection(_names(part))]
            said = "&".join([self.query, *others])
        return f"?{said}" if said else ""

    def _credential(
        self, headers: Headers, session_id: str | None
    ) -> tuple[Headers, Credential, PoolKey | Exhausted | None]:
        """Return the headers that carry the key, what is recorded of it, and what the pool gave.

        `session_id` is None where the request is relayed only.
        """
        own = self._own_credential(headers) if self.byok else None
        if own is not None:
            name, secret = own
            return (self._header(name, secret),), Credential(CredentialKind.BYOK, hint(secret)), None
        if self.key_pool is not None:
            chosen = draw(self.key_pool, session_id, time.monotonic())
            auth = (self._header(self.key_header, chosen.secret),) if isinstance(chosen, PoolKey) else ()
            return auth, credential_of(chosen), chosen
        if self.api_key is not None:
            key = self._header(self.key_header, self.api_key)
            return (key,), Credential(CredentialKind.CENTRALIZED, hint(self.api_key)), None
        if self.byok:
            raise RequestRejected("no_credential", 401, f"provider {self.name} has no key, and the client sent none")
        return (), Credential(CredentialKind.CENTRALIZED, ""), None

    def _own_credential(self, headers: Headers) -> tuple[bytes, str] | None:
        """Return the client's key where the upstream looks for one, else its bearer token; None without either."""
        said = {name: value for name, value in reversed(headers) if name in CREDENTIALS and value.strip()}
        if self.key_header != BEARER and (key := api_key_of(said.get(self.key_header))):
            return self.key_header, key
        if BEARER not in said:
            return None
        if token := bearer_of(said[BEARER]):
            return BEARER, token
        raise RequestRejected("bad_credential", 401, "Authorization should be `Bearer` and one token")

    def _header(self, name: bytes, secret: str) -> tuple[bytes, bytes]:
        return name, (f"Bearer {secret}" if name == BEARER else secret).encode("latin-1")


_MOST_DIGITS = 12


def _length_of(body: bytes) -> tuple[bytes, bytes]:
    return b"content-length", b"%d" % len(body)


def _names(query: str) -> list[str]:
    return [unquote(part.partition("=")[0]) for part in query.split("&") if part]
