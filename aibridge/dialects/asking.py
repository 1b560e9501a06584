"""What a request of the Messages API asks: the user's words, and which tool call it answers.

Only the last message is looked at, as in every request the whole conversation comes again; where it is not the user's,
or holds no text, a model goes on with its work, and nobody asked anything. Messages of the role `system` that clients
put behind the user's are passed over.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from aibridge import jsontext
from aibridge.dialects.raw import Raw
from aibridge.values import MAX_ID_CHARACTERS
from aibridge.wire import Member

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
            messages = _messages(Raw(body, member.value_start, member.value_end))
            return _read_message(next(messages, {}))
    return Asking()


def _messages(messages: Raw) -> Iterator[dict[str, Any]]:
    """Yield the messages that are not the client's own remarks, the last one first."""
    for element in messages.elements():
        message = jsontext.loads(element.raw()) if element.size <= MAX_TREE_BYTES else _large_message(element)
        if isinstance(message, dict) and message.get("role") != "system":
            yield message


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
