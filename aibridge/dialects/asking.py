"""What a request of the Messages API asks: the user's words, and which tool call it answers.

Only the last message is looked at, as in every request the whole conversation comes again; where it is not the user's,
or holds no text, a model goes on with its work, and nobody asked anything. Messages of the role `system` that clients
put behind the user's are passed over.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from aibridge import jsontext
from aibridge.body import Body
from aibridge.dialects.raw import MAX_ELEMENTS, Raw
from aibridge.values import MAX_ID_CHARACTERS
from aibridge.wire import Member, element_start

MAX_USER_ID_BYTES = 4096
"""Of `metadata.user_id`, where it is looked into. Real ones have some hundred."""

MAX_TREE_BYTES = 65_536
"""Up to this size a message is parsed whole; of a larger one only what is needed: its tree may be many times larger."""

_RESULT_KEY = b'"tool_use_id"'
"""Inside of a text each quotation mark has a backslash before it: so it ends there, and is a key or a whole value."""

_SYSTEM = b'"system"'

_USUAL_RESULT = re.compile(
    rb'\s*+\{\s*+"role"\s*+:\s*+"user"\s*+,\s*+"content"\s*+:\s*+\[\s*+\{\s*+'
    rb'(?:"type"\s*+:\s*+"tool_result"\s*+,\s*+("tool_use_id")\s*+:\s*+"([!#-[\]-~]++)"'
    rb'|("tool_use_id")\s*+:\s*+"([!#-[\]-~]++)"\s*+,\s*+"type"\s*+:\s*+"tool_result")'
)
"""How messages begin whose first block is a result. Where no other such key follows, it is the one."""


def read_prompt(body: bytes, members: Sequence[Member]) -> str:
    """Return the user's words; empty where nobody asked. What is not as the API wants it says nothing.

    Args:
        body: a valid JSON object.
        members: its members.
    """
    message = next(_messages(body, *_place_of_messages(members)), {})
    content = message.get("content")
    if message.get("role") != "user":
        return ""
    if not isinstance(content, list):
        return jsontext.text_of(content)
    return next((jsontext.text_of(block.get("text")) for block in _blocks(content, "text")), "")


def read_tool_call_id(body: bytes, members: Sequence[Member]) -> str:
    """Return the tool call that the request answers; empty where it answers none.

    Every request pays for this, whatever is kept of it: of what has no result, and of one result as clients write it,
    nothing is parsed.

    Args:
        body: a valid JSON object.
        members: its members.
    """
    for start, behind in _places(body, *_place_of_messages(members)):
        key = body.rfind(_RESULT_KEY, start, behind)
        if key < 0 and _is_no_remark(body, start, behind):
            return ""
        usual = _USUAL_RESULT.match(body, start, behind)
        if usual is not None and key in (usual.start(1), usual.start(3)):
            return (usual[2] or usual[4]).decode()[:MAX_ID_CHARACTERS]
        message = _message(body, start, behind)
        if message is not None:
            content = message.get("content")
            ids = [jsontext.text_of(block.get("tool_use_id")) for block in _blocks(content, "tool_result")]
            return next(filter(None, ids), "")[:MAX_ID_CHARACTERS]
    return ""


def read_user_id(body: Body) -> str:
    """Return `metadata.user_id`, or the empty string where there is none that can be one."""
    metadata = body.value("metadata") or b""
    member = Raw(metadata, 0, len(metadata)).members("user_id").get("user_id")
    return "" if member is None or member.size > MAX_USER_ID_BYTES else member.string()


def _is_no_remark(body: bytes, start: int, end: int) -> bool:
    """Whether a message is surely one, and no remark of the client's."""
    return body.startswith(b"{", Raw.without_blanks(body, start, end).start) and body.rfind(_SYSTEM, start, end) < 0


def _place_of_messages(members: Sequence[Member]) -> tuple[int, int]:
    """Return where the messages begin, and their closing bracket; of repeated ones the last."""
    for member in reversed(members):
        if member.key == "messages":
            return member.value_start, member.value_end - 1
    return 0, 0


def _messages(body: bytes, begin: int, end: int) -> Iterator[dict[str, Any]]:
    """Yield the messages that are not the client's own remarks, the last one first."""
    for start, behind in _places(body, begin, end):
        message = _message(body, start, behind)
        if message is not None:
            yield message


def _places(body: bytes, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield where the messages stand, the last one first.

    Args:
        body: holds the array.
        begin: of it; another value there has no messages.
        end: its closing bracket.
    """
    for _ in range(MAX_ELEMENTS if body.startswith(b"[", begin) else 0):
        start = element_start(body, begin, end)
        yield start, end
        end = start - 1
        if end <= begin:
            return


def _message(body: bytes, start: int, end: int) -> dict[str, Any] | None:
    """Return a message; None where it is none, or a remark of the client's."""
    message = _read_element(body, start, end)
    return message if isinstance(message, dict) and message.get("role") != "system" else None


def _read_element(body: bytes, start: int, end: int) -> Any:
    if end - start > MAX_TREE_BYTES:
        message = Raw.without_blanks(body, start, end)
        return _large_message(message) if body.startswith(b"{", message.start) else None
    text = body[start:end]
    return jsontext.loads(text) if text.strip() else None  # an empty array has no element


def _large_message(message: Raw) -> dict[str, Any]:
    """Return the parts of a message that matter here."""
    members = message.members("role", "content")
    role = members["role"].string() if "role" in members else ""
    content = members.get("content")
    if content is None or role == "system":
        return {"role": role}
    blocks = [block.members("type", "text", "tool_use_id") for block in content.elements()]
    said: list[Any] = [{key: value.string() for key, value in block.items()} for block in reversed(blocks)]
    return {"role": role, "content": said or content.string()}


def _blocks(content: Any, kind: str) -> Iterator[dict[str, Any]]:
    """Yield the blocks of a kind, the last one first."""
    for block in reversed(content) if isinstance(content, list) else ():
        if isinstance(block, dict) and block.get("type") == kind:
            yield block
