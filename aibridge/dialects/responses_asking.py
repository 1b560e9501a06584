"""What a request of the Responses API asks: the user's words, and which tool call it answers.

`input` is a string, or items, of which the last ones are new: what the user says, and what came of tools, up to the
last item that the model made. Remarks of the client's own (roles `developer` and `system`), and tools that it
adds so, are passed over. No tree is built, whatever the size.
"""

import re

from aibridge.body import Body
from aibridge.dialects.raw import Raw
from aibridge.values import MAX_ID_CHARACTERS

_REMARKS = frozenset({"developer", "system"})
_CLIENTS = _REMARKS | {"user"}
_MESSAGE = "message"

_USUAL = re.compile(rb'\{\s*+(?:"type"\s*+:\s*+"([a-z_]++)"\s*+,\s*+)?("role"|"call_id")\s*+:\s*+"([!#-[\]-~]++)"')
"""How most items begin. Where the key does not come again, its value is the one."""

MAX_KEY_BYTES = 4096
"""Of `prompt_cache_key`, where it is looked into. Real ones are UUIDs."""


def read_prompt(body: Body) -> str:
    """Return the user's words; empty where nobody asked. What is not as the API wants it says nothing."""
    asked = _member(body, "input")
    if asked is None:
        return ""
    for item in asked.elements():
        fields = item.members("type", "role", "content")
        kind, role = _type_and_role(fields)
        if role not in _REMARKS:
            is_asked = kind == _MESSAGE and role == "user" and "content" in fields
            return _words(fields["content"]) if is_asked else ""
    return asked.string()


def read_tool_call_id(body: Body) -> str:
    """Return the tool call that the request answers, of several the last; empty where it answers none.

    Every request pays for this, whatever is kept of it: items that are written as usual are not walked through.
    """
    asked = _member(body, "input")
    for item in asked.elements() if asked is not None else ():
        kind, role, call_id = _usual(item) or _read(item)
        if kind.endswith("_call_output") or kind == "tool_search_output":
            return call_id[:MAX_ID_CHARACTERS]
        if role not in _CLIENTS:
            return ""
    return ""


def _usual(item: Raw) -> tuple[str, str, str] | None:
    """Return type, role and call of an item that is written as usual; None for another."""
    found = _USUAL.match(item.text, item.start, item.end)
    if found is None or item.text.rfind(found[2], found.end(), item.end) >= 0:
        return None
    kind, value = (found[1] or _MESSAGE.encode()).decode(), found[3].decode()
    if found[2] == b'"role"':
        return (kind, value, "") if kind == _MESSAGE else None
    return kind, "", value


def _read(item: Raw) -> tuple[str, str, str]:
    """Return type, role and call of any item."""
    fields = item.members("type", "role", "call_id")
    return *_type_and_role(fields), fields["call_id"].string() if "call_id" in fields else ""


def read_prompt_cache_key(body: Body) -> str:
    """Return `prompt_cache_key`, which is one for each session, or the empty string."""
    key = _member(body, "prompt_cache_key")
    return "" if key is None or key.size > MAX_KEY_BYTES else key.string()


def _member(body: Body, name: str) -> Raw | None:
    """Return a top-level value; of repeated keys the last."""
    for member in reversed(body.members):
        if member.key == name:
            return Raw(body.raw, member.value_start, member.value_end)
    return None


def _type_and_role(fields: dict[str, Raw]) -> tuple[str, str]:
    """Return type and role of an item; messages may leave out the type."""
    kind = fields["type"].string() if "type" in fields else _MESSAGE
    return kind, fields["role"].string() if "role" in fields else ""


def _words(content: Raw) -> str:
    parts = [part.members("type", "text") for part in content.elements()]
    texts = [part["text"].string() for part in reversed(parts) if _is_text(part)]
    return "\n".join(filter(None, texts)) or content.string()


def _is_text(part: dict[str, Raw]) -> bool:
    return "text" in part and "type" in part and part["type"].string() == "input_text"
