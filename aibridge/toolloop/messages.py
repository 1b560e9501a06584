"""The tool loop of Anthropic's Messages API, streaming or not. Sans I/O.

Source: https://docs.anthropic.com/en/docs/agents-and-tools/tool-use and the recorded traffic of both providers.
"""

from collections.abc import Sequence
from typing import Any

from aibridge import jsontext
from aibridge.body import Body, edited
from aibridge.dialects.raw import Raw
from aibridge.errors import CorruptPayload, PayloadError
from aibridge.toolloop.base import MAX_TURN_BYTES, Tool, ToolCall, ToolResult
from aibridge.toolloop.messages_blocks import MAX_BLOCKS, Block, calls, contents, may_run
from aibridge.toolloop.messages_request import Offer, assistant_message, offer, request_with, results_message
from aibridge.toolloop.messages_stream import StreamedTurn, Told
from aibridge.toolloop.messages_usage import summed
from aibridge.toolloop.rewriting import RewritingDecoder
from aibridge.values import StreamDecoder
from aibridge.wire import scan_object


def messages_loop(body: Body, tools: tuple[Tool, ...]) -> "MessagesLoop | None":
    """Return the loop of a request; None where it can take no tools."""
    offered = offer(body, tools) if tools else None
    return None if offered is None else MessagesLoop(body, offered)


class MessagesLoop:
    """The turns of one interception; a `ToolLoop`."""

    def __init__(self, body: Body, offered: Offer) -> None:
        self._body = body
        self._offer = offered
        self._told = Told()
        self._turn: StreamedTurn | WholeTurn | None = None
        self._messages: list[bytes] = []
        self._content: list[bytes] = []  # of the client's answer where it is not streamed
        self._id: bytes | None = None

    def request(self) -> bytes:
        """Return the body of the next request; see `ToolLoop`."""
        return request_with(self._body, self._offer.text, self._messages)

    def decoder(self, inner: StreamDecoder) -> StreamDecoder:
        """Return the decoder of the next turn's stream; see `ToolLoop`."""
        turn = self._turn = StreamedTurn(self._told, self._offer)
        return RewritingDecoder(inner, turn.rewrite)

    def take_body(self, body: bytes) -> bytes:
        """Take the next turn's whole answer; see `ToolLoop`. Returns nothing where it is not the last."""
        turn = self._turn = WholeTurn(body, self._offer)
        first = self._told.turns == 0
        if first and not turn.calls and not turn.skipped:
            return body
        self._content += turn.kept
        if first:
            self._id = turn.body.value("id")
        usage = summed(self._told.usage, turn.usage)
        if turn.calls:
            self._told.turns += 1
            self._told.usage = usage
            return b""
        values = {"content": b"[%b]" % b",".join(self._content)}
        if not first:
            values["usage"] = jsontext.dumps(usage)
            if self._id is not None:
                values["id"] = self._id  # the one that a stream begins with
        return edited(turn.body, values)

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The calls to run; see `ToolLoop`."""
        return self._turn.calls if self._turn is not None else ()

    @property
    def skipped(self) -> tuple[ToolCall, ...]:
        """Calls that are not to run; see `ToolLoop`."""
        return self._turn.skipped if self._turn is not None else ()

    def answer(self, results: Sequence[ToolResult]) -> None:
        """Take the results; see `ToolLoop`."""
        if self._turn is not None:
            self._messages += [assistant_message(self._turn.content()), results_message(self._turn.calls, results)]
            self._turn = None


class WholeTurn:
    """One turn that is not streamed. Raises `CorruptPayload` where it is not what was promised, or too large."""

    def __init__(self, body: bytes, offered: Offer) -> None:
        if len(body) > MAX_TURN_BYTES:
            raise CorruptPayload(f"the answer is over the limit of {MAX_TURN_BYTES} bytes that a turn with tools has")
        try:
            self.body = Body(body, scan_object(body))
        except PayloadError as error:
            raise CorruptPayload(f"the answer is not what was promised: {error}") from None
        content = self.body.value("content") or b""
        items = [item.raw() for item in Raw(content, 0, len(content)).elements(MAX_BLOCKS + 1)]
        if len(items) > MAX_BLOCKS:
            raise CorruptPayload(f"the answer has over {MAX_BLOCKS} content blocks")
        self._blocks = [_block_of(item, offered) for item in reversed(items)]
        to_run = may_run(jsontext.text_of(self._field("stop_reason")), self._blocks)
        injected = calls(self._blocks)
        self.calls = injected if to_run else ()
        self.skipped = () if to_run else injected

    def content(self) -> list[bytes]:
        """Return the blocks of the turn, ours too, as the content of a message of the next request."""
        return contents(self._blocks)

    @property
    def kept(self) -> list[bytes]:
        """What the client gets of the content."""
        return [block.raw for block in self._blocks if not block.injected]

    @property
    def usage(self) -> dict[str, Any]:
        """The turn's counts as they came."""
        usage = self._field("usage")
        return usage if isinstance(usage, dict) else {}

    def _field(self, name: str) -> Any:
        return jsontext.loads(self.body.value(name) or b"null")


def _block_of(raw: bytes, offered: Offer) -> Block:
    fields = jsontext.loads(raw)
    if not isinstance(fields, dict):
        fields = {}
    return Block(raw, fields, injected=offered.calls_ours(fields))
