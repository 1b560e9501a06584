"""The tool loop of OpenAI's Responses API.

Each turn's request is the client's with all that has come since; in a conversation, which keeps that itself, only the
new outputs. What the client's next request has to say otherwise than the client knows is told by `chain` (ADR 0026).

Source: https://platform.openai.com/docs/guides/function-calling and /docs/guides/conversation-state, and the types of
OpenAI's SDKs.
"""

from collections.abc import Sequence

from aibridge.body import Body, edited
from aibridge.errors import CorruptPayload, PayloadError
from aibridge.toolloop.base import MAX_TURN_BYTES, Tool, ToolCall, ToolResult
from aibridge.toolloop.responses_answer import Answer
from aibridge.toolloop.responses_chains import Chain, conversation_of
from aibridge.toolloop.responses_items import result_item
from aibridge.toolloop.responses_request import names_like_ours, takes_tools, with_outputs, with_tools, with_turns
from aibridge.toolloop.responses_stream import Passing, TurnDecoder, is_completed
from aibridge.toolloop.responses_turn import Turn
from aibridge.values import StreamDecoder
from aibridge.wire import scan_object


class ResponsesLoop:
    """The turns of one request; a `ToolLoop`.

    Args:
        body: the client's request.
        tools: those of ours that the client has not defined itself.
        theirs: names of the client's own tools that begin as ours do.
    """

    def __init__(self, body: Body, tools: tuple[Tool, ...], theirs: frozenset[str]) -> None:
        self._body = body
        self._tools = with_tools(body, tools)
        self._theirs = theirs
        self._conversation = conversation_of(body)
        self._answer = Answer(frozenset(tool.id for tool in tools), theirs)
        self._turn = Turn(theirs)
        self._items: list[bytes] = []
        stored = body.value("store") != b"false"
        self._stored = stored
        self._held: list[Passing] | None = [] if stored and not self._conversation else None

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The calls to run of the turn that has ended; see `ToolLoop`."""
        return self._turn.calls

    @property
    def skipped(self) -> tuple[ToolCall, ...]:
        """Whole calls of the last turn that are not run: others stood beside them, or the turn was cut."""
        return self._turn.skipped

    @property
    def shown_id(self) -> str:
        """The id of the response that the client's stream has begun with; empty where it has not."""
        return self._answer.shown_id

    @property
    def chain(self) -> Chain | None:
        """How the client's next request is to be changed, once the last turn has ended; None where it is right."""
        unanswered = tuple([call.id for call in self._turn.skipped])
        if self._conversation:
            return Chain(self._conversation, self._conversation, unanswered) if unanswered else None
        last = self._turn.id
        shown = self._answer.shown_id or last
        if not self._stored or not self._turn.stored or (shown == last and not unanswered):
            return None
        return Chain(shown, last, unanswered)

    def request(self) -> bytes:
        """Return the body of the next request; see `ToolLoop`."""
        if not self._items:
            return edited(self._body, self._tools)
        turns = with_outputs if self._conversation else with_turns
        return edited(self._body, {**self._tools, **turns(self._body, self._items)})

    def decoder(self, inner: StreamDecoder) -> StreamDecoder:
        """Return the decoder of the next turn's stream; see `ToolLoop`."""
        self._turn = Turn(self._theirs)
        return TurnDecoder(inner, self._turn, self._answer, self._held)

    def take_body(self, body: bytes) -> bytes:
        """Take the next turn's whole answer; see `ToolLoop`."""
        if len(body) > MAX_TURN_BYTES:
            raise CorruptPayload(f"the answer is over {MAX_TURN_BYTES} bytes")
        try:
            response = Body(body, scan_object(body))
        except PayloadError as error:
            raise CorruptPayload(f"the answer is no response: {error}") from None
        self._turn = turn = Turn(self._theirs)
        self._answer.meet(response)
        turn.end(response, completed=is_completed(response))
        if not turn.calls:
            return self._answer.ended(response, turn.items)
        self._answer.add(response, turn.items)
        return b""

    def answer(self, results: Sequence[ToolResult]) -> None:
        """Take the results, in the order of `calls`; see `ToolLoop`."""
        outputs = [result_item(call, result) for call, result in zip(self._turn.calls, results, strict=True)]
        if self._conversation:
            self._items = outputs
            return
        stored = self._stored and self._turn.stored
        self._items += [item.raw for item in self._turn.items if stored or item.recoverable]
        self._items += outputs


def responses_loop(body: Body, tools: tuple[Tool, ...]) -> ResponsesLoop | None:
    """Return the loop of a request; see `LoopFactory`."""
    if not takes_tools(body):
        return None
    theirs = names_like_ours(body)
    ours = tuple([tool for tool in tools if tool.id not in theirs]) if theirs else tools
    return ResponsesLoop(body, ours, theirs) if ours else None
