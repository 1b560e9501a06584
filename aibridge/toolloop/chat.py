"""The tool loop of Chat Completions."""

from collections.abc import Sequence
from typing import Any

from aibridge import jsontext
from aibridge.body import Body
from aibridge.dialects.chat_extra_usage import start_of_block
from aibridge.errors import CorruptPayload, PayloadError, WireError
from aibridge.toolloop.base import MAX_TURN_BYTES, Tool, ToolCall, ToolResult
from aibridge.toolloop.chat_message import tool_message
from aibridge.toolloop.chat_request import ChatRequest, takes_tools
from aibridge.toolloop.chat_turn import Shown, Turn
from aibridge.values import Event, Frame, Scan, StreamDecoder
from aibridge.wire import encode_event


class ChatLoop:
    """The turns of one interception; see `ToolLoop`."""

    def __init__(self, request: ChatRequest) -> None:
        self._request = request
        self._shown = Shown()
        self._turn = Turn(self._shown, request.names)
        self._messages: list[bytes] = []

    def request(self) -> bytes:
        """Return the body of the next request; see `ToolLoop`."""
        return self._request.after(self._messages)

    def decoder(self, inner: StreamDecoder) -> StreamDecoder:
        """Return the decoder of the next turn's stream; see `ToolLoop`.

        Where the gateway asks for usage that the client did not order, `inner` withholds it (`UsageWithheld`): what has
        no text below gets none here.
        """
        return ChatDecoder(inner, self._turn)

    def take_body(self, body: bytes) -> bytes:
        """Take the next turn's whole answer; see `ToolLoop`. The texts of all turns stand in the last one's message."""
        if len(body) > MAX_TURN_BYTES:
            raise CorruptPayload(f"a turn of the tool loop is over the limit of {MAX_TURN_BYTES} bytes")
        answer = jsontext.loads(body)
        if not isinstance(answer, dict):
            raise CorruptPayload("the answer is no JSON object")
        return jsontext.dumps(answer) if self._turn.take_body(answer) else body

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The calls to run of the turn that has ended; see `ToolLoop`."""
        return self._turn.calls

    @property
    def skipped(self) -> tuple[ToolCall, ...]:
        """Injected calls of the last turn that are not to run; see `ToolLoop`."""
        return self._turn.skipped

    def answer(self, results: Sequence[ToolResult]) -> None:
        """Take the results, in the order of `calls`; see `ToolLoop`."""
        answers = [tool_message(call, result) for call, result in zip(self.calls, results, strict=True)]
        self._messages += [self._turn.end(), *answers]
        self._turn = Turn(self._shown, self._request.names)


def chat_loop(body: Body, tools: tuple[Tool, ...]) -> ChatLoop | None:
    """Return the loop of a request; None where it `takes_tools` not, or its own have the names of all of ours."""
    if not takes_tools(body):
        return None
    request = ChatRequest(body, tools)
    return ChatLoop(request) if request.tools else None


class ChatDecoder:
    """One turn's stream, less what the client is not to see; a `StreamDecoder`."""

    def __init__(self, inner: StreamDecoder, turn: Turn) -> None:
        self._inner = inner
        self._turn = turn
        self._broken: CorruptPayload | None = None

    @property
    def taken(self) -> int:
        """Bytes of the body decoded so far, the withheld ones too."""
        return self._inner.taken

    def feed_data(self, data: bytes) -> Scan:
        """Take a chunk; see `StreamDecoder`."""
        self._check()
        try:
            scan = self._inner.feed_data(data)
        except WireError as error:
            error.before = self._rewritten(error.before)
            raise
        return self._rewritten(scan)

    def feed_eof(self) -> Scan:
        """Say that the body is complete; see `StreamDecoder`."""
        self._check()
        try:
            scan = self._inner.feed_eof()
        except WireError as error:
            error.before = self._rewritten(error.before)
            raise
        return self._rewritten(scan)

    def _check(self) -> None:
        if self._broken is not None:
            raise CorruptPayload(str(self._broken), Scan(b"", [], 0))

    def _rewritten(self, scan: Scan) -> Scan:
        """Return a scan as the client gets it. Raises `CorruptPayload` for an event that cannot be made one for it."""
        kept: list[bytes] = []
        events: list[Event | Frame] = []
        behind = size = 0  # in what came, behind the last event; in what goes out
        for event in scan.events:
            if isinstance(event, Frame):
                events.append(event)
                continue
            block = scan.relay[behind : event.end]
            try:
                block = self._text_of(event, block)
            except (PayloadError, ValueError, CorruptPayload) as error:
                self._broken = CorruptPayload(str(error))
                raise CorruptPayload(str(error), Scan(b"".join(kept), events, len(events))) from None
            kept.append(block)
            size += len(block)
            behind = event.end
            events.append(event._replace(end=size))
        return Scan(b"".join((*kept, scan.relay[behind:])), events, scan.count)

    def _text_of(self, event: Event, block: bytes) -> bytes:
        """Return what the client gets of an event, and of comments before it. What has no text below gets none."""
        data: Any = self._turn.take(event)
        if data is event.data:
            return block
        start = start_of_block(block, 0, len(block))
        again = data is not None and start < len(block)
        return block[:start] + (encode_event(event.type, data) if again else b"")
