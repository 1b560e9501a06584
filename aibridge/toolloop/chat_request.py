"""What the upstream is asked in a tool loop of Chat Completions: the client's request, spliced.

Tools of ours stand behind the client's, messages of the turns behind its messages; every other byte stays.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from aibridge import jsontext
from aibridge.body import Body
from aibridge.toolloop.base import Tool

_TAKE_NO_TOOLS = ("functions", "function_call", "prediction", "audio")
"""Members of a request that wants no `tools`: the old API; predicted outputs, which are refused beside tools; an answer
in audio, which cannot be put together of several."""

_ONE = frozenset({b"1", b"null"})
_FREE = frozenset({b"null", b'"auto"'})
_NULL = b"null"


class ChatRequest:
    """The requests of one loop. `names`: the functions that the client has defined.

    Args:
        body: a request that `takes_tools`.
        tools: tools of ours; one that is called as a function of the client's is left out.
    """

    def __init__(self, body: Body, tools: tuple[Tool, ...]) -> None:
        self._body = body
        self.names = _names_in(body.value("tools") or _NULL)
        self.tools = tuple([tool for tool in tools if tool.id not in self.names])

    def after(self, messages: Iterable[bytes]) -> bytes:
        """Return the request with the tools, and behind the client's messages those of the turns that have ended.

        From the second turn on no tool is forced any more: the model could never answer.
        """
        edits = [self._tools_edit()]
        text = b",".join(messages)
        if text:
            edits.append(_appended(self._body, "messages", text))
            edits += self._free_choice()
        return _edited(self._body.raw, edits)

    def _tools_edit(self) -> "_Edit":
        text = _rendered(self.tools)
        value = self._body.value("tools")
        if value is None:
            behind = self._body.members[-1].value_end
            return behind, behind, b',"tools":[%b]' % text
        if value == _NULL:
            start, end = _place(self._body, "tools")
            return start, end, b"[%b]" % text
        return _appended(self._body, "tools", text)

    def _free_choice(self) -> list["_Edit"]:
        value = self._body.value("tool_choice")
        if value is None or value in _FREE:
            return []
        return [(*_place(self._body, "tool_choice"), b'"auto"')]


def takes_tools(body: Body) -> bool:
    """Whether tools can be put into a request, and their calls into one answer.

    Not into one that asks for several choices, nor where the client says that none, or which ones, are to be called.
    What is of another type than the API has stays as it is, and so does the upstream's refusal of it.
    """
    if not (body.value("messages") or b"").startswith(b"[") or (body.value("n") or _NULL) not in _ONE:
        return False
    if any((body.value(name) or _NULL) != _NULL for name in _TAKE_NO_TOOLS):
        return False
    tools = body.value("tools") or _NULL
    if tools != _NULL and not tools.startswith(b"["):
        return False
    choice = jsontext.loads(body.value("tool_choice") or _NULL)
    return choice != "none" and not (isinstance(choice, dict) and choice.get("type") == "allowed_tools")


def _names_in(tools: bytes) -> frozenset[str]:
    listed = jsontext.loads(tools)
    functions = [tool.get("function") for tool in listed or () if isinstance(tool, dict)]
    names = [function.get("name") for function in functions if isinstance(function, dict)]
    return frozenset([name for name in names if isinstance(name, str)])


@lru_cache(maxsize=64)
def _rendered(tools: tuple[Tool, ...]) -> bytes:
    """Return the elements of `tools` as they go upstream: for one set of tools always the same bytes."""
    return b",".join([_definition(tool) for tool in tools])


def _definition(tool: Tool) -> bytes:
    name, description = jsontext.dumps(tool.id), jsontext.dumps(tool.description)
    return b'{"type":"function","function":{"name":%b,"description":%b,"parameters":%b}}' % (
        name,
        description,
        _parameters(tool.schema),
    )


def _parameters(schema: bytes) -> bytes:
    """Return an input schema with the members that OpenAI wants of one: it refuses an object without properties."""
    said: dict[str, Any] = jsontext.loads(schema)
    missing = {"type": "object", "properties": {}}
    added = {key: value for key, value in missing.items() if key not in said}
    return jsontext.dumps({**said, **added}) if added else schema


# edits of a text: start, end, and what takes the place of what stands there

_Edit = tuple[int, int, bytes]


def _place(body: Body, key: str) -> tuple[int, int]:
    """Return where the value of a top-level member stands; of repeated ones the last, as parsers take that."""
    member = next(member for member in reversed(body.members) if member.key == key)
    return member.value_start, member.value_end


def _appended(body: Body, key: str, elements: bytes) -> _Edit:
    """Return the edit that puts elements at the end of an array."""
    start, end = _place(body, key)
    is_empty = not body.raw[start + 1 : end - 1].strip()
    return end - 1, end - 1, elements if is_empty else b"," + elements


def _edited(raw: bytes, edits: list[_Edit]) -> bytes:
    kept, at = [], 0
    for start, end, text in sorted(edits):
        kept += [raw[at:start], text]
        at = end
    return b"".join((*kept, raw[at:]))
