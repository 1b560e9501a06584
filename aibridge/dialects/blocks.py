"""The content blocks of one answer of the Messages API: tool uses and thoughts, put together as they complete."""

import re
from typing import Any

from aibridge import jsontext
from aibridge.dialects.base import MAX_FACTS, dumped
from aibridge.dialects.pieces import Pieces
from aibridge.dialects.raw import Raw
from aibridge.errors import PayloadError
from aibridge.values import MAX_ID_CHARACTERS, Thought, ToolUse

MAX_OPEN_BLOCKS = 4
"""Blocks under way at the same time. The API has one."""

_TOOLS = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})
_THINKING = "thinking"
_FIELDS = ("type", "id", "name", "input", "thinking")

_USUAL_DELTA = re.compile(
    rb'\{"type":"content_block_delta","index":([0-9]{1,9}),"delta":\{"type":"(?:input_json_delta","partial_json|thinking_delta",'
    rb'"thinking)":"([^"\\]*+(?:\\.[^"\\]*+)*+)" *+\} *+\}'
)
"""A delta as both providers write it, in an event that is known to be JSON."""


class Blocks:
    """Takes the events of blocks, and gives the facts.

    Args:
        arguments: whether the arguments of tools are wanted; without them they are empty.
        thoughts: whether thoughts are wanted.
    """

    __slots__ = ("_arguments", "_count", "_open", "_thoughts", "facts")

    def __init__(self, *, arguments: bool, thoughts: bool) -> None:
        self._arguments = arguments
        self._thoughts = thoughts
        self._open: dict[int, _Block] = {}
        self._count = 0
        self.facts: list[ToolUse | Thought] = []
        """What has completed, until somebody takes it away."""

    def start(self, index: Any, block: Any) -> None:
        """A block begins."""
        if isinstance(index, int) and isinstance(block, dict) and len(self._open) < MAX_OPEN_BLOCKS:
            kind = block.get("type")
            if kind in _TOOLS or (kind == _THINKING and self._thoughts):
                self._open[index] = _Block(block)

    def delta(self, data: bytes) -> None:
        """A block goes on; `data` is the event's."""
        if not self._open:
            return
        usual = _USUAL_DELTA.fullmatch(data)
        if usual is not None:
            index, piece = int(usual[1]), usual[2]
        else:
            index, piece = _read_delta(data)
        if index in self._open:
            self._open[index].add(piece)

    def stop(self, index: Any) -> None:
        """A block is complete."""
        block = self._open.pop(index, None) if isinstance(index, int) else None
        if block is not None:
            self._add(block.fields, block.text())

    def stop_all(self) -> None:
        """The message is complete, and so is what it holds."""
        for index in list(self._open):
            self.stop(index)

    def take_whole(self, body: bytes) -> None:
        """Take the blocks of a valid JSON object, a message that is not streamed: the last ones of very many."""
        if b"tool_use" not in body and b"thinking" not in body:
            return
        message = Raw(body, body.index(b"{"), body.rindex(b"}") + 1)
        content = message.members("content").get("content")
        blocks = [block.members(*_FIELDS) for block in content.elements()] if content is not None else []
        for block in reversed(blocks):
            fields: dict[str, Any] = {key: value.string() for key, value in block.items()}
            whole = fields.get("type") in _TOOLS and "input" in block
            self._add(fields, block["input"].raw().decode() if whole else "")

    def _add(self, fields: dict[str, Any], pieces: str) -> None:
        kind = fields.get("type")
        fact: ToolUse | Thought | None = None
        if kind in _TOOLS:
            arguments = (pieces or dumped(fields.get("input"))) if self._arguments else ""
            fact = ToolUse(_name(fields.get("id")), _name(fields.get("name")), arguments)
        elif kind == _THINKING and self._thoughts:
            text = jsontext.text_of(fields.get("thinking")) + pieces
            fact = Thought(text, _THINKING) if text else None
        if fact is not None and self._count < MAX_FACTS:
            self._count += 1
            self.facts.append(fact)


class _Block(Pieces):
    """A block under way."""

    __slots__ = ("fields",)

    def __init__(self, fields: dict[str, Any]) -> None:
        super().__init__()
        self.fields = fields


def _read_delta(data: bytes) -> tuple[int, bytes]:
    """Return index and piece of a delta that is not written as usual; -1 where it is none that we know."""
    try:
        event = jsontext.loads(data)
        delta = event["delta"]
        index, piece = event["index"], delta.get("partial_json", delta.get("thinking"))
    except (PayloadError, TypeError, KeyError, AttributeError):
        return -1, b""
    if not isinstance(index, int) or not isinstance(piece, str):
        return -1, b""
    return index, jsontext.dumps(piece)[1:-1]


def _name(value: Any) -> str:
    return jsontext.text_of(value)[:MAX_ID_CHARACTERS]
