"""Items of a response's output: whose call one is, and what goes back to the model. Pure.

Source: https://platform.openai.com/docs/api-reference/responses/object, and the types of OpenAI's SDKs.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from aibridge import jsontext
from aibridge.body import items_of
from aibridge.errors import PayloadError
from aibridge.toolloop.base import PREFIX, Text, ToolCall, ToolResult

_CALLS = frozenset(
    {
        "apply_patch_call",
        "computer_call",
        "custom_tool_call",
        "function_call",
        "local_shell_call",
        "mcp_approval_request",
        "shell_call",
        "tool_search_call",
    }
)
"""Calls that wait for the client, unless the API itself has answered them in the same output. Calls of other types are
the API's own business."""

_UNDER_WAY = ("in_progress", "incomplete")


class Item(NamedTuple):
    """One item: its text as it came, and what of it has to be known."""

    raw: bytes
    type: str
    call_id: str
    name: str
    arguments: str
    plain: bool
    """Whether its name is in no namespace."""
    whole: bool
    silent: bool
    """Whether it is a thought without words, as OpenAI sends it where no summary was ordered."""
    recoverable: bool
    """Whether the model understands it though it was not stored."""

    def is_ours(self, theirs: frozenset[str]) -> bool:
        """Whether it calls a tool of ours; `theirs` are the names of the client's own that begin like ours."""
        is_function = self.type == "function_call" and self.plain
        return is_function and self.name.startswith(PREFIX) and self.name not in theirs

    def call(self) -> ToolCall:
        """Return the call that it is."""
        return ToolCall(self.call_id, self.name, self.arguments)


def read_item(raw: bytes) -> Item | None:
    """Read the text of an item; None where it is no object."""
    try:
        fields = jsontext.loads(raw)
    except PayloadError:
        return None
    if not isinstance(fields, dict):
        return None
    kind, call_id, name, arguments = [
        jsontext.text_of(fields.get(key)) for key in ("type", "call_id", "name", "arguments")
    ]
    silent = kind == "reasoning" and not fields.get("summary") and not fields.get("content")
    return Item(
        raw=raw,
        type=kind,
        call_id=call_id,
        name=name,
        arguments=arguments if kind == "function_call" else "",
        plain=not fields.get("namespace"),
        whole=fields.get("status") not in _UNDER_WAY,
        silent=silent,
        # "Items are not persisted when `store` is set to false": of a thought, nothing but the id would be left.
        recoverable=kind != "reasoning" or bool(fields.get("encrypted_content") or fields.get("content")),
    )


def read_items(output: bytes | None) -> list[Item]:
    """Return the items of an output; none where it is no array. What is no item is left out."""
    if output is None or not output.startswith(b"["):
        return []
    return [item for item in map(read_item, items_of(output)) if item is not None]


def wait_for_client(items: Iterable[Item]) -> bool:
    """Whether any of these items, of which none is ours, is a call that the client has to answer."""
    waiting: set[tuple[str, str]] = set()
    for item in items:
        kind, call_id = item.type, item.call_id
        if kind in _CALLS:
            waiting.add((kind, call_id))
        elif kind.endswith("_output"):
            answered = kind.removesuffix("_output").removesuffix("_call") + "_call"
            waiting.discard((answered, call_id))
    return bool(waiting)


def result_item(call: ToolCall, result: ToolResult) -> bytes:
    """Return the item that tells the model what came of a call."""
    return output_item(call.id, _output(result))


def output_item(call_id: str, output: str | Sequence[dict[str, str]]) -> bytes:
    """Return the output of a function call as an item: text, or parts."""
    return jsontext.dumps({"type": "function_call_output", "call_id": call_id, "output": output})


def _output(result: ToolResult) -> str | list[dict[str, str]]:
    """Return text as text, which every server of this API takes, and pictures among it as parts."""
    parts = list(result.content)
    if result.is_error and not (parts and isinstance(parts[0], Text) and parts[0].text.startswith("Error")):
        parts.insert(0, Text("Error:"))
    texts = [part.text for part in parts if isinstance(part, Text)]
    if len(texts) == len(parts):
        return "\n".join(texts)
    return [
        {"type": "input_text", "text": part.text}
        if isinstance(part, Text)
        else {"type": "input_image", "image_url": f"data:{part.media_type};base64,{part.data}"}
        for part in parts
    ]
