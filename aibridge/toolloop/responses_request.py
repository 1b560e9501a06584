"""Requests of a loop of the Responses API: the client's with our tools, and with what its turns have brought. Pure."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from aibridge import jsontext
from aibridge.body import Body
from aibridge.toolloop.base import PREFIX, Tool

_NULL = b"null"
_AUTO = b'"auto"'


def takes_tools(body: Body) -> bool:
    """Whether a request can have tools of ours.

    Not where the client forbids tools, or lists those that may be called; nor in the background, where the answer comes
    later and elsewhere. A stored prompt brings tools that are not in the request, and that ours would replace.
    """
    if body.value("background") == b"true":
        return False
    tools = body.value("tools")
    if tools in (None, _NULL) and body.value("prompt") not in (None, _NULL):
        return False
    choice = _value(body.value("tool_choice"))
    forbidden = choice == "none" or (isinstance(choice, dict) and choice.get("type") == "allowed_tools")
    return not forbidden and (tools in (None, _NULL) or tools.startswith(b"[")) and input_fits(body)


def names_like_ours(body: Body) -> frozenset[str]:
    """Return the names of the client's own functions that begin as those of our tools do."""
    tools = body.value("tools")
    if tools is None or PREFIX.encode() not in tools:
        return frozenset()
    defined = _value(tools)
    if not isinstance(defined, list):
        return frozenset()
    names = [jsontext.text_of(tool.get("name")) for tool in defined if isinstance(tool, dict)]
    return frozenset(name for name in names if name.startswith(PREFIX))


def with_tools(body: Body, tools: tuple[Tool, ...]) -> dict[str, bytes]:
    """Return the member of the request that defines the client's tools, and ours behind them; none without ours."""
    if not tools:
        return {}
    own = body.value("tools") or _NULL
    return {"tools": _appended(b"[]" if own == _NULL else own, definitions(tools))}


@lru_cache(maxsize=64)
def definitions(tools: tuple[Tool, ...]) -> bytes:
    """Return tools as elements of an array. They are not strict: servers of MCP keep no such promise."""
    return b",".join(
        b'{"type":"function","name":%b,"description":%b,"parameters":%b,"strict":false}'
        % (jsontext.dumps(tool.id), jsontext.dumps(tool.description), tool.schema)
        for tool in tools
    )


def with_turns(body: Body, items: Sequence[bytes]) -> dict[str, bytes]:
    """Return the members of a later turn's request: what was asked, and what has come of it.

    A choice that forces a tool was for the first turn; kept, it would force one for ever.
    """
    members = {"input": _appended(_as_array(body), b",".join(items))}
    if body.value("tool_choice") not in (None, _NULL, _AUTO):
        members["tool_choice"] = _AUTO
    return members


def with_outputs(body: Body, items: Sequence[bytes]) -> dict[str, bytes]:
    """Return the members of a later turn's request in a conversation, which holds all else already."""
    return {**with_turns(body, items), "input": b"[" + b",".join(items) + b"]"}


def with_outputs_first(body: Body, items: Sequence[bytes]) -> dict[str, bytes]:
    """Return the member of a request that brings outputs which the client does not know of, before its own words."""
    own = _as_array(body)[1:]
    comma = b"," if own[:-1].strip() else b""
    return {"input": b"[" + b",".join(items) + comma + own}


def input_fits(body: Body) -> bool:
    """Whether the input is of a type that the API takes; its refusal of another is the client's."""
    asked = body.value("input")
    return asked is None or asked == _NULL or asked[:1] in {b"[", b'"'}


def _as_array(body: Body) -> bytes:
    """Return the input as an array: what is a string is a message of the user's."""
    asked = body.value("input") or _NULL
    if asked.startswith(b'"'):
        return b'[{"type":"message","role":"user","content":' + asked + b"}]"
    return b"[]" if asked == _NULL else asked


def _appended(array: bytes, elements: bytes) -> bytes:
    """Return an array with more elements behind its own."""
    comma = b"," if array[1:-1].strip() else b""
    return array[:-1] + comma + elements + b"]"


def _value(raw: bytes | None) -> Any:
    return None if raw is None else jsontext.loads(raw)
