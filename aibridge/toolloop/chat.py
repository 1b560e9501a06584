"""The tool loop of Chat Completions."""

from collections.abc import Sequence

from aibridge import jsontext
from aibridge.body import Body
from aibridge.errors import CorruptPayload, PayloadError
from aibridge.toolloop.base import MAX_TURN_BYTES, Tool, ToolCall, ToolResult
from aibridge.toolloop.chat_message import tool_message
from aibridge.toolloop.chat_request import ChatRequest, takes_tools
from aibridge.toolloop.chat_turn import Shown, Turn
from aibridge.toolloop.rewriting import RewritingDecoder
from aibridge.values import Event, StreamDecoder
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
        turn = self._turn

        def rewrite(event: Event) -> bytes | None:
            try:
                data = turn.take(event)
                if data is event.data:
                    return None
                return encode_event(event.type, data) if data is not None else b""
            except (PayloadError, ValueError) as error:  # of a number or a type that cannot be written again
                raise CorruptPayload(str(error)) from None

        return RewritingDecoder(inner, rewrite)

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
    if not tools or not takes_tools(body):
        return None
    request = ChatRequest(body, tools)
    return ChatLoop(request) if request.tools else None
