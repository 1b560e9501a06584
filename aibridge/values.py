"""The values that travel. All frozen; rewriting returns a new one. This file knows no I/O and no clock.

Units: sizes in bytes, times of day as UTC seconds since the epoch, durations in monotonic seconds.
HTTP headers are tuples of (name, value) in bytes, names in lower case, in the order they came.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple, Protocol

from aibridge.lifecycle import Cause, Health, Termination
from aibridge.poolkey import PoolKey

Headers = tuple[tuple[bytes, bytes], ...]
HeaderValue = bool | int | bytes | str
"""A value of an event-stream header: bool, the integer types, bytes, string; timestamps are milliseconds (int),
UUIDs their canonical text."""


class Frame(NamedTuple):
    """One AWS event-stream message."""

    headers: Mapping[str, HeaderValue]
    payload: bytes


class Event(NamedTuple):
    """One server-sent event that carries a fact.

    `end` is the offset in the relayed bytes of the same scan, just behind this event and its blank line.
    """

    type: str
    data: bytes
    end: int


class Scan(NamedTuple):
    """What one chunk gave.

    `relay` is the text for the client: whole events only. `events` are those in it that carry facts, in order; a
    `Frame`, always the last, is an exception or error frame: it has no text of its own, and ends the stream. `count`
    counts all events in `relay`, the quiet ones too.
    """

    relay: bytes
    events: list[Event | Frame]
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs here


class StreamDecoder(Protocol):
    """Upstream bytes to client text, sans I/O. After a `WireError` it stays broken: it raises again."""

    @property
    def taken(self) -> int:
        """Bytes of the body decoded so far, whole events or frames only."""

    def feed_data(self, data: bytes) -> Scan:
        """Take a chunk. Raises `WireError`, whose `before` is the `Scan` of what came before the break."""

    def feed_eof(self) -> Scan:
        """Say that the body is complete. Raises `TruncatedFrame` or `TruncatedEvent` where it ends inside one."""


class Actor(NamedTuple):
    """Who asked."""

    id: str
    name: str = ""
    teams: tuple[str, ...] = ()


class CredentialKind(StrEnum):
    """Whose credential goes upstream."""

    CENTRALIZED = "centralized"
    BYOK = "byok"


class Credential(NamedTuple):
    """What is recorded of the credential that goes upstream; never the secret."""

    kind: CredentialKind
    hint: str


class ClientRequest(NamedTuple):
    """What came in. `path` has no query; `query` has no question mark."""

    method: str
    path: str
    query: str
    headers: Headers
    body: bytes

    def __repr__(self) -> str:
        return f"<ClientRequest {self.method} {self.path}, {len(self.body)} bytes>"  # headers and body hold secrets

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of a header, by its lower-case name."""
        return first_header(self.headers, name)


class UpstreamRequest(NamedTuple):
    """What goes out. `target` is the path with query, encoded as it goes on the wire."""

    method: str
    origin: str
    target: str
    headers: Headers
    body: bytes
    credential: Credential
    adds_usage: bool = False
    """Whether it asks for usage that the client did not order, and is not to see."""
    secrets: tuple[str, ...] = ()
    """What is taken out of its answer besides what it carries itself: the other keys of its provider."""
    key: PoolKey | None = None
    """Of its provider's pool, where it has one and the credential is of it."""

    def __repr__(self) -> str:
        return f"<UpstreamRequest {self.method} {self.origin}, {len(self.body)} bytes>"  # the rest holds secrets


SIZELESS = frozenset({204, 304})
"""Statuses of answers that end with their head, which tells no length of theirs (RFC 9112, section 6.3)."""


class ResponseHead(NamedTuple):
    """Status and headers of an upstream's answer."""

    status: int
    headers: Headers

    def __repr__(self) -> str:
        return f"ResponseHead(status={self.status})"  # an upstream may echo what it was sent

    def header(self, name: bytes) -> bytes:
        """Return the first value of a header, by its lower-case name, or the empty string."""
        return first_header(self.headers, name) or b""


class Usage(NamedTuple):
    """The provider's own token counts. Input excludes cached tokens. None: not said.

    `service_tier` and `region` are its own words for what the tokens are billed at; empty where it has none.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    extras: tuple[tuple[str, int], ...] = ()
    service_tier: str = ""
    region: str = ""


class UsageSource(StrEnum):
    """Where the token counts of a record come from."""

    PROVIDER_FINAL = "provider_final"
    PROVIDER_PARTIAL = "provider_partial"
    NONE = "none"


class Unpriced(StrEnum):
    """Why tokens have no cost."""

    NO_PRICE_LIST = "no_price_list"
    """Neither for the provider nor for its kind."""
    UNKNOWN_MODEL = "unknown_model"
    BEFORE_FIRST_PRICE = "before_first_price"
    UNKNOWN_SERVICE_TIER = "unknown_service_tier"
    UNKNOWN_REGION = "unknown_region"
    NO_RATE = "no_rate"
    """Of one of the counts."""
    NO_COUNTS = "no_counts"
    """Of the four that are priced."""
    TOO_MANY_TOKENS = "too_many_tokens"
    """More than nine billion dollars' worth."""


class Cost(NamedTuple):
    """What tokens cost, in nano-dollars; None with `unpriced` where that cannot be said.

    `version` is the catalogue's whose prices were taken; empty where none was asked, as where no tokens were told.
    """

    nanodollars: int | None = None
    version: str = ""
    unpriced: Unpriced | None = None


class Interception(NamedTuple):
    """One request of a client on an intercepted route, as known at its acceptance. The key of every record."""

    id: str
    started_at: float
    actor: Actor
    credential: Credential
    provider: str
    provider_kind: str
    dialect: str
    route: str
    request_path: str
    method: str
    model: str
    upstream_model: str
    streaming: bool
    client: str
    user_agent: str
    request_bytes: int
    traceparent: str = ""
    session_id: str = ""
    correlating_tool_call_id: str = ""
    tracestate: str = ""


MAX_CONTENT_BYTES = 256 * 1024
"""Of one prompt, one tool's arguments, one thought, as they are kept. A model's whole answer is seldom as long."""

MAX_ID_CHARACTERS = 256
"""Of an id or a name that clients and upstreams choose. Anthropic's have about 30."""


class UserPrompt(NamedTuple):
    """What a user asked, in the last message of a request."""

    text: str


class ToolUse(NamedTuple):
    """A tool that the model called; `arguments` is the JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


class ToolRun(NamedTuple):
    """A tool that the gateway ran, because the model called it."""

    use: ToolUse
    server: str
    """Empty where the model named no tool that there is."""
    latency: float
    """Seconds."""
    outcome: str
    """How it ended: a word of a closed set, `ok` where the tool did well."""
    error: str
    """What went wrong; empty where nothing did."""
    arguments_bytes: int
    result_bytes: int


class Thought(NamedTuple):
    """What the model thought aloud; `source` is the kind of block that it came in."""

    text: str
    source: str


Learned = UserPrompt | ToolUse | ToolRun | Thought
"""A fact of the content."""


class Evidence(NamedTuple):
    """What the decision was made from; kept on the record."""

    terminal_event_seen: bool = False
    last_event: str = ""
    events: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    http_status: int | None = None
    upstream_request_id: str = ""
    time_to_first_event: float | None = None
    invocation_latency: float | None = None
    """What the provider says of the time that it took, in seconds."""
    first_byte_latency: float | None = None
    note: str = ""
    """What was odd about an answer that ended well; see `aibridge.relay`."""


class Address(NamedTuple):
    """Who was asked, where that is not whom the interception names: another provider, key or model."""

    provider: str
    provider_kind: str
    upstream_model: str
    credential: Credential
    model: str
    """The name that it was asked for, before the provider gave it its own."""


class Attempt(NamedTuple):
    """One request to an upstream, ended. `number` counts from 1 within its interception; the rest is its own."""

    number: int
    origin: str
    started_at: float
    duration: float
    termination: Termination
    cause: Cause
    error: str
    evidence: Evidence
    usage: Usage
    usage_source: UsageSource
    message_id: str
    last: bool = True
    """Whether the interception's end is told right behind it."""
    address: Address | None = None
    """None: as the interception says. Ask `address_of`."""
    left: bool = False
    """Whether somebody else is asked next, or for another model."""


class Outcome(NamedTuple):
    """All we know at the end. The one object that metric, span, log, record and breaker are driven by.

    `error` is empty for COMPLETED; else the upstream's words, or ours. `ended_at` is UTC, `duration` monotonic.
    `usage` is the sum of `turns`, which are those that told tokens, where there was more than one: each is billed for
    itself.
    """

    termination: Termination
    cause: Cause
    error: str
    ended_at: float
    duration: float
    evidence: Evidence
    health: Health
    usage: Usage
    usage_source: UsageSource
    message_id: str
    response_model: str
    stop_reason: str
    turns: tuple[Usage, ...] = ()
    cost: Cost = Cost()
    address: Address | None = None
    """Whose answer it is, or who was asked last; as in `Attempt`."""


def address_of(interception: Interception, ended: Attempt | Outcome) -> Interception:
    """Return an interception as whoever was asked knows it: the books of a provider are kept by this one's names."""
    address = ended.address
    if address is None:
        return interception
    return interception._replace(
        provider=address.provider,
        provider_kind=address.provider_kind,
        upstream_model=address.upstream_model,
        credential=address.credential,
        model=address.model,
    )


class Listener(Protocol):
    """Who keeps books. Nobody else hears how a stream ended.

    All are called on the event loop, synchronously, and must be quick: what blocks goes elsewhere.
    """

    def opened(self, interception: Interception) -> None:
        """A request was accepted; the upstream was not contacted yet.

        Raises `RecordingFailed` where it must not be.
        """

    def learned(self, interception: Interception, fact: Learned, message_id: str) -> None:
        """Some content became known: the prompt right after `opened`, a tool use or a thought as it completes.

        The recording policy was applied already. `message_id` is empty where the upstream told none yet.
        """

    def attempted(self, interception: Interception, attempt: Attempt) -> None:
        """One request to an upstream ended."""

    def closed(self, interception: Interception, outcome: Outcome) -> None:
        """The interception ended. Called exactly once, before the client's socket gets the last word."""


def first_header(headers: Headers, name: bytes) -> bytes | None:
    """Return the first value of a header, by its lower-case name."""
    for key, value in headers:
        if key == name:
            return value
    return None
