"""One streaming turn of the Messages API: which events the client gets, under which numbers. Pure.

Nothing waits for a decision: a block is the client's or ours when it begins, and whether the turn is the last one the
stop reason tells, behind all blocks. A first turn without injected calls stays as it came, to the byte.
"""

import re
from collections.abc import Callable
from typing import Any, ClassVar

from aibridge import jsontext
from aibridge.body import Body, edited
from aibridge.dialects.base import fields_of
from aibridge.errors import CorruptPayload
from aibridge.toolloop.base import MAX_TURN_BYTES, ToolCall
from aibridge.toolloop.messages_blocks import MAX_BLOCKS, USUAL_DELTA, Block, calls, contents, may_run
from aibridge.toolloop.messages_request import Offer
from aibridge.toolloop.messages_usage import summed, summed_metrics, updated
from aibridge.values import Event
from aibridge.wire import encode_event, scan_object

_DELTA = "content_block_delta"
_METRICS = "amazon-bedrock-invocationMetrics"

_WITHHELD = b""
_AS_IT_CAME = None


class Told:
    """What the client has been told in the turns so far."""

    __slots__ = ("blocks", "metrics", "started", "turns", "usage")

    def __init__(self) -> None:
        self.started = False
        self.turns = 0
        """Those that are over, and were not the last."""
        self.blocks = 0
        self.usage: dict[str, Any] = {}
        """The sum of the turns that are over; `metrics` too."""
        self.metrics: dict[str, Any] = {}


class StreamedTurn:
    """One turn. `rewrite` is for `RewritingDecoder`; the rest is empty until the API's last word of the turn."""

    def __init__(self, told: Told, offer: Offer) -> None:
        self.calls: tuple[ToolCall, ...] = ()
        self.skipped: tuple[ToolCall, ...] = ()
        self._told = told
        self._offer = offer
        self._blocks: list[Block] = []
        self._open: dict[int, Block] = {}
        self._size = 0
        self._usage: dict[str, Any] = {}
        self._stop_reason = ""
        self._hides = False
        self._to_run = False
        self._over = False

    def rewrite(self, event: Event) -> bytes | None:
        """Take an event; return what the client gets in its place, see `Rewrite`."""
        if self._over:
            return _AS_IT_CAME
        if event.type == _DELTA:
            usual = USUAL_DELTA.fullmatch(event.data)
            if usual is not None and int(usual[1]) in self._open:
                return self._grow_block(event, usual)
        fields = fields_of(event.data)
        kind = event.type or jsontext.text_of(fields.get("type"))
        handle = self._HANDLERS.get(kind)
        return handle(self, event, fields) if handle is not None else _AS_IT_CAME

    def content(self) -> list[bytes]:
        """Return the blocks of the turn, ours too, as the content of a message of the next request."""
        return contents(self._blocks)

    @property
    def _is_untouched(self) -> bool:
        """Whether the client has been told nothing else so far than the upstream has said."""
        return self._told.turns == 0 and not self._hides

    def _start(self, event: Event, fields: dict[str, Any]) -> bytes | None:
        self._count(len(event.data))
        message = fields.get("message")
        if isinstance(message, dict):
            self._usage = updated(self._usage, message.get("usage"))
        if self._told.started:
            return _WITHHELD
        self._told.started = True
        return _AS_IT_CAME

    def _start_block(self, event: Event, fields: dict[str, Any]) -> bytes | None:
        index, began = fields.get("index"), fields.get("content_block")
        if not isinstance(began, dict):
            return self._stray()
        injected = self._offer.calls_ours(began)
        self._hides = self._hides or injected
        if self._stop_reason or not isinstance(index, int):
            return self._stray()
        self._count(len(event.data))
        if len(self._blocks) == MAX_BLOCKS:
            raise CorruptPayload(f"the answer has over {MAX_BLOCKS} content blocks")
        raw = Body(event.data, scan_object(event.data)).value("content_block") or b""
        block = Block(raw, began, injected=injected, index=self._told.blocks)
        self._blocks.append(block)
        self._open[index] = block
        if injected:
            return _WITHHELD
        self._told.blocks += 1
        return _renumbered(event, index, block)

    def _grow_block(self, event: Event, usual: re.Match[bytes]) -> bytes | None:
        """Take a delta that is written as usual: the way of most events, on which nothing is parsed."""
        block, piece = self._open[int(usual[1])], usual[3]
        self._count(len(piece))
        block.grow(usual[2].decode() + "_delta", piece)
        if block.injected:
            return _WITHHELD
        number = b"%d" % block.index
        if usual[1] == number:
            return _AS_IT_CAME
        start, end = usual.span(1)
        return encode_event(event.type, event.data[:start] + number + event.data[end:])

    def _change_block(self, event: Event, fields: dict[str, Any]) -> bytes | None:
        index, delta = fields.get("index"), fields.get("delta")
        block = self._open.get(index) if isinstance(index, int) else None
        if block is None or not isinstance(delta, dict):
            return self._stray()
        self._count(len(event.data))
        block.change(delta)
        return _WITHHELD if block.injected else _renumbered(event, index, block)

    def _stop_block(self, event: Event, fields: dict[str, Any]) -> bytes | None:
        index = fields.get("index")
        block = self._open.pop(index, None) if isinstance(index, int) else None
        if block is None:
            return self._stray()
        return _WITHHELD if block.injected else _renumbered(event, index, block)

    def _delta(self, event: Event, fields: dict[str, Any]) -> bytes | None:
        self._count(len(event.data))
        self._usage = updated(self._usage, fields.get("usage"))
        delta = fields.get("delta")
        reason = jsontext.text_of(delta.get("stop_reason")) if isinstance(delta, dict) else ""
        if not self._stop_reason:
            self._stop_reason = reason
            self._to_run = may_run(reason, self._blocks)
        if self._to_run or not (reason or self._is_untouched):
            return _WITHHELD  # another turn follows, or it is but a count on the way there
        if not self._told.turns:
            return _AS_IT_CAME
        usage = summed(self._told.usage, self._usage)
        return encode_event(event.type, _with(event.data, "usage", jsontext.dumps(usage)))

    def _stop(self, event: Event, fields: dict[str, Any]) -> bytes | None:
        self._over = True
        metrics = summed_metrics(self._told.metrics, fields.get(_METRICS))
        injected = calls(self._blocks)
        if self._to_run:
            self._told.turns += 1
            self._told.usage = summed(self._told.usage, self._usage)
            self._told.metrics = metrics
            self.calls = injected
            return _WITHHELD
        self.skipped = injected
        if not (self._told.metrics and fields):
            return _AS_IT_CAME
        return encode_event(event.type, _with(event.data, _METRICS, jsontext.dumps(metrics)))

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > MAX_TURN_BYTES:
            raise CorruptPayload(f"the answer is over the limit of {MAX_TURN_BYTES} bytes that a turn with tools has")

    def _stray(self) -> bytes | None:
        """An event of a block that has not begun: at the client its number may be another block's."""
        return _AS_IT_CAME if self._is_untouched else _WITHHELD

    _HANDLERS: ClassVar[dict[str, Callable[["StreamedTurn", Event, dict[str, Any]], bytes | None]]] = {
        "message_start": _start,
        "content_block_start": _start_block,
        _DELTA: _change_block,
        "content_block_stop": _stop_block,
        "message_delta": _delta,
        "message_stop": _stop,
    }


def _renumbered(event: Event, index: Any, block: Block) -> bytes | None:
    if index == block.index:
        return _AS_IT_CAME
    return encode_event(event.type, _with(event.data, "index", b"%d" % block.index))


def _with(data: bytes, name: str, value: bytes) -> bytes:
    return edited(Body(data, scan_object(data)), {name: value})
