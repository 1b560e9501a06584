"""The values that travel inside the simulator: requests, events, pieces, replies, steps. No I/O, no clock.

The road of an answer: a request becomes `Event`s (scripts), these become `Piece`s of the HTTP body (faces, damage),
these become `Step`s (delivery), and the connection plays the steps on its socket.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple


class Api(StrEnum):
    """An API that the simulator speaks."""

    ANTHROPIC = "anthropic"
    BEDROCK = "bedrock"
    CHAT = "chat"
    """OpenAI's Chat Completions."""
    RESPONSES = "responses"
    """OpenAI's Responses."""
    OPENAI = "openai"
    """What OpenAI's APIs have in common: models, and what is kept at the provider."""


class Operation(StrEnum):
    """What a request asks for."""

    MESSAGE = "message"
    COUNT_TOKENS = "count_tokens"
    MODELS = "models"
    MODEL = "model"
    COMPACT = "compact"
    RESOURCE = "resource"
    """Something kept at the provider: a response, a conversation, their items."""
    ROOT = "root"


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One HTTP request, whole. `target` is as it came on the wire; header names are in lower case."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    keep_alive: bool = True
    chunks_understood: bool = True
    """False for HTTP/1.0."""

    @property
    def path(self) -> str:
        """The target without its query, still percent-encoded."""
        return self.target.partition("?")[0]

    def header(self, name: str) -> str | None:
        """Return the first value of a header, by its lower-case name."""
        return next((value for key, value in self.headers if key == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a request wants, as its API says it. `model` is free of fault words; `words` are those."""

    operation: Operation
    model: str
    words: str | None = None
    streaming: bool = False
    document: Mapping[str, Any] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Shape:
    """How long and how fast clean answers are.

    Attributes:
        deltas: text deltas in an answer.
        delta_chars: characters in each; 0 takes words as they come.
        pace_s: pause between events, in seconds.
    """

    deltas: int = 12
    delta_chars: int = 0
    pace_s: float = 0.0


class Event(NamedTuple):
    """One event of a stream, before any encoding."""

    type: str
    data: bytes


class Piece(NamedTuple):
    """A part of the HTTP body. `events` are the whole events that end in it.

    `terminal` says that the answer's last word is in it, with nothing broken before it.
    """

    data: bytes
    events: int = 1
    terminal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An HTTP answer before its framing. `headers` hold no framing headers; a stream is sent in chunks."""

    status: int
    headers: tuple[tuple[str, str], ...]
    pieces: Iterable[Piece]
    streaming: bool = False
    usage: Mapping[str, Any] | None = None
    """The token counts of the whole answer, as its API tells them; None where it tells none."""


class Write(NamedTuple):
    """Send `wire`. `body` is the part of the HTTP body in it, for the ledger."""

    wire: bytes
    body: bytes = b""
    events: int = 0
    terminal: bool = False
    status: int = 0
    """The status in it, where this is the response head."""


class Pause(NamedTuple):
    """Wait, in seconds, unless the peer goes."""

    seconds: float


class Ending(StrEnum):
    """How an exchange ended on its connection. As a step: how it shall end."""

    KEPT_ALIVE = "kept_alive"
    CLOSED = "closed"
    """FIN sent by the simulator."""
    RESET = "reset"
    """RST sent by the simulator."""
    PEER_CLOSED = "peer_closed"
    """The peer closed first. As a step: wait in silence for that."""
    PEER_RESET = "peer_reset"
    STOPPED = "stopped"
    """The simulator was stopped in the middle of it."""


Step = Write | Pause | Ending
Steps = Iterator[Step]


def to_json(document: Any) -> bytes:
    """Return compact JSON with its letters as they are; lone surrogates, which UTF-8 has not, as escapes."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
