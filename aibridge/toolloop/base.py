"""The contract of a tool loop: a request with tools of ours, its turns, and the one answer that the client sees.

The model calls a tool of ours, the gateway runs it, and asks the model again with the result; what the upstream answers
to one such request is a turn. A loop does no I/O, reads no clock and runs no tool: its owner sends `request`, feeds the
answer to `decoder` or `take_body`, runs `calls`, and tells `answer` what came of them, until a turn has no calls.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from aibridge.body import Body
from aibridge.values import StreamDecoder

PREFIX = "bmcp_"
"""Every tool of ours is called so; a name that begins so, and that the client has not defined, is ours too."""

MAX_TURN_BYTES = 32 * 1024 * 1024
"""Of one turn's answer, as it is kept for the next request. As much as one event may have."""


class Tool(NamedTuple):
    """A tool of an MCP server, as it is offered to the model."""

    id: str
    """`bmcp_<server>_<tool>`, at most 64 characters of `[a-zA-Z0-9_-]`: what the model sees and calls."""
    server: str
    """The server's name in the configuration."""
    name: str
    """As the server calls it."""
    description: str
    schema: bytes
    """Its input schema, the JSON text of an object: the same text for the same schema."""


class ToolCall(NamedTuple):
    """A call of an injected tool, as the model wrote it."""

    id: str
    tool: str
    """`Tool.id` as the model named it; there may be no such tool."""
    arguments: str
    """JSON text; may be invalid, or cut short."""


class Text(NamedTuple):
    """Text of a result."""

    text: str


class Image(NamedTuple):
    """A picture of a result; `data` is base64."""

    media_type: str
    data: str


class ToolResult(NamedTuple):
    """What came of a call."""

    content: tuple[Text | Image, ...]
    is_error: bool = False


class Ran(NamedTuple):
    """A call that was run, or could not be. `latency` is in seconds; `error` is empty where the tool did well."""

    result: ToolResult
    server: str
    """Empty where there is no such tool."""
    latency: float
    error: str
    result_bytes: int
    outcome: str = "ok"
    """How it ended, one word of a closed set."""


class ToolLoop(Protocol):
    """The turns of one interception: what the upstream is asked, and what the client sees of the answers."""

    def request(self) -> bytes:
        """Return the body of the next request: the client's with the tools, and all turns' calls and results."""

    def decoder(self, inner: StreamDecoder) -> StreamDecoder:
        """Return the decoder of the next turn's stream, over one that relays all events and returns each.

        What it relays is what the client gets. Its events are the upstream's, the withheld ones too, as they came. One
        that ends without the API's last word leaves the loop where nobody asks it any more.
        """

    def take_body(self, body: bytes) -> bytes:
        """Take the next turn's whole answer; return what the client gets where it is the last.

        Args:
            body: valid JSON that is no error object, of an answer with status 2xx that is not streamed.

        Raises `CorruptPayload` where it is not the answer promised, or over `MAX_TURN_BYTES`.
        """

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The calls to run of the turn that has ended, in call order. None: it was the last."""

    @property
    def skipped(self) -> tuple[ToolCall, ...]:
        """Injected calls of the last turn, not to run: the client's own stood beside them, or they were cut short."""

    def answer(self, results: Sequence[ToolResult]) -> None:
        """Take the results, in the order of `calls`; `request` returns the next turn's body then."""


LoopFactory = Callable[[Body, tuple[Tool, ...]], ToolLoop | None]
"""Takes a client's request, and tools sorted by id; None where the request is to have none, and to stay as it is."""
