"""The content blocks of one turn of the Messages API: what came of each, and whose it is. Pure.

Source: https://docs.anthropic.com/en/docs/build-with-claude/streaming and the accumulators of Anthropic's SDKs.
"""

import re
from collections.abc import Sequence
from typing import Any

from aibridge import jsontext
from aibridge.body import Body, edited
from aibridge.errors import PayloadError
from aibridge.toolloop.base import ToolCall
from aibridge.wire import scan_object

MAX_BLOCKS = 4096
"""Of one turn. Real ones have some ten; one that searches the web, some hundred."""

GROWING = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}
"""Deltas whose text is put behind what came before, and the member that holds it."""

USUAL_DELTA = re.compile(
    rb'\{"type":"content_block_delta","index":([0-9]{1,9}),"delta":\{"type":"(text|thinking|input_json)_delta",'
    rb'"(?:text|thinking|partial_json)":"([^"\\]*+(?:\\.[^"\\]*+)*+)" *+\} *+\}'
)
"""A growing delta as both providers write it, in an event that is known to be JSON: index, kind, and piece."""


class Block:
    """One content block.

    Args:
        raw: its JSON text, as it began or as it is whole.
        fields: what that says.
        injected: whether it calls a tool of ours.
        index: its number at the client.
    """

    __slots__ = ("_grown", "_put", "fields", "index", "injected", "raw")

    def __init__(self, raw: bytes, fields: dict[str, Any], *, injected: bool, index: int = 0) -> None:
        self.raw = raw
        self.fields = fields
        self.injected = injected
        self.index = index
        self._grown: dict[str, bytearray] = {}
        self._put: dict[str, Any] = {}

    @property
    def is_own_call(self) -> bool:
        """Whether it calls a tool of the client's own; the provider's own tools have blocks of other types."""
        return self.fields.get("type") == "tool_use" and not self.injected

    def grow(self, kind: str, piece: bytes) -> None:
        """Put the inside of a JSON string behind the member of a kind of delta, and of what the block began with."""
        member = GROWING[kind]
        pieces = self._grown.get(member)
        if pieces is None:
            pieces = self._grown[member] = bytearray(_inside(self.fields.get(member)))
        pieces += piece

    def change(self, delta: dict[str, Any]) -> None:
        """Take a delta of any kind: a citation is added to the others, of all else the last holds."""
        kind = delta.get("type")
        if isinstance(kind, str) and kind in GROWING:
            self.grow(kind, _inside(delta.get(GROWING[kind])))
        elif kind == "citations_delta":
            if "citations" not in self._put:
                began = self.fields.get("citations")
                self._put["citations"] = list(began) if isinstance(began, list) else []
            self._put["citations"].append(delta.get("citation"))
        else:
            self._put |= {name: value for name, value in delta.items() if name != "type"}

    def text(self) -> bytes:
        """Return the block as JSON, as a request can bring it back; empty where none can."""
        values = {name: jsontext.dumps(value) for name, value in self._put.items()}
        values |= {name: b'"%b"' % bytes(pieces) for name, pieces in self._grown.items()}
        arguments = values.pop("partial_json", b'""')
        is_call = jsontext.text_of(self.fields.get("type")).endswith("tool_use")
        if is_call and (arguments != b'""' or not isinstance(self.fields.get("input"), dict)):
            values["input"] = _object_of(_string(arguments))
        if self.fields.get("type") == "text" and not _string(values.get("text"), self.fields.get("text")).strip():
            return b""  # the API refuses blank text
        return edited(Body(self.raw, scan_object(self.raw)), values) if values else self.raw

    def call(self) -> ToolCall:
        """Return the call that it makes."""
        arguments = _string(b'"%b"' % bytes(self._grown.get("partial_json", b"")))
        if not arguments and "input" in self.fields:
            arguments = (Body(self.raw, scan_object(self.raw)).value("input") or b"").decode()
        return ToolCall(jsontext.text_of(self.fields.get("id")), jsontext.text_of(self.fields.get("name")), arguments)


def contents(blocks: Sequence[Block]) -> list[bytes]:
    """Return blocks as the content of a message of a request."""
    return [text for block in blocks if (text := block.text())]


def calls(blocks: Sequence[Block]) -> tuple[ToolCall, ...]:
    """Return the injected calls among some blocks, in their order."""
    return tuple(block.call() for block in blocks if block.injected)


def may_run(stop_reason: str, blocks: Sequence[Block]) -> bool:
    """Whether a turn's injected calls are run, and another turn follows.

    Not where the client's own calls stand beside them: it has to answer these first, and so has the whole message. Nor
    where the model was cut short, or has ended in another way than to wait for results.
    """
    injected = any(block.injected for block in blocks)
    return stop_reason == "tool_use" and injected and not any(block.is_own_call for block in blocks)


def _inside(value: Any) -> bytes:
    return jsontext.dumps(value)[1:-1] if isinstance(value, str) else b""


def _string(raw: bytes | None, otherwise: Any = "") -> str:
    return str(jsontext.loads(raw)) if raw is not None else jsontext.text_of(otherwise)


def _object_of(arguments: str) -> bytes:
    """Return arguments as the API takes them back; what is no object, or was cut, is an empty one."""
    try:
        raw = arguments.encode()
        scan_object(raw)
    except (UnicodeEncodeError, PayloadError):
        return b"{}"
    return raw
