"""The tool loop of OpenAI's Responses API.

Each turn's request is the client's with all that has come since; in a conversation, which keeps that itself, only the
new outputs. What the client's next request has to say otherwise than the client knows is remembered (ADR 0026).

Source: https://platform.openai.com/docs/guides/function-calling and /docs/guides/conversation-state, and the types of
OpenAI's SDKs.
"""

from collections.abc import Callable, Sequence

from aibridge.body import Body, edited, read_body
from aibridge.errors import CorruptPayload, PayloadError
from aibridge.toolloop.base import MAX_TURN_BYTES, Tool, ToolCall, ToolResult
from aibridge.toolloop.responses_answer import Answer
from aibridge.toolloop.responses_chains import Chain, Chains, conversation_of
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
        note: told from where the client goes on, before it gets the last word.
    """

    def __init__(
        self, body: Body, tools: tuple[Tool, ...], theirs: frozenset[str], note: Callable[[Chain], None]
    ) -> None:
        self._body = body
        self._tools = with_tools(body, tools)
        self._theirs = theirs
        self._note = note
        self._conversation = conversation_of(body)
        self._answer = Answer(frozenset(tool.id for tool in tools), theirs)
        self._turn = Turn(theirs)
        self._items: list[bytes] = []
        self._stored = body.value("store") != b"false"
        self._held: list[Passing] | None = [] if self._stored and not self._conversation else None

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The calls to run of the turn that has ended; see `ToolLoop`."""
        return self._turn.calls

    @property
    def skipped(self) -> tuple[ToolCall, ...]:
        """Whole calls of the last turn that are not run: others stood beside them, or the turn was cut."""
        return self._turn.skipped

    def request(self) -> bytes:
        """Return the body of the next request; see `ToolLoop`."""
        if not self._items:
            return edited(self._body, self._tools)
        turns = with_outputs if self._conversation else with_turns
        return edited(self._body, {**self._tools, **turns(self._body, self._items)})

    def decoder(self, inner: StreamDecoder) -> StreamDecoder:
        """Return the decoder of the next turn's stream; see `ToolLoop`."""
        self._turn = Turn(self._theirs)
        return TurnDecoder(inner, self._turn, self._answer, self._held, self._ended)

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
            self._ended()
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

    def _ended(self) -> None:
        """The last turn has ended: note where the client goes on from."""
        last = self._conversation or self._turn.id
        shown = self._conversation or self._answer.shown_id or last
        if self._conversation or (self._stored and self._turn.stored):
            self._note(Chain(shown, last, tuple([call.id for call in self._turn.skipped])))


class ResponsesLoops:
    """Makes loops, and remembers for their clients' next requests; a `LoopFactory`."""

    def __init__(self) -> None:
        self._chains = Chains()

    def __call__(self, body: Body, tools: tuple[Tool, ...]) -> ResponsesLoop | None:
        """Return the loop of a request; see `LoopFactory`. One that goes on with a chain has one without tools too."""
        followed = self._chains.followed(body)
        if followed is not None:
            body = read_body(followed)
        theirs = names_like_ours(body)
        ours = tuple([tool for tool in tools if tool.id not in theirs]) if takes_tools(body) else ()
        if followed is None and not ours:
            return None
        return ResponsesLoop(body, ours, theirs, self._chains.note)
