"""The choices of one answer of Chat Completions: their tool calls and thoughts, put together as they complete.

No event says that a call is complete. It is when the choice has a finish reason, or at the last word; and already when
a later event begins another call there, unless its arguments are half a JSON text: some servers write several by turns.

Calls are told apart by their index; by another id together with a name where a server gives every call the same index;
and by id and name where it gives none.
"""

import re
from collections.abc import Iterator
from typing import Any

from aibridge import jsontext
from aibridge.dialects.base import MAX_FACTS
from aibridge.dialects.counts import is_count
from aibridge.dialects.pieces import Pieces
from aibridge.values import MAX_CONTENT_BYTES, MAX_ID_CHARACTERS, Thought, ToolUse

MAX_OPEN = 128
"""Calls and thoughts under way at the same time, in all choices. Where there are more the oldest counts as complete."""

MAX_OPEN_BYTES = 4 * MAX_CONTENT_BYTES
"""Of all that is under way. What goes over it is cut."""

_SOURCES = ("reasoning_content", "reasoning", "thinking")
"""Members that servers put thoughts in; OpenAI itself sends none. Of several in one event the first is taken."""

_THOUGHT = -1
_FUNCTION_CALL = -2
_WITHOUT_INDEX = -3
"""Keys of what has no index: the thought, the one call of the old API, and from there downwards calls."""

_TEXT = rb'"[^"\\]*+"'
_USUAL_PIECE = re.compile(
    rb'\{"id":%b,"object":"chat.completion.chunk","created":[0-9]++,"model":%b,' % (_TEXT, _TEXT)
    + rb'(?:"service_tier":(?:null|%b),)?+(?:"system_fingerprint":(?:null|%b),)?+' % (_TEXT, _TEXT)
    + rb'"choices":\[\{"index":([0-9]{1,9}),"delta":\{"tool_calls":\[\{"index":([0-9]{1,9}),"function":\{"arguments":'
    + rb'"([^"\\]*+(?:\\.[^"\\]*+)*+)"\}\}\]\},(?:"logprobs":null,)?+"finish_reason":null\}\]'
    + rb'(?:,"usage":null)?+(?:,"obfuscation":%b)?+\}' % _TEXT
)
"""A piece of arguments, in an event that is known to be JSON: what a parse of it gives, at a fifth of the cost."""

_Key = tuple[int, int]
"""A choice, and the index of a call in it."""


class Calls:
    """Takes the deltas of choices, and gives the facts.

    Args:
        arguments: whether the arguments of tools are wanted; without them they are empty.
        thoughts: whether thoughts are wanted.
    """

    __slots__ = ("_arguments", "_begun", "_count", "_event", "_held", "_last", "_open", "_thoughts", "facts")

    def __init__(self, *, arguments: bool, thoughts: bool) -> None:
        self._arguments = arguments
        self._thoughts = thoughts
        self._open: dict[_Key, _Open] = {}
        self._begun: set[_Key] = set()
        self._last: dict[int, _Key] = {}  # by choice, the call that was spoken of last
        self._event = 0
        self._held = 0
        self._count = 0
        self.facts: list[ToolUse | Thought] = []
        """What has completed, until somebody takes it away."""

    def take(self, choice: int, delta: dict[str, Any]) -> None:
        """Take what one event says of a choice."""
        self._event += 1
        source, text = _thought_in(delta)
        if text and self._thoughts:
            self._add((choice, _THOUGHT), _Open(source=source, event=self._event), text)
        if delta.get("content"):
            self._stop_one((choice, _THOUGHT))
        for call in _calls_in(delta):
            self._take_call(choice, call)

    def take_usual(self, data: bytes) -> bool:
        """Take an event that is but a piece of arguments, as OpenAI writes it; return whether it is, and was taken."""
        usual = _USUAL_PIECE.fullmatch(data)
        if usual is None:
            return False
        key = int(usual[1]), int(usual[2])
        opened = self._open.get(key)
        if opened is None:
            return False
        self._event += 1
        self._last[key[0]] = key
        if self._arguments:
            self._grow(opened, usual[3])
        return True

    def stop(self, choice: int) -> None:
        """A choice is complete, and so is what it holds."""
        for key in [key for key in self._open if key[0] == choice]:
            self._stop_one(key)

    def stop_all(self) -> None:
        """The answer is complete."""
        for key in list(self._open):
            self._stop_one(key)

    def take_whole(self, message: dict[str, Any]) -> None:
        """Take the thought and the calls of a message that is not streamed."""
        source, text = _thought_in(message)
        if text and self._thoughts:
            self._tell(Thought(text, source))
        for call in _calls_in(message):
            arguments = call.piece if self._arguments else ""
            self._tell(ToolUse(call.id, call.name, arguments))

    def _take_call(self, choice: int, call: "_Part") -> None:
        key = self._key_of(choice, call)
        opened = self._open.get(key)
        if opened is not None and call.name and call.id and opened.id not in ("", call.id):
            self._stop_one(key)
            self._begun.discard(key)
            opened = None
        if opened is None:
            if key in self._begun or not (call.id or call.name) or self._count >= MAX_FACTS:
                return
            self._stop_earlier(choice)
            self._begun.add(key)
        self._last[choice] = key
        self._add(key, _Open(event=self._event), call.piece if self._arguments else "")
        opened = self._open[key]
        opened.id = opened.id or call.id
        opened.name = opened.name or call.name
        opened.is_free = opened.is_free or call.is_free

    def _key_of(self, choice: int, call: "_Part") -> _Key:
        if call.index is not None:
            return choice, call.index
        for key, opened in self._open.items():
            if call.id and key[0] == choice and opened.id == call.id:
                return key
        last = self._last.get(choice)
        if last is None or call.name:
            return choice, _WITHOUT_INDEX - len(self._begun)
        return last

    def _stop_earlier(self, choice: int) -> None:
        """A call begins: what earlier events began in its choice is complete, but for half a JSON text."""
        earlier = [key for key, opened in self._open.items() if key[0] == choice and opened.event < self._event]
        for key in earlier:
            if not self._arguments or self._open[key].is_whole:
                self._stop_one(key)

    def _add(self, key: _Key, new: "_Open", text: str) -> None:
        """Add a piece to what is under way, or to the new one."""
        if key not in self._open and len(self._open) >= MAX_OPEN:
            self._stop_one(next(iter(self._open)))
        opened = self._open.setdefault(key, new)
        if text:
            self._grow(opened, jsontext.dumps(text)[1:-1])

    def _grow(self, opened: "_Open", piece: bytes) -> None:
        before = opened.size
        opened.add(piece, min(MAX_CONTENT_BYTES, before + MAX_OPEN_BYTES - self._held))
        self._held += opened.size - before

    def _stop_one(self, key: _Key) -> None:
        opened = self._open.pop(key, None)
        if opened is not None:
            self._held -= opened.size
            text = opened.text()
            self._tell(Thought(text, opened.source) if opened.source else ToolUse(opened.id, opened.name, text))

    def _tell(self, fact: ToolUse | Thought) -> None:
        if self._count < MAX_FACTS:
            self._count += 1
            self.facts.append(fact)


class _Open(Pieces):
    """A call or a thought under way.

    `source` is a thought's; `event` is the number of the event that began it; `is_free`: any text, not JSON.
    """

    __slots__ = ("event", "id", "is_free", "name", "source")

    def __init__(self, *, source: str = "", event: int) -> None:
        super().__init__()
        self.source = source
        self.event = event
        self.id = ""
        self.name = ""
        self.is_free = False

    @property
    def is_whole(self) -> bool:
        """Whether nothing can follow."""
        return bool(self.source) or self.is_free or jsontext.is_valid(self.text().encode("utf-8", "replace"))


class _Part:
    """What one event, or a message, says of a call. `is_free`: its arguments are any text, not JSON."""

    __slots__ = ("id", "index", "is_free", "name", "piece")

    def __init__(self, call: dict[str, Any], index: Any) -> None:
        said = call.get("function") or call.get("custom")
        said = said if isinstance(said, dict) else {}
        self.index: int | None = index if isinstance(index, int) and not isinstance(index, bool) else None
        self.id = _name(call.get("id"))
        self.name = _name(said.get("name"))
        self.is_free = isinstance(call.get("custom"), dict)
        self.piece = _arguments(said.get("arguments", said.get("input")))


def _calls_in(fields: dict[str, Any]) -> Iterator[_Part]:
    """Yield the calls of a delta or a message, functions and custom tools, and the one call of the old API."""
    calls = fields.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        if isinstance(call, dict):
            index = call.get("index")
            yield _Part(call, index if is_count(index) else None)
    old = fields.get("function_call")
    if isinstance(old, dict):
        yield _Part({"function": old}, _FUNCTION_CALL)


def _thought_in(fields: dict[str, Any]) -> tuple[str, str]:
    """Return source and text of a thought in a delta or a message; empty ones where there is none."""
    for source in _SOURCES:
        text = fields.get(source)
        if text and isinstance(text, str):
            return source, text
    return "", ""


def _arguments(value: Any) -> str:
    """Return arguments as text; some servers send an object."""
    if isinstance(value, str):
        return value
    return jsontext.dumps(value).decode() if isinstance(value, dict) else ""


def _name(value: Any) -> str:
    return value[:MAX_ID_CHARACTERS] if isinstance(value, str) else ""
