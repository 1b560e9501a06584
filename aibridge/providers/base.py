"""The contract of a provider: how a client's request becomes the upstream's, and how the upstream's answer reads.

A provider does no network I/O on the event loop; a credential that is fetched elsewhere is waited for beforehand.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

from aibridge.body import Body
from aibridge.dialects import Dialect
from aibridge.headers import ActorHeaderNames
from aibridge.keypool import Exhausted, KeyPool
from aibridge.poolkey import PoolKey
from aibridge.values import (
    Actor,
    ClientRequest,
    Credential,
    Headers,
    Interception,
    ResponseHead,
    StreamDecoder,
    UpstreamRequest,
)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a request says of itself, learned before anything is rewritten.

    `prompt` gives the user's words, empty where nobody asked: they are looked for only where they are kept;
    `correlating_tool_call_id` is the tool call that the request answers; `session_id` the caller's own. `auth` are the
    headers that carry the credential upstream, empty where the request is signed instead. `chosen` is what the
    provider's pool of keys gave; None where it has none, or the credential is the client's own.
    """

    body: Body = field(repr=False)
    model: str
    upstream_model: str
    streaming: bool
    credential: Credential
    auth: Headers = field(repr=False)
    prompt: Callable[[], str] = field(repr=False)
    correlating_tool_call_id: str = ""
    session_id: str = ""
    client: str = ""
    """The calling program's name."""
    chosen: PoolKey | Exhausted | None = None

    @property
    def key(self) -> PoolKey | None:
        """The key of a pool that the request goes out with."""
        return self.chosen if isinstance(self.chosen, PoolKey) else None

    @property
    def exhausted(self) -> Exhausted | None:
        """Why it cannot go out: there is a pool, and no key of it can be asked."""
        return self.chosen if isinstance(self.chosen, Exhausted) else None


class Answer(NamedTuple):
    """An answer to a client, whole."""

    status: int
    headers: Headers
    body: bytes


class Provider(Protocol):
    """A configured service that requests can be sent to."""

    @property
    def name(self) -> str:
        """The name in the configuration, and in paths."""

    @property
    def kind(self) -> str:
        """What sort of service it is."""

    @property
    def stream_type(self) -> bytes:
        """The media type that a streaming answer has."""

    @property
    def key_pool(self) -> KeyPool | None:
        """Its keys, where it has several; told what their answers' heads say."""

    def read(self, request: ClientRequest, dialect: Dialect) -> Reading:
        """Learn from a request, which speaks a dialect. Raises `RequestRejected` where it is not what the API takes."""

    def missing(self, reading: Reading) -> Awaitable[object] | None:
        """Return what must be waited for before `prepare`: a credential that is being fetched. None: nothing."""

    def prepare(self, request: ClientRequest, reading: Reading, interception: Interception) -> UpstreamRequest:
        """Rewrite and sign. Raises `AibridgeError` where no credential can be had."""

    def mend(
        self, head: ResponseHead, body: bytes, request: UpstreamRequest, interception: Interception
    ) -> UpstreamRequest | None:
        """Return the request to send instead of one that was refused, or None where the refusal stands.

        Asked once in an interception, of an answer with an error status, before the client was sent anything.
        """

    def answer(self, request: ClientRequest, path: str) -> Answer | None:
        """Answer a request that is relayed only, where no upstream is needed. `path` as in `prepare_passthrough`."""

    async def prepare_passthrough(self, request: ClientRequest, path: str) -> UpstreamRequest:
        """Rewrite and sign a request that is relayed only. `path` is the part behind the provider's name."""

    def passthrough_answer(self, head: ResponseHead, body: bytes) -> Answer:
        """Return the upstream's answer to a request that is relayed only, as the client gets it."""

    def decoder(self, quiet: tuple[bytes, ...], request: UpstreamRequest) -> StreamDecoder:
        """Return a new decoder for a request's streaming answer; `quiet` are templates of events that carry no fact."""

    def response_headers(self, head: ResponseHead) -> Headers:
        """Return the headers of a good answer as the client gets them; framing is not among them."""

    def error_answer(self, head: ResponseHead, body: bytes) -> tuple[int, bytes]:
        """Return status and body of an answer with an error status, in the client's API."""

    def metrics_in(self, head: ResponseHead) -> Mapping[str, Any]:
        """Return what the head of an answer that is not streamed tells of usage and time; see `Observer`."""

    def upstream_request_id(self, head: ResponseHead) -> str:
        """Return the id that the upstream gave the request, or the empty string."""


_AS_IT_IS = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")


def actor_headers(actor: Actor, names: ActorHeaderNames) -> Headers:
    """Return the headers that tell an upstream who asked; only sent where the configuration says so.

    What is not printable ASCII, and the percent sign, goes percent-encoded (RFC 3986, as UTF-8).
    """
    said = ((names.id, actor.id), (names.name, actor.name), (names.teams, ",".join(actor.teams)))
    return tuple(
        (name, quote(value, safe=_AS_IT_IS, errors="replace").encode("ascii")) for name, value in said if name and value
    )
