"""What a request of the Messages API asks: the user's words, and which tool call it answers.

Only the last message is looked at, as in every request the whole conversation comes again; where it is not the user's,
or holds no text, a model goes on with its work, and nobody asked anything. Messages of the role `system` that clients
put behind the user's are passed over.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from aibridge import jsontext
from aibridge.dialects.raw import MAX_ELEMENTS, Raw
from aibridge.values import MAX_ID_CHARACTERS
from aibridge.wire import Member, element_start

MAX_TREE_BYTES = 65_536
"""Up to this size a message is parsed whole; of a larger one only what is needed: its tree may be many times larger."""


class Asking(NamedTuple):
    """What a request asks. `prompt` is empty where nobody asked."""

    prompt: str = ""
    correlating_tool_call_id: str = ""


def read_asking(body: bytes, members: Sequence[Member]) -> Asking:
    """Return what a request asks. What is not as the API wants it says nothing.

    Args:
        body: a valid JSON object.
        members: its members.
    """
    for member in reversed(members):
        if member.key == "messages":
            return _read_message(next(_messages(body, member.value_start, member.value_end - 1), {}))
    return Asking()


def _messages(body: bytes, begin: int, end: int) -> Iterator[dict[str, Any]]:
    """Yield the messages that are not the client's own remarks, the last one first.

    Args:
        body: holds the array.
        begin: of it; another value there has no messages.
        end: its closing bracket.
    """
    for _ in range(MAX_ELEMENTS if body.startswith(b"[", begin) else 0):
        start = element_start(body, begin, end)
        message = _read_element(body, start, end)
        if isinstance(message, dict) and message.get("role") != "system":
            yield message
        end = start - 1
        if end <= begin:
            return


def _read_element(body: bytes, start: int, end: int) -> Any:
    if end - start > MAX_TREE_BYTES:
        return _large_message(Raw.without_blanks(body, start, end))
    text = body[start:end]
    return jsontext.loads(text) if text.strip() else None  # an empty array has no element


def _large_message(message: Raw) -> dict[str, Any]:
    """Return the parts of a message that matter here."""
    members = message.members("role", "content")
    content = members.get("content")
    blocks = [block.members("type", "text", "tool_use_id") for block in content.elements()] if content else []
    said: list[Any] = [{key: value.string() for key, value in block.items()} for block in reversed(blocks)]
    role = members["role"].string() if "role" in members else ""
    return {"role": role, "content": said or (content.string() if content else "")}


def _read_message(message: dict[str, Any]) -> Asking:
    content = message.get("content")
    users = message.get("role") == "user"
    if not isinstance(content, list):
        return Asking(_text(content) if users else "")
    blocks = [block for block in content if isinstance(block, dict)]
    texts = (_text(block.get("text")) for block in reversed(blocks) if block.get("type") == "text")
    results = (_text(block.get("tool_use_id")) for block in reversed(blocks) if block.get("type") == "tool_result")
    prompt = next(texts, "") if users else ""
    return Asking(prompt, next(filter(None, results), "")[:MAX_ID_CHARACTERS])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
