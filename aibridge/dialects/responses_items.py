"""Tool uses and thoughts in the items of a response's output: each whole, and each once.

Nothing is put together from deltas: an item comes whole with its `response.output_item.done`, and again in the last
event's `response.output`. There it is known by its place, its id or its call's id: proxies change one or another.

Source: https://platform.openai.com/docs/api-reference/responses/object, and the types of OpenAI's SDKs.
"""

from collections.abc import Iterator
from typing import Any

from aibridge import jsontext
from aibridge.dialects.base import MAX_FACTS, dumped
from aibridge.text import shortened
from aibridge.values import MAX_CONTENT_BYTES, MAX_ID_CHARACTERS, Thought, ToolUse

_WRITTEN = {"function_call": "arguments", "custom_tool_call": "input", "mcp_call": "arguments"}
"""Calls of tools that have names of their own, and where stands what the model wrote."""

_HOSTED = {
    "apply_patch_call": ("operation",),
    "code_interpreter_call": ("code", "container_id"),
    "computer_call": ("action", "actions"),
    "file_search_call": ("queries",),
    "image_generation_call": ("action", "revised_prompt", "size", "quality", "background", "output_format"),
    "local_shell_call": ("action",),
    "program": ("code",),
    "shell_call": ("action",),
    "tool_search_call": ("arguments",),
    "web_search_call": ("action",),
}
"""Calls of the API's own tools, and the members that say what they did. What came of it (results, images) is not kept;
of tools that are not listed nothing is but the name."""

_UNDER_WAY = "in_progress"


class Items:
    """Takes items, and gives the facts.

    Args:
        arguments: whether the arguments of tools are wanted; without them they are empty.
        thoughts: whether thoughts are wanted.
    """

    __slots__ = ("_arguments", "_count", "_seen", "_thoughts", "facts")

    def __init__(self, *, arguments: bool, thoughts: bool) -> None:
        self._arguments = arguments
        self._thoughts = thoughts
        self._seen: set[str | int] = set()
        self._count = 0
        self.facts: list[ToolUse | Thought] = []
        """What has completed, until somebody takes it away."""

    def take(self, item: Any, index: Any) -> None:
        """Take an item that is complete; `index` is its place in the output."""
        if not isinstance(item, dict) or item.get("status") == _UNDER_WAY:
            return
        facts = list(self._facts_of(item))[: MAX_FACTS - self._count]
        if facts:
            self._count += len(facts)
            self.facts += facts
            self._seen |= _marks_of(item, index)

    def take_output(self, output: Any) -> None:
        """Take the items of a whole output, less those that came before."""
        for index, item in enumerate(output if isinstance(output, list) else ()):
            if isinstance(item, dict) and self._seen.isdisjoint(_marks_of(item, index)):
                self.take(item, index)

    def _facts_of(self, item: dict[str, Any]) -> Iterator[ToolUse | Thought]:
        kind = jsontext.text_of(item.get("type"))
        if kind == "reasoning":
            yield from self._thoughts_of(item.get("summary"), "summary_text", "reasoning_summary")
            yield from self._thoughts_of(item.get("content"), "reasoning_text", "reasoning_text")
        elif kind == "message":
            if item.get("phase") == "commentary":
                yield from self._thoughts_of(item.get("content"), "output_text", "commentary")
        elif kind in _WRITTEN:
            owner = item.get("server_label" if kind == "mcp_call" else "namespace")
            name = ".".join(filter(None, (jsontext.text_of(owner), jsontext.text_of(item.get("name")))))
            yield self._tool_use(item, name, item.get(_WRITTEN[kind]))
        elif kind in _HOSTED or kind.endswith("_call"):
            told = {name: item[name] for name in _HOSTED.get(kind, ()) if item.get(name) is not None}
            yield self._tool_use(item, kind, told or None)

    def _thoughts_of(self, parts: Any, kind: str, source: str) -> Iterator[Thought]:
        for part in parts if self._thoughts and isinstance(parts, list) else ():
            text = jsontext.text_of(part.get("text")) if isinstance(part, dict) and part.get("type") == kind else ""
            if text:
                yield Thought(shortened(text, MAX_CONTENT_BYTES), source)

    def _tool_use(self, item: dict[str, Any], name: str, arguments: Any) -> ToolUse:
        call = jsontext.text_of(item.get("call_id")) or jsontext.text_of(item.get("id"))
        text = shortened(_json(arguments), MAX_CONTENT_BYTES) if self._arguments else ""
        return ToolUse(call[:MAX_ID_CHARACTERS], name[:MAX_ID_CHARACTERS], text)


def _marks_of(item: dict[str, Any], index: Any) -> set[str | int]:
    """Return what an item is known by."""
    said = [jsontext.text_of(item.get(name))[:MAX_ID_CHARACTERS] for name in ("id", "call_id")]
    marks: set[str | int] = set(filter(None, said))
    return marks | {index} if isinstance(index, int) else marks


def _json(arguments: Any) -> str:
    """Return the text of arguments: what the model wrote, or the JSON of what an item tells."""
    return arguments if isinstance(arguments, str) else dumped(arguments)
