"""A request of the Messages API with tools of ours, and with the turns behind it. Pure.

What the client has written stays to the byte, cache breakpoints and all: tools are put before its own, so that its
breakpoints cover them, and turns behind its messages.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from aibridge import jsontext
from aibridge.body import Body, edited
from aibridge.toolloop.base import PREFIX, Image, Text, Tool, ToolCall, ToolResult


class Offer(NamedTuple):
    """The tools of one interception, as the model sees them."""

    ids: frozenset[str]
    theirs: frozenset[str]
    """Names of the client's own tools that begin as ours do: another gateway's, most likely."""
    text: bytes
    """The definitions of ours, as JSON, with commas between."""

    def calls_ours(self, block: dict[str, Any]) -> bool:
        """Whether a content block calls a tool of ours, though it be one that is not there."""
        name = block.get("name")
        if block.get("type") != "tool_use" or not isinstance(name, str):
            return False
        return name in self.ids or (name.startswith(PREFIX) and name not in self.theirs)


def offer(body: Body, tools: tuple[Tool, ...]) -> Offer | None:
    """Return what is offered with a request; None where it can take no tools.

    None too where `tools` or `messages` are not what the API has: the upstream is to refuse what the client wrote.
    """
    own = body.value("tools") or b"null"
    messages = body.value("messages") or b""
    if not (own == b"null" or own.startswith(b"[")) or not messages.startswith(b"["):
        return None
    if _tool_choice(body).get("type") == "none":
        return None
    theirs = _names_like_ours(own)
    # Two tools of one name would be refused. The client's own stays.
    left = tuple(tool for tool in tools if tool.id not in theirs) if theirs else tools
    return Offer(frozenset(tool.id for tool in left), theirs, rendered(left)) if left else None


@lru_cache(maxsize=8)
def rendered(tools: tuple[Tool, ...]) -> bytes:
    """Return the definitions of some tools, with commas between."""
    return b",".join([_definition(tool) for tool in tools])


def _definition(tool: Tool) -> bytes:
    fields = {"name": tool.id, "description": tool.description} if tool.description else {"name": tool.id}
    return b'%b,"input_schema":%b}' % (jsontext.dumps(fields)[:-1], tool.schema)


def _names_like_ours(tools: bytes) -> frozenset[str]:
    if PREFIX.encode() not in tools:
        return frozenset()
    named = [tool.get("name") for tool in jsontext.loads(tools) if isinstance(tool, dict)]
    return frozenset(name for name in named if isinstance(name, str) and name.startswith(PREFIX))


def request_with(body: Body, injected: bytes, turns: Sequence[bytes]) -> bytes:
    """Return the client's request with tools before its own, and with messages behind its own.

    Args:
        body: the client's.
        injected: definitions of tools, with commas between.
        turns: messages of the turns so far, as JSON.
    """
    own = body.value("tools") or b"null"
    values = {"tools": b"[" + injected + (b"]" if _is_empty(own) else b"," + own[1:])}
    if turns:
        messages = body.value("messages") or b"[]"
        comma = b"" if _is_empty(messages) else b","
        values["messages"] = messages[:-1] + comma + b",".join(turns) + b"]"
        choice = _tool_choice(body)
        if choice.get("type") in {"any", "tool"}:
            # Forced again and again, the model would call for ever.
            kept = {name: choice[name] for name in ("disable_parallel_tool_use",) if name in choice}
            values["tool_choice"] = jsontext.dumps({"type": "auto"} | kept)
    return edited(body, values)


def _is_empty(array: bytes) -> bool:
    return array == b"null" or not array[1:-1].strip()


def _tool_choice(body: Body) -> dict[str, Any]:
    value = jsontext.loads(body.value("tool_choice") or b"null")
    return value if isinstance(value, dict) else {}


def assistant_message(blocks: Sequence[bytes]) -> bytes:
    """Return a turn's answer as a message of the next request."""
    return b'{"role":"assistant","content":[%b]}' % b",".join(blocks)


def results_message(calls: Sequence[ToolCall], results: Sequence[ToolResult]) -> bytes:
    """Return the results of calls, all in one message, as the API wants those of one turn."""
    content = [_result(call, result) for call, result in zip(calls, results, strict=True)]
    return jsontext.dumps({"role": "user", "content": content})


def _result(call: ToolCall, result: ToolResult) -> dict[str, Any]:
    fields: dict[str, Any] = {"type": "tool_result", "tool_use_id": call.id}
    blocks = [block for part in result.content if (block := _block_of(part, result.is_error)) is not None]
    if result.is_error:
        # The API refuses an error without content.
        return fields | {"content": blocks or [_text_block("the tool failed without a word")], "is_error": True}
    return fields | {"content": blocks} if blocks else fields


MAX_IMAGE_CHARACTERS = 5 * 1024 * 1024
"""Of one picture in base64; the API refuses larger ones."""
IMAGE_TYPES = frozenset({"image/gif", "image/jpeg", "image/png", "image/webp"})
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*+(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


def _block_of(part: Text | Image, is_error: bool) -> dict[str, Any] | None:  # noqa: FBT001  a fact of the result
    """Return a part of a result as a content block; None for blank text, which the API refuses."""
    if isinstance(part, Text):
        return _text_block(part.text) if part.text.strip() else None
    if is_error:  # the API takes text alone there
        return _text_block("[image left out: the API takes none with an error]")
    if part.media_type not in IMAGE_TYPES:
        return _text_block("[image left out: the API does not take its type]")
    if len(part.data) > MAX_IMAGE_CHARACTERS:
        return _text_block("[image left out: larger than the API takes]")
    if not part.data or not _BASE64.fullmatch(part.data):
        return _text_block("[image left out: it is not base64]")
    return {"type": "image", "source": {"type": "base64", "media_type": part.media_type, "data": part.data}}


def _text_block(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}
