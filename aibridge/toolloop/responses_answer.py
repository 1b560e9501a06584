"""The one response that the client sees of all turns: its id, its numbers, its output and its usage. Pure."""

from collections.abc import Sequence
from typing import Any

from aibridge import jsontext
from aibridge.body import Body, edited
from aibridge.toolloop.base import PREFIX
from aibridge.toolloop.responses_items import Item
from aibridge.toolloop.responses_turn import text_in

_OF_THE_FIRST = ("created_at", "tool_choice")
"""What a response says of itself that another turn's says otherwise."""

_MOST = 2**53
"""Tokens in one count; more are no count."""


class Answer:
    """What the client has seen so far.

    Args:
        tools: ids of the injected tools, which the client is not to see.
        theirs: names of the client's own that begin like those.
    """

    __slots__ = ("_first", "_index", "_output", "_sequence", "_theirs", "_tools", "_usage", "opened", "shown_id")

    def __init__(self, tools: frozenset[str], theirs: frozenset[str]) -> None:
        self._tools = tools
        self._theirs = theirs
        self._first: dict[str, bytes] | None = None
        self._output: list[bytes] = []
        self._usage: Any = None
        self._index = 0
        self._sequence: int | None = None
        self.opened = False
        """Whether its beginning is in the client's stream."""
        self.shown_id = ""
        """The id that this had; empty before it, and where nothing is streamed."""

    def meet(self, response: Body) -> None:
        """Take a response that begins: the first one's members are shown of all."""
        if self._first is None:
            said = {key: response.value(key) for key in _OF_THE_FIRST}
            self._first = {key: value for key, value in said.items() if value is not None}

    def next_index(self) -> int:
        """Return the place of the next item in the output."""
        self._index += 1
        return self._index - 1

    def next_number(self, upstreams: int) -> int:
        """Return the number of the next event; the first one has its own."""
        self._sequence = upstreams if self._sequence is None else self._sequence + 1
        return self._sequence

    def open(self, response_id: str) -> None:
        """The beginning of this response goes to the client."""
        self.opened = True
        self.shown_id = response_id

    def add(self, response: Body, items: Sequence[Item]) -> None:
        """Take a turn that another one follows."""
        self._output += self._visible(items)
        self._usage = _sum(self._usage, _usage_of(response))

    def begun(self, response: Body) -> bytes:
        """Return a response that begins, as the client sees it."""
        return edited(response, self._common(response))

    def ended(self, response: Body, items: Sequence[Item]) -> bytes:
        """Return the last turn's response with what all turns have brought."""
        members = self._common(response)
        visible = self._visible(items)
        if self._output or len(visible) < len(items):
            members["output"] = b"[" + b",".join((*self._output, *visible)) + b"]"
        if self._usage is not None:
            members["usage"] = jsontext.dumps(_sum(self._usage, _usage_of(response)))
        return edited(response, members)

    def _visible(self, items: Sequence[Item]) -> list[bytes]:
        return [item.raw for item in items if not item.is_ours(self._theirs)]

    def _common(self, response: Body) -> dict[str, bytes]:
        """Return the members that differ, where the response has them."""
        members = {key: value for key, value in (self._first or {}).items() if response.value(key) != value}
        if self.shown_id and self.shown_id != text_in(response, "id"):
            members["id"] = jsontext.dumps(self.shown_id)
        tools = response.value("tools")
        if tools is not None and PREFIX.encode() in tools:
            members["tools"] = self._without_ours(tools)
        return {key: value for key, value in members.items() if response.value(key) is not None}

    def _without_ours(self, tools: bytes) -> bytes:
        """Return the echo of the tools less ours; it is written anew where there is one."""
        defined = jsontext.loads(tools)
        if not isinstance(defined, list):
            return tools
        named = [(jsontext.text_of(tool.get("name")) if isinstance(tool, dict) else "", tool) for tool in defined]
        kept = [tool for name, tool in named if name not in self._tools]
        return tools if len(kept) == len(defined) else jsontext.dumps(kept)


def _usage_of(response: Body) -> Any:
    value = response.value("usage")
    return None if value is None else jsontext.loads(value)


def _sum(one: Any, other: Any) -> Any:
    """Return counts added up, also those inside of objects; of what is no count, what was said last."""
    if isinstance(one, dict) and isinstance(other, dict):
        return {**one, **{key: _sum(one.get(key), value) for key, value in other.items()}}
    if type(one) is int and type(other) is int and max(one, other) <= _MOST:
        return one + other
    return one if other is None else other
